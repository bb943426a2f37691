/** One entry of a directory that is copied, by descriptors of its two directories: what each thread of a copy does. */

import { HutchError } from "../errors.ts";
import { rawCall, systemError } from "../libc/call.ts";
import {
  AT,
  closeQuietly,
  copyTimes,
  EMPTY_NAME,
  ERRNO,
  FILE_TYPE,
  groupOf,
  linksOf,
  modeOf,
  nameText,
  OPEN,
  readLink,
  readStatus,
  sizeOf,
  type Status,
  statusBuffer,
  userOf,
} from "../libc/walk.ts";
import { BUFFER_SIZE, copyAttributes, copyData } from "./copy-file.ts";

/** Something of the source that the copy lacks: its path below the source, and why. */
export interface Skipped {
  readonly path: string;
  readonly why: string;
}

/** What every thread of a copy is told. */
export interface CopyRules {
  /** Who shall own the copy (needs CAP_CHOWN); absent: the caller, as files are created. */
  readonly owner?: { readonly uid: number; readonly gid: number };
  /** What to do with what the caller may not read: an error (default), or leave it out and say so in the result. */
  readonly unreadable?: "fail" | "skip";
}

/** One thread's tools: no two threads may share them, nor two files that are copied at once. */
export interface Hand {
  readonly rules: CopyRules;
  readonly status: Status;
  readonly times: Uint8Array;
  readonly buffer: Uint8Array;
  readonly skipped: Skipped[];
  noAtime: boolean;
}

export function makeHand(rules: CopyRules): Hand {
  return {
    rules,
    status: statusBuffer(),
    times: new Uint8Array(32),
    buffer: new Uint8Array(BUFFER_SIZE),
    skipped: [],
    noAtime: true,
  };
}

/** A directory of the source and its copy, both open. */
export interface Place {
  readonly from: number;
  readonly into: number;
  /** Below the source, "" for the source itself. */
  readonly path: string;
}

/** Whether a file is somebody else's to copy, judged by `hand.status`; then nothing has been made. */
export type IsElsewhere = (name: Uint8Array) => boolean;

/**
 * Copy a regular file. Yields the bytes copied since the last yield, so that the caller can stop in between.
 * @throws SystemError, HutchError
 */
export function* copyRegular(
  hand: Hand,
  place: Place,
  name: Uint8Array,
  isElsewhere: IsElsewhere,
): Generator<number, void> {
  const { status } = hand;
  const path = joinPath(place.path, name);
  const source = openSource(hand, place.from, name, 0);
  if (source < 0) return refuse(hand, path, source);
  let target = -1;
  try {
    checked(readStatus(source, EMPTY_NAME, status), "statx", path);
    if ((modeOf(status) & FILE_TYPE.mask) !== FILE_TYPE.regular)
      throw new HutchError(`${path} changed its type while it was copied`);
    if ((linksOf(status) > 1 || sizeOf(status) > HEAVY) && isElsewhere(name)) return;
    const flags = OPEN.writeOnly | OPEN.create | OPEN.exclusive | OPEN.noFollow | OPEN.closeOnExec;
    target = created(rawCall("openat", place.into, name, flags, 0o600), path);
    yield* copyData(source, target, status, hand.buffer, path);
    finish(hand, source, target, path);
  } finally {
    closeQuietly(source);
    if (target >= 0) closeQuietly(target);
  }
}

/** From this size on, in bytes, a file is work for a thread of its own. */
export const HEAVY: number = 8 << 20;

/** Open a source entry for reading without following, blocking or touching; a descriptor or minus the error. */
export function openSource(hand: Hand, directory: number, name: Uint8Array, more: number): number {
  const flags = OPEN.readOnly | OPEN.noFollow | OPEN.nonBlock | OPEN.closeOnExec | more;
  if (hand.noAtime) {
    const fd = rawCall("openat", directory, name, flags | OPEN.noAtime);
    if (fd !== -ERRNO.EPERM) return fd;
    hand.noAtime = false; // only the owner and root may leave the access time alone
  }
  return rawCall("openat", directory, name, flags);
}

/** What is done alike for files and directories once their content is there; `hand.status` is the source's. */
export function finish(hand: Hand, from: number, into: number, path: string): void {
  const { status, rules } = hand;
  const lost = copyAttributes(from, into);
  if (lost !== undefined) hand.skipped.push({ path, why: `extended attributes: ${lost}` });
  if (rules.owner !== undefined) checked(rawCall("fchown", into, rules.owner.uid, rules.owner.gid), "fchown", path);
  checked(rawCall("fchmod", into, permissions(status, into)), "fchmod", path);
  copyTimes(status, hand.times);
  checked(rawCall("utimensat", into, null, hand.times, 0), "utimensat", path);
}

const SET_ID = 0o6000;

function permissions(status: Status, into: number): number {
  const mode = modeOf(status) & 0o7777;
  if ((mode & SET_ID) === 0) return mode;
  const copy = statusBuffer();
  checked(readStatus(into, EMPTY_NAME, copy), "statx", "");
  const sameOwner = userOf(copy) === userOf(status) && groupOf(copy) === groupOf(status);
  return sameOwner ? mode : mode & ~SET_ID;
}

/** Copy a symbolic link or a fifo; sockets and devices are left out with a word. @throws SystemError */
export function copySpecial(
  hand: Hand,
  { from, into, path }: Place,
  name: Uint8Array,
  type: number,
  isElsewhere: IsElsewhere,
): void {
  const { status } = hand;
  const where = joinPath(path, name);
  if (type !== FILE_TYPE.symlink && type !== FILE_TYPE.fifo) {
    hand.skipped.push({ path: where, why: type === FILE_TYPE.socket ? "a socket" : "a device" });
    return;
  }
  checked(readStatus(from, name, status), "statx", where);
  if (linksOf(status) > 1 && isElsewhere(name)) return;
  if (type === FILE_TYPE.symlink) created(rawCall("symlinkat", readLink(from, name), into, name), where);
  else created(rawCall("mknodat", into, name, FILE_TYPE.fifo | 0o600, 0), where);
  const { owner } = hand.rules;
  if (owner !== undefined)
    checked(rawCall("fchownat", into, name, owner.uid, owner.gid, AT.symlinkNoFollow), "fchownat", where);
  if (type === FILE_TYPE.fifo) checked(rawCall("fchmodat", into, name, modeOf(status) & 0o777), "fchmodat", where);
  copyTimes(status, hand.times);
  checked(rawCall("utimensat", into, name, hand.times, AT.symlinkNoFollow), "utimensat", where);
}

/** An entry that cannot be opened: left out with a word where the caller asked for that, else the error. */
export function refuse(hand: Hand, path: string, result: number): void {
  if (result === -ERRNO.EACCES && hand.rules.unreadable === "skip")
    hand.skipped.push({ path, why: "permission denied" });
  else throw systemError(`open ${path}`, -result);
}

export function created(result: number, path: string): number {
  if (result < 0) throw systemError(`create ${path}`, -result);
  return result;
}

export function checked(result: number, what: string, path: string): void {
  if (result < 0) throw systemError(`${what} ${path}`.trimEnd(), -result);
}

export function joinPath(path: string, name: Uint8Array): string {
  return path === "" ? nameText(name) : `${path}/${nameText(name)}`;
}
