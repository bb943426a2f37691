/** The names of the store's images: index.json, an OCI image index whose descriptors carry annotations. */

import { HutchError } from "../errors.ts";
import { type Digest, isDigest } from "./digest.ts";
import { JSON_LIMIT } from "./json.ts";
import { type Descriptor, parseManifest } from "./manifest.ts";
import type { Platform } from "./platform.ts";
import type { OnEvent } from "./source.ts";
import { neededBy } from "./persisted.ts";
import { keepReserve, replaceFromReserve } from "./reserve.ts";
import { acquire, isDiskFull, readFileBounded, type Store, writeFileAtomic } from "./store.ts";

/** One named (or source-bound) image of the store. */
export type StoredImage = {
  /** Full name, `docker.io/library/alpine:3.20`; undefined for one loaded without a name. */
  readonly name?: string;
  /** A layout or archive on disk that it came from, when it has no name of its own. */
  readonly source?: string;
  readonly manifest: Descriptor;
  /** Digest that the source answered for the name: that of an index, when one was in between. */
  readonly sourceDigest: Digest;
  /** When it was stored, ISO 8601. */
  readonly stored: string;
};

const NAME = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME = "io.containerd.image.name";
const OWN = "dev.hutch.image";

function toDescriptor({ name, source, manifest, sourceDigest, stored }: StoredImage): object {
  const { mediaType, digest, size, platform } = manifest;
  return {
    mediaType,
    digest,
    size,
    ...(platform === undefined ? {} : { platform: formatPlatformObject(platform) }),
    annotations: {
      ...(name === undefined ? {} : { [NAME]: name, [CONTAINERD_NAME]: name }),
      ...(source === undefined ? {} : { [`${OWN}.source`]: source }),
      [`${OWN}.source.digest`]: sourceDigest,
      [`${OWN}.stored`]: stored,
    },
  };
}

const formatPlatformObject = ({ os, architecture, variant }: Platform): object => ({
  architecture,
  os,
  ...(variant === undefined ? {} : { variant }),
});

function fromDescriptor(manifest: Descriptor): StoredImage {
  const annotations = manifest.annotations ?? {};
  const name = annotations[NAME];
  const source = annotations[`${OWN}.source`];
  const sourceDigest = annotations[`${OWN}.source.digest`] ?? "";
  return {
    ...(name === undefined ? {} : { name }),
    ...(source === undefined ? {} : { source }),
    manifest,
    sourceDigest: isDigest(sourceDigest) ? sourceDigest : manifest.digest,
    stored: annotations[`${OWN}.stored`] ?? "",
  };
}

/** All images of the store, in the order in which they were stored. @throws HutchError when index.json is broken */
export function readImages(store: Store): StoredImage[] {
  const path = `${store.images}/index.json`;
  const bytes = readFileBounded(path, 16 * JSON_LIMIT);
  if (bytes === undefined) throw new HutchError(`${path} is missing`);
  const index = parseManifest(bytes, undefined, path);
  if (index.kind !== "index") throw new HutchError(`${path} is not an index`);
  return index.manifests.map(fromDescriptor);
}

/**
 * The list with the images that layers which are kept are over (persisted.ts): one that has lost its last name, to another
 * image or by being taken off the list, stays without one, and can be run by its id.
 */
function withNeeded(
  store: Store,
  before: readonly StoredImage[],
  after: readonly StoredImage[],
): readonly StoredImage[] {
  const there = new Set(after.map(({ manifest }) => manifest.digest));
  const gone = new Map(before.map((image) => [image.manifest.digest, image]));
  for (const digest of there) gone.delete(digest);
  if (gone.size === 0) return after;
  const { manifests, unknown } = neededBy(store);
  const stay = [...gone.values()].filter(({ manifest }) => unknown.length > 0 || manifests.has(manifest.digest));
  return [...stay.map(({ manifest, sourceDigest, stored }) => ({ manifest, sourceDigest, stored })), ...after];
}

/** Change the list of images under its lock. Returns what `change` returns beside the new list. */
export async function updateImages<T>(
  store: Store,
  change: (images: readonly StoredImage[]) => { readonly images: readonly StoredImage[]; readonly result: T },
  onEvent?: OnEvent,
): Promise<T> {
  using lock = await acquire(store, "index", "exclusive", onEvent, "another hutch's change of the image list");
  void lock;
  const before = readImages(store);
  const { images: changed, result } = change(before);
  const images = withNeeded(store, before, changed);
  const isSame = images.length === before.length && images.every((image, i) => image === before[i]);
  if (isSame) return result; // prune frees what it can on a full disk, too
  const index = { schemaVersion: 2, manifests: images.map(toDescriptor) };
  const text = new TextEncoder().encode(`${JSON.stringify(index, undefined, 1)}\n`);
  const path = `${store.images}/index.json`;
  try {
    writeFileAtomic(store, path, text);
  } catch (error) {
    // Only for who takes away: what a list leaves of the reserve is then always enough for the next.
    const isLess = images.length < before.length;
    if (!isLess || !isDiskFull(error) || !replaceFromReserve(store, path, text)) throw error;
  }
  keepReserve(store, text.byteLength);
  return result;
}

/** Put an image in the place of the one with the same name or source. */
export function putImage(images: readonly StoredImage[], image: StoredImage): StoredImage[] {
  const isSame = (other: StoredImage): boolean =>
    image.name !== undefined
      ? other.name === image.name
      : other.name === undefined &&
        (image.source === undefined
          ? other.source === undefined && other.manifest.digest === image.manifest.digest
          : other.source === image.source);
  return [...images.filter((other) => !isSame(other)), image];
}
