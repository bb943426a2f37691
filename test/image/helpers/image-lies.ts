/** Images that lie in one point: a manifest, a config, an index, a blob that is not what it is said to be. */

import { gzipSync } from "node:zlib";
import { digestOf } from "../../../src/image/digest.ts";
import { MEDIA } from "../../../src/image/manifest.ts";
import type { UnpackLimits } from "../../../src/image/unpack.ts";
import { file, tar } from "../tar-maker.ts";
import { type Blob, blobOf, type ImageMade, imageOf, type LayerMade, layerOf } from "./layout.ts";
import { dockerFiles, type Offer, offerOf } from "./ways.ts";

type Json = Readonly<Record<string, unknown>>;

export const base = layerOf(tar(file("etc/motd", "hello ".repeat(500))), "none");
/** What the lies are about: pulled afterwards, it must come in whole. */
export const honest: ImageMade = imageOf([base]);

const text = (bytes: Uint8Array): Json => JSON.parse(new TextDecoder().decode(bytes)) as Json;
const honestManifest = text(honest.manifest.bytes);
const honestConfig = text(honest.config.bytes);

export const describe = (blob: Blob, mediaType: string): Json => ({
  mediaType,
  digest: blob.digest,
  size: blob.bytes.byteLength,
});
const rootOf = (bytes: Uint8Array, mediaType: string): Offer["root"] => ({
  bytes,
  mediaType,
  digest: digestOf(bytes),
  size: bytes.byteLength,
});
const json = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));

/** The image by another manifest: its members changed, or its whole text. */
export const withManifest = (change: Json | string, mediaType = honest.mediaType): Offer =>
  offerOf(honest, [base], {
    root: rootOf(typeof change === "string" ? blobOf(change).bytes : json({ ...honestManifest, ...change }), mediaType),
  });

/** The image by another config, for docker archives too. */
export function withConfig(change: Json | string): Offer {
  const config = blobOf(typeof change === "string" ? change : json({ ...honestConfig, ...change }));
  const { root } = withManifest({ config: describe(config, MEDIA.ociConfig) });
  const blobs = new Map([...honest.blobs, config].map(({ digest, bytes }) => [digest, bytes]));
  return offerOf(honest, [base], { root, blobs, docker: dockerFiles(config.bytes, [base.blob.bytes]) });
}

export const withLayer = (layer: LayerMade): Offer => offerOf(imageOf([layer]), [layer]);

/** Blobs of the image, one with other content than its digest says. */
export const withBlob = (digest: string, bytes: Uint8Array): ReadonlyMap<string, Uint8Array> =>
  new Map([...honest.blobs.map((blob) => [blob.digest, blob.bytes] as const), [digest, bytes]]);
export const withLayerBytes = (bytes: Uint8Array): Offer =>
  offerOf(honest, [base], { blobs: withBlob(base.blob.digest, bytes) });
export const withConfigBytes = (bytes: Uint8Array): Offer =>
  offerOf(honest, [base], { blobs: withBlob(honest.config.digest, bytes) });
export const withSizeOf = (size: number): Offer =>
  withManifest({ layers: [{ ...describe(base.blob, base.mediaType), size }] });

/** An index over other manifests and indexes, with all of the image's blobs beside. */
export function withIndex(manifests: readonly Json[], blobs: readonly Blob[] = []): Offer {
  const root = rootOf(json({ schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests }), MEDIA.ociIndex);
  const all = new Map([...honest.blobs, ...blobs].map(({ digest, bytes }) => [digest, bytes]));
  return offerOf(honest, [base], { root, blobs: all });
}
export const indexBlob = (manifests: readonly Json[]): Blob =>
  blobOf(json({ schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests }));
export const forOthers = {
  ...describe(honest.manifest, MEDIA.ociManifest),
  platform: { os: "linux", architecture: "s390x" },
};

/** Indexes within each other, so many. */
export function nest(depth: number): Offer {
  const made: Blob[] = [indexBlob([forOthers])];
  for (let i = 1; i < depth; i++) made.push(indexBlob([describe(made.at(-1) ?? honest.manifest, MEDIA.ociIndex)]));
  return withIndex([describe(made.at(-1) ?? honest.manifest, MEDIA.ociIndex)], made);
}

/** A layer whose blob holds these bytes, whatever they are when they are decompressed. */
export const raw = (bytes: Uint8Array, compression: "gzip" | "zstd"): LayerMade => ({
  blob: blobOf(bytes),
  diffId: base.diffId,
  mediaType: `${MEDIA.ociLayer}+${compression}`,
});
export const noise = tar(file("noise", crypto.getRandomValues(new Uint8Array(20_000))));
export const cut = (bytes: Uint8Array): Uint8Array => bytes.subarray(0, Math.floor(bytes.byteLength / 2));

export const zeros = file("zeros", new Uint8Array(4 * 1024 * 1024));
export const smallBombs: UnpackLimits = { entries: 50, bytes: 2 ** 40, compression: { floor: 2 ** 20, ratio: 100 } };
/** A frame's header with a window of 2 GiB (RFC 8878, 3.1.1.1.2), and no more. */
export const window2GiB = new Uint8Array([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00]);
export const gzip = (bytes: Uint8Array): Uint8Array => new Uint8Array(gzipSync(bytes));
export const zstd = (bytes: Uint8Array): Uint8Array => new Uint8Array(Bun.zstdCompressSync(bytes));
/** The image in an archive with more in it, compressed as a whole. */
export const wrapped = (wrap: (archive: Uint8Array) => Uint8Array): Offer => {
  const { docker } = offerOf(honest, [base]);
  return offerOf(honest, [base], { extra: [zeros], docker: [...docker, zeros], wrap });
};

export const OPEN = "[".repeat(100_000);
export const DEEP = `${"[".repeat(100_000)}${"]".repeat(100_000)}`;
export const LONG = `{"x":"${"y".repeat(5 * 1024 * 1024)}"}`;
