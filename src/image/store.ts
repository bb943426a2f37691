/**
 * The store on disk, shared by every hutch of one user:
 *
 *   images/    an OCI layout: oci-layout, index.json, blobs/<algorithm>/<hex>
 *   layers/    <hex of ChainID>/{diff/, meta.json}: a layer unpacked over those below it
 *   ranges/    <id maps>/<hex of ChainID>/…: the same, of an ordinary user, with ids in a range (ranged.ts)
 *   partial/   <hex>: blobs on their way, resumed by the next who wants them
 *   tmp/       files before their rename; anybody's who holds no lock any more
 *   locks/     one empty file a lock
 *   leases/    one file a stack of layers, locked by sandboxes that run on it: layers that must stay
 *   reserve    room for the list of images on a full disk (reserve.ts)
 *   plain/     one file a name that was run plainly: what the next run need not look up (plain-image.ts)
 *   persisted/ <name>/…: writable layers that are kept (persisted.ts)
 *
 * Every change is one rename of something that is whole and on disk, so that a kill at any instant leaves at most a
 * file in partial/, tmp/ or a `.tmp` layer, which the next pull or prune takes.
 */

import { HutchError, UsageError } from "../errors.ts";
import { call, rawCall, systemError } from "../libc/call.ts";
import { errnoNumber } from "../libc/errno.ts";
import { AT_FDCWD, closeFile, O, openAt, readAll, statAt, tryLock } from "../libc/file.ts";
import { pathOwner, writeAll } from "../libc/files.ts";
import type { OnEvent } from "./source.ts";

export type Store = {
  readonly root: string;
  readonly images: string;
  readonly layers: string;
  readonly ranges: string;
  readonly partial: string;
  readonly tmp: string;
  readonly locks: string;
  readonly leases: string;
  readonly plain: string;
  readonly persisted: string;
};

const STORE_HINT = "HUTCH_STORE names another place for the store";

type Env = Readonly<Record<string, string | undefined>>;

/** Uid of what is at a path, undefined when nothing is. */
function owner(path: string): number | undefined {
  const found = pathOwner(path);
  return typeof found === "number" ? undefined : found.uid;
}

/** Where the store is: `$HUTCH_STORE`, root's in /var/lib, a user's in `$XDG_DATA_HOME`, ~/.local/share or /var/tmp. */
export function storePath(env: Env, uid: number, ownerOf: (path: string) => number | undefined = owner): string {
  const given = env["HUTCH_STORE"];
  if (given !== undefined && given !== "") {
    if (!given.startsWith("/")) throw new UsageError(`HUTCH_STORE ${JSON.stringify(given)} is not absolute`);
    return given;
  }
  if (uid === 0) return "/var/lib/hutch";
  const data = env["XDG_DATA_HOME"];
  if (data !== undefined && data.startsWith("/")) return `${data}/hutch`;
  // HOME may be another user's (sudo, setpriv) or no place at all (nobody's): then a place that is the user's by number.
  const home = env["HOME"];
  const own = home !== undefined && home.startsWith("/") && ownerOf(home) === uid;
  return own ? `${home}/.local/share/hutch` : `/var/tmp/hutch-${uid}`;
}

/** The directory that an absolute path's last name is in. (node:path costs a run a millisecond of start-up.) */
function parentPath(path: string): string {
  return path.slice(0, Math.max(1, path.lastIndexOf("/")));
}

/** Make a directory and those above it. A second ENOENT is of a link into nothing, or of a place like /proc. */
export function makeDirectory(path: string, mode: number): void {
  let result = rawCall("mkdirat", AT_FDCWD, path, mode);
  if (result === -(errnoNumber("ENOENT") ?? 0) && path !== "/") {
    makeDirectory(parentPath(path), 0o755);
    result = rawCall("mkdirat", AT_FDCWD, path, mode);
  }
  if (result >= 0 || result === -(errnoNumber("EEXIST") ?? 0)) return;
  throw systemError(`mkdir ${path}`, -result, { hint: STORE_HINT });
}

