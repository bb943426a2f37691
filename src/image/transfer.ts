/** `hutch save` and `hutch load`: images as one file, for Docker old and new, podman, skopeo and hutch. */

import { HutchError, UsageError } from "../errors.ts";
import { createDockerSource, openArchive, readDockerManifest } from "./archive.ts";
import { streamBlob } from "./blobs.ts";
import { splitDigest } from "./digest.ts";
import { readImages } from "./image-index.ts";
import { createLayoutSource, readLayoutIndex } from "./layout.ts";
import { hasAllBlobs, type OpenImage } from "./lookup.ts";
import { findRecords, inspectImage } from "./manage.ts";
import type { Descriptor } from "./manifest.ts";
import { nameImage } from "./pull.ts";
import { familiarName, familiarRepository, formatReference, parseReference } from "./reference.ts";
import type { OnEvent } from "./source.ts";
import { type Stored, storeImage, type StoreOptions } from "./store-image.ts";
import { acquire, explainWrite, type Store } from "./store.ts";
import { type TarFile, writeTar } from "./tar-writer.ts";

const encode = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));

/** The name to write into an archive for an image that was found by a name; undefined for an id. */
function archiveName(
  image: OpenImage,
): { full: string; familiar: string; repository: string; tag: string } | undefined {
  const { name } = image.record;
  if (name === undefined || name.includes("@")) return undefined;
  const reference = parseReference(name);
  if (reference.kind !== "registry") return undefined;
  return {
    full: name,
    familiar: familiarName(reference),
    repository: familiarRepository(reference),
    tag: reference.tag ?? "latest",
  };
}

/**
 * Images by names or ids as an archive: an OCI layout with Docker's manifest.json and repositories beside it. The same
 * images give the same bytes.
 * @throws UsageError when one is not in the store, HutchError when it is not whole
 */
export async function* saveImage(
  store: Store,
  names: readonly string[],
  onEvent?: OnEvent,
): AsyncGenerator<Uint8Array> {
  if (names.length === 0) throw new UsageError("no image to save");
  using gc = await acquire(store, "gc", "shared", onEvent, "hutch prune");
  void gc;
  const images = names.map((name) => {
    const image = inspectImage(store, name);
    if (!hasAllBlobs(store, image))
      throw new HutchError(`image ${name} is not whole in the store`, { hint: "pull it again" });
    // An id has the image's digest only; the name that the user typed goes with it.
    const byName = findRecords(store, readImages(store), name).length === 1 && !/^(sha256:)?[0-9a-f]+$/.test(name);
    return { image, label: byName ? archiveName(image) : undefined };
  });
  const blobs = new Map<string, Descriptor | { readonly digest: Descriptor["digest"]; readonly size: number }>();
  for (const { image } of images) {
    const { digest, size } = image.record.manifest;
    for (const blob of [{ digest, size }, image.manifest.config, ...image.manifest.layers])
      blobs.set(archivePath(blob.digest), blob);
  }
  const index = {
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.index.v1+json",
    manifests: images.map(({ image, label }) => ({
      mediaType: image.record.manifest.mediaType,
      digest: image.record.manifest.digest,
      size: image.record.manifest.size,
      ...(label === undefined
        ? {}
        : { annotations: { "io.containerd.image.name": label.full, "org.opencontainers.image.ref.name": label.tag } }),
    })),
  };
  const docker = images.map(({ image, label }) => ({
    Config: archivePath(image.manifest.config.digest),
    RepoTags: label === undefined ? null : [label.familiar],
    Layers: image.manifest.layers.map(({ digest }) => archivePath(digest)),
  }));
  const repositories: Record<string, Record<string, string>> = {};
  for (const { image, label } of images) {
    const top = image.manifest.layers.at(-1);
    if (label === undefined || top === undefined) continue;
    repositories[label.repository] = { ...repositories[label.repository], [label.tag]: splitDigest(top.digest).hex };
  }
  const texts = {
    "index.json": index,
    "manifest.json": docker,
    "oci-layout": { imageLayoutVersion: "1.0.0" },
    repositories,
  };
  const files: TarFile[] = [
    ...["blobs/", ...new Set([...blobs.values()].map(({ digest }) => `blobs/${splitDigest(digest).algorithm}/`))].map(
      (name) => ({ name, size: 0, content: new Uint8Array() }),
    ),
    ...[...blobs].map(([name, { digest, size }]) => ({ name, size, content: streamBlob(store, digest) })),
    ...Object.entries(texts).map(([name, value]) => ({ name, size: encode(value).byteLength, content: encode(value) })),
  ];
  yield* writeTar(files.toSorted((a, b) => (a.name < b.name ? -1 : 1)));
}

