/**
 * Where a sandbox's writes go when an overlay in memory will not do: without user.* attributes (before Linux 6.6) an
 * overlay with its writable layer on a tmpfs can neither remove a directory of the layers below nor make it again (EIO).
 * Then the writable layer is a directory beside the caller's images; where that cannot be one either, or where root can
 * have no overlay (before Linux 5.19), the layers of an image are copied there. It is gone when the sandbox has ended:
 * hutch's own process lives until then (launch/afterwards.ts), and when that is killed the remover (launch/remover.ts)
 * does it; what both leave when they are killed the next run or `hutch prune` removes.
 */

import { chmodSync, chownSync, mkdirSync, statfsSync } from "node:fs";
import { SystemError, UsageError } from "../errors.ts";
import { type HostFacts, IDMAPPED_LAYERS } from "../facts.ts";
import { copyMerged } from "../image/merge.ts";
import { explainWrite, type Store } from "../image/store.ts";
import { readOutcome } from "../launch/afterwards.ts";
import type { Self } from "../launch/become.ts";
import { oldSessions, removeOldSessions } from "../sessions/session-directory.ts";
import { removeTree } from "../sessions/remove-tree.ts";
import { rawCall } from "../libc/call.ts";
import { errnoNumber } from "../libc/errno.ts";
import { AT_FDCWD, closeFile, O, openAt, setXattr } from "../libc/file.ts";
import type { HostPath, Spec } from "../spec.ts";
import type { Command } from "./command.ts";
import { type GuardedDirectory, makeGuardedDirectory, removeGuarded } from "./guarded-directory.ts";
import { type ImageContext, imageContext } from "./image-context.ts";
import { removeRanged } from "./ranges.ts";

/** Magic numbers (statfs(2)) of file systems that an overlay may write to: ext4, xfs, btrfs, f2fs. */
const WRITABLE_BELOW_AN_OVERLAY: readonly number[] = [0xef53, 0x58465342, 0x9123683e, 0xf2f52010];

/** Where the directories of writable layers are. */
export function layersDirectory({ root }: Store): string {
  return `${root}/sessions`;
}

/** Whose the files of the sandbox's root are outside; undefined where the caller could not remove all that it makes. */
export function rootOwner(
  { idMap }: Spec,
  { root, ranges, uid, gid }: HostFacts,
): { uid: number; gid: number } | undefined {
  if (root) return ranges === undefined ? undefined : { uid: ranges.uid.start, gid: ranges.gid.start };
  return typeof idMap === "object" ? undefined : { uid, gid }; // with ranges, too, root inside is the caller
}

/** What is to be made on disk for a sandbox. */
export interface DiskRoot {
  readonly kind: "layer" | "copy";
  /** Below which a directory is made for it. */
  readonly parent: string;
  readonly owner: { readonly uid: number; readonly gid: number };
}

/** What a sandbox needs on disk and can have; undefined when memory will do, or must. */
export function findDiskRoot(spec: Spec, host: HostFacts): DiskRoot | undefined {
  const { root } = spec;
  const owner = rootOwner(spec, host);
  if (root.kind !== "overlay" || owner === undefined) return undefined;
  const overlays = !host.root || host.kernel >= IDMAPPED_LAYERS;
  if (overlays && (root.readonly === true || host.tmpfsAttributes)) return undefined;
  try {
    const { store } = imageContext();
    const parent = layersDirectory(store);
    mkdirSync(parent, { recursive: true, mode: 0o700 }); // the caller's own, made when it is missing
    const isImage = root.lower.every((path) => path.startsWith(`${store.root}/`));
    if ((overlays || !isImage) && tryMark(parent) >= 0) return { kind: "layer", parent, owner };
    // A copy with the ids of ranges is not for this process to make.
    return isImage && (host.root || spec.idMap === "default") ? { kind: "copy", parent, owner } : undefined;
  } catch {
    return undefined; // a directory runs without a store, too: then in memory, as `hutch plan` tells
  }
}

/**
 * Whether an overlay in a user namespace may write below a directory, and note there what it must: 0, or minus the error
 * number, which is ENOTSUP on any other file system. @throws SystemError when the directory cannot be opened
 */
