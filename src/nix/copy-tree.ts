/**
 * Copy a directory so that the copy is the caller's: what `cp -a` does for one who is not root, without ever following
 * a link, opening a device, or changing the source (access times stay where the caller may keep them so).
 *
 * Kept: types, modes, times to the nanosecond, hard links within the tree, holes, `user.*` attributes, symbolic links
 * as they are, fifos. Not kept: owners (see {@link CopyOptions.owner}), sockets and devices, attributes of other
 * namespaces. Set-user-id and set-group-id bits stay only where the owner stays, as with cp: a copy made by root of a
 * build user's file must not become a set-user-id root program.
 */

import { HutchError } from "../errors.ts";
import { call, cString, rawCall, systemError } from "../libc/call.ts";
import {
  AT,
  closeQuietly,
  copyTimes,
  deviceOf,
  EMPTY_NAME,
  ERRNO,
  FILE_TYPE,
  groupOf,
  inodeOf,
  linksOf,
  modeOf,
  nameText,
  OPEN,
  readEntries,
  readLink,
  readStatus,
  type Status,
  statusBuffer,
  userOf,
} from "../libc/walk.ts";
import { BUFFER_SIZE, copyAttributes, copyData } from "./copy-file.ts";
import { removeTree } from "../sessions/remove-tree.ts";

/** What has been copied so far: entries of every type, and bytes of file data. */
export interface CopyProgress {
  readonly entries: number;
  readonly bytes: number;
}

/** Something of the source that the copy lacks: its path below the source, and why. */
export interface Skipped {
  readonly path: string;
  readonly why: string;
}

export interface CopyResult extends CopyProgress {
  /** What was left out or lost, in the order met. */
  readonly skipped: readonly Skipped[];
}

export interface CopyOptions {
  /** Called a few times a second while copying. */
  readonly progress?: (done: CopyProgress) => void;
  /** Aborting removes the partial copy and rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Who shall own the copy (needs CAP_CHOWN); absent: the caller, as files are created. */
  readonly owner?: { readonly uid: number; readonly gid: number };
  /** What to do with what the caller may not read: an error (default), or leave it out and say so in the result. */
  readonly unreadable?: "fail" | "skip";
}

interface Copier {
  readonly options: CopyOptions;
  readonly status: Status;
  readonly times: Uint8Array;
  readonly buffer: Uint8Array;
  /** `device:inode` of files with several names → where the first copy of it is, below the destination. */
  readonly linked: Map<string, string>;
  readonly skipped: Skipped[];
  readonly destination: number;
  noAtime: boolean;
  entries: number;
  bytes: number;
  lastPause: number;
}

const PAUSE_EVERY_MS = 25;

/**
 * Copy the directory at host path `source` to `destination`, which must not exist (its parent must).
 * On any failure the partial copy is removed again.
 * @throws HutchError one line, also for a full disk; the signal's reason when aborted
 */
export async function copyTree(source: string, destination: string, options: CopyOptions = {}): Promise<CopyResult> {
  options.signal?.throwIfAborted();
  const from = openTop(source);
  let into = -1;
  try {
    call("mkdirat", AT.fdcwd, destination, 0o700);
    try {
      into = call("openat", AT.fdcwd, destination, OPEN.readOnly | OPEN.directory | OPEN.noFollow | OPEN.closeOnExec);
      const copier: Copier = {
        options,
        status: statusBuffer(),
        times: new Uint8Array(32),
        buffer: new Uint8Array(BUFFER_SIZE),
        linked: new Map(),
        skipped: [],
        destination: into,
        noAtime: true,
        entries: 0,
        bytes: 0,
        lastPause: performance.now(),
      };
      await copyDirectory(copier, from, into, "");
      options.progress?.({ entries: copier.entries, bytes: copier.bytes });
      return { entries: copier.entries, bytes: copier.bytes, skipped: copier.skipped };
    } catch (error) {
      closeQuietly(into);
      into = -1;
      removeTree(destination);
      throw error;
    }
  } catch (error) {
    throw explain(error, source, destination);
  } finally {
    closeQuietly(from);
    if (into >= 0) closeQuietly(into);
  }
}

/** The source itself may be named by a link. */
function openTop(source: string): number {
  const flags = OPEN.readOnly | OPEN.directory | OPEN.closeOnExec;
  const fd = rawCall("openat", AT.fdcwd, source, flags | OPEN.noAtime);
  return fd === -ERRNO.EPERM ? call("openat", AT.fdcwd, source, flags) : checkedOpen(fd, source);
}

