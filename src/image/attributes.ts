/**
 * Owner, mode, extended attributes and times of unpacked files, in the one order that keeps them all: chown (clears
 * suid), chmod, attributes (security.capability after chown), times.
 */

import { rawCall, systemError } from "../libc/call.ts";
import { errnoNumber } from "../libc/errno.ts";
import { getXattr, listXattrs, S_IF, setTimes, setXattr, type Stat } from "../libc/file.ts";
import { isReservedXattr } from "./overlay-marks.ts";

/**
 * Whose ids files get: "real" are the layer's own (root, or root of a namespace with a range of ids); "one" is the
 * caller's for everything, with the wanted ones kept in `user.containers.override_stat` (containers/storage) where they
 * are not 0:0.
 */
export type IdMode = "real" | "one";

export type Attributes = {
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
  readonly mtime: bigint;
  readonly xattrs: ReadonlyMap<string, Uint8Array>;
};

const OVERRIDE = "user.containers.override_stat";
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** What an override_stat value says: `uid:gid:0mode[:type]`. */
function formatOverride({ uid, gid, mode }: Attributes, type: string): string {
  return `${uid}:${gid}:0${mode.toString(8)}${type}`;
}

/** chown in "real" mode; an id that the file system or namespace cannot hold is an error. */
function setOwner(directory: number, name: string, wanted: Attributes, ids: IdMode): void {
  if (ids === "one") return;
  const result =
    name === ""
      ? rawCall("fchown", directory, wanted.uid, wanted.gid)
      : rawCall("fchownat", directory, name, wanted.uid, wanted.gid, 0x100);
  if (result < 0) {
    const hint = "the id is outside of this user namespace, or of the ranges of /etc/subuid and /etc/subgid";
    throw systemError(
      `chown ${name} to ${wanted.uid}:${wanted.gid}`,
      -result,
      result === -(errnoNumber("EINVAL") ?? 0) ? { hint } : {},
    );
  }
}

/** Names whose attributes the file system or our rights refused; told once at the end. */
export type Refusals = Set<string>;

/** Set attributes that the layer may bring; ours and overlay's are dropped, others are best effort. */
function setXattrs(directory: number, name: string, wanted: Attributes, refused: Refusals): void {
  for (const [attribute, value] of wanted.xattrs) {
    if (isReservedXattr(attribute) || attribute === "security.selinux" || attribute.includes("\0")) continue;
    const result = setXattr(directory, name, attribute, value);
    if (result === -(errnoNumber("ENOSPC") ?? 0)) throw systemError(`setxattr ${attribute}`, -result);
    if (result < 0) refused.add(attribute);
  }
}

/** All attributes of an open file or directory but, for a directory, mode and times, which {@link finishDirectory} sets. */
export function applyToFd(
  fd: number,
  wanted: Attributes,
  ids: IdMode,
  kind: "file" | "directory",
  refused: Refusals,
  type = "",
): void {
  setOwner(fd, "", wanted, ids);
  if (kind === "file") {
    const chmod = rawCall("fchmod", fd, wanted.mode);
    if (chmod < 0) throw systemError("fchmod", -chmod);
  }
  setXattrs(fd, "", wanted, refused);
  if (ids === "one" && (type !== "" || wanted.uid !== 0 || wanted.gid !== 0)) {
    setXattr(fd, "", OVERRIDE, bytes(formatOverride(wanted, type)));
  }
  if (kind === "file") setTimes(fd, "", wanted.mtime, wanted.mtime);
}

/** Attributes of a symbolic link, FIFO or device by its name in a directory. */
export function applyToName(
  directory: number,
  name: string,
  wanted: Attributes,
  ids: IdMode,
  refused: Refusals,
  isLink: boolean,
): void {
  setOwner(directory, name, wanted, ids);
  // The name was made a moment ago with O_EXCL semantics in a directory that is ours alone: it is no link.
  if (!isLink) rawCall("fchmodat", directory, name, wanted.mode);
  setXattrs(directory, name, wanted, refused);
  setTimes(directory, name, wanted.mtime, wanted.mtime);
}

/** Mode and times of a directory, after everything in it is there. One id needs to search all its directories. */
export function finishDirectory(fd: number, mode: number, mtime: bigint | undefined, ids: IdMode): void {
  const result = rawCall("fchmod", fd, ids === "one" ? mode | 0o100 : mode);
  if (result < 0) throw systemError("fchmod", -result);
  if (mtime !== undefined) setTimes(fd, "", mtime, mtime);
}

/** Attributes of a file of a lower layer, to give them to its copy. `name` is looked up in `directory`, not followed. */
export function readAttributes(directory: number, name: string, stat: Stat): Attributes {
  const override = new TextDecoder().decode(getXattr(directory, name, OVERRIDE) ?? new Uint8Array());
  const [uid, gid] = /^\d+:\d+:/.test(override) ? override.split(":").map(Number) : [stat.uid, stat.gid];
  const own = process.getuid?.() ?? 0;
  const xattrs = new Map<string, Uint8Array>();
  for (const attribute of stat.type === S_IF.LNK ? [] : listXattrs(directory, name)) {
    if (isReservedXattr(attribute)) continue;
    const value = getXattr(directory, name, attribute);
    if (value !== undefined) xattrs.set(attribute, value);
  }
  const squashed = override === "" && own !== 0;
  return { uid: squashed ? 0 : (uid ?? 0), gid: squashed ? 0 : (gid ?? 0), mode: stat.mode, mtime: stat.mtime, xattrs };
}
