/**
 * An image as the root of a run: its config and its layers' directories, held against removal. An image that is in the
 * store costs a few reads here; what pulls is loaded only when it must.
 */

import { AT_FDCWD, closeFile, O, openAt } from "../libc/file.ts";
import { HutchError } from "../errors.ts";
import type { ImageConfig, ProcessConfig } from "./config.ts";
import type { Digest } from "./digest.ts";
import { readImages } from "./image-index.ts";
import { layerPath } from "./layer-path.ts";
import { createLease, type Lease } from "./lease.ts";
import {
  findLocalImage,
  findRegistryImage,
  findRunnable,
  isUnpacked,
  localSource,
  openImage,
  type OpenImage,
  RUNNABLE_ID,
} from "./lookup.ts";
import { createMergedView, readInView } from "./merged-view.ts";
import { listState } from "./plain-image.ts";
import type { PullOptions } from "./pull.ts";
import { type ImageReference, parseReference } from "./reference.ts";
import { acquire, tryAcquire } from "./store.ts";
import { type ExecUser, resolveUser } from "./user.ts";
import { decodeBytes } from "../bytes.ts";

export type ResolvedImage = Disposable & {
  /** The config's `config` member, for mergeImageConfig. */
  readonly config: ProcessConfig;
  /** The whole config file. */
  readonly image: ImageConfig;
  /** Directories of the unpacked layers, lowest first, with `user.overlay.*` marks. */
  readonly layers: readonly string[];
  readonly manifestDigest: Digest;
  /** The digest of its config. */
  readonly id: Digest;
  /** ChainIDs of the layers, and which list of images they were found by, if by that of now (plain-image.ts). */
  readonly chain: readonly Digest[];
  readonly list: string | undefined;
  /** Keeps the layers from being removed until disposed of. */
  readonly lease: Lease;
};

/**
 * Find an image by its id (a string only) or name in the store, else pull it by the policy. An id never asks a registry.
 * @throws as pull(), HutchError for an id that the store does not have
 */
export async function resolveImage(name: string | ImageReference, options: PullOptions): Promise<ResolvedImage> {
  const byId = typeof name === "string" ? await resolveId(name, options) : undefined;
  if (byId !== undefined) return byId;
  const reference = typeof name === "string" ? parseReference(name) : name;
  const stored = resolveStored(reference, options);
  if (stored !== undefined) return stored;
  const { pull } = await import("./pull.ts");
  // Between the pull and the lease another hutch might prune: the lock that pull() takes is taken around both.
  using gc = await acquire(options.store, "gc", "shared", options.onEvent, "hutch prune");
  void gc;
  const { image } = await pull(reference, options);
  return hold(image, options, listNaming(image, reference, options));
}

/** The image of an id, unpacked again when only its blobs are left; undefined when the word is no id of the store. */
async function resolveId(text: string, options: PullOptions): Promise<ResolvedImage | undefined> {
  const { store, platform } = options;
  if (!RUNNABLE_ID.test(text)) return undefined;
  using gc = await acquire(store, "gc", "shared", options.onEvent, "hutch prune");
  void gc;
  const list = listState(store);
  const record = findRunnable(store, readImages(store), text, platform);
  if (record === undefined) return undefined;
  const image = openImage(store, record);
  if (isUnpacked(store, image)) return hold(image, options, list);
  const { completeLocally } = await import("./pull.ts");
  const whole = await completeLocally(record, options);
  if (whole === undefined)
    throw new HutchError(`image ${text} is not whole in the store`, { hint: `pull ${record.name ?? "it"} again` });
  return hold(whole, options);
}

/** The quick way: no network, no waiting. undefined when the image is not whole or the store is being cleaned. */
function resolveStored(reference: ImageReference, options: PullOptions): ResolvedImage | undefined {
  const { store, policy = "missing", platform } = options;
  if (policy === "always" && (reference.kind === "registry" || localSource(reference) === undefined)) return undefined;
  using gc = tryAcquire(store, "gc", "shared");
  if (gc === undefined) return undefined;
  const list = listState(store);
  const images = readImages(store);
  const record =
    reference.kind === "registry"
      ? findRegistryImage(images, reference, platform)
      : findLocalImage(images, reference, policy === "never" ? undefined : localSource(reference), platform);
  if (record === undefined) return undefined;
  let image: OpenImage;
  try {
    image = openImage(store, record);
  } catch {
    return undefined; // pull() mends it or says what is wrong
  }
  return isUnpacked(store, image) ? hold(image, options, reference.kind === "registry" ? list : undefined) : undefined;
}

/** The list of images as it is, when it gives a registry's name to the image that has been pulled. */
function listNaming(image: OpenImage, reference: ImageReference, { store, platform }: PullOptions): string | undefined {
  if (reference.kind !== "registry") return undefined; // what is at a place on disk may change without the list
  const list = listState(store);
  const found = findRegistryImage(readImages(store), reference, platform);
  return found?.manifest.digest === image.record.manifest.digest ? list : undefined;
}

function hold(image: OpenImage, { store }: PullOptions, list?: string): ResolvedImage {
  const lease = createLease(store, image.chain);
  return {
    config: image.config.config,
    image: image.config,
    layers: image.chain.map((chainId) => layerPath(store, chainId)),
    manifestDigest: image.record.manifest.digest,
    id: image.manifest.config.digest,
    chain: image.chain,
    list,
    lease,
    [Symbol.dispose]: () => lease[Symbol.dispose](),
  };
}

const ACCOUNT_LIMIT = 16 * 1024 * 1024;

/** Whom `USER[:GROUP]` means by the image's own passwd and group files, read inside its layers. @throws UsageError */
export function resolveImageUser(spec: string, layers: readonly string[]): ExecUser {
  const fds = layers.toReversed().map((path) => openAt(AT_FDCWD, path, O.PATH | O.DIRECTORY));
  try {
    const view = createMergedView(fds);
    const read = (path: string): string => decodeBytes(readInView(view, path, ACCOUNT_LIMIT) ?? new Uint8Array());
    return resolveUser(spec, read("etc/passwd"), read("etc/group"));
  } finally {
    for (const fd of fds) closeFile(fd);
  }
}
