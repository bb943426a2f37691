/** The FILE of `--export-patch`: found writable before a session starts, written at its end. */

import { encodeBytes } from "../bytes.ts";
import { UsageError } from "../errors.ts";
import { call, rawCall, systemError } from "../libc/call.ts";
import { AT_FDCWD, O_CLOEXEC, O_CREAT, O_EXCL, O_WRONLY } from "../libc/constants.ts";
import { closeDescriptor, isErrno, writeAll } from "../libc/files.ts";

/** Make a file at host path `patch`, and remove it. @throws UsageError when one is there, SystemError when it cannot be */
export function checkPatch(patch: string): void {
  const from = `--export-patch ${patch}`;
  const file = openNew(patch);
  if (isErrno(file, "EEXIST"))
    throw new UsageError(`${patch} is already there`, { from, hint: "--export-patch makes a new file" });
  if (file < 0) throw systemError(`make ${patch}`, -file, { from });
  closeDescriptor(file);
  call("unlinkat", AT_FDCWD, patch, 0);
}

/** Write the patch to a new file, all of it or none. @throws SystemError */
export function writePatch(patch: string, text: string): void {
  const file = openNew(patch);
  if (file < 0) throw systemError(`make ${patch}`, -file);
  try {
    writeAll(file, encodeBytes(text));
    call("fsync", file); // some file systems tell only now that there is no room
  } catch (error) {
    rawCall("unlinkat", AT_FDCWD, patch, 0); // half a patch is none
    throw error;
  } finally {
    closeDescriptor(file);
  }
}

function openNew(path: string): number {
  return rawCall("openat", AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644);
}
