/**
 * Files of the host by system calls: half the price of node:fs, and no thread started. Failures that a search expects
 * (no such file, no permission) come back as minus the error number; the callers decide what they mean. Failures that
 * say nothing about the file (no memory, no descriptors, a broken disk) are thrown: nobody may take them for an absence.
 */

import { decodeBytes, uint64 } from "../bytes.ts";
import { ARCH, type Argument, call, rawCall, systemError } from "./call.ts";
import * as c from "./constants.ts";
import { errnoNumber } from "./errno.ts";

/** What statx(2) tells, as far as hutch asks. */
export interface FileStatus {
  readonly kind: "file" | "directory" | "symlink" | "other";
  /** Permission bits with setuid, setgid and sticky: `0o755`. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** In bytes. */
  readonly size: number;
  /** File system: `"254:1"`. */
  readonly device: string;
  /** File system and inode, which tell one file from another: `"254:1:131"`. */
  readonly identity: string;
  /** Of the last change of its content: seconds and nanoseconds since 1970. */
  readonly modified: { readonly seconds: bigint; readonly nanoseconds: number };
}

const STATX_BASIC_STATS = 0x7ff;
const ENOENT = 2;

/** Errors of the machine, not of what was looked for. */
const TROUBLE = ["EIO", "ENOMEM", "ENFILE", "EMFILE"] as const;

/** A call on a path; its result or minus the error number. @throws SystemError for errors of the machine */
function search(
  name: "openat" | "statx" | "readlinkat",
  directory: number,
  path: string,
  first?: Argument,
  second?: Argument,
  third?: Argument,
): number {
  const result = rawCall(name, directory, path, first, second, third);
  if (result < 0 && TROUBLE.some((error) => isErrno(result, error))) throw systemError(`${name} ${path}`, -result);
  return result;
}

/** Of what a path leads to (links followed), or minus the error number. @throws SystemError as all searches here */
export function pathStatus(path: string): FileStatus | number {
  const buffer = new Uint8Array(256);
  const result = search("statx", c.AT_FDCWD, path, 0, STATX_BASIC_STATS, buffer);
  return result < 0 ? result : parseStatx(buffer);
}

/**
 * Only whether a path leads to a directory, and whose it is; else as {@link pathStatus}. What a link of /proc leads to and
 * has no name any more, such as a removed working directory, is absent: it cannot be mounted (move_mount(2), ENOENT).
 */
export function pathOwner(path: string): { readonly directory: boolean; readonly uid: number } | number {
  const buffer = new Uint8Array(256);
  const result = search("statx", c.AT_FDCWD, path, 0, STATX_BASIC_STATS, buffer);
  if (result < 0) return result;
  // Only there: file systems in user space may have no count of links at all.
  if (path.startsWith("/proc/") && buffer.subarray(16, 20).every((byte) => byte === 0)) return -ENOENT;
  const mode = (buffer[28] ?? 0) + 256 * (buffer[29] ?? 0);
  const uid = uint64(buffer, 20) % 2 ** 32;
  return { directory: (mode & c.S_IFMT) === c.S_IFDIR, uid };
}

/** Of an open file. @throws SystemError */
export function descriptorStatus(fd: number): FileStatus {
  const buffer = new Uint8Array(256);
  call("statx", fd, "", c.AT_EMPTY_PATH, STATX_BASIC_STATS, buffer);
  return parseStatx(buffer);
}

const PROC_SUPER_MAGIC = 0x9fa0;

/** Whether an open file is one of a procfs (statfs(2)). @throws SystemError */
export function isOnProc(fd: number): boolean {
  const status = new BigUint64Array(16); // struct statfs: f_type first
  call("fstatfs", fd, status);
  return Number(status[0]) === PROC_SUPER_MAGIC;
}

