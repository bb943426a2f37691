/** `hutch images`, `inspect`, `rmi`, `prune`: what the store has, as data, and taking it away. */

import { join } from "node:path";
import { HutchError, SystemError, UsageError } from "../errors.ts";
import { rawCall } from "../libc/call.ts";
import { AT_FDCWD, closeFile, listNames, O, openAt, removeTree, statAt } from "../libc/file.ts";
import { AT_REMOVEDIR } from "../libc/constants.ts";
import { type Digest, splitDigest } from "./digest.ts";
import { putImage, readImages, type StoredImage, updateImages } from "./image-index.ts";
import { heldLayers } from "./lease.ts";
import { findById, findLocalImage, findRegistryImage, isOneImage, openImage, type OpenImage } from "./lookup.ts";
import { removeByPath } from "./layers.ts";
import {
  formatReference,
  type ImageReference,
  parseReference,
  type RegistryReference,
  sourcePlace,
} from "./reference.ts";
import { neededBy } from "./persisted.ts";
import { keepReserve } from "./reserve.ts";
import type { OnEvent } from "./source.ts";
import { acquire, readFileBounded, rename, type Store, tryAcquire } from "./store.ts";

/** All images that can be read, and words about those that cannot. */
export function listImages(store: Store): {
  readonly images: readonly OpenImage[];
  readonly broken: readonly string[];
} {
  const images: OpenImage[] = [];
  const broken: string[] = [];
  for (const record of readImages(store)) {
    try {
      images.push(openImage(store, record));
    } catch (error) {
      if (!(error instanceof HutchError)) throw error;
      broken.push(`${record.name ?? record.manifest.digest}: ${error.message}`);
    }
  }
  return { images, broken };
}

/**
 * Records that a word of the user means: the one of a name (of any platform), else those of an id.
 * @throws HutchError when the store has none, UsageError when it can be no name
 */
export function findRecords(store: Store, images: readonly StoredImage[], text: string): StoredImage[] {
  let reference: ImageReference | undefined;
  let fault: UsageError | undefined;
  try {
    reference = parseReference(text);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    fault = error;
  }
  const byName =
    reference === undefined
      ? undefined
      : reference.kind === "registry"
        ? findRegistryImage(images, reference, "any")
        : findLocalImage(images, reference, undefined, "any"); // whatever is there by now
  if (byName !== undefined) return [byName];
  const byId = findById(store, images, text);
  if (byId.length > 0) return byId;
  throw fault ?? new HutchError(`no image ${JSON.stringify(text)} in the store`, { hint: "hutch images lists them" });
}

/**
 * Give an image (by name or id) another name, taken from what had it. Returns the full name.
 * @throws as findRecords(), HutchError when an id means several different images
 */
export async function tagImage(store: Store, text: string, reference: RegistryReference): Promise<string> {
  const name = formatReference(reference);
  using gc = await acquire(store, "gc", "shared", undefined, "hutch prune");
  void gc;
  return await updateImages(store, (images) => {
    const { manifest, sourceDigest } = oneRecord(store, images, text);
    const record: StoredImage = { name, manifest, sourceDigest, stored: new Date().toISOString() };
    return { images: putImage(images, record), result: name };
  });
}

/** One image by name or id. @throws as findRecords(), HutchError when an id means several different ones */
export function inspectImage(store: Store, text: string): OpenImage {
  return openImage(store, oneRecord(store, readImages(store), text));
}

function oneRecord(store: Store, images: readonly StoredImage[], text: string): StoredImage {
  const records = findRecords(store, images, text);
  const [first] = records;
  if (first === undefined || !isOneImage(store, records))
    throw new HutchError(`${JSON.stringify(text)} begins the id of several images`, { hint: "write more of it" });
  return first;
}

export type Collected = { readonly blobs: number; readonly layers: number; readonly bytes: number };

export type Removed = {
  /** Names (or digests, for those without) that are gone. */
  readonly names: readonly string[];
  /** What was freed; undefined when another hutch is pulling, and a later prune will free it. */
  readonly freed: Collected | undefined;
};

/** How to remove directories that this process may not, for ids in a range; without it they are an error. */
export type RemoveRanged = (paths: readonly string[]) => Promise<void>;