export function tryMark(path: string): number {
  if (!WRITABLE_BELOW_AN_OVERLAY.includes(statfsSync(path).type)) return -(errnoNumber("ENOTSUP") ?? 0);
  const fd = openAt(AT_FDCWD, path, O.RDONLY | O.DIRECTORY);
  const marked = setXattr(fd, "", "user.hutch", new Uint8Array(1));
  closeFile(fd);
  return marked;
}

/** Where a sandbox's root is in the end: the Spec, and what is in {@link HostFacts} about it. */
export interface OnDisk {
  readonly spec: Spec;
  readonly host: HostFacts;
}

/** The Spec and facts of a sandbox with what is (or, for a plan alone, would be) in `directory`. */
export function withDiskRoot(spec: Spec, host: HostFacts, { kind, owner }: DiskRoot, directory: string): OnDisk {
  if (kind === "layer") return { spec, host: { ...host, disk: directory } };
  const path = `${directory}/upper` as HostPath;
  const { from } = spec.root;
  const readonly = spec.root.kind === "overlay" && spec.root.readonly === true;
  return {
    spec: { ...spec, root: { kind: "own", path, readonly, from } },
    host: {
      ...host,
      kinds: new Map([...host.kinds, [path, "directory"]]),
      owners: new Map([...host.owners, [path, owner.uid]]),
    },
  };
}

/** Make what a sandbox needs on disk. Returns its directory, to be removed in the end. @throws HutchError */
export async function makeDiskRoot(
  spec: Spec,
  host: HostFacts,
  { kind, parent, owner }: DiskRoot,
  self: Self,
): Promise<GuardedDirectory> {
  const made = await makeGuardedDirectory(parent, self);
  const { directory } = made;
  try {
    for (const path of [`${directory}/upper`, `${directory}/work`]) {
      mkdirSync(path);
      chmodSync(path, 0o755); // whatever the umask
      if (host.root) chownSync(path, owner.uid, owner.gid);
    }
    if (host.root) chownSync(directory, owner.uid, owner.gid);
    if (kind === "copy" && spec.root.kind === "overlay") {
      const { ranges } = host;
      copyMerged(spec.root.lower, `${directory}/upper`, host.root && ranges !== undefined ? ranges : "one");
    }
  } catch (error) {
    await removeDiskRoot(made);
    throw explainWrite(error, imageContext().store);
  }
  return made;
}

/** Remove it again: nothing has been written there by a sandbox. @throws SystemError */
export async function removeDiskRoot({ directory, remover }: GuardedDirectory): Promise<void> {
  await removeGuarded([remover], () => removeTree(directory));
}

/** Remove what sandboxes left whose hutch was killed. @throws HutchError when files belong to ids that are not ours */
export async function removeOldLayers(context: ImageContext): Promise<void> {
  const parent = layersDirectory(context.store);
  removeOldSessions(parent);
  const rest = oldSessions(parent);
  if (rest.length > 0) await removeRanged(context)?.(rest);
}

/**
 * `hutch end-disk-layer DIRECTORY REMOVER… FD`: what follows a sandbox with its writable layer on disk; the removers'
 * pids are of that and of the sandbox's name. Not for people.
 */
export const endDiskLayer: Command = {
  main: async ([directory, ...rest]) => {
    const descriptor = rest.pop();
    if (directory === undefined || descriptor === undefined)
      throw new UsageError("end-disk-layer needs a directory and a descriptor");
    await removeGuarded(rest.map(Number), async () => removeLayer(directory));
    return readOutcome(Number(descriptor));
  },
};

/** Remove a directory of a sandbox's, whatever ids its files have. @throws SystemError, HutchError */
export async function removeLayer(directory: string): Promise<void> {
  try {
    removeTree(directory);
  } catch (error) {
    const remove = removeRanged({ uid: rawCall("geteuid") });
    if (remove === undefined || !(error instanceof SystemError) || !["EACCES", "EPERM"].includes(error.code))
      throw error;
    await remove([directory]).catch((failed: unknown) => {
      throw failed instanceof UsageError ? error : failed; // without ranges there are no files of --userns auto
    });
  }
}
