/**
 * Files by descriptor: open beneath a directory without following symbolic links, statx(2), extended attributes,
 * flock(2), and removal of a tree that stays on one file system. Paths are byte strings (src/bytes.ts).
 */

import { decodeBytes, encodeBytes } from "../bytes.ts";
import { ARCH, call, rawCall, systemError } from "./call.ts";
import * as c from "./constants.ts";
import { errnoNumber } from "./errno.ts";
import { openDirectoryNames } from "./files.ts";

export const AT_FDCWD = c.AT_FDCWD;

/** Flags of open(2), those of this machine. */
export const O = {
  RDONLY: c.O_RDONLY,
  WRONLY: c.O_WRONLY,
  RDWR: c.O_RDWR,
  CREAT: c.O_CREAT,
  EXCL: c.O_EXCL,
  TRUNC: c.O_TRUNC,
  APPEND: 0o2000,
  NONBLOCK: c.O_NONBLOCK,
  DIRECTORY: c.openFlags[ARCH].O_DIRECTORY,
  NOFOLLOW: c.openFlags[ARCH].O_NOFOLLOW,
  CLOEXEC: c.O_CLOEXEC,
  PATH: c.O_PATH,
} as const;

/** File types of st_mode (inode(7)). */
export const S_IF = {
  MT: c.S_IFMT,
  FIFO: 0o010000,
  CHR: c.S_IFCHR,
  DIR: c.S_IFDIR,
  BLK: 0o060000,
  REG: c.S_IFREG,
  LNK: c.S_IFLNK,
} as const;

const RESOLVE_BENEATH = 8;

/** What statx(2) tells of a file. Times in nanoseconds since 1970. */
export type Stat = {
  readonly mode: number;
  readonly type: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly ino: bigint;
  readonly nlink: number;
  readonly atime: bigint;
  readonly mtime: bigint;
  /** Device number of a device node, `major * 2^20 + minor` style split in two. */
  readonly rdev: readonly [major: number, minor: number];
  /** Device of the file system that holds it, as text. */
  readonly dev: string;
};

/** open(2) relative to `directory`; the descriptor is close-on-exec. @throws SystemError */
export function openAt(directory: number, path: string, flags: number, mode = 0): number {
  return call("openat", directory, path, flags | O.CLOEXEC, mode);
}

/**
 * Open `path` beneath the directory `root` following no symbolic link at all and crossing no mount (openat2(2), Linux
 * 5.6; before it, a walk with O_NOFOLLOW). "" is the root itself. Returns a descriptor, or minus the error number.
 */
export function openBeneath(root: number, path: string, flags: number): number {
  const how = new BigUint64Array([
    BigInt(flags | O.CLOEXEC),
    0n,
    BigInt(RESOLVE_BENEATH | c.RESOLVE_NO_SYMLINKS | c.RESOLVE_NO_MAGICLINKS | c.RESOLVE_NO_XDEV),
  ]);
  const result = rawCall("openat2", root, path === "" ? "." : path, how, 24);
  if (result !== -(errnoNumber("ENOSYS") ?? 0)) return result;
  return walkBeneath(root, path, flags);
}

function walkBeneath(root: number, path: string, flags: number): number {
  const names = path.split("/").filter((name) => name !== "" && name !== ".");
  if (names.includes("..")) return -(errnoNumber("EXDEV") ?? 0);
  const last = names.pop() ?? ".";
  let directory = root;
  for (const name of names) {
    const next = rawCall("openat", directory, name, O.PATH | O.NOFOLLOW | O.DIRECTORY | O.CLOEXEC, 0);
    if (directory !== root) closeFile(directory);
    if (next < 0) return next;
    directory = next;
  }
  const result = rawCall("openat", directory, last, flags | O.NOFOLLOW | O.CLOEXEC, 0);
  if (directory !== root) closeFile(directory);
  return result;
}

/** close(2), whose result never matters to us. */
export function closeFile(fd: number): void {
  rawCall("close", fd);
}

/** statx(2) of `name` in `directory` without following it; "" is the descriptor itself. undefined when absent. */
export function statAt(directory: number, name: string): Stat | undefined {
  const buffer = new Uint8Array(256);
  const flags = c.AT_SYMLINK_NOFOLLOW | (name === "" ? c.AT_EMPTY_PATH : 0);
  const path = name === "" ? new Uint8Array(1) : name;
  const result = rawCall("statx", directory, path, flags, 0x7ff, buffer);
  if (result === -(errnoNumber("ENOENT") ?? 0) || result === -(errnoNumber("ENOTDIR") ?? 0)) return undefined;
  if (result < 0) throw systemError(`statx ${name}`.trimEnd(), -result);
  const view = new DataView(buffer.buffer);
  const mode = view.getUint16(28, true);
  const time = (at: number): bigint =>
    view.getBigInt64(at, true) * 1_000_000_000n + BigInt(view.getUint32(at + 8, true));
  return {
    mode: mode & 0o7777,
    type: mode & S_IF.MT,
    nlink: view.getUint32(16, true),
    uid: view.getUint32(20, true),
    gid: view.getUint32(24, true),
    ino: view.getBigUint64(32, true),
    size: Number(view.getBigUint64(40, true)),
    atime: time(64),
    mtime: time(112),
    rdev: [view.getUint32(128, true), view.getUint32(132, true)],
    dev: `${view.getUint32(136, true)}:${view.getUint32(140, true)}`,
  };
}

