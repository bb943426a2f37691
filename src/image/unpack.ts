/**
 * One layer's entries onto the disk: each layer in its own directory, with overlay marks for what it hides of the
 * layers below (image-spec layer.md; containerd's and umoci's appliers where the spec is silent). The last name of an
 * entry is never followed: what is there is removed, except a directory under a directory.
 */

import { HutchError } from "../errors.ts";
import { call, rawCall, systemError } from "../libc/call.ts";
import { errnoNumber } from "../libc/errno.ts";
import { byteLength, closeFile, O, openAt, openBeneath, S_IF, type Stat } from "../libc/file.ts";
import { writeAll } from "../libc/files.ts";
import { applyToFd, applyToName, type Attributes, type IdMode } from "./attributes.ts";
import type { DecompressLimits } from "./decompress.ts";
import { createLayerTree } from "./layer-tree.ts";
import { joinPath, type MergedView, NotDirectoryError, pathNames, readLinkIn, splitPath } from "./merged-view.ts";
import type { TarEntry, TarSink } from "./tar-reader.ts";

export type UnpackLimits = {
  /** Entries of one layer. */
  readonly entries: number;
  /** Bytes of one layer's files, holes counted. */
  readonly bytes: number;
  /** Of its compression; default DECOMPRESS_LIMITS. */
  readonly compression?: DecompressLimits;
};

export const UNPACK_LIMITS: UnpackLimits = { entries: 2_000_000, bytes: 2 ** 40 };

export type UnpackOptions = {
  readonly ids: IdMode;
  readonly limits?: UnpackLimits;
  readonly whiteouts?: "device" | "attribute";
};

export type UnpackSummary = {
  readonly entries: number;
  readonly bytes: number;
  /** What could not be made as the layer says, in words, each once. */
  readonly warnings: readonly string[];
};

export type Unpacker = {
  /** Take an entry; what it returns takes the entry's data. @throws HutchError when the layer must be refused */
  readonly entry: (entry: TarEntry) => TarSink | undefined;
  /** Finish directories and marks after the last entry. */
  readonly finish: () => UnpackSummary;
  /** Close what an error has left open. */
  readonly [Symbol.dispose]: () => void;
};

const PATH_LIMIT = 4095;
const NAME_LIMIT = 255;
/** Directories within each other; every level costs a descriptor when the layer is removed. */
const DEPTH_LIMIT = 1024;

/** Names of an entry's path, ".." taken lexically and never above the root. @throws HutchError on a path too long */
export function entryNames(name: string): string[] {
  const names: string[] = [];
  for (const part of pathNames(name)) {
    if (part === "..") names.pop();
    else names.push(part);
  }
  if (
    names.length > DEPTH_LIMIT ||
    byteLength(names.join("/")) > PATH_LIMIT ||
    names.some((part) => byteLength(part) > NAME_LIMIT)
  ) {
    throw new HutchError(`path too long: ${JSON.stringify(name.slice(0, 100))}…`);
  }
  return names;
}

/** Metadata that aufs kept in its layers: `.wh..wh.plnk` and the like, with all below them. */
function isAufsMetadata(names: readonly string[]): boolean {
  return names.some((name, i) => name.startsWith(".wh..wh.") && !(name === ".wh..wh..opq" && i === names.length - 1));
}

