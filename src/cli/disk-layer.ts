/**
 * Where a sandbox's writes go when memory will not do: before Linux 6.6 tmpfs has no user.* attributes, and an overlay
 * with its writable layer there can neither remove a directory of the layers below nor make it again (EIO). Then the
 * writable layer is a directory beside the caller's images, gone when the sandbox has ended: hutch's own process lives
 * until then (launch/afterwards.ts), and what it leaves when it is killed the next run or `hutch prune` removes.
 */

import { chmodSync, chownSync, mkdirSync, statfsSync } from "node:fs";
import { UsageError } from "../errors.ts";
import { type HostFacts, TMPFS_ATTRIBUTES } from "../facts.ts";
import type { Store } from "../image/store.ts";
import { readOutcome } from "../launch/afterwards.ts";
import { makeSessionDirectory, removeOldSessions } from "../nix/session-directory.ts";
import { removeTree } from "../nix/remove-tree.ts";
import type { Spec } from "../spec.ts";
import type { Command } from "./command.ts";
import { imageContext } from "./image-context.ts";

/** Magic numbers (statfs(2)) of file systems that an overlay may write to: ext4, xfs, btrfs, f2fs. */
const WRITABLE_BELOW_AN_OVERLAY: readonly number[] = [0xef53, 0x58465342, 0x9123683e, 0xf2f52010];

/** Where the directories of writable layers are. */
function layersDirectory({ root }: Store): string {
  return `${root}/sessions`;
}

/** Whose the files of the sandbox's root are outside; undefined where the caller could not remove all that it makes. */
function rootOwner({ idMap }: Spec, { root, ranges, uid, gid }: HostFacts): { uid: number; gid: number } | undefined {
  if (root) return ranges === undefined ? undefined : { uid: ranges.uid.start, gid: ranges.gid.start };
  return idMap === "default" ? { uid, gid } : undefined;
}

/** The directory below which `makeDiskLayer` would make one for this sandbox, or undefined when memory will do, or must. */
export function diskLayerParent(spec: Spec, host: HostFacts): string | undefined {
  if (!needsDisk(spec, host) || rootOwner(spec, host) === undefined) return undefined;
  try {
    const parent = layersDirectory(imageContext().store); // the caller's own, made when it is missing
    mkdirSync(parent, { recursive: true, mode: 0o700 });
    return WRITABLE_BELOW_AN_OVERLAY.includes(statfsSync(parent).type) ? parent : undefined;
  } catch {
    return undefined; // a directory runs without a store, too: then in memory, as `hutch plan` tells
  }
}

/** Whether writes of this sandbox go to an overlay whose marks this kernel's tmpfs cannot hold. */
function needsDisk({ root }: Spec, { kernel }: HostFacts): boolean {
  return root.kind === "overlay" && root.readonly !== true && kernel < TMPFS_ATTRIBUTES;
}

/** Make a directory with `upper` and `work` in it, as its sandbox's root would; undefined when memory will do, or must. */
export function makeDiskLayer(spec: Spec, host: HostFacts): string | undefined {
  const parent = diskLayerParent(spec, host);
  const owner = rootOwner(spec, host);
  if (parent === undefined || owner === undefined) return undefined;
  removeOldSessions(parent);
  const directory = makeSessionDirectory(parent);
  try {
    for (const path of [`${directory}/upper`, `${directory}/work`]) {
      mkdirSync(path);
      chmodSync(path, 0o755); // whatever the umask
      if (host.root) chownSync(path, owner.uid, owner.gid);
    }
    if (host.root) chownSync(directory, owner.uid, owner.gid);
    return directory;
  } catch (error) {
    removeTree(directory);
    throw error;
  }
}

/** Remove what sandboxes left whose hutch was killed. */
export function removeOldLayers(store: Store): void {
  removeOldSessions(layersDirectory(store));
}

/** `hutch end-disk-layer DIRECTORY FD`: what follows a sandbox with its writable layer on disk. Not for people. */
export const endDiskLayer: Command = {
  main: async ([directory, descriptor]) => {
    if (directory === undefined || descriptor === undefined)
      throw new UsageError("end-disk-layer needs a directory and a descriptor");
    removeTree(directory);
    return readOutcome(Number(descriptor));
  },
};
