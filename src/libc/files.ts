/** Reading files and asking about them by system calls, without node:fs (which starts threads and costs a millisecond). */

import { decodeBytes } from "../bytes.ts";
import { ARCH, type Argument, call, rawCall, systemError } from "./call.ts";
import * as c from "./constants.ts";

/** What statx(2) tells, as far as hutch asks. */
export interface Status {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly kind: "directory" | "file" | "symlink" | "other";
}

/** statx(2) of a path, below `directory` when one is given; symbolic links are followed unless `link`. -errno on failure. */
export function status(path: string, options: { directory?: number; link?: boolean } = {}): Status | number {
  const buffer = new Uint8Array(256);
  const flags = options.link === true ? c.AT_SYMLINK_NOFOLLOW : 0;
  const result = rawCall("statx", options.directory ?? c.AT_FDCWD, path, flags, 0x7ff, buffer);
  if (result < 0) return result;
  const view = new DataView(buffer.buffer);
  const mode = view.getUint16(28, true);
  const type = mode & c.S_IFMT;
  const kind =
    type === c.S_IFDIR ? "directory" : type === c.S_IFREG ? "file" : type === c.S_IFLNK ? "symlink" : "other";
  return { mode: mode & 0o7777, uid: view.getUint32(20, true), gid: view.getUint32(24, true), kind };
}

/** All bytes of an open descriptor, up to `limit`. @throws SystemError */
export function readAll(descriptor: number, limit = 1 << 26): Uint8Array {
  const chunks: Uint8Array[] = [];
  let total = 0;
  let size = 65536;
  while (total < limit) {
    const chunk = new Uint8Array(Math.min(size, limit - total));
    const count = call("read", descriptor, chunk, chunk.length);
    if (count === 0) break;
    chunks.push(chunk.subarray(0, count));
    total += count;
    size = Math.min(size * 2, 1 << 22);
  }
  return chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks);
}

/** A whole file's bytes, or -errno. */
export function readFile(path: string): Uint8Array | number {
  const descriptor = rawCall("openat", c.AT_FDCWD, path, c.O_RDONLY | c.O_CLOEXEC);
  if (descriptor < 0) return descriptor;
  try {
    return readAll(descriptor);
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
  const directory = rawCall("openat", c.AT_FDCWD, root, c.O_PATH | c.O_CLOEXEC | c.openFlags[ARCH].O_DIRECTORY);
  if (directory < 0) return undefined;
  try {
    const how = new BigUint64Array([
      BigInt(c.O_RDONLY | c.O_CLOEXEC | c.O_NONBLOCK),
      0n,
      BigInt(c.RESOLVE_IN_ROOT | c.RESOLVE_NO_MAGICLINKS),
    ]);
    const descriptor = rawCall("openat2", directory, path.replace(/^\/+/, ""), how, 24);
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

/** Write all bytes, whatever the kernel takes at once. @throws SystemError */
export function writeAll(descriptor: number, bytes: Uint8Array): void {
  let rest = bytes;
  while (rest.length > 0) {
    const count = rawCall("write", descriptor, rest, rest.length);
    if (count === -4) continue; // EINTR
    if (count === -11) {
      pollWritable(descriptor); // a descriptor that somebody else has made non-blocking
      continue;
    }
    if (count < 0) throw systemError(`write to descriptor ${descriptor}`, -count);
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

/** Whether a descriptor is a terminal (TCGETS succeeds); does not touch its flags. */
export function isTerminal(descriptor: number): boolean {
  return rawCall("ioctl", descriptor, 0x5401, new Uint8Array(64)) === 0;
}
