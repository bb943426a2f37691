/** One file's content and attributes, from descriptor to descriptor. */

import { rawCall, systemError } from "../libc/call.ts";
import { allocatedOf, ERRNO, type Status, sizeOf } from "../libc/walk.ts";

const SMALL = 64 * 1024; // up to here a read and a write are cheaper than the in-kernel copy
/** Bytes of the buffer that {@link copyData} is lent: one for a whole walk, since a new one each time costs more than the copy. */
export const BUFFER_SIZE: number = 256 * 1024;
const CHUNK = 8 << 20;
const SEEK_SET = 0;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

// where copy_file_range(2) is not to be had: other file systems, old kernels, special files
const NOT_IN_KERNEL: readonly number[] = [ERRNO.EXDEV, ERRNO.EINVAL, ERRNO.ENOSYS, ERRNO.ENOTSUP, ERRNO.EPERM];

/**
 * Copy all data of `source` to the empty file `target`, holes as holes; both at offset 0. `status` is the source's;
 * `buffer` has {@link BUFFER_SIZE} bytes. Yields the bytes copied since the last yield, so that the caller can stop in between. @throws SystemError
 */
export function* copyData(
  source: number,
  target: number,
  status: Status,
  buffer: Uint8Array,
  path: string,
): Generator<number> {
  const size = sizeOf(status);
  if (size === 0) return;
  if (allocatedOf(status) < size) return yield* copySparse(source, target, size, buffer, path);
  if (size > SMALL) return yield* copyRange(source, target, size, buffer, path);
  yield copyThrough(source, target, size, buffer, path);
}

function* copySparse(
  source: number,
  target: number,
  size: number,
  buffer: Uint8Array,
  path: string,
): Generator<number> {
  for (let at = 0; at < size;) {
    const data = rawCall("lseek", source, at, SEEK_DATA);
    if (data === -ERRNO.ENXIO) break; // nothing but a hole up to the end
    if (data < 0) fail("lseek", path, data);
    const hole = rawCall("lseek", source, data, SEEK_HOLE);
    if (hole < 0) fail("lseek", path, hole);
    rawCall("lseek", source, data, SEEK_SET);
    rawCall("lseek", target, data, SEEK_SET);
    yield* copyRange(source, target, Math.min(hole, size) - data, buffer, path);
    at = hole;
  }
  const failed = rawCall("ftruncate", target, size);
  if (failed < 0) fail("ftruncate", path, failed);
}

function* copyRange(
  source: number,
  target: number,
  length: number,
  buffer: Uint8Array,
  path: string,
): Generator<number> {
  let left = length;
  while (left > 0) {
    const done = rawCall("copy_file_range", source, null, target, null, Math.min(left, CHUNK), 0);
    if (done === 0) return; // shorter than it was
    if (done < 0 && NOT_IN_KERNEL.includes(-done)) break;
    if (done < 0) fail("write", path, done);
    left -= done;
    yield done;
  }
  while (left > 0) {
    const done = copyThrough(source, target, Math.min(left, buffer.length), buffer, path);
    if (done === 0) return;
    left -= done;
    yield done;
  }
}

/** Read up to `length` bytes and write what came. */
function copyThrough(source: number, target: number, length: number, buffer: Uint8Array, path: string): number {
  let got = 0;
  while (got < length) {
    const count = rawCall("read", source, got === 0 ? buffer : buffer.subarray(got), length - got);
    if (count < 0) fail("read", path, count);
    if (count === 0) break;
    got += count;
  }
  for (let done = 0; done < got;) {
    const count = rawCall("write", target, done === 0 ? buffer : buffer.subarray(done), got - done);
    if (count < 0) fail("write", path, count);
    done += count;
  }
  return got;
}

const USER = "user.";
const latin1 = new TextDecoder("latin1");

/**
 * Copy the `user.*` attributes (xattr(7)). Returns undefined when none were lost, else the reason: the target's file
 * system keeps none, or has no room. @throws SystemError for anything else
 */
export function copyAttributes(source: number, target: number): string | undefined {
  const size = rawCall("flistxattr", source, null, 0);
  if (size <= 0) return undefined; // none, or a file system without attributes
  const list = new Uint8Array(size + 4096);
  const length = rawCall("flistxattr", source, list, list.length);
  if (length < 0) return undefined;
  for (let at = 0; at < length;) {
    const end = list.indexOf(0, at);
    const name = list.slice(at, end + 1);
    at = end + 1;
    if (!latin1.decode(name).startsWith(USER)) continue;
    const value = new Uint8Array(65536); // XATTR_SIZE_MAX
    const got = rawCall("fgetxattr", source, name, value, value.length);
    if (got === -ERRNO.ENODATA) continue;
    if (got < 0) return reason(got);
    const failed = rawCall("fsetxattr", target, name, value, got, 0);
    if (failed < 0) return reason(failed);
  }
  return undefined;
}

function reason(result: number): string {
  if (result === -ERRNO.ENOTSUP) return "the copy's file system keeps none";
  return systemError("fsetxattr", -result).message;
}

function fail(what: string, path: string, result: number): never {
  throw systemError(`${what} ${path}`, -result);
}