function checkedOpen(result: number, path: string): number {
  if (result < 0) throw systemError(`open ${path}`, -result);
  return result;
}

function explain(error: unknown, source: string, destination: string): unknown {
  const code = error instanceof HutchError && "code" in error ? error.code : undefined;
  if (code !== "ENOSPC" && code !== "EDQUOT") return error;
  return new HutchError(`copy ${source} to ${destination}: ${code === "ENOSPC" ? "disk full" : "quota exceeded"}`, {
    hint: "set TMPDIR to a directory with more room; the partial copy was removed",
    cause: error,
  });
}

/** Let timers, signals and the progress line have their turn, a few dozen times a second. */
async function pause(copier: Copier): Promise<void> {
  const now = performance.now();
  if (now - copier.lastPause < PAUSE_EVERY_MS) return;
  copier.options.progress?.({ entries: copier.entries, bytes: copier.bytes });
  await new Promise<void>((resolve) => setImmediate(resolve));
  copier.options.signal?.throwIfAborted();
  copier.lastPause = performance.now();
}

async function copyDirectory(copier: Copier, from: number, into: number, path: string): Promise<void> {
  const directories: Uint8Array[] = [];
  for (const entry of readEntries(from)) {
    const type = entry.type === 0 ? typeOf(copier, from, entry.name, path) : entry.type;
    if (type === FILE_TYPE.directory) directories.push(entry.name);
    else if (type === FILE_TYPE.regular) await copyRegular(copier, from, into, entry.name, path);
    else copySpecial(copier, from, into, entry.name, path, type);
    if ((++copier.entries & 63) === 0) await pause(copier);
  }
  for (const name of directories) {
    const below = join(path, name);
    const source = openSource(copier, from, name, OPEN.directory);
    if (source < 0) {
      refuse(copier, below, source);
      continue;
    }
    let target = -1;
    try {
      created(rawCall("mkdirat", into, name, 0o700), below);
      target = call("openat", into, name, OPEN.readOnly | OPEN.directory | OPEN.noFollow | OPEN.closeOnExec);
      await copyDirectory(copier, source, target, below);
    } finally {
      closeQuietly(source);
      if (target >= 0) closeQuietly(target);
    }
  }
  // last, since creating entries changes the directory's times and may need the right to write
  checked(readStatus(from, EMPTY_NAME, copier.status), "statx", path);
  finish(copier, from, into, path);
}

/** What is done alike for files and directories once their content is there; `copier.status` is the source's. */
function finish(copier: Copier, from: number, into: number, path: string): void {
  const { status, options } = copier;
  const lost = copyAttributes(from, into);
  if (lost !== undefined) copier.skipped.push({ path, why: `extended attributes: ${lost}` });
  if (options.owner !== undefined)
    checked(rawCall("fchown", into, options.owner.uid, options.owner.gid), "fchown", path);
  checked(rawCall("fchmod", into, permissions(copier, into)), "fchmod", path);
  copyTimes(status, copier.times);
  checked(rawCall("utimensat", into, null, copier.times, 0), "utimensat", path);
}

const SET_ID = 0o6000;

function permissions(copier: Copier, into: number): number {
  const mode = modeOf(copier.status) & 0o7777;
  if ((mode & SET_ID) === 0) return mode;
  const copy = statusBuffer();
  checked(readStatus(into, EMPTY_NAME, copy), "statx", "");
  const sameOwner = userOf(copy) === userOf(copier.status) && groupOf(copy) === groupOf(copier.status);
  return sameOwner ? mode : mode & ~SET_ID;
}

/** Open a source entry for reading without following, blocking or touching; a descriptor or minus the error. */
function openSource(copier: Copier, directory: number, name: Uint8Array, more: number): number {
  const flags = OPEN.readOnly | OPEN.noFollow | OPEN.nonBlock | OPEN.closeOnExec | more;
  if (copier.noAtime) {
    const fd = rawCall("openat", directory, name, flags | OPEN.noAtime);
    if (fd !== -ERRNO.EPERM) return fd;
    copier.noAtime = false; // only the owner and root may leave the access time alone
  }
  return rawCall("openat", directory, name, flags);
}

