/**
 * Content digests: `sha256:<64 hex>` and `sha512:<128 hex>` (OCI image-spec, descriptor.md "Digests").
 */

import { HutchError } from "../errors.ts";

export type DigestAlgorithm = "sha256" | "sha512";

/** A digest that has passed {@link parseDigest}, for example `sha256:e3b0…`. */
export type Digest = `${DigestAlgorithm}:${string}`;

const HEX_LENGTH: Readonly<Record<string, number>> = { sha256: 64, sha512: 128 };
const GRAMMAR = /^[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}$/;

/** Why `text` is no digest that we can verify, or undefined when it is one. */
export function digestFault(text: string): string | undefined {
  if (!GRAMMAR.test(text)) return "invalid digest format";
  const colon = text.indexOf(":");
  const length = HEX_LENGTH[text.slice(0, colon)];
  if (length === undefined) return "unsupported digest algorithm";
  const hex = text.slice(colon + 1);
  if (hex.length !== length) return "invalid digest length";
  return /^[0-9a-f]+$/.test(hex) ? undefined : "digest is not lower case";
}

/** True for a digest that we can verify. */
export function isDigest(text: string): text is Digest {
  return digestFault(text) === undefined;
}

/** Check a digest. @throws HutchError naming what is wrong with it. */
export function parseDigest(text: string): Digest {
  const fault = digestFault(text);
  if (fault !== undefined) throw new HutchError(`${fault}: ${JSON.stringify(text.slice(0, 200))}`);
  return text as Digest;
}

/** The two halves of a digest: `{ algorithm: "sha256", hex: "e3b0…" }`. */
export function splitDigest(digest: Digest): { readonly algorithm: DigestAlgorithm; readonly hex: string } {
  const [algorithm, hex] = digest.split(":", 2) as [DigestAlgorithm, string];
  return { algorithm, hex };
}

/** A running hash that ends in a digest of the given algorithm. */
export function createHasher(algorithm: DigestAlgorithm = "sha256"): {
  readonly update: (bytes: Uint8Array) => void;
  readonly digest: () => Digest;
} {
  const hasher = new Bun.CryptoHasher(algorithm);
  return {
    update: (bytes) => void hasher.update(bytes),
    digest: () => `${algorithm}:${hasher.digest("hex")}`,
  };
}

/** Digest of bytes at once. */
export function digestOf(bytes: Uint8Array | string, algorithm: DigestAlgorithm = "sha256"): Digest {
  return `${algorithm}:${new Bun.CryptoHasher(algorithm).update(bytes).digest("hex")}`;
}

/**
 * ChainIDs of a list of DiffIDs, lowest first (image-spec config.md "Layer ChainID"):
 * ChainID(0) = DiffID(0), ChainID(n) = sha256(ChainID(n-1) + " " + DiffID(n)).
 */
export function chainIds(diffIds: readonly Digest[]): Digest[] {
  const chain: Digest[] = [];
  for (const diffId of diffIds) {
    const below = chain.at(-1);
    chain.push(below === undefined ? diffId : digestOf(`${below} ${diffId}`));
  }
  return chain;
}
