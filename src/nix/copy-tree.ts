/**
 * Copy a directory so that the copy is the caller's: what `cp -a` does for one who is not root, without ever following
 * a link, opening a device, or changing the source (access times stay where the caller may keep them so).
 *
 * Kept: types, modes, times to the nanosecond, hard links within the tree, holes, `user.*` attributes, symbolic links
 * as they are, fifos. Not kept: owners (see {@link CopyOptions.owner}), sockets and devices, attributes of other
 * namespaces. Set-user-id and set-group-id bits stay only where the owner stays, as with cp: a copy made by root of a
 * build user's file must not become a set-user-id root program.
 *
 * One thread walks: it makes directories, links and whatever has several names. Regular files are copied in parallel,
 * by it and by the threads of copy-crew.ts, once there is enough to do that starting those pays. A directory is
 * finished (its times!) when the last job in it and below it is done.
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
  inodeOf,
  linksOf,
  modeOf,
  OPEN,
  readEntries,
  readStatus,
} from "../libc/walk.ts";
import { type Crew, type Job, startCrew } from "./copy-crew.ts";
import {
  checked,
  copyRegular,
  type CopyRules,
  copySpecial,
  created,
  finish,
  type Hand,
  HEAVY,
  joinPath,
  makeHand,
  openSource,
  type Place,
  refuse,
  type Skipped,
} from "./copy-entry.ts";
import { removeTree } from "../sessions/remove-tree.ts";

/** What has been copied so far: entries of every type, and bytes of file data. */
export interface CopyProgress {
  readonly entries: number;
  readonly bytes: number;
}

export interface CopyResult extends CopyProgress {
  /** What was left out or lost, by path. */
  readonly skipped: readonly Skipped[];
}