async function copyRegular(copier: Copier, from: number, into: number, name: Uint8Array, path: string): Promise<void> {
  const { status } = copier;
  const source = openSource(copier, from, name, 0);
  if (source < 0) return refuse(copier, join(path, name), source);
  let target = -1;
  try {
    checked(readStatus(source, EMPTY_NAME, status), "statx", join(path, name));
    if ((modeOf(status) & FILE_TYPE.mask) !== FILE_TYPE.regular)
      throw new HutchError(`${join(path, name)} changed its type while it was copied`);
    if (linksOf(status) > 1 && linkToCopy(copier, into, name, path)) return;
    const flags = OPEN.writeOnly | OPEN.create | OPEN.exclusive | OPEN.noFollow | OPEN.closeOnExec;
    target = created(rawCall("openat", into, name, flags, 0o600), join(path, name));
    for (const bytes of copyData(source, target, status, copier.buffer, join(path, name))) {
      copier.bytes += bytes;
      if (bytes >= 1 << 20) await pause(copier);
    }
    finish(copier, source, target, join(path, name));
  } finally {
    closeQuietly(source);
    if (target >= 0) closeQuietly(target);
  }
}

/** A further name of a file that is already in the copy; false when this is its first name. */
function linkToCopy(copier: Copier, into: number, name: Uint8Array, path: string): boolean {
  const key = `${deviceOf(copier.status)}:${inodeOf(copier.status)}`;
  const first = copier.linked.get(key);
  if (first === undefined) {
    copier.linked.set(key, join(path, name));
    return false;
  }
  const { directory, name: last } = openParent(copier.destination, first);
  try {
    created(rawCall("linkat", directory, last, into, name, 0), join(path, name));
  } finally {
    if (directory !== copier.destination) closeQuietly(directory);
  }
  return true;
}

/** The directory that holds `path` below `root`, step by step when the path is too long for one call. */
function openParent(root: number, path: string): { readonly directory: number; readonly name: Uint8Array } {
  const whole = cString(path);
  if (whole.length <= 4096) return { directory: root, name: whole };
  const parts = path.split("/");
  let directory = root;
  for (const part of parts.slice(0, -1)) {
    const next = call("openat", directory, part, OPEN.path | OPEN.directory | OPEN.noFollow | OPEN.closeOnExec);
    if (directory !== root) closeQuietly(directory);
    directory = next;
  }
  return { directory, name: cString(parts.at(-1) ?? "") };
}

function copySpecial(copier: Copier, from: number, into: number, name: Uint8Array, path: string, type: number): void {
  const { status } = copier;
  const where = join(path, name);
  if (type !== FILE_TYPE.symlink && type !== FILE_TYPE.fifo) {
    copier.skipped.push({ path: where, why: type === FILE_TYPE.socket ? "a socket" : "a device" });
    return;
  }
  checked(readStatus(from, name, status), "statx", where);
  if (linksOf(status) > 1 && linkToCopy(copier, into, name, path)) return;
  if (type === FILE_TYPE.symlink) created(rawCall("symlinkat", readLink(from, name), into, name), where);
  else created(rawCall("mknodat", into, name, FILE_TYPE.fifo | 0o600, 0), where);
  const { owner } = copier.options;
  if (owner !== undefined)
    checked(rawCall("fchownat", into, name, owner.uid, owner.gid, AT.symlinkNoFollow), "fchownat", where);
  if (type === FILE_TYPE.fifo) checked(rawCall("fchmodat", into, name, modeOf(status) & 0o777), "fchmodat", where);
  copyTimes(status, copier.times);
  checked(rawCall("utimensat", into, name, copier.times, AT.symlinkNoFollow), "utimensat", where);
}

function typeOf(copier: Copier, directory: number, name: Uint8Array, path: string): number {
  checked(readStatus(directory, name, copier.status), "statx", join(path, name));
  return modeOf(copier.status) & FILE_TYPE.mask;
}

/** An entry that cannot be opened: left out with a word where the caller asked for that, else the error. */
function refuse(copier: Copier, path: string, result: number): void {
  if (result === -ERRNO.EACCES && copier.options.unreadable === "skip")
    copier.skipped.push({ path, why: "permission denied" });
  else throw systemError(`open ${path}`, -result);
}

function created(result: number, path: string): number {
  if (result < 0) throw systemError(`create ${path}`, -result);
  return result;
}

function checked(result: number, what: string, path: string): void {
  if (result < 0) throw systemError(`${what} ${path}`.trimEnd(), -result);
}

function join(path: string, name: Uint8Array): string {
  return path === "" ? nameText(name) : `${path}/${nameText(name)}`;
}