/** The paths of a store. */
function storeAt(root: string): Store {
  return {
    root,
    images: `${root}/images`,
    layers: `${root}/layers`,
    ranges: `${root}/ranges`,
    partial: `${root}/partial`,
    tmp: `${root}/tmp`,
    locks: `${root}/locks`,
    leases: `${root}/leases`,
    plain: `${root}/plain`,
    persisted: `${root}/persisted`,
  };
}

/** The store at an absolute path if it is there and the caller's own; nothing else is looked at. */
export function ownStore(root: string, uid: number): Store | undefined {
  const found = pathOwner(root);
  return typeof found !== "number" && found.directory && found.uid === uid ? storeAt(root) : undefined;
}

/** Open the store at an absolute path, made when it is missing. @throws HutchError when it is somebody else's */
export function openStore(root: string): Store {
  const store = storeAt(root);
  if (statAt(AT_FDCWD, `${store.images}/oci-layout`) !== undefined) {
    checkOwner(root);
    return store;
  }
  makeDirectory(root, 0o700);
  checkOwner(root);
  for (const path of [store.images, store.layers, store.partial, store.tmp, store.locks, store.leases])
    makeDirectory(path, 0o700);
  makeDirectory(`${store.images}/blobs`, 0o700);
  makeDirectory(`${store.images}/blobs/sha256`, 0o700);
  makeDirectory(`${store.images}/blobs/sha512`, 0o700);
  const index = `${store.images}/index.json`;
  if (statAt(AT_FDCWD, index) === undefined)
    writeFileAtomic(store, index, '{"schemaVersion":2,"manifests":[]}\n', "new");
  // Last: a store with this file has all the rest.
  writeFileAtomic(store, `${store.images}/oci-layout`, '{"imageLayoutVersion":"1.0.0"}\n', "new");
  return store;
}

/** Layers keep ids of their maker: a store belongs to one user. */
function checkOwner(root: string): void {
  const stat = statAt(AT_FDCWD, root);
  const uid = process.getuid?.() ?? 0;
  if (stat === undefined) throw new HutchError(`${root} is not a directory`);
  if (stat.uid === uid) return;
  throw new HutchError(`the store ${root} belongs to user ${stat.uid}, not ${uid}`, {
    hint: "set HUTCH_STORE to a directory of your own",
  });
}

/** fsync(2) of a directory, so that a rename in it lasts. */
export function syncDirectory(path: string): void {
  const fd = openAt(AT_FDCWD, path, O.RDONLY | O.DIRECTORY);
  try {
    sync(fd, path);
  } finally {
    closeFile(fd);
  }
}

function sync(fd: number, path: string): void {
  const result = rawCall("fsync", fd);
  if (result < 0) throw systemError(`sync ${path}`, -result);
}

export function rename(from: string, to: string): void {
  call("renameat2", AT_FDCWD, from, AT_FDCWD, to, 0);
}

/** A name in tmp/ that nobody else has. */
export function temporaryPath(store: Store): string {
  return `${store.tmp}/${crypto.randomUUID()}`;
}

/** The error's code, or that of what caused it. */
function codeOf(error: unknown): string | undefined {
  const { code, cause } = error as { code?: unknown; cause?: unknown };
  if (typeof code === "string") return code;
  return typeof cause === "object" && cause !== null ? codeOf(cause) : undefined;
}

/** Whether it was the disk, or the caller's share of it, that is full. */
export function isDiskFull(error: unknown): boolean {
  const code = codeOf(error);
  return code === "ENOSPC" || code === "EDQUOT";
}

/** Disk full is one clear line; other errors stay as they are. */
export function explainWrite(error: unknown, store: Store): unknown {
  const code = codeOf(error);
  if (!isDiskFull(error)) return error;
  return new HutchError(`no space left in ${store.root}: ${code}`, {
    cause: error,
    hint: "hutch prune frees what no image needs; HUTCH_STORE names another place",
  });
}

/** How often a temporary file may vanish under our hands before that is an error. */
const VANISHINGS = 5;