// struct statx (statx(2)) is the same on every architecture.
function parseStatx(buffer: Uint8Array): FileStatus {
  const view = new DataView(buffer.buffer);
  const mode = view.getUint16(28, true);
  const type = mode & c.S_IFMT;
  const kind =
    type === c.S_IFREG ? "file" : type === c.S_IFDIR ? "directory" : type === c.S_IFLNK ? "symlink" : "other";
  const size = Number(view.getBigUint64(40, true));
  const device = `${view.getUint32(136, true)}:${view.getUint32(140, true)}`;
  return {
    kind,
    mode: mode & 0o7777,
    uid: view.getUint32(20, true),
    gid: view.getUint32(24, true),
    size,
    device,
    identity: `${device}:${view.getBigUint64(32, true)}`,
    modified: { seconds: view.getBigInt64(112, true), nanoseconds: view.getUint32(120, true) },
  };
}

/** All bytes of an open descriptor, up to `limit`. @throws SystemError */
export function readAll(descriptor: number, limit = 1 << 26): Uint8Array {
  const chunks: Uint8Array[] = [];
  let total = 0;
  let size = 4096;
  while (total < limit) {
    const rest = limit - total;
    const chunk = new Uint8Array(size < rest ? size : rest);
    const count = call("read", descriptor, chunk, chunk.length);
    if (count === 0) break;
    chunks.push(chunk.subarray(0, count));
    total += count;
    if (size < 1 << 22) size *= 2;
  }
  return chunks.length > 1 ? joined(chunks) : (chunks[0] ?? new Uint8Array());
}

// A function of its own: whatever names a global that Bun makes when it is asked for has it made, used or not.
function joined(chunks: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(chunks);
}

/** A whole file's bytes, up to `limit`, or -errno. */
export function readFile(path: string, limit?: number): Uint8Array | number {
  const descriptor = search("openat", c.AT_FDCWD, path, c.O_RDONLY | c.O_CLOEXEC);
  if (descriptor < 0) return descriptor;
  try {
    return readAll(descriptor, limit);
  } finally {
    rawCall("close", descriptor);
  }
}

/** A file's text (lossless), or undefined when it cannot be read. */
export function readText(path: string): string | undefined {
  const bytes = readFile(path);
  return typeof bytes === "number" ? undefined : decodeBytes(bytes);
}

/** A file of a root directory, resolved inside it (openat2(2), RESOLVE_IN_ROOT): text, or undefined when absent. */
export function readTextInside(root: string, path: string): string | undefined {
  const directory = search("openat", c.AT_FDCWD, root, c.O_PATH | c.O_CLOEXEC | c.openFlags[ARCH].O_DIRECTORY);
  if (directory < 0) return undefined;
  try {
    const how = new BigUint64Array([
      BigInt(c.O_RDONLY | c.O_CLOEXEC | c.O_NONBLOCK),
      0n,
      BigInt(c.RESOLVE_IN_ROOT | c.RESOLVE_NO_MAGICLINKS),
    ]);
    let descriptor: number;
    // EAGAIN: a rename anywhere on the machine came between the parts of a path with .. (openat2(2)).
    do descriptor = rawCall("openat2", directory, path.replace(/^\/+/, ""), how, 24);
    while (isErrno(descriptor, "EAGAIN"));
    if (TROUBLE.some((error) => isErrno(descriptor, error)))
      throw systemError(`openat2 ${path} in ${root}`, -descriptor);
    if (descriptor < 0) return undefined;
    try {
      return decodeBytes(readAll(descriptor, 1 << 22));
    } finally {
      rawCall("close", descriptor);
    }
  } finally {
    rawCall("close", directory);
  }
}

/**
 * A memory file that may be executed. Where vm.memfd_noexec is set, that has to be asked for; kernels before 6.3 do not
 * know the question (memfd_create(2), MFD_EXEC). @throws SystemError
 */
export function executableMemory(name: string, flags: number): number {
  const descriptor = rawCall("memfd_create", name, flags | c.MFD_EXEC);
  if (isErrno(descriptor, "EINVAL")) return call("memfd_create", name, flags);
  if (descriptor < 0) throw systemError(`memfd_create ${name}`, -descriptor);
  return descriptor;
}

/** Write all bytes, whatever the kernel takes at once; errors name `file`, else the descriptor. @throws SystemError */
export function writeAll(descriptor: number, bytes: Uint8Array, file?: string): void {
  let rest = bytes;
  while (rest.length > 0) {
    const count = rawCall("write", descriptor, rest, rest.length);
    if (count === -4) continue; // EINTR
    if (count === -11) {
      pollWritable(descriptor); // a descriptor that somebody else has made non-blocking
      continue;
    }
    if (count < 0)
      throw systemError(`write to ${file ?? `descriptor ${descriptor}`}`, -count, {
        ...(count === -27 ? { hint: "the caller's limit of file sizes (ulimit -f)" } : {}), // EFBIG
      });
    rest = rest.subarray(count);
  }
}