/**
 * Remove a name; an id removes its image when it has one name, or all of them with `force`.
 * @throws as findRecords(), HutchError for several names without `force`
 */
export async function removeImage(
  store: Store,
  text: string,
  options: {
    readonly force?: boolean;
    readonly onEvent?: OnEvent;
    readonly removeRanged?: RemoveRanged | undefined;
  } = {},
): Promise<Removed> {
  const names = await updateImages(
    store,
    (images) => {
      const records = findRecords(store, images, text);
      if (records.length > 1 && options.force !== true) {
        throw new HutchError(`${JSON.stringify(text)} is ${records.map(nameOf).join(", ")}`, {
          hint: "name one, or --force for all",
        });
      }
      const rest = images.filter((image) => !records.includes(image));
      demandUnneeded(store, records, rest);
      return { images: rest, result: records.map(nameOf) };
    },
    options.onEvent,
  );
  using gc = tryAcquire(store, "gc", "exclusive");
  return { names, freed: gc === undefined ? undefined : await collect(store, options.removeRanged) };
}

/** @throws HutchError when a layer that is kept is over one of these images, and the others do not have it */
function demandUnneeded(store: Store, records: readonly StoredImage[], rest: readonly StoredImage[]): void {
  const { manifests, unknown } = neededBy(store);
  for (const record of records) {
    const { digest } = record.manifest;
    if (rest.some(({ manifest }) => manifest.digest === digest)) continue;
    const [layer, ...more] = [...(manifests.get(digest) ?? []), ...unknown];
    if (layer === undefined) continue;
    const words = `layer ${layer}${more.length === 0 ? "" : ` and ${more.length} more`}`;
    throw new HutchError(`image ${nameOf(record)} is needed by the ${words} of hutch run --persist`, {
      hint: `hutch rm ${[layer, ...more].join(" ")} removes what was written to it`,
    });
  }
}

const nameOf = ({ name, source, manifest }: StoredImage): string =>
  name ?? (source === undefined ? manifest.digest : sourcePlace(source));

/**
 * Free what no image needs: blobs, layers, and leavings of killed processes. Images without a name go first; with `all`
 * every image goes. Layers of running sandboxes stay, and images that layers which are kept are over (persisted.ts).
 * Waits for pulls under way.
 */
export async function pruneImages(
  store: Store,
  options: {
    readonly all?: boolean;
    readonly onEvent?: OnEvent;
    readonly removeRanged?: RemoveRanged | undefined;
  } = {},
): Promise<Removed> {
  using gc = await acquire(store, "gc", "exclusive", options.onEvent, "pulls under way");
  void gc;
  const needed = neededBy(store);
  const isKept = ({ name, manifest }: StoredImage): boolean =>
    (options.all !== true && name !== undefined) || needed.unknown.length > 0 || needed.manifests.has(manifest.digest);
  const names = await updateImages(store, (images) => ({
    images: images.filter(isKept),
    result: images.filter((image) => !isKept(image)).map(nameOf),
  }));
  return { names, freed: await collect(store, options.removeRanged) };
}

/** Digests that images and layers that are kept need: their blobs and, by ChainID, their layers. A damaged image's manifest at least. */
function liveDigests(store: Store): {
  readonly blobs: ReadonlySet<Digest>;
  readonly layers: ReadonlySet<Digest> | "all";
} {
  const blobs = new Set<Digest>();
  const held = heldLayers(store);
  const needed = neededBy(store);
  const layers = new Set([...(held === "all" ? [] : held), ...needed.chain]);
  for (const record of readImages(store)) {
    blobs.add(record.manifest.digest);
    try {
      const { manifest, chain } = openImage(store, record);
      for (const { digest } of [manifest.config, ...manifest.layers]) blobs.add(digest);
      for (const chainId of chain) layers.add(chainId);
    } catch (error) {
      if (!(error instanceof HutchError)) throw error;
    }
  }
  return { blobs, layers: held === "all" || needed.unknown.length > 0 ? "all" : layers };
}

