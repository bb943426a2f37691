/**
 * Where named sandboxes of the caller are listed: one file each, in a directory that only the caller can read. The
 * launcher holds a lock (flock(2)) on its file as long as it lives, so an entry without one is stale, whatever its pid
 * has become.
 */

import { HutchError, UsageError } from "../errors.ts";
import { ARCH, call, rawCall, systemError } from "../libc/call.ts";
import * as c from "../libc/constants.ts";
import {
  closeDescriptor,
  descriptorStatus,
  directoryNames,
  isErrno,
  pathStatus,
  readAll,
  writeAll,
} from "../libc/files.ts";

/** A directory of entries, open. */
export interface Directory {
  readonly fd: number;
  readonly path: string;
}

const ELSEWHERE = "named sandboxes are listed there: set XDG_RUNTIME_DIR to a directory that is yours alone";

/** `$XDG_RUNTIME_DIR/hutch`, or what stands in for it. */
export function directoryPath(runtime: string | undefined): string {
  const uid = rawCall("geteuid");
  if (runtime?.startsWith("/") === true) return `${runtime}/hutch`;
  const standard = `/run/user/${uid}`;
  return typeof pathStatus(standard) === "number" ? `/tmp/hutch-${uid}` : `${standard}/hutch`;
}

/**
 * Open the directory; undefined when there is none and it is not to be made.
 * @throws HutchError when it is somebody else's, or others can read it
 */
export function openDirectory(path: string, make: boolean): Directory | undefined {
  if (make) {
    const made = rawCall("mkdirat", c.AT_FDCWD, path, 0o700);
    if (made < 0 && !isErrno(made, "EEXIST")) throw systemError(`mkdir ${path}`, -made, { hint: ELSEWHERE });
  }
  const { O_DIRECTORY, O_NOFOLLOW } = c.openFlags[ARCH];
  const fd = rawCall("openat", c.AT_FDCWD, path, c.O_RDONLY | c.O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW);
  if (fd < 0) {
    if (!make && isErrno(fd, "ENOENT")) return undefined;
    throw systemError(`open ${path}`, -fd, { hint: ELSEWHERE });
  }
  const { uid, mode } = descriptorStatus(fd);
  if (uid !== rawCall("geteuid") || (mode & 0o077) !== 0) {
    closeDescriptor(fd);
    throw new HutchError(`${path} is not the caller's alone`, { hint: ELSEWHERE });
  }
  return { fd, path };
}

/** Names that entries may have: a file name, and nothing that a shell or an option parser takes for something else. */
export function checkName(name: string, from: string): void {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name))
    throw new UsageError(`${JSON.stringify(name)} is not a name`, {
      from,
      hint: "a letter or digit, then letters, digits, dots, hyphens and underscores, 64 at most",
    });
}

/** Names of all entries, in order. @throws SystemError */
export function entryNames({ path }: Directory): readonly string[] {
  const names = directoryNames(path);
  if (typeof names === "number") throw systemError(`read ${path}`, -names);
  return names.filter((name) => !name.startsWith(".")).toSorted();
}

/**
 * An entry's content when its launcher lives; a stale one is removed. undefined when there is none (any more).
 * @throws SystemError when that cannot be told
 */
export function readEntry({ fd: directory, path }: Directory, name: string): Uint8Array | undefined {
  const flags = c.O_RDONLY | c.O_CLOEXEC | c.O_NONBLOCK | c.openFlags[ARCH].O_NOFOLLOW;
  const fd = rawCall("openat", directory, name, flags);
  if (isErrno(fd, "ENOENT")) return undefined;
  if (fd < 0) throw systemError(`open ${name} in ${path}`, -fd);
  try {
    if (isLocked(fd)) return readAll(fd, 1 << 22);
    rawCall("unlinkat", directory, name, 0);
    return undefined;
  } finally {
    closeDescriptor(fd);
  }
}

function isLocked(fd: number): boolean {
  const locked = rawCall("flock", fd, c.LOCK_SH | c.LOCK_NB);
  if (locked < 0 && !isErrno(locked, "EAGAIN")) throw systemError("flock", -locked);
  return locked < 0;
}

/**
 * Make an entry that is locked from the moment it has its name: until then it is a file without one, so that nothing is
 * left of it, whatever happens. The descriptor is not close-on-exec: the lock is the launcher's.
 * @throws UsageError when the name is taken, SystemError
 */
export function makeEntry(directory: Directory, name: string, content: Uint8Array, from: string): number {
  const flags = c.O_RDWR | c.O_TMPFILE | c.openFlags[ARCH].O_DIRECTORY;
  const fd = rawCall("openat", directory.fd, ".", flags, 0o600);
  if (fd < 0) throw systemError(`make a file in ${directory.path}`, -fd, { from });
  try {
    call("flock", fd, c.LOCK_EX | c.LOCK_NB);
    writeAll(fd, content, `${directory.path}/${name}`);
    for (let attempt = 0; ; attempt++) {
      const linked = rawCall("linkat", c.AT_FDCWD, `/proc/self/fd/${fd}`, directory.fd, name, c.AT_SYMLINK_FOLLOW);
      if (linked === 0) return fd;
      if (!isErrno(linked, "EEXIST")) throw systemError(`name ${name}`, -linked, { from });
      if (attempt < 3 && readEntry(directory, name) === undefined) continue;
      throw new UsageError(`there is a sandbox of the name ${name}`, { from, hint: "see hutch ps" });
    }
  } catch (error) {
    closeDescriptor(fd);
    throw error;
  }
}

/** Take an entry's name away again. */
export function removeEntry(directoryFd: number, name: string): void {
  rawCall("unlinkat", directoryFd, name, 0);
}