function pollWritable(descriptor: number): void {
  const request = new Uint8Array(8); // struct pollfd: POLLOUT is 4
  new DataView(request.buffer).setInt32(0, descriptor, true);
  request[4] = 4;
  const noTimeout: Argument = null;
  rawCall("ppoll", request, 1, noTimeout, null, 8);
}

/**
 * The working directory's path (getcwd(2)); where it has none any more (removed, or outside of this root), a path by
 * which the kernel still finds it, so that only what depends on it fails.
 */
export function workingDirectory(): string {
  const buffer = new Uint8Array(4096);
  const length = rawCall("getcwd", buffer, buffer.length);
  if (isErrno(length, "ENOMEM")) throw systemError("getcwd", -length);
  const path = length > 0 ? decodeBytes(buffer.subarray(0, length - 1)) : "";
  return path.startsWith("/") ? path : "/proc/self/cwd";
}

/** Whether a descriptor is a terminal (TCGETS succeeds); does not touch its flags. @throws SystemError without memory */
export function isTerminal(descriptor: number): boolean {
  const result = rawCall("ioctl", descriptor, 0x5401, new Uint8Array(64));
  if (isErrno(result, "ENOMEM")) throw systemError(`ioctl TCGETS of descriptor ${descriptor}`, -result);
  return result === 0;
}

/** Open a file for reading; a descriptor, or minus the error number. Never blocks on a FIFO, takes no terminal. */
export function openForReading(path: string): number {
  return search("openat", c.AT_FDCWD, path, c.O_RDONLY | c.O_CLOEXEC | c.O_NONBLOCK | c.O_NOCTTY, 0);
}

/** Open a device for reading and writing; as {@link openForReading}. @throws SystemError as all searches here */
export function openDevice(path: string): number {
  return search("openat", c.AT_FDCWD, path, c.O_RDWR | c.O_CLOEXEC | c.O_NONBLOCK | c.O_NOCTTY, 0);
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
  const length = search("readlinkat", c.AT_FDCWD, path, buffer, buffer.length);
  return length < 0 ? length : decodeBytes(buffer.subarray(0, length));
}

/**
 * Names in a directory, without `.` and `..`, in the directory's order; minus the error number when it cannot be read.
 * @throws SystemError as all searches here
 */
export function directoryNames(path: string): string[] | number {
  const fd = search("openat", c.AT_FDCWD, path, c.O_RDONLY | c.O_CLOEXEC | c.openFlags[ARCH].O_DIRECTORY, 0);
  if (fd < 0) return fd;
  try {
    return openDirectoryNames(fd, path);
  } finally {
    closeDescriptor(fd);
  }
}

/** The same of a directory that is open for reading, from where it has been read to; `path` is for errors alone. */
export function openDirectoryNames(fd: number, path: string): string[] | number {
  const names: string[] = [];
  const buffer = new Uint8Array(32768);
  const view = new DataView(buffer.buffer);
  for (;;) {
    const length = rawCall("getdents64", fd, buffer, buffer.length);
    if (TROUBLE.some((error) => isErrno(length, error))) throw systemError(`getdents64 ${path}`, -length);
    if (length < 0) return length;
    if (length === 0) return names;
    // struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name.
    for (let at = 0; at < length; at += view.getUint16(at + 16, true)) {
      const end = buffer.indexOf(0, at + 19);
      const name = decodeBytes(buffer.subarray(at + 19, end));
      if (name !== "." && name !== "..") names.push(name);
    }
  }
}

/** Close a descriptor. */
export function closeDescriptor(fd: number): void {
  rawCall("close", fd);
}

/** Whether a result is this error. */
export function isErrno(result: unknown, name: string): boolean {
  if (typeof result !== "number" || result >= 0) return false; // the table of names is for failures
  const errno = errnoNumber(name);
  return errno !== undefined && result === -errno;
}
