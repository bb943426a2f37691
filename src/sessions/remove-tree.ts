/**
 * Remove a directory of our own making, and never anything else: a walk by descriptors that follows no link, and that
 * stops at the first mount it meets. (A recursive delete that walked through a bind mount has emptied a machine's
 * /nix before; bind mounts share their device number, so the mount's id is compared too.)
 */

import { HutchError } from "../errors.ts";
import { call, cString, rawCall, systemError } from "../libc/call.ts";
import {
  AT,
  closeQuietly,
  deviceOf,
  EMPTY_NAME,
  ERRNO,
  FILE_TYPE,
  mountOf,
  nameText,
  OPEN,
  readEntries,
  readStatus,
  type Status,
  statusBuffer,
} from "../libc/walk.ts";

const DIRECTORY = OPEN.readOnly | OPEN.directory | OPEN.noFollow | OPEN.closeOnExec;

/**
 * Remove the directory at host path `path` with all below it; a path that is not there is fine.
 * @throws HutchError when something is mounted below (what is on other mounts stays), SystemError otherwise
 */
export function removeTree(path: string): void {
  const name = cString(path);
  const status = statusBuffer();
  const missing = readStatus(AT.fdcwd, name, status);
  if (missing === -ERRNO.ENOENT) return;
  if (missing < 0) throw systemError(`statx ${path}`, -missing);
  const place = { device: deviceOf(status), mount: mountOf(status), status, raised: 0 };
  removeDirectory(AT.fdcwd, name, path, place, 0);
}

interface Place {
  readonly device: number;
  readonly mount: number;
  /** Room for what is asked of a file. */
  readonly status: Status;
  /** The directory that is being removed, open, once it is, and how many have been brought up into it. */
  top?: number;
  raised: number;
}

/**
 * So many directories are open within each other at most; one that is deeper is brought up to the top first, so that no
 * tree is too deep for the limit of open files, or for this program's stack.
 */
const DEPTH = 500;
const RENAME_NOREPLACE = 1;

function openDirectory(parent: number, name: Uint8Array, path: string): number {
  const fd = rawCall("openat", parent, name, DIRECTORY);
  if (fd !== -ERRNO.EACCES) return fd < 0 ? fail("openat", path, fd) : fd;
  call("fchmodat", parent, name, 0o700); // a directory of ours without the right to read it
  return call("openat", parent, name, DIRECTORY);
}

function removeDirectory(parent: number, name: Uint8Array, path: string, place: Place, depth: number): void {
  const fd = openDirectory(parent, name, path);
  if (depth === 0) place.top = fd;
  try {
    const { status } = place;
    const failed = readStatus(fd, EMPTY_NAME, status);
    if (failed < 0) fail("statx", path, failed);
    if (deviceOf(status) !== place.device || mountOf(status) !== place.mount)
      throw new HutchError(`${path}: something is mounted here, nothing below it was removed`, {
        hint: "unmount it, then remove the directory",
      });
    let raised = -1;
    while (raised < place.raised) {
      raised = place.raised;
      for (const entry of readEntries(fd)) {
        const child = `${path}/${nameText(entry.name)}`;
        if (entry.type === FILE_TYPE.directory) removeBelow(fd, entry.name, child, place, depth + 1);
        else removeFile(fd, entry.name, child, place, depth);
      }
      if (depth > 0) break;
      call("lseek", fd, 0, 0); // what has been brought up meanwhile
    }
  } finally {
    closeQuietly(fd);
  }
  const failed = rawCall("unlinkat", parent, name, AT.removeDir);
  if (failed < 0) fail("rmdir", path, failed);
}

function removeBelow(directory: number, name: Uint8Array, path: string, place: Place, depth: number): void {
  if (depth <= DEPTH || place.top === undefined) return removeDirectory(directory, name, path, place, depth);
  for (let isWritable = false; ;) {
    const to = `.hutch-raised-${place.raised}`;
    const moved = rawCall("renameat2", directory, name, place.top, to, RENAME_NOREPLACE);
    if (moved === -ERRNO.EACCES && !isWritable) {
      isWritable = true;
      for (const open of [directory, place.top]) call("fchmod", open, 0o700);
      call("fchmodat", directory, name, 0o700); // its `..` changes
      continue;
    }
    if (moved < 0 && moved !== EEXIST) fail("renameat2", path, moved);
    place.raised += 1;
    if (moved === 0) return;
  }
}

const EEXIST = -17;
const EISDIR = -21;

function removeFile(directory: number, name: Uint8Array, path: string, place: Place, depth: number): void {
  let result = rawCall("unlinkat", directory, name, 0);
  if (result === -ERRNO.EACCES) {
    call("fchmod", directory, 0o700);
    result = rawCall("unlinkat", directory, name, 0);
  }
  if (result === EISDIR)
    removeBelow(directory, name, path, place, depth + 1); // the file system named no type
  else if (result < 0) fail("unlinkat", path, result);
}

function fail(what: string, path: string, result: number): never {
  throw systemError(`${what} ${path}`, -result);
}
