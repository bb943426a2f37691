/**
 * Files by descriptor: the few calls that a walk needs which must not be led astray by links (openat(2), statx(2),
 * getdents64(2)). Names are NUL-terminated bytes straight from the kernel, so that no name is ever decoded to be used.
 */

import { decodeBytes } from "../bytes.ts";
import { HutchError } from "../errors.ts";
import { ARCH, call, rawCall, systemError } from "./call.ts";

/** Flags of openat(2). O_DIRECTORY and O_NOFOLLOW differ between the architectures. */
export const OPEN = {
  readOnly: 0,
  writeOnly: 1,
  create: 0o100,
  exclusive: 0o200,
  nonBlock: 0o4000,
  directory: ARCH === "arm64" ? 0o40000 : 0o200000,
  noFollow: ARCH === "arm64" ? 0o100000 : 0o400000,
  noAtime: 0o1000000,
  closeOnExec: 0o2000000,
  path: 0o10000000,
} as const;

export const AT = { fdcwd: -100, symlinkNoFollow: 0x100, removeDir: 0x200, symlinkFollow: 0x400, emptyPath: 0x1000 };

/** Error numbers that walks tell apart. */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ENXIO: 6,
  EACCES: 13,
  EXDEV: 18,
  ENODEV: 19,
  EINVAL: 22,
  ENOSPC: 28,
  EROFS: 30,
  ERANGE: 34,
  ENOSYS: 38,
  ELOOP: 40,
  ENODATA: 61,
  ENOTSUP: 95,
  EDQUOT: 122,
} as const;

/** The type bits of a mode (inode(7)). */
export const FILE_TYPE = {
  mask: 0o170000,
  socket: 0o140000,
  symlink: 0o120000,
  regular: 0o100000,
  block: 0o060000,
  directory: 0o040000,
  character: 0o020000,
  fifo: 0o010000,
} as const;

/** The empty name, for calls on a descriptor itself (AT_EMPTY_PATH). */
export const EMPTY_NAME: Uint8Array = new Uint8Array(1);

const STATX_WANTED = 0x7ff | 0x1000; // STATX_BASIC_STATS and STATX_MNT_ID (Linux 5.8; 0 before)

/** One statx(2) answer; reused for many calls, so read what is needed before the next. Sizes in bytes. */
export interface Status {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** Room for one statx(2) answer. */
export function statusBuffer(): Status {
  const bytes = new Uint8Array(256);
  return { bytes, view: new DataView(bytes.buffer) };
}

/** statx(2) into `status`; 0 or minus the error number. Never follows a link at the end of `name`. */
export function readStatus(directory: number, name: Uint8Array, status: Status): number {
  const flags = AT.symlinkNoFollow | AT.emptyPath;
  return rawCall("statx", directory, name, flags, STATX_WANTED, status.bytes);
}

function u64(view: DataView, offset: number): number {
  return view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 0x1_0000_0000;
}

export const modeOf = (status: Status): number => status.view.getUint16(28, true);
export const linksOf = (status: Status): number => status.view.getUint32(16, true);
export const userOf = (status: Status): number => status.view.getUint32(20, true);
export const groupOf = (status: Status): number => status.view.getUint32(24, true);
export const inodeOf = (status: Status): bigint => status.view.getBigUint64(32, true);
export const sizeOf = (status: Status): number => u64(status.view, 40);
/** Bytes that the file takes on its device, by 512-byte blocks. */
export const allocatedOf = (status: Status): number => u64(status.view, 48) * 512;
/** Device number as one number (major · 2^32 + minor). */
export const deviceOf = (status: Status): number =>
  status.view.getUint32(136, true) * 0x1_0000_0000 + status.view.getUint32(140, true);
/** The mount that the file is on; tells bind mounts of one device apart. 0 before Linux 5.8. */
export const mountOf = (status: Status): number => u64(status.view, 144);

function nanoseconds(view: DataView, offset: number): bigint {
  return view.getBigInt64(offset, true) * 1_000_000_000n + BigInt(view.getUint32(offset + 8, true));
}

/** Modification time in nanoseconds since the epoch. */
export const modifiedOf = (status: Status): bigint => nanoseconds(status.view, 112);
/** When the inode last changed, in nanoseconds since the epoch; nobody can set it. */
export const changedOf = (status: Status): bigint => nanoseconds(status.view, 96);

/** Access and modification time as the two timespecs that utimensat(2) takes, written into `times` (32 bytes). */
export function copyTimes(status: Status, times: Uint8Array): void {
  times.set(status.bytes.subarray(64, 76), 0);
  times.set(status.bytes.subarray(112, 124), 16);
}

/** One entry of a directory: its name with the final NUL, and its type bits (0 when the file system does not say). */
export interface DirectoryEntry {
  readonly name: Uint8Array;
  readonly type: number;
}

/** All entries of an open directory but `.` and `..`, in the file system's order. @throws SystemError */
export function readEntries(directory: number): DirectoryEntry[] {
  const buffer = new Uint8Array(65536);
  const view = new DataView(buffer.buffer);
  const entries: DirectoryEntry[] = [];
  for (;;) {
    const length = call("getdents64", directory, buffer, buffer.length);
    if (length === 0) return entries;
    for (let at = 0; at < length;) {
      const name = buffer.slice(at + 19, buffer.indexOf(0, at + 19) + 1);
      const isDot = name[0] === 0x2e && (name[1] === 0 || (name[1] === 0x2e && name[2] === 0));
      // d_type is the mode's type bits shifted down by 12
      if (!isDot) entries.push({ name, type: view.getUint8(at + 18) << 12 });
      at += view.getUint16(at + 16, true);
    }
  }
}

/** The text of a name with its final NUL, losslessly. */
export function nameText(name: Uint8Array): string {
  return decodeBytes(name.subarray(0, name.length - 1));
}

/** Where a symbolic link points, as bytes with a final NUL. @throws SystemError */
export function readLink(directory: number, name: Uint8Array): Uint8Array {
  for (let size = 256; size <= 65536; size *= 4) {
    const buffer = new Uint8Array(size);
    const length = rawCall("readlinkat", directory, name, buffer, size);
    if (length < 0) throw systemError(`readlinkat ${nameText(name)}`, -length);
    if (length < size) return buffer.subarray(0, length + 1);
  }
  throw new HutchError(`readlinkat ${nameText(name)}: target is longer than 64 KiB`);
}

/** Close a descriptor; errors are of no use to anyone who only read. */
export function closeQuietly(fd: number): void {
  rawCall("close", fd);
}
