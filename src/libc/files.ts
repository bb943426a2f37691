/**
 * Files of the host by system calls: half the price of node:fs, no thread started. Failures that a search expects
 * (no such file, no permission) come back as minus the error number; the callers decide what they mean.
 */

import { decodeBytes } from "../bytes.ts";
import { call, rawCall } from "./call.ts";
import { ERRNO } from "./errno.ts";

const AT_FDCWD = -100;
const AT_EMPTY_PATH = 0x1000;
const O_RDONLY = 0;
const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;
const O_NOCTTY = 0o400;
const O_DIRECTORY = process.arch === "arm64" ? 0o40000 : 0o200000;
const STATX_TYPE_MODE_SIZE = 0x203;

export interface FileStatus {
  readonly kind: "file" | "directory" | "symlink" | "other";
  /** Permission bits with setuid, setgid and sticky: `0o755`. */
  readonly mode: number;
  /** In bytes. */
  readonly size: number;
}

/** Open a file for reading; a descriptor, or minus the error number. Never blocks on a FIFO, takes no terminal. */
export function openForReading(path: string): number {
  return rawCall("openat", AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
}

/** Kind, mode and size of an open file. @throws SystemError */
export function descriptorStatus(fd: number): FileStatus {
  const buffer = new Uint8Array(256);
  call("statx", fd, "", AT_EMPTY_PATH, STATX_TYPE_MODE_SIZE, buffer);
  return status(buffer);
}

/** Kind, mode and size of what a path leads to (links followed), or minus the error number. */
export function pathStatus(path: string): FileStatus | number {
  const buffer = new Uint8Array(256);
  const result = rawCall("statx", AT_FDCWD, path, 0, STATX_TYPE_MODE_SIZE, buffer);
  return result < 0 ? result : status(buffer);
}

/** Read up to `length` bytes at `offset`; fewer at the end of the file. @throws SystemError */
export function readAt(fd: number, offset: number, length: number): Uint8Array {
  const buffer = new Uint8Array(length);
  let got = 0;
  while (got < length) {
    const count = call("pread64", fd, buffer.subarray(got), length - got, offset + got);
    if (count === 0) return buffer.subarray(0, got);
    got += count;
  }
  return buffer;
}

/**
 * Target of the symbolic link at a path, or minus the error number (EINVAL: there is something, but no link).
 * `buffer` is scratch space of PATH_MAX bytes: a search asks often.
 */
export function linkTarget(path: string, buffer: Uint8Array = new Uint8Array(4096)): string | number {
  const length = rawCall("readlinkat", AT_FDCWD, path, buffer, buffer.length);
  return length < 0 ? length : decodeBytes(buffer.subarray(0, length));
}

/** Names in a directory, without `.` and `..`, in the directory's order; minus the error number when it cannot be read. */
export function directoryNames(path: string): string[] | number {
  const fd = rawCall("openat", AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_DIRECTORY, 0);
  if (fd < 0) return fd;
  try {
    const names: string[] = [];
    const buffer = new Uint8Array(32768);
    const view = new DataView(buffer.buffer);
    for (;;) {
      const length = call("getdents64", fd, buffer, buffer.length);
      if (length === 0) return names;
      // struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name.
      for (let at = 0; at < length; at += view.getUint16(at + 16, true)) {
        const end = buffer.indexOf(0, at + 19);
        const name = decodeBytes(buffer.subarray(at + 19, end));
        if (name !== "." && name !== "..") names.push(name);
      }
    }
  } finally {
    closeDescriptor(fd);
  }
}

/** Close a descriptor. */
export function closeDescriptor(fd: number): void {
  rawCall("close", fd);
}

/** Whether a result is this error. */
export function isErrno(result: unknown, name: string): boolean {
  const errno = ERRNO[name];
  return errno !== undefined && result === -errno;
}

// struct statx (statx(2)) is the same on every architecture: mode at 28, size at 40.
function status(buffer: Uint8Array): FileStatus {
  const view = new DataView(buffer.buffer);
  const mode = view.getUint16(28, true);
  const format = mode & 0o170000;
  const kind =
    format === 0o100000 ? "file" : format === 0o040000 ? "directory" : format === 0o120000 ? "symlink" : "other";
  return { kind, mode: mode & 0o7777, size: Number(view.getBigUint64(40, true)) };
}