/** utimensat(2) on a name (not followed) or, with "", on the descriptor. Nanoseconds since 1970. */
export function setTimes(directory: number, name: string, atime: bigint, mtime: bigint): void {
  const times = new BigInt64Array(4);
  const split = (at: number, time: bigint): void => {
    const nanoseconds = ((time % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
    times[at] = (time - nanoseconds) / 1_000_000_000n;
    times[at + 1] = nanoseconds;
  };
  split(0, atime);
  split(2, mtime);
  const bytes = new Uint8Array(times.buffer);
  if (name === "") call("utimensat", directory, null, bytes, 0);
  else call("utimensat", directory, name, bytes, c.AT_SYMLINK_NOFOLLOW);
}

/** Read a whole file by descriptor, at most `limit` bytes. Returns undefined when there is more. @throws SystemError */
export function readAll(fd: number, limit: number): Uint8Array | undefined {
  const size = statAt(fd, "")?.size ?? 0;
  let buffer = new Uint8Array(Math.min(size, limit) + 1);
  let length = 0;
  for (;;) {
    if (length === buffer.byteLength) {
      if (length > limit) return undefined;
      const larger = new Uint8Array(Math.min(limit + 1, length * 2 + 4096));
      larger.set(buffer);
      buffer = larger;
    }
    const count = call("read", fd, buffer.subarray(length), buffer.byteLength - length);
    if (count === 0) return length > limit ? undefined : buffer.subarray(0, length);
    length += count;
  }
}

/** Where a symbolic link points. @throws SystemError */
export function readLink(directory: number, name: string): string {
  const buffer = new Uint8Array(4097);
  const path = name === "" ? new Uint8Array(1) : name;
  return decodeBytes(buffer.slice(0, call("readlinkat", directory, path, buffer, buffer.byteLength)));
}

/** The name of a file for calls that know no directory descriptor: only the last component is looked up. */
function procPath(directory: number, name: string): string {
  return name === "" ? `/proc/self/fd/${directory}` : `/proc/self/fd/${directory}/${name}`;
}

/** Value of an extended attribute of a name that is not followed, or undefined. @throws SystemError */
export function getXattr(directory: number, name: string, attribute: string): Uint8Array | undefined {
  const buffer = new Uint8Array(65536);
  const result =
    name === ""
      ? rawCall("fgetxattr", directory, attribute, buffer, buffer.byteLength)
      : rawCall("lgetxattr", procPath(directory, name), attribute, buffer, buffer.byteLength);
  if (result >= 0) return buffer.slice(0, result);
  const absent = [
    errnoNumber("ENODATA"),
    errnoNumber("ENOTSUP"),
    errnoNumber("ENOENT"),
    errnoNumber("EACCES"),
    errnoNumber("EPERM"),
  ];
  if (absent.includes(-result)) return undefined;
  throw systemError(`getxattr ${attribute} ${name}`.trimEnd(), -result);
}

/** Names of the extended attributes of a name that is not followed. */
export function listXattrs(directory: number, name: string): string[] {
  const buffer = new Uint8Array(65536);
  const result = rawCall("llistxattr", procPath(directory, name), buffer, buffer.byteLength);
  if (result <= 0) return [];
  return decodeBytes(buffer.slice(0, result - 1)).split("\0");
}

/** Set an extended attribute; returns 0 or minus the error number, since callers bear some refusals. */
export function setXattr(directory: number, name: string, attribute: string, value: Uint8Array): number {
  return name === ""
    ? rawCall("fsetxattr", directory, attribute, value, value.byteLength, 0)
    : rawCall("lsetxattr", procPath(directory, name), attribute, value, value.byteLength, 0);
}

/** Names in a directory (open for reading), without "." and "..". @throws SystemError */
export function listNames(directory: number): string[] {
  call("lseek", directory, 0, 0);
  const names = openDirectoryNames(directory, `descriptor ${directory}`);
  if (typeof names === "number") throw systemError(`getdents64 of descriptor ${directory}`, -names);
  return names;
}

/**
 * Remove `name` in `directory` with all below it, following no link and crossing no mount: another file system below is
 * an error before anything in it is touched. Absent is fine. @throws SystemError
 */
export function removeTree(directory: number, name: string, device?: string): void {
  const unlinked = rawCall("unlinkat", directory, name, 0);
  if (unlinked >= 0 || unlinked === -(errnoNumber("ENOENT") ?? 0)) return;
  if (unlinked !== -(errnoNumber("EISDIR") ?? 0) && unlinked !== -(errnoNumber("EPERM") ?? 0)) {
    throw systemError(`unlink ${name}`, -unlinked);
  }
  let fd = openBeneath(directory, name, O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
  if (fd === -(errnoNumber("EACCES") ?? 0)) {
    rawCall("fchmodat", directory, name, 0o700);
    fd = openBeneath(directory, name, O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
  }
  if (fd < 0) throw systemError(`remove ${name}`, -fd);
  try {
    const stat = statAt(fd, "");
    const home = device ?? statAt(directory, "")?.dev;
    if (stat?.dev !== home) throw systemError(`remove ${name}`, errnoNumber("EXDEV") ?? 18);
    if (stat !== undefined && (stat.mode & 0o700) !== 0o700) rawCall("fchmod", fd, 0o700);
    for (const child of listNames(fd)) removeTree(fd, child, home);
  } finally {
    closeFile(fd);
  }
  call("unlinkat", directory, name, c.AT_REMOVEDIR);
}

/** flock(2) without waiting: true when the lock is held now, false when another holds it. @throws SystemError */
export function tryLock(fd: number, mode: "shared" | "exclusive"): boolean {
  const result = rawCall("flock", fd, (mode === "shared" ? c.LOCK_SH : c.LOCK_EX) | c.LOCK_NB);
  if (result === -(errnoNumber("EAGAIN") ?? 0)) return false;
  if (result < 0) throw systemError("flock", -result);
  return true;
}

/** The byte length of a path component or path, as the kernel counts it. */
export function byteLength(text: string): number {
  return encodeBytes(text).byteLength;
}