export interface CopyOptions extends CopyRules {
  /** Called a few times a second while copying. */
  readonly progress?: (done: CopyProgress) => void;
  /** Aborting removes the partial copy and rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** A directory that is being copied; open until the last job in it is done. */
interface Directory extends Place {
  readonly parent: Directory | undefined;
  /** Jobs and directories in it that are not done, and one for its own listing. */
  pending: number;
}

interface Copier {
  readonly options: CopyOptions;
  readonly hand: Hand;
  /** `device:inode` of files with several names → where the first copy of it is, below the destination. */
  readonly linked: Map<string, string>;
  readonly destination: number;
  readonly open: Set<Directory>;
  /** Large files that were met and left for a thread that has time. */
  readonly heavy: Job<Directory>[];
  crew: Crew<Directory> | undefined;
  entries: number;
  bytes: number;
  lastPause: number;
}

const PAUSE_EVERY_MS = 25;
/** Files of a job: few enough that threads end together, enough that handing it over costs little. */
const BATCH = 32;
/** From so many entries or bytes on, other threads help: before, starting them costs more. */
const CREW_ENTRIES = 400;
const CREW_BYTES: number = 64 << 20;
/** Each holds its directory open. */
const MOST_HEAVY = 64;

/**
 * Copy the directory at host path `source` to `destination`, which must not exist (its parent must).
 * On any failure the partial copy is removed again.
 * @throws HutchError one line, also for a full disk; the signal's reason when aborted
 */
export async function copyTree(source: string, destination: string, options: CopyOptions = {}): Promise<CopyResult> {
  options.signal?.throwIfAborted();
  const from = openTop(source);
  let copier: Copier | undefined;
  try {
    call("mkdirat", AT.fdcwd, destination, 0o700);
    try {
      const flags = OPEN.readOnly | OPEN.directory | OPEN.noFollow | OPEN.closeOnExec;
      const into = call("openat", AT.fdcwd, destination, flags);
      copier = newCopier(options, into);
      // descriptors of its own, since the walk closes a directory when it is done with it
      await copyAll(copier, call("openat", from, ".", flags), call("openat", into, ".", flags));
      const done = progressOf(copier);
      options.progress?.(done);
      return { ...done, skipped: copier.hand.skipped.toSorted((a, b) => (a.path < b.path ? -1 : 1)) };
    } catch (error) {
      await end(copier);
      removeTree(destination);
      throw error;
    }
  } catch (error) {
    throw explain(error, source, destination);
  } finally {
    closeQuietly(from);
    await end(copier);
    if (copier !== undefined) closeQuietly(copier.destination);
  }
}

function newCopier(options: CopyOptions, destination: number): Copier {
  const { owner, unreadable } = options; // these alone can be told to another thread
  return {
    options,
    hand: makeHand({ ...(owner === undefined ? {} : { owner }), ...(unreadable === undefined ? {} : { unreadable }) }),
    linked: new Map(),
    destination,
    open: new Set(),
    heavy: [],
    crew: undefined,
    entries: 0,
    bytes: 0,
    lastPause: performance.now(),
  };
}

/** Stop the threads, and close what they have worked on. */
async function end(copier: Copier | undefined): Promise<void> {
  await copier?.crew?.stop();
  for (const directory of copier?.open ?? []) close(copier, directory);
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

function progressOf({ crew, entries, bytes }: Copier): CopyProgress {
  const theirs = crew?.counts() ?? { entries: 0, bytes: 0 };
  return { entries: entries + theirs.entries, bytes: bytes + theirs.bytes };
}

/** Let timers, signals, answers of threads and the progress line have their turn. `ms`: wait so long for an answer. */
async function pause(copier: Copier, ms = 0): Promise<void> {
  const { crew, options } = copier;
  const now = performance.now();
  const due = now - copier.lastPause >= PAUSE_EVERY_MS;
  if (crew !== undefined && ms > 0) await crew.wait(ms);
  else if (crew !== undefined || due) await new Promise<void>((resolve) => setImmediate(resolve));
  if (!due) return;
  copier.lastPause = now;
  options.progress?.(progressOf(copier));
  options.signal?.throwIfAborted();
}

async function copyAll(copier: Copier, from: number, into: number): Promise<void> {
  await copyDirectory(copier, openDirectory(copier, { from, into, path: "", parent: undefined, pending: 1 }));
  for (let job = copier.heavy.shift(); job !== undefined; job = copier.heavy.shift()) await workOn(copier, job);
  while (copier.crew?.isBusy() === true) {
    await pause(copier, PAUSE_EVERY_MS);
    await takeDone(copier);
  }
  await takeDone(copier);
}

function openDirectory(copier: Copier, directory: Directory): Directory {
  copier.open.add(directory);
  return directory;
}

function close(copier: Copier | undefined, directory: Directory): void {
  copier?.open.delete(directory);
  closeQuietly(directory.from);
  closeQuietly(directory.into);
}

async function copyDirectory(copier: Copier, directory: Directory): Promise<void> {
  const { hand } = copier;
  const { from, into, path } = directory;
  const directories: Uint8Array[] = [];
  let names: Uint8Array[] = [];
  for (const entry of readEntries(from)) {
    const type = entry.type === 0 ? typeOf(copier, from, entry.name, path) : entry.type;
    if (type === FILE_TYPE.directory) directories.push(entry.name);
    else if (type === FILE_TYPE.regular) names.push(entry.name);
    else copySpecial(hand, directory, entry.name, type, (name) => linkToCopy(copier, into, name, path));
    if (type !== FILE_TYPE.regular) copier.entries++;
    if (names.length < BATCH) continue;
    await distribute(copier, { place: directory, names });
    names = [];
  }
  if (names.length > 0) await distribute(copier, { place: directory, names });
  for (const name of directories) {
    const below = joinPath(path, name);
    const source = openSource(hand, from, name, OPEN.directory);
    if (source < 0) {
      refuse(hand, below, source);
      continue;
    }
    let target = -1;
    try {
      created(rawCall("mkdirat", into, name, 0o700), below);
      target = call("openat", into, name, OPEN.readOnly | OPEN.directory | OPEN.noFollow | OPEN.closeOnExec);
    } catch (error) {
      closeQuietly(source);
      throw error;
    }
    directory.pending++;
    const child: Directory = { from: source, into: target, path: below, parent: directory, pending: 1 };
    await copyDirectory(copier, openDirectory(copier, child));
  }
  release(copier, directory);
}

/** One thing less to do in the directory. When it was the last, it gets its attributes: creating entries has changed its
 * times, and may have needed the right to write. */
function release(copier: Copier, directory: Directory): void {
  if (--directory.pending > 0) return;
  const { from, into, path, parent } = directory;
  checked(readStatus(from, EMPTY_NAME, copier.hand.status), "statx", path);
  finish(copier.hand, from, into, path);
  close(copier, directory);
  if (parent !== undefined) release(copier, parent);
}

/** Give the job to another thread, or do it. */
async function distribute(copier: Copier, job: Job<Directory>): Promise<void> {
  const { entries, bytes } = progressOf(copier);
  if (entries >= CREW_ENTRIES || bytes >= CREW_BYTES) copier.crew ??= startCrew(copier.hand.rules);
  job.place.pending++;
  giveHeavy(copier);
  if (copier.crew?.give(job) !== true) await workOn(copier, job);
  await pause(copier);
  await takeDone(copier);
}

function giveHeavy({ crew, heavy }: Copier): void {
  for (let job = heavy[0]; job !== undefined && crew?.give(job) === true; job = heavy[0]) heavy.shift();
}

async function takeDone(copier: Copier): Promise<void> {
  for (const { place, aside, skipped } of copier.crew?.takeDone() ?? []) {
    copier.hand.skipped.push(...skipped);
    copier.entries -= aside.length; // counted by that thread, and again here
    if (aside.length > 0) await workOn(copier, { place, names: aside });
    else release(copier, place);
  }
  giveHeavy(copier);
}

/** Copy a job's files in this thread. */
async function workOn(copier: Copier, { place, names }: Job<Directory>): Promise<void> {
  const { hand } = copier;
  const isElsewhere = (name: Uint8Array) =>
    linksOf(hand.status) > 1
      ? linkToCopy(copier, place.into, name, place.path)
      : names.length > 1 && putOff(copier, { place, names: [name] });
  for (const name of names) {
    for (const bytes of copyRegular(hand, place, name, isElsewhere)) {
      copier.bytes += bytes;
      if (bytes >= HEAVY) await pause(copier);
    }
    copier.entries++;
  }
  release(copier, place);
}

/** Leave a large file for a thread that has time, if there is one. */
function putOff(copier: Copier, job: Job<Directory>): boolean {
  if (copier.crew === undefined || copier.heavy.length >= MOST_HEAVY) return false;
  job.place.pending++;
  copier.entries--; // it will be counted when it is copied
  copier.heavy.push(job);
  return true;
}

/** A further name of a file that is already in the copy; false when this is its first name. */
function linkToCopy(copier: Copier, into: number, name: Uint8Array, path: string): boolean {
  const key = `${deviceOf(copier.hand.status)}:${inodeOf(copier.hand.status)}`;
  const first = copier.linked.get(key);
  if (first === undefined) {
    copier.linked.set(key, joinPath(path, name));
    return false;
  }
  const { directory, name: last } = openParent(copier.destination, first);
  try {
    created(rawCall("linkat", directory, last, into, name, 0), joinPath(path, name));
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

function typeOf(copier: Copier, directory: number, name: Uint8Array, path: string): number {
  checked(readStatus(directory, name, copier.hand.status), "statx", joinPath(path, name));
  return modeOf(copier.hand.status) & FILE_TYPE.mask;
}
