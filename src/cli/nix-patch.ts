/** The FILE of `--export-patch`: found writable before a session starts, written at its end. */

import { encodeBytes } from "../bytes.ts";
import { UsageError } from "../errors.ts";
import { ARCH, call, cString, rawCall, systemError } from "../libc/call.ts";
import {
  AT_FDCWD,
  AT_SYMLINK_FOLLOW,
  O_CLOEXEC,
  O_CREAT,
  O_EXCL,
  O_TMPFILE,
  O_WRONLY,
  openFlags,
} from "../libc/constants.ts";
import { closeDescriptor, isErrno, writeAll } from "../libc/files.ts";
import { AT, readStatus, statusBuffer } from "../libc/walk.ts";

const DIRECTORY = openFlags[ARCH].O_DIRECTORY;

/** Find out whether a file can be made at host path `patch`. @throws UsageError when one is there, SystemError when it cannot be */
export function checkPatch(patch: string): void {
  const from = `--export-patch ${patch}`;
  const there = readStatus(AT.fdcwd, cString(patch), statusBuffer());
  if (there === 0 || patch.endsWith("/"))
    throw new UsageError(there === 0 ? `${patch} is already there` : `${patch} names no file`, {
      from,
      hint: "--export-patch makes a new file",
    });
  if (!isErrno(there, "ENOENT")) throw systemError(`make ${patch}`, -there, { from });
  const file = openUnnamed(patch);
  if (file >= 0) closeDescriptor(file);
  else if (isErrno(file, "EOPNOTSUPP")) checkByMaking(patch, from);
  else throw systemError(`make ${patch}`, -file, { from });
}

function checkByMaking(patch: string, from: string): void {
  const file = openNew(patch);
  if (file < 0) throw systemError(`make ${patch}`, -file, { from });
  closeDescriptor(file);
  call("unlinkat", AT_FDCWD, patch, 0);
}

/**
 * Write the patch to a new file, all of it or none: it has no name until it is whole, whatever ends us meanwhile, where
 * the file system has such files (open(2), O_TMPFILE). @throws SystemError
 */
export function writePatch(patch: string, text: string): void {
  const unnamed = openUnnamed(patch);
  const named = isErrno(unnamed, "EOPNOTSUPP");
  const file = named ? openNew(patch) : unnamed;
  if (file < 0) throw systemError(`make ${patch}`, -file);
  try {
    writeAll(file, encodeBytes(text));
    call("fsync", file); // some file systems tell only now that there is no room
    const self = `/proc/self/fd/${file}`;
    const linked = named ? 0 : rawCall("linkat", AT_FDCWD, self, AT_FDCWD, patch, AT_SYMLINK_FOLLOW);
    if (linked < 0) throw systemError(`make ${patch}`, -linked);
  } catch (error) {
    if (named) rawCall("unlinkat", AT_FDCWD, patch, 0); // half a patch is none
    throw error;
  } finally {
    closeDescriptor(file);
  }
}

function openUnnamed(path: string): number {
  const directory = path.slice(0, path.lastIndexOf("/")) || "/";
  return rawCall("openat", AT_FDCWD, directory, O_TMPFILE | DIRECTORY | O_WRONLY | O_CLOEXEC, 0o644);
}

function openNew(path: string): number {
  return rawCall("openat", AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644);
}
