/** The tree that a stack of layers shows, copied: for where the kernel cannot or must not put an overlay over them. */

import { HutchError } from "../errors.ts";
import { call, systemError } from "../libc/call.ts";
import { AT_FDCWD, closeFile, O, openAt, openBeneath, S_IF, type Stat } from "../libc/file.ts";
import { applyToFd, applyToName, type Attributes, readAttributes } from "./attributes.ts";
import { createLayerTree } from "./layer-tree.ts";
import { createMergedView, joinPath, readLinkIn, splitPath } from "./merged-view.ts";
import { copyContent, deviceNumber } from "./unpack.ts";

/** Ids of the sandbox, from 0 up, outside: those of one kind. */
type Ids = { readonly start: number; readonly size: number };

/** Whose the copy's files are: the caller's, or each id of the image shifted into a range, which needs root. */
export type CopyOwners = "one" | { readonly uid: Ids; readonly gid: Ids };

/** `security.capability` of a file (linux/capability.h): revision 2 is good in the initial namespace, 3 below a root id. */
function shiftCapability(value: Uint8Array, root: number): Uint8Array {
  if (value.byteLength !== 20 || value[3] !== 2) return value;
  const shifted = new Uint8Array(24);
  shifted.set(value);
  shifted[3] = 3;
  new DataView(shifted.buffer).setUint32(20, root, true);
  return shifted;
}

/**
 * Copy what layers, lowest first, show together into the empty directory `target`, with modes, times, links and
 * attributes. @throws HutchError when an id is beyond the range, SystemError
 */
export function copyMerged(layers: readonly string[], target: string, owners: CopyOwners): void {
  const fds = layers.toReversed().map((path) => openAt(AT_FDCWD, path, O.PATH | O.DIRECTORY));
  const directory = openAt(AT_FDCWD, target, O.RDONLY | O.DIRECTORY);
  const view = createMergedView(fds);
  const ids = owners === "one" ? "one" : "real";
  const tree = createLayerTree(directory, createMergedView([]), ids, "device");
  /** Where a file with several names has its first one, by layer and inode. */
  const linked = new Map<string, string>();

  function outside(id: number, { start, size }: Ids, path: string): number {
    if (id >= size)
      throw new HutchError(`/${path} belongs to id ${id}, and the sandbox has the ids below ${size}`, {
        hint: "an overlay would show it as nobody's; this image has to be copied here",
      });
    return start + id;
  }

  function attributesOf(layer: number, path: string, stat: Stat): Attributes {
    const [parent, name] = splitPath(path);
    const fd = openBeneath(fds[layer] ?? -1, parent, O.PATH | O.DIRECTORY);
    if (fd < 0) throw systemError(`open ${parent}`, -fd);
    const own = readAttributes(fd, name === "" ? "." : name, stat);
    closeFile(fd);
    if (owners === "one") return own;
    const xattrs = new Map(own.xattrs);
    const capability = xattrs.get("security.capability");
    if (capability !== undefined) xattrs.set("security.capability", shiftCapability(capability, owners.uid.start));
    return { ...own, uid: outside(own.uid, owners.uid, path), gid: outside(own.gid, owners.gid, path), xattrs };
  }

  function copyDirectory(path: string): void {
    const seen = view.look(path);
    const layer = seen?.kind === "directory" ? seen.layers[0] : undefined;
    if (seen === undefined || layer === undefined) return;
    tree.putDirectory(path, attributesOf(layer, path, seen.stat));
    for (const name of view.names(path)) {
      const child = joinPath(path, name);
      const found = view.look(child);
      if (found?.kind === "directory") copyDirectory(child);
      else if (found !== undefined) copyOther(child, found.layer, found.stat);
    }
  }

  function copyOther(path: string, layer: number, stat: Stat): void {
    const [parentPath, name] = splitPath(path);
    const key = `${layer} ${stat.ino}`;
    const first = stat.nlink > 1 ? linked.get(key) : undefined;
    const parent = tree.open(parentPath);
    if (first !== undefined) {
      const [firstParent, firstName] = splitPath(first);
      const from = openBeneath(directory, firstParent, O.PATH | O.DIRECTORY);
      if (from < 0) throw systemError(`open ${firstParent}`, -from);
      call("linkat", from, firstName, parent, name, 0);
      closeFile(from);
      return;
    }
    if (stat.nlink > 1) linked.set(key, path);
    const attributes = attributesOf(layer, path, stat);
    const root = fds[layer] ?? -1;
    if (stat.type === S_IF.REG) {
      const fd = tree.createFile(parent, path, name);
      try {
        copyContent(root, path, stat, fd);
        applyToFd(fd, attributes, ids, "file", tree.refused);
      } finally {
        closeFile(fd);
      }
      return;
    }
    if (stat.type === S_IF.LNK) call("symlinkat", readLinkIn(root, path), parent, name);
    else call("mknodat", parent, name, stat.type | 0o600, deviceNumber(...stat.rdev));
    applyToName(parent, name, attributes, ids, tree.refused, stat.type === S_IF.LNK);
  }

  try {
    copyDirectory("");
    tree.finish();
  } finally {
    tree.close();
    for (const fd of [...fds, directory]) closeFile(fd);
  }
}
