/**
 * Writing a directory tree as real files, without ever leaving it: whatever the output directory holds, and whoever
 * changes it meanwhile, every name is opened relative to a descriptor, one component at a time, and no symbolic link is
 * followed (openat(2), O_NOFOLLOW). Links of the source are copied as links.
 */

import { decodeBytes, encodeBytes } from "../bytes.ts";
import { HutchError } from "../errors.ts";
import { ARCH, call, rawCall, systemError } from "../libc/call.ts";
import * as c from "../libc/constants.ts";
import { errnoText } from "../libc/errno.ts";
import {
  closeDescriptor,
  descriptorStatus,
  type FileStatus,
  isErrno,
  isOnProc,
  openDirectoryNames,
  pathStatus,
  writeAll,
} from "../libc/files.ts";
import { parentOf } from "./walk.ts";

/** What has been written. `leftOut`: what could not be copied, and why. */
export interface Written {
  files: number;
  directories: number;
  links: number;
  /** Of the files' content, in bytes. */
  bytes: number;
  readonly leftOut: { readonly path: string; readonly why: string }[];
}

/** An output directory. All paths are absolute inside it, and none of their parents may be a link. */
export interface TreeWriter {
  readonly written: Written;
  /** A directory, with what is missing above it; the mode only of a new one. */
  directory(path: string, mode: number): void;
  /** A file with this content; nothing when something is there already. */
  text(path: string, content: string, mode: number): void;
  /** A symbolic link; nothing when something is there already. */
  link(path: string, to: string): void;
  /** The host's file or directory at a canonical path, in place of a file that is there. @throws HutchError */
  copy(source: string, path: string): void;
  close(): void;
}

const DIRECTORY = c.openFlags[ARCH].O_DIRECTORY | c.O_CLOEXEC;
const NOFOLLOW = c.openFlags[ARCH].O_NOFOLLOW;
/** Never setuid or setgid: the copies belong to whoever makes them, and a directory is no place to guard such a file. */
const MODE = 0o1777;

/** A name in an open directory, and how it is called in messages. */
interface Place {
  readonly directory: number;
  readonly name: string;
  readonly shown: string;
}

const duplicate = (fd: number): number => call("fcntl", fd, c.F_DUPFD_CLOEXEC, 3);

/**
 * Open `output` for writing; it is made when it is not there, not so its parents.
 * @throws HutchError when it is no directory, or not empty and `force` is not given
 */
export function openTree(output: string, force: boolean): TreeWriter {
  const made = rawCall("mkdirat", c.AT_FDCWD, output, 0o755);
  if (made < 0 && !isErrno(made, "EEXIST")) {
    const parent = parentOf(output);
    const orphan = isErrno(made, "ENOENT") && typeof pathStatus(parent) === "number";
    throw systemError(`make ${output}`, -made, orphan ? { hint: `make its parent first: mkdir -p ${parent}` } : {});
  }
  const root = rawCall("openat", c.AT_FDCWD, output, c.O_RDONLY | DIRECTORY);
  if (root < 0) throw systemError(`open ${output}`, -root);
  const present = force ? [] : openDirectoryNames(root, output);
  if (typeof present === "number" || present.length > 0) {
    closeDescriptor(root);
    if (typeof present === "number") throw systemError(`read ${output}`, -present);
    throw new HutchError(`${output} is not empty`, {
      hint: "name a new directory, or --force to write into it and replace files of the same names",
    });
  }
  return treeWriter(root, output);
}