const archivePath = (digest: Descriptor["digest"]): string => {
  const { algorithm, hex } = splitDigest(digest);
  return `blobs/${algorithm}/${hex}`;
};

/** One image that was loaded, by its full name or, without one, its digest. */
export type Loaded = { readonly name: string | undefined; readonly image: OpenImage };

export type LoadOptions = StoreOptions & {
  readonly store: Store;
  /** The archive, compressed or not, and what to call it in errors. */
  readonly archive: AsyncIterable<Uint8Array>;
  readonly where: string;
};

/**
 * All images of an archive (`docker save`, an OCI layout in a tar file, or both in one; compressed or not) into the
 * store. @throws HutchError when the archive or an image in it is refused; those before it stay
 */
export async function loadImage(options: LoadOptions): Promise<Loaded[]> {
  const { store, onEvent } = options;
  using gc = await acquire(store, "gc", "shared", onEvent, "hutch prune");
  void gc;
  try {
    return await loadAll(options);
  } catch (error) {
    throw explainWrite(error, store);
  }
}

async function loadAll(options: LoadOptions): Promise<Loaded[]> {
  const { store, where, onEvent } = options;
  using archive = await openArchive(store, options.archive, where, options.limits?.compression);
  const loaded: Loaded[] = [];
  const keep = async (stored: Stored, names: readonly string[]): Promise<void> => {
    for (const name of names) loaded.push({ name, image: await nameImage(store, stored, { name }, onEvent) });
    if (names.length === 0) loaded.push({ name: undefined, image: await nameImage(store, stored, {}, onEvent) });
  };
  const items = await readDockerManifest(archive);
  const hasLayout =
    (await archive.read("oci-layout", 4096)) !== undefined &&
    (await archive.read("index.json", 4 * 1024 * 1024)) !== undefined;
  if (hasLayout) {
    for (const entry of (await readLayoutIndex(archive)).manifests) {
      await keep(await storeImage(store, createLayoutSource(archive, entry), options), layoutNames(entry, where));
    }
    if (loaded.length > 0) return loaded;
  }
  if (items === undefined) throw new HutchError(`${where}: neither an OCI layout nor what docker save writes`);
  for (const item of items) {
    const tags = item.tags.map((tag) => fullName(tag, where));
    await keep(await storeImage(store, createDockerSource(archive, item), options), tags);
  }
  return loaded;
}

/** A name that an archive gives: it must be a tag, as Docker demands. */
function fullName(text: string, where: string): string {
  const reference = parseReference(text);
  if (reference.kind !== "registry" || reference.digest !== undefined)
    throw new HutchError(`${where}: invalid name ${JSON.stringify(text)}`);
  return formatReference(reference);
}

/** Names of a layout's entry: a full one where there is one; a bare tag names nothing. */
function layoutNames(entry: Descriptor, where: string): string[] {
  const full = entry.annotations?.["io.containerd.image.name"];
  const ref = entry.annotations?.["org.opencontainers.image.ref.name"];
  const name = full ?? (ref !== undefined && /[/:]/.test(ref) ? ref : undefined);
  return name === undefined ? [] : [fullName(name, where)];
}
