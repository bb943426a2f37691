/**
 * Room for one more list of images on a full disk, so that an image can be removed there: a file of the store whose blocks
 * the next list is written into when there are no others. What it holds means nothing, and losing it costs only that.
 */

import { call, rawCall } from "../libc/call.ts";
import { AT_FDCWD, closeFile, O, statAt } from "../libc/file.ts";
import { writeAll } from "../libc/files.ts";
import { isDiskFull, rename, type Store, syncDirectory } from "./store.ts";

const BLOCK = 4096;
const LEAST = 64 * 1024;

const pathOf = ({ root }: Store): string => `${root}/reserve`;

/**
 * Have a reserve of twice a list's bytes, or as much of it as there is room for. The caller has the lock of the list: what
 * is the reserve now may be the list a moment later.
 */
export function keepReserve(store: Store, bytes: number): void {
  const wanted = Math.max(LEAST, 2 * bytes);
  let length = statAt(AT_FDCWD, pathOf(store))?.size ?? 0;
  if (length >= wanted) return;
  const fd = rawCall("openat", AT_FDCWD, pathOf(store), O.CREAT | O.WRONLY | O.CLOEXEC | O.NOFOLLOW, 0o600);
  if (fd < 0) return;
  try {
    call("lseek", fd, length, 0);
    // At random: what compresses well would be no room.
    for (; length < wanted; length += BLOCK) writeAll(fd, crypto.getRandomValues(new Uint8Array(BLOCK)));
  } catch {
    // As far as it went.
  } finally {
    closeFile(fd);
  }
}

/**
 * Write a list into the reserve's blocks and put it in the place of the old one: at any instant that is the old list or
 * the new one. The caller has the lock of the list. False when the disk has no room even so.
 */
export function replaceFromReserve(store: Store, path: string, content: Uint8Array): boolean {
  const fd = rawCall("openat", AT_FDCWD, pathOf(store), O.WRONLY | O.CLOEXEC | O.NOFOLLOW, 0);
  if (fd < 0) return false;
  try {
    writeAll(fd, content);
    call("ftruncate", fd, content.byteLength);
    call("fsync", fd);
  } catch (error) {
    if (!isDiskFull(error)) throw error;
    return false;
  } finally {
    closeFile(fd);
  }
  rename(pathOf(store), path);
  syncDirectory(path.slice(0, path.lastIndexOf("/")));
  return true;
}
