/**
 * How an unpacked layer says "not here" and "nothing from below": the marks of overlayfs with `userxattr`
 * (kernel Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories").
 */

import { rawCall, systemError } from "../libc/call.ts";
import { errnoNumber } from "../libc/errno.ts";
import { closeFile, getXattr, O, openAt, S_IF, setXattr, type Stat, statAt } from "../libc/file.ts";

const OPAQUE = "user.overlay.opaque";
const WHITEOUT = "user.overlay.whiteout";
const MARK = new TextEncoder().encode("y");

/** Attributes by which an image could forge overlay's own marks or ours: never taken from a layer. */
export function isReservedXattr(name: string): boolean {
  return /^(?:user|trusted)\.overlay\./.test(name) || name === "user.containers.override_stat";
}

/** True when the file hides a name of lower layers: character device 0:0, or an empty file with the attribute. */
export function isWhiteout(directory: number, name: string, stat: Stat): boolean {
  if (stat.type === S_IF.CHR) return stat.rdev[0] === 0 && stat.rdev[1] === 0;
  return stat.type === S_IF.REG && stat.size === 0 && getXattr(directory, name, WHITEOUT) !== undefined;
}

/** True when a directory hides all that lower layers have in it. */
export function isOpaque(directory: number, name: string): boolean {
  return getXattr(directory, name, OPAQUE)?.[0] === MARK[0];
}

/** Make an open directory opaque. @throws SystemError when the file system has no user attributes */
export function markOpaque(directory: number): void {
  const result = setXattr(directory, "", OPAQUE, MARK);
  if (result < 0) refuseMarks(-result);
}

function refuseMarks(errno: number): never {
  throw systemError("mark a directory of the store for overlay", errno, {
    hint: "set HUTCH_STORE to a directory on ext4, xfs, btrfs or a tmpfs of Linux 6.6 or later",
  });
}

/** Hide `name` in an open directory: a device where mknod(2) is allowed (Linux 5.8), else by attribute (Linux 6.7). */
export function makeWhiteout(directory: number, name: string, form: "device" | "attribute" = "device"): void {
  if (form === "device") {
    const result = rawCall("mknodat", directory, name, S_IF.CHR, 0);
    if (result >= 0) return;
    if (result !== -(errnoNumber("EPERM") ?? 0)) refuseMarks(-result);
  }
  closeFile(openAt(directory, name, O.CREAT | O.EXCL | O.WRONLY | O.NOFOLLOW, 0o600));
  const marked = setXattr(directory, name, WHITEOUT, MARK);
  // "x" tells overlay that the directory has whiteouts by attribute; "y" says more and stays.
  const told = isOpaque(directory, "") ? 0 : setXattr(directory, "", OPAQUE, new TextEncoder().encode("x"));
  if (marked < 0 || told < 0) refuseMarks(marked < 0 ? -marked : -told);
}

/** The file's type and more, or undefined when it is absent or a whiteout. */
export function statVisible(directory: number, name: string): Stat | undefined {
  const stat = statAt(directory, name);
  return stat === undefined || isWhiteout(directory, name, stat) ? undefined : stat;
}