/** Remove all that nothing needs. Only under the exclusive gc lock. */
async function collect(store: Store, removeRanged?: RemoveRanged): Promise<Collected> {
  const live = liveDigests(store);
  let [blobs, bytes] = [0, 0];
  for (const algorithm of ["sha256", "sha512"] as const) {
    const directory = join(store.images, "blobs", algorithm);
    for (const name of namesIn(directory)) {
      if (live.blobs.has(`${algorithm}:${name}`)) continue;
      bytes += statAt(AT_FDCWD, join(directory, name))?.size ?? 0;
      blobs += 1;
      rawCall("unlinkat", AT_FDCWD, join(directory, name), 0);
    }
  }
  const keep = live.layers === "all" ? undefined : new Set([...live.layers].map((chainId) => splitDigest(chainId).hex));
  const ranges = namesIn(store.ranges).map((name) => join(store.ranges, name));
  const stale = [store.layers, ...ranges].flatMap((directory) =>
    namesIn(directory)
      .filter((name) => (keep === undefined ? name.endsWith(".tmp") : !keep.has(name)))
      .map((name) => join(directory, name)),
  );
  const refused: string[] = [];
  for (const path of stale) {
    // A layer half removed must not look like a whole one.
    const leaving = path.endsWith(".tmp") ? path : `${path}.tmp`;
    if (path !== leaving) {
      bytes += layerBytes(path);
      rename(path, leaving);
    }
    if (path.startsWith(`${store.ranges}/`)) {
      if (!removedHere(leaving)) refused.push(leaving);
    } else removeByPath(leaving);
  }
  for (const directory of [store.partial, store.tmp])
    for (const name of namesIn(directory)) bytes += statAt(AT_FDCWD, join(directory, name))?.size ?? 0;
  for (const directory of [store.partial, store.tmp, store.plain])
    for (const name of namesIn(directory)) removeIn(directory, name);
  for (const name of namesIn(store.locks))
    if (name !== "gc" && name !== "index") rawCall("unlinkat", AT_FDCWD, join(store.locks, name), 0);
  if (refused.length > 0) await removeElsewhere(refused, removeRanged);
  for (const path of ranges) rawCall("unlinkat", AT_FDCWD, path, AT_REMOVEDIR); // what is empty now
  using list = tryAcquire(store, "index", "exclusive");
  if (list !== undefined) keepReserve(store, statAt(AT_FDCWD, `${store.images}/index.json`)?.size ?? 0); // room again
  return { blobs, layers: stale.length, bytes };
}

/** Remove a layer; false when its files are other users' than ours. */
function removedHere(path: string): boolean {
  try {
    removeByPath(path);
    return true;
  } catch (error) {
    if (error instanceof SystemError && (error.code === "EACCES" || error.code === "EPERM")) return false;
    throw error;
  }
}

/** What is left of layers with ids in a range. @throws HutchError when even root of such a namespace may not */
async function removeElsewhere(paths: readonly string[], removeRanged?: RemoveRanged): Promise<void> {
  try {
    if (removeRanged === undefined) throw new HutchError("it belongs to other users");
    await removeRanged(paths);
  } catch (error) {
    if (!(error instanceof HutchError)) throw error;
    throw new HutchError(`cannot remove ${paths[0]}: ${error.message}`, {
      cause: error,
      hint: "it belongs to ids of a range that is yours no more: let root remove it, or get the range back",
    });
  }
}

function layerBytes(path: string): number {
  try {
    const text = new TextDecoder().decode(readFileBounded(join(path, "meta.json"), 1024 * 1024));
    const { bytes } = JSON.parse(text) as { bytes?: unknown };
    return typeof bytes === "number" ? bytes : 0;
  } catch {
    return 0; // only a figure for the user
  }
}

/** Names in a directory; none when it is not there. */
function namesIn(path: string): string[] {
  if (statAt(AT_FDCWD, path) === undefined) return [];
  const fd = openAt(AT_FDCWD, path, O.RDONLY | O.DIRECTORY);
  try {
    return listNames(fd);
  } finally {
    closeFile(fd);
  }
}

function removeIn(path: string, name: string): void {
  const fd = openAt(AT_FDCWD, path, O.RDONLY | O.DIRECTORY);
  try {
    removeTree(fd, name);
  } finally {
    closeFile(fd);
  }
}
