/** Layers of the store: unpacked once, each over those below it, named by its ChainID. */

import { join } from "node:path";
import { HutchError } from "../errors.ts";
import { call, rawCall, systemError } from "../libc/call.ts";
import { AT_FDCWD, closeFile, O, openAt, removeTree } from "../libc/file.ts";
import { applyLayer } from "./apply.ts";
import type { IdMode } from "./attributes.ts";
import { streamBlob } from "./blobs.ts";
import { chainIds, type Digest, splitDigest } from "./digest.ts";
import { hasLayer, layerHome, layerPath } from "./layer-path.ts";
import type { Descriptor } from "./manifest.ts";
import { createMergedView } from "./merged-view.ts";
import type { OnEvent } from "./source.ts";
import { acquire, explainWrite, type Lock, rename, type Store, syncDirectory, writeFileAtomic } from "./store.ts";
import type { UnpackLimits } from "./unpack.ts";

/** What is known of an unpacked layer (layers/…/meta.json). */
export type LayerMeta = {
  readonly diffId: Digest;
  readonly parent: Digest | null;
  readonly ids: IdMode;
  readonly entries: number;
  /** Bytes of its files. */
  readonly bytes: number;
  readonly warnings: readonly string[];
};

/** Unpack the layers of an image that are not there yet, here or by another process. */
export type UnpackLayers = (
  store: Store,
  layers: readonly Descriptor[],
  diffIds: readonly Digest[],
  options: Omit<LayerOptions, "ids">,
) => Promise<void>;

/** In this process, with the ids that a user has without ranges. */
export function unpackHere(uid: number): UnpackLayers {
  return async (store, layers, diffIds, options) =>
    await unpackLayers(store, layers, diffIds, { ...options, ids: uid === 0 ? "real" : "one" });
}

type Unpacking = { readonly chainId: Digest; readonly temporary: string; readonly lock: Lock };

export type LayerOptions = {
  readonly ids: IdMode;
  readonly onEvent?: OnEvent | undefined;
  readonly limits?: UnpackLimits | undefined;
  /** Waited for before a layer's blob is read: its download. */
  readonly ready?: ((index: number) => Promise<void>) | undefined;
};

/**
 * Unpack the layers of an image that are not there yet, lowest first. They appear together, after one sync of the file
 * system; those before a failing one stay.
 * @throws HutchError when a layer is refused
 */
export async function unpackLayers(
  store: Store,
  layers: readonly Descriptor[],
  diffIds: readonly Digest[],
  options: LayerOptions,
): Promise<void> {
  const chain = chainIds(diffIds);
  const done: Unpacking[] = [];
  try {
    for (const [i, chainId] of chain.entries()) {
      await options.ready?.(i);
      if (hasLayer(store, chainId)) continue;
      const { hex } = splitDigest(chainId);
      const lock = await acquire(
        store,
        `layer-${hex}`,
        "exclusive",
        options.onEvent,
        `another unpacking of ${chainId}`,
      );
      if (hasLayer(store, chainId)) {
        lock[Symbol.dispose]();
        continue;
      }
      const unpacking = { chainId, lock, temporary: `${layerHome(store, chainId)}.tmp` };
      try {
        await unpackOne(store, unpacking, chain.slice(0, i), done, layers[i], diffIds[i], options);
      } catch (error) {
        removeByPath(unpacking.temporary);
        lock[Symbol.dispose]();
        throw explainWrite(error, store);
      }
      done.push(unpacking);
    }
  } finally {
    publish(store, done);
  }
}

/**
 * Put what is unpacked to disk and then in its place: after a power cut a name must not stand for files without content,
 * which rename(2) alone allows. One syncfs(2) for all layers, since fsync(2) of each file costs a journal commit each; it
 * also tells of errors in writing back (Linux 5.8).
 */
function publish(store: Store, done: readonly Unpacking[]): void {
  try {
    if (done.length === 0) return;
    const fd = openAt(AT_FDCWD, store.layers, O.RDONLY | O.DIRECTORY);
    const result = rawCall("syncfs", fd);
    closeFile(fd);
    if (result < 0) throw systemError(`sync ${store.layers}`, -result);
    for (const { chainId, temporary } of done) rename(temporary, layerHome(store, chainId));
    syncDirectory(store.layers);
  } finally {
    for (const { lock } of done) lock[Symbol.dispose]();
  }
}

/** Remove a directory of the store by its path. */
export function removeByPath(path: string): void {
  const parent = openAt(AT_FDCWD, join(path, ".."), O.RDONLY | O.DIRECTORY);
  try {
    removeTree(parent, path.slice(path.lastIndexOf("/") + 1));
  } finally {
    closeFile(parent);
  }
}

async function unpackOne(
  store: Store,
  { temporary }: Unpacking,
  below: readonly Digest[],
  pending: readonly Unpacking[],
  descriptor: Descriptor | undefined,
  diffId: Digest | undefined,
  { ids, onEvent, limits }: LayerOptions,
): Promise<void> {
  if (descriptor === undefined || diffId === undefined) throw new HutchError("layers and diff_ids differ in number");
  const { digest } = descriptor;
  removeByPath(temporary); // what a killed process left
  const diff = join(temporary, "diff");
  call("mkdirat", AT_FDCWD, temporary, 0o700);
  call("mkdirat", AT_FDCWD, diff, 0o755);
  const pathOf = (chainId: Digest): string => {
    const unpublished = pending.find((other) => other.chainId === chainId);
    return unpublished === undefined ? layerPath(store, chainId) : join(unpublished.temporary, "diff");
  };
  const fds: number[] = [];
  try {
    const target = openAt(AT_FDCWD, diff, O.RDONLY | O.DIRECTORY);
    fds.push(target);
    for (const chainId of below.toReversed()) fds.push(openAt(AT_FDCWD, pathOf(chainId), O.PATH | O.DIRECTORY));
    const view = createMergedView(fds.slice(1));
    const summary = await applyLayer(streamBlob(store, digest), target, view, diffId, `layer ${digest}`, {
      ids,
      ...(limits === undefined ? {} : { limits }),
      onBytes: (bytes) => onEvent?.({ kind: "unpacking", digest, bytes }),
    });
    const { entries, bytes, warnings } = summary;
    const meta: LayerMeta = { diffId, parent: below.at(-1) ?? null, ids, entries, bytes, warnings };
    writeFileAtomic(store, join(temporary, "meta.json"), `${JSON.stringify(meta)}\n`);
    for (const text of warnings) onEvent?.({ kind: "warning", text: `layer ${digest}: ${text}` });
    onEvent?.({ kind: "unpacked", digest, entries, bytes });
  } finally {
    for (const fd of fds) closeFile(fd);
  }
}