function treeWriter(root: number, output: string): TreeWriter {
  const written: Written = { files: 0, directories: 0, links: 0, bytes: 0, leftOut: [] };
  const own = descriptorStatus(root).identity;

  /**
   * A directory, made when missing. Takes `parent` over, and gives a descriptor that the caller closes.
   */
  function enter(parent: number, { name, shown }: Place, mode: number): number {
    const flags = c.O_RDONLY | DIRECTORY | NOFOLLOW;
    let found = rawCall("openat", parent, name, flags);
    if (isErrno(found, "ENOENT")) {
      const result = rawCall("mkdirat", parent, name, mode);
      found = result < 0 ? result : rawCall("openat", parent, name, flags);
      if (found >= 0) {
        call("fchmod", found, mode); // whatever the umask
        written.directories += 1;
      }
    }
    closeDescriptor(parent);
    if (found >= 0) return found;
    if (isErrno(found, "ENOTDIR") || isErrno(found, "ELOOP")) {
      throw new HutchError(`${shown} is in the way: a directory is needed there, and it is a file or a link`);
    }
    throw systemError(`open ${shown}`, -found);
  }

  /** Do something at a path, with what is missing above it made. */
  function at(path: string, action: (place: Place) => void): void {
    const names = path.split("/").filter((one) => one !== "");
    const last = names.pop() ?? ".";
    let directory = duplicate(root);
    let shown = output;
    for (const name of names) {
      shown = `${shown}/${name}`;
      directory = enter(directory, { directory, name, shown }, 0o755);
    }
    try {
      action({ directory, name: last, shown: `${shown}/${last}` });
    } finally {
      closeDescriptor(directory);
    }
  }

  /** A new, empty file; undefined when something is there that is not to be replaced. A directory never is. */
  function create(place: Place, replace: boolean): number | undefined {
    const { directory, name, shown } = place;
    const flags = c.O_WRONLY | c.O_CREAT | c.O_EXCL | c.O_CLOEXEC | NOFOLLOW;
    let file = rawCall("openat", directory, name, flags, 0o600);
    if (isErrno(file, "EEXIST")) {
      if (!replace) return undefined;
      remove(place);
      file = rawCall("openat", directory, name, flags, 0o600);
    }
    if (file < 0) throw systemError(`write ${shown}`, -file);
    return file;
  }

  function remove({ directory, name, shown }: Place): void {
    const result = rawCall("unlinkat", directory, name, 0);
    if (result < 0 && !isErrno(result, "ENOENT")) throw systemError(`replace ${shown}`, -result);
  }

  function makeLink(place: Place, to: string, replace: boolean): void {
    const { directory, name, shown } = place;
    let result = rawCall("symlinkat", to, directory, name);
    if (isErrno(result, "EEXIST")) {
      if (!replace) return;
      remove(place);
      result = rawCall("symlinkat", to, directory, name);
    }
    if (result < 0) throw systemError(`link ${shown}`, -result);
    written.links += 1;
  }

  function copyFile(from: number, status: FileStatus, place: Place): void {
    const to = create(place, true);
    if (to === undefined) return;
    try {
      written.bytes += copyContent(from, to, place.shown);
      finish(to, status);
      written.files += 1;
    } finally {
      closeDescriptor(to);
    }
  }

  /**
   * What stands at one name, link or file or directory, to another. `within`: the file system that is not left;
   * undefined for what was asked for by name, whose failure is an error.
   */
  function copyEntry(from: Place, to: Place, within: string | undefined): void {
    const leave = (why: string): void => {
      if (within === undefined) throw new HutchError(`${from.shown} cannot be copied: ${why}`);
      written.leftOut.push({ path: from.shown, why });
    };
    const buffer = new Uint8Array(4096);
    const length = rawCall("readlinkat", from.directory, from.name, buffer, buffer.length);
    if (length >= 0) return makeLink(to, decodeBytes(buffer.subarray(0, length)), true);
    // A look first: opening a device may act on it, and a FIFO has nothing to copy.
    const look = rawCall("openat", from.directory, from.name, c.O_PATH | c.O_CLOEXEC | NOFOLLOW);
    if (look < 0) return leave(errnoText(-look).meaning);
    const { kind } = descriptorStatus(look);
    closeDescriptor(look);
    if (kind === "other") return leave("neither a file nor a directory");
    const file = rawCall("openat", from.directory, from.name, c.O_RDONLY | c.O_CLOEXEC | c.O_NONBLOCK | NOFOLLOW);
    if (file < 0) return leave(errnoText(-file).meaning);
    try {
      const status = descriptorStatus(file);
      if (status.kind === "file") copyFile(file, status, to);
      else if (status.identity === own) throw new HutchError(`${output} lies inside of what is to be copied`);
      else if (within !== undefined && status.device !== within) leave("another file system");
      else if (isOnProc(file)) leave("the kernel's answers about processes, some without an end");
      else copyDirectory(file, status, from.shown, to, leave);
    } finally {
      closeDescriptor(file);
    }
  }

  function copyDirectory(
    from: number,
    status: FileStatus,
    source: string,
    to: Place,
    leave: (why: string) => void,
  ): void {
    const names = openDirectoryNames(from, source);
    if (typeof names === "number") return leave(errnoText(-names).meaning);
    const made = enter(duplicate(to.directory), to, 0o755);
    try {
      for (const name of names.toSorted()) {
        const inner = { directory: from, name, shown: `${source}/${name}` };
        copyEntry(inner, { directory: made, name, shown: `${to.shown}/${name}` }, status.device);
      }
      finish(made, status); // last: what is put into a directory changes its time
    } finally {
      closeDescriptor(made);
    }
  }

  return {
    written,
    directory: (path, mode) => at(path, (place) => closeDescriptor(enter(duplicate(place.directory), place, mode))),
    text(path, content, mode) {
      at(path, (place) => {
        const file = create(place, false);
        if (file === undefined) return;
        try {
          const bytes = encodeBytes(content);
          writeAll(file, bytes, place.shown);
          call("fchmod", file, mode);
          written.files += 1;
          written.bytes += bytes.length;
        } finally {
          closeDescriptor(file);
        }
      });
    },
    link: (path, to) => at(path, (place) => makeLink(place, to, false)),
    copy(source, path) {
      const slash = source.lastIndexOf("/");
      const directory = rawCall("openat", c.AT_FDCWD, source.slice(0, slash) || "/", c.O_PATH | DIRECTORY);
      if (directory < 0) throw systemError(`open ${source.slice(0, slash)}`, -directory);
      try {
        at(path, (to) => copyEntry({ directory, name: source.slice(slash + 1), shown: source }, to, undefined));
      } finally {
        closeDescriptor(directory);
      }
    },
    close: () => closeDescriptor(root),
  };
}

/** Mode and time of what a copy was made from. Python compares a source's time with that in its compiled form. */
function finish(fd: number, { mode, modified }: FileStatus): void {
  call("fchmod", fd, mode & MODE);
  const { seconds, nanoseconds } = modified;
  const time = [seconds, BigInt(nanoseconds)] as const;
  call("utimensat", fd, null, new BigUint64Array([...time, ...time]), 0);
}

/** All that is left to read of one descriptor into another; the number of bytes. */
function copyContent(from: number, to: number, shown: string): number {
  let total = 0;
  for (;;) {
    // By the kernel, shared where the file system can; it answers 0 for files of /proc, and errors between some others.
    const count = rawCall("copy_file_range", from, null, to, null, 1 << 30, 0);
    if (count <= 0) break;
    total += count;
  }
  const buffer = new Uint8Array(1 << 18);
  for (;;) {
    const count = rawCall("read", from, buffer, buffer.length);
    if (count < 0) throw systemError(`read for ${shown}`, -count);
    if (count === 0) return total;
    writeAll(to, buffer.subarray(0, count), shown);
    total += count;
  }
}