/**
 * Write a file so that it is there whole or not at all. With "new" a file that somebody else has put there in the
 * meantime stays. A prune takes what is in tmp/ of whoever does not hold the gc lock (who makes a store, or removes an image
 * from the list): then it is written once more.
 */
export function writeFileAtomic(
  store: Store,
  path: string,
  content: string | Uint8Array,
  mode: "replace" | "new" = "replace",
): void {
  for (let tries = 1; ; tries++) {
    const temporary = writeTemporary(store, path, content);
    const renamed = rawCall("renameat2", AT_FDCWD, temporary, AT_FDCWD, path, mode === "new" ? 1 : 0);
    if (renamed < 0) rawCall("unlinkat", AT_FDCWD, temporary, 0);
    if (renamed === -(errnoNumber("ENOENT") ?? 0) && tries < VANISHINGS) continue;
    if (renamed < 0 && !(mode === "new" && renamed === -(errnoNumber("EEXIST") ?? 0)))
      throw systemError(`rename to ${path}`, -renamed);
    break;
  }
  syncDirectory(parentPath(path));
}

/** A new file in tmp/ with this content, on disk. `path` is for errors. */
function writeTemporary(store: Store, path: string, content: string | Uint8Array): string {
  const temporary = temporaryPath(store);
  const fd = openAt(AT_FDCWD, temporary, O.CREAT | O.EXCL | O.WRONLY, 0o600);
  try {
    writeAll(fd, typeof content === "string" ? new TextEncoder().encode(content) : content);
    sync(fd, path);
    return temporary;
  } catch (error) {
    rawCall("unlinkat", AT_FDCWD, temporary, 0);
    throw explainWrite(error, store);
  } finally {
    closeFile(fd);
  }
}

/** A file of ours, at most `limit` bytes; undefined when it is absent. */
export function readFileBounded(path: string, limit: number): Uint8Array | undefined {
  const fd = rawCall("openat", AT_FDCWD, path, O.RDONLY | O.CLOEXEC | O.NOFOLLOW, 0);
  if (fd === -(errnoNumber("ENOENT") ?? 0)) return undefined;
  if (fd < 0) throw systemError(`open ${path}`, -fd);
  try {
    const bytes = readAll(fd, limit);
    if (bytes === undefined) throw new HutchError(`${path}: larger than ${limit} bytes`);
    return bytes;
  } finally {
    closeFile(fd);
  }
}

export type Lock = Disposable & { readonly fd: number };

/** Try once to take a lock; undefined when another process holds it. */
export function tryAcquire(store: Store, name: string, mode: "shared" | "exclusive"): Lock | undefined {
  const path = `${store.locks}/${name}`;
  for (;;) {
    const fd = openAt(AT_FDCWD, path, O.CREAT | O.RDWR | O.NOFOLLOW, 0o600);
    if (!tryLock(fd, mode)) {
      closeFile(fd);
      return undefined;
    }
    if (name === "gc") return { fd, [Symbol.dispose]: () => closeFile(fd) }; // nobody removes this one
    // Whoever collects garbage may have removed the file between open and flock: then the lock is on nothing.
    if (statAt(AT_FDCWD, path)?.ino === statAt(fd, "")?.ino) return { fd, [Symbol.dispose]: () => closeFile(fd) };
    closeFile(fd);
  }
}

/**
 * Take a lock of the store, waiting for it (flock(2) would block every download of this process, so it is asked
 * again and again). Released when disposed of, and by the kernel when the process dies.
 */
export async function acquire(
  store: Store,
  name: string,
  mode: "shared" | "exclusive",
  onEvent?: OnEvent,
  what = name,
): Promise<Lock> {
  for (let wait = 5, told = false; ; wait = Math.min(wait * 2, 100)) {
    const lock = tryAcquire(store, name, mode);
    if (lock !== undefined) return lock;
    if (!told && wait >= 100) {
      told = true;
      onEvent?.({ kind: "waiting", what });
    }
    await Bun.sleep(wait);
  }
}
