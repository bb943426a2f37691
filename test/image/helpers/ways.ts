/**
 * The ways in which an image comes into a store: from a registry, a layout's directory, an archive that is pulled or
 * loaded. What is offered can lie in every byte.
 */

import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { digestOf } from "../../../src/image/digest.ts";
import { pull, type PullOptions } from "../../../src/image/pull.ts";
import { loadImage } from "../../../src/image/transfer.ts";
import { file, link, type Made, tar } from "../tar-maker.ts";
import type { ImageMade, LayerMade } from "./layout.ts";
import { startRegistry } from "./registry.ts";
import { chunks } from "./stack.ts";

export type Offer = {
  /** What a name leads to: a layout's entry, or a registry's answer (which is asked by digest when this one lies). */
  readonly root: {
    readonly bytes: Uint8Array;
    readonly mediaType: string;
    readonly digest: string;
    readonly size: number;
  };
  /** By the digest that they are asked for by. */
  readonly blobs: ReadonlyMap<string, Uint8Array>;
  /** Blobs that are symbolic links, in layouts and archives. */
  readonly links?: ReadonlyMap<string, string>;
  /** Files of a layout instead of the right ones, or more of them. */
  readonly files?: Readonly<Record<string, string | Uint8Array>>;
  /** Entries at the end of an OCI archive. */
  readonly extra?: readonly Made[];
  /** All entries of a docker archive. */
  readonly docker: readonly Made[];
  /** What becomes of the whole archive's bytes. */
  readonly wrap?: (archive: Uint8Array) => Uint8Array;
};

/** The entries of what `docker save` writes. */
export function dockerFiles(config: string | Uint8Array, layers: readonly Uint8Array[], manifest?: string): Made[] {
  const Layers = layers.map((_, i) => `${i}.tar`);
  return [
    file("manifest.json", manifest ?? JSON.stringify([{ Config: "config.json", RepoTags: ["attack:1"], Layers }])),
    file("config.json", config),
    ...layers.map((bytes, i) => file(`${i}.tar`, bytes)),
  ];
}

/** An image as it is, but for what is said otherwise. */
export function offerOf(image: ImageMade, layers: readonly LayerMade[], more: Partial<Offer> = {}): Offer {
  const { bytes, digest } = image.manifest;
  return {
    root: { bytes, mediaType: image.mediaType, digest, size: bytes.byteLength },
    blobs: new Map(image.blobs.map((blob) => [blob.digest, blob.bytes])),
    docker: dockerFiles(
      image.config.bytes,
      layers.map(({ blob }) => blob.bytes),
    ),
    ...more,
  };
}

const blobFile = (digest: string): string => `blobs/sha256/${digest.slice(7)}`;

function layoutFiles({ root, blobs, files }: Offer): Record<string, string | Uint8Array> {
  const { mediaType, digest, size } = root;
  const annotations = { "org.opencontainers.image.ref.name": "latest" };
  return {
    "oci-layout": '{"imageLayoutVersion":"1.0.0"}',
    "index.json": JSON.stringify({ schemaVersion: 2, manifests: [{ mediaType, digest, size, annotations }] }),
    [blobFile(digest)]: root.bytes,
    ...Object.fromEntries([...blobs].map(([name, bytes]) => [blobFile(name), bytes])),
    ...files,
  };
}

const plain = (archive: Uint8Array): Uint8Array => archive;

function ociArchive(offer: Offer): Uint8Array {
  const links = [...(offer.links ?? [])].map(([digest, target]) => link(blobFile(digest), target));
  const files = Object.entries(layoutFiles(offer)).map(([name, content]) => file(name, content));
  return (offer.wrap ?? plain)(tar(...files, ...links, ...(offer.extra ?? [])));
}

const dockerArchive = ({ docker, wrap = plain }: Offer): Uint8Array => wrap(tar(...docker));

/** What a manifest calls itself, as registries' content types go. */
function typeOf(bytes: Uint8Array): string {
  try {
    const { mediaType } = JSON.parse(new TextDecoder().decode(bytes)) as { mediaType?: unknown };
    return typeof mediaType === "string" ? mediaType : "application/json";
  } catch {
    return "application/octet-stream";
  }
}

/** Serve an offer; what to pull, and the registry, which the caller ends. */
export function serveOffer(offer: Offer): {
  readonly name: string;
  readonly registry: ReturnType<typeof startRegistry>;
} {
  const registry = startRegistry();
  const { bytes, mediaType, digest } = offer.root;
  for (const [name, content] of offer.blobs) {
    registry.content.set(`blobs/${name}`, { bytes: content, mediaType: "application/octet-stream" });
    registry.content.set(`manifests/${name}`, { bytes: content, mediaType: typeOf(content) });
  }
  registry.content.set("manifests/latest", { bytes, mediaType });
  registry.content.set(`manifests/${digest}`, { bytes, mediaType });
  const lies = digestOf(bytes) !== digest;
  return { name: `${registry.host}/test${lies ? `@${digest}` : ""}`, registry };
}

/** Write an offer below an empty directory; what to pull, by its way. */
export function placeOffer(offer: Offer, dir: string, way: "OCI layout" | "OCI archive" | "docker archive"): string {
  if (way === "OCI layout") {
    for (const [name, content] of Object.entries(layoutFiles(offer))) {
      mkdirSync(dirname(join(dir, "layout", name)), { recursive: true });
      writeFileSync(join(dir, "layout", name), content);
    }
    for (const [digest, target] of offer.links ?? []) symlinkSync(target, join(dir, "layout", blobFile(digest)));
    return `oci:${join(dir, "layout")}`;
  }
  const archive = join(dir, "image.tar");
  writeFileSync(archive, way === "OCI archive" ? ociArchive(offer) : dockerArchive(offer));
  return `${way === "OCI archive" ? "oci-archive" : "docker-archive"}:${archive}`;
}

/** Bring an offer into a store; `dir` is an empty directory for what that takes. */
type Way = (offer: Offer, dir: string, options: PullOptions) => Promise<unknown>;

export type WayName = "registry" | "OCI layout" | "OCI archive" | "docker archive" | "load of OCI" | "load of docker";

export const WAYS: Readonly<Record<WayName, Way>> = {
  registry: async (offer, _, options) => {
    const { name, registry } = serveOffer(offer);
    await using server = registry;
    void server;
    return await pull(name, options);
  },
  "OCI layout": (offer, dir, options) => pull(placeOffer(offer, dir, "OCI layout"), options),
  "OCI archive": (offer, dir, options) => pull(placeOffer(offer, dir, "OCI archive"), options),
  "docker archive": (offer, dir, options) => pull(placeOffer(offer, dir, "docker archive"), options),
  "load of OCI": (offer, _, options) => loadImage({ ...options, archive: chunks(ociArchive(offer)), where: "archive" }),
  "load of docker": (offer, _, options) =>
    loadImage({ ...options, archive: chunks(dockerArchive(offer)), where: "archive" }),
};