/** A device number as mknod(2) takes it (glibc's makedev, the kernel's new_encode_dev). */
export function deviceNumber(major: number, minor: number): number {
  return ((minor & 0xff) | ((major & 0xfff) << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

const attributesOf = ({ uid, gid, mode, mtime, xattrs }: TarEntry): Attributes => ({ uid, gid, mode, mtime, xattrs });

/**
 * Unpack into the empty directory open as `target`, over the layers that `view` shows. The caller keeps both open
 * until after `finish`.
 */
export function createUnpacker(target: number, view: MergedView, options: UnpackOptions): Unpacker {
  const { ids, limits = UNPACK_LIMITS, whiteouts = "device" } = options;
  const tree = createLayerTree(target, view, ids, whiteouts);
  const { refused } = tree;
  const warnings = new Set<string>();
  let entries = 0;
  let bytes = 0;
  /** The file that data goes to. */
  let writing: number | undefined;

  function entry(item: TarEntry): TarSink | undefined {
    entries += 1;
    if (entries > limits.entries) throw new HutchError(`more than ${limits.entries} entries in one layer`);
    bytes += item.size;
    if (bytes > limits.bytes) throw new HutchError(`more than ${limits.bytes} bytes in one layer`);
    const names = entryNames(item.name);
    if (isAufsMetadata(names)) return undefined;
    const name = names.pop();
    if (name === undefined) {
      if (item.type === "directory") return void tree.putDirectory("", attributesOf(item));
      throw new HutchError(`entry ${JSON.stringify(item.name)} would replace the root`);
    }
    if (name.startsWith(".wh.")) return void whiteout(names, name);
    const path = joinPath(tree.resolve(names), name);
    const sink = place(item, path);
    tree.claim(path);
    return sink;
  }

  function place(item: TarEntry, path: string): TarSink | undefined {
    switch (item.type) {
      case "directory":
        return void tree.putDirectory(path, attributesOf(item));
      case "file":
        return file(item, path);
      case "hardlink":
        return void hardLink(item, path);
      case "symlink":
        return void symlink(path, item.link, attributesOf(item));
      default:
        return void node(item, path);
    }
  }

  function whiteout(names: readonly string[], marker: string): void {
    const name = marker === ".wh..wh..opq" ? undefined : marker.slice(4);
    if (name === "" || name === "." || name === "..") {
      throw new HutchError(`invalid whiteout ${JSON.stringify([...names, marker].join("/"))}`);
    }
    let parentPath: string;
    try {
      parentPath = tree.resolve(names);
    } catch (error) {
      if (error instanceof NotDirectoryError) return; // there is nothing in a file to hide
      throw error;
    }
    if (name === undefined) tree.hideContent(parentPath);
    else tree.hide(joinPath(parentPath, name));
  }

  function file(item: TarEntry, path: string): TarSink {
    const [parentPath, name] = splitPath(path);
    const fd = tree.createFile(tree.open(parentPath), path, name);
    writing = fd;
    let length = 0;
    return {
      data: (chunk, offset) => {
        let rest = chunk;
        let at = offset;
        while (rest.byteLength > 0) {
          const count = call("pwrite64", fd, rest, rest.byteLength, at);
          at += count;
          rest = rest.subarray(count);
        }
        length = at;
      },
      end: () => {
        if (length < item.size) call("ftruncate", fd, item.size); // a hole at the end
        applyToFd(fd, attributesOf(item), ids, "file", refused);
        writing = undefined;
        closeFile(fd);
      },
    };
  }

  function symlink(path: string, link: string, attributes: Attributes): void {
    const [parentPath, name] = splitPath(path);
    if (link === "") throw new HutchError(`symbolic link ${JSON.stringify(path)} to nothing`);
    const parent = tree.open(parentPath);
    tree.clear(parent, path, name);
    call("symlinkat", link, parent, name);
    applyToName(parent, name, attributes, ids, refused, true);
  }

  function hardLink(item: TarEntry, path: string): void {
    const from = JSON.stringify(item.name);
    const targetNames = entryNames(item.link);
    const targetName = targetNames.pop();
    if (targetName === undefined) throw new HutchError(`hard link ${from} to the root`);
    const targetParent = tree.resolve(targetNames);
    const targetPath = joinPath(targetParent, targetName);
    if (tree.own(targetPath) === undefined) {
      copyUp(targetPath, item);
      tree.imply(targetPath);
    }
    if (tree.own(targetPath)?.type === S_IF.DIR) throw new HutchError(`hard link ${from} to a directory`);
    if (targetPath === path) return; // a link to itself: nothing to do, and nothing to lose
    const [parentPath, name] = splitPath(path);
    const parent = tree.open(parentPath);
    tree.clear(parent, path, name);
    const directory = openBeneath(target, targetParent, O.PATH | O.DIRECTORY);
    const result = directory < 0 ? directory : rawCall("linkat", directory, targetName, parent, name, 0);
    if (directory >= 0) closeFile(directory);
    if (result < 0) throw systemError(`link ${from} to ${JSON.stringify(item.link)}`, -result);
  }

  /** Bring a file of a lower layer into this one, so that it can be linked to. */
  function copyUp(path: string, item: TarEntry): void {
    const [from, to] = [JSON.stringify(item.name), JSON.stringify(item.link)];
    const seen = tree.below(path);
    if (seen === undefined) throw new HutchError(`hard link ${from}: the image has no ${to}`);
    if (seen.kind === "directory") throw new HutchError(`hard link ${from} to a directory`);
    const root = view.roots[seen.layer] ?? -1;
    const attributes = tree.attributesBelow(seen.layer, path, seen.stat);
    if (seen.stat.type === S_IF.LNK) return symlink(path, readLinkIn(root, path), attributes);
    if (seen.stat.type === S_IF.REG) return copyFile(root, path, seen.stat, attributes);
    const [parentPath, name] = splitPath(path);
    const parent = tree.open(parentPath);
    const [major, minor] = seen.stat.rdev;
    call("mknodat", parent, name, seen.stat.type | 0o600, deviceNumber(major, minor));
    return applyToName(parent, name, attributes, ids, refused, false);
  }

  function copyFile(root: number, path: string, stat: Stat, attributes: Attributes): void {
    const [parentPath, name] = splitPath(path);
    const fd = tree.createFile(tree.open(parentPath), path, name);
    copyContent(root, path, stat, fd);
    applyToFd(fd, attributes, ids, "file", refused);
    closeFile(fd);
  }

  function node(item: TarEntry, path: string): void {
    const [parentPath, name] = splitPath(path);
    const parent = tree.open(parentPath);
    tree.clear(parent, path, name);
    const [major, minor] = item.device;
    const type = item.type === "fifo" ? S_IF.FIFO : item.type === "block" ? S_IF.BLK : S_IF.CHR;
    const isDevice = type !== S_IF.FIFO;
    // 0:0 is overlay's whiteout: let through, it would delete a file of the layers below instead.
    const isPlaceholder = isDevice && (ids === "one" || (type === S_IF.CHR && major === 0 && minor === 0));
    const number = isDevice ? deviceNumber(major, minor) : 0;
    const result = isPlaceholder
      ? -(errnoNumber("EPERM") ?? 1)
      : rawCall("mknodat", parent, name, type | 0o600, number);
    if (result >= 0) return applyToName(parent, name, attributesOf(item), ids, refused, false);
    if (result !== -(errnoNumber("EPERM") ?? 1)) throw systemError(`mknod ${item.name}`, -result);
    warnings.add("device nodes are empty files");
    const fd = openAt(parent, name, O.CREAT | O.EXCL | O.WRONLY | O.NOFOLLOW, 0o600);
    const note = `:${item.type === "block" ? "block" : "char"}-${major}-${minor}`;
    applyToFd(fd, attributesOf(item), ids, "file", refused, note);
    closeFile(fd);
  }

  function finish(): UnpackSummary {
    tree.finish();
    for (const attribute of refused) warnings.add(`extended attribute ${attribute} could not be set`);
    return { entries, bytes, warnings: [...warnings] };
  }

  function dispose(): void {
    if (writing !== undefined) closeFile(writing);
    writing = undefined;
    tree.close();
  }

  return { entry, finish, [Symbol.dispose]: dispose };
}

/** Write the content of a layer's regular file to another, open for writing. @throws SystemError */
export function copyContent(root: number, path: string, stat: Stat, target: number): void {
  const source = openForCopy(root, path, stat);
  const buffer = new Uint8Array(256 * 1024);
  try {
    for (;;) {
      const count = call("read", source, buffer, buffer.byteLength);
      if (count === 0) return;
      writeAll(target, buffer.subarray(0, count));
    }
  } finally {
    closeFile(source);
  }
}

/** Open a lower file for reading; one that its mode hides from its own owner is made readable for a moment. */
function openForCopy(root: number, path: string, stat: Stat): number {
  const fd = openBeneath(root, path, O.RDONLY | O.NOFOLLOW);
  if (fd >= 0) return fd;
  if (fd !== -(errnoNumber("EACCES") ?? 0)) throw systemError(`open ${path}`, -fd);
  const [parentPath, name] = splitPath(path);
  const parent = openBeneath(root, parentPath, O.PATH | O.DIRECTORY);
  if (parent < 0) throw systemError(`open ${path}`, -parent);
  try {
    call("fchmodat", parent, name, stat.mode | 0o400);
    const readable = openAt(parent, name, O.RDONLY | O.NOFOLLOW);
    call("fchmodat", parent, name, stat.mode);
    return readable;
  } finally {
    closeFile(parent);
  }
}
