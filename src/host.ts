/** Asking this machine for the facts that a plan needs (facts.ts). Reads only; by system calls, since it is on the way of every start. */

import { decodeBytes, uint64 } from "./bytes.ts";
import { UsageError } from "./errors.ts";
import type { HostFacts, Range } from "./facts.ts";
import { FALLBACK_RANGE } from "./defaults.ts";
import { call, rawCall, systemError } from "./libc/call.ts";
import {
  AT_FDCWD,
  LANDLOCK_CREATE_RULESET_VERSION,
  MFD_CLOEXEC,
  O_CLOEXEC,
  O_NOCTTY,
  O_PATH,
  O_RDWR,
  RLIMITS,
} from "./libc/constants.ts";
import { errnoText } from "./libc/errno.ts";
import { linkTarget, isErrno, pathOwner, pathStatus, readFile, readText } from "./libc/files.ts";
import type { Spec } from "./spec.ts";
import type { Kind } from "./step.ts";

/** What of a Spec decides on the facts that are needed. */
export type Asking = Pick<Spec, "root" | "mounts" | "idMap" | "words">;

/**
 * Gather what `plan` must know for this Spec. `needed` is a path that the launcher must still see when it has failed.
 * @throws UsageError when asked-for id ranges do not exist. */
export function gatherFacts(spec: Asking, needed?: string): HostFacts {
  const uid = rawCall("geteuid");
  const gid = rawCall("getegid");
  const root = uid === 0 && inInitialUserNamespace();
  const kinds = new Map<string, Kind>();
  const [owners, unseen] = [new Map<string, number>(), new Map<string, string>()];
  const look = (path: string) => {
    const found = pathOwner(path);
    if (typeof found === "number") {
      if (isErrno(found, "ENOENT")) return;
      const { name, meaning } = errnoText(-found);
      unseen.set(path, `${name} ${meaning}`);
      return;
    }
    kinds.set(path, found.directory ? "directory" : "file");
    owners.set(path, found.uid);
  };
  const from = spec.root;
  const directories = from.kind === "overlay" ? from.lower : from.kind === "scratch" ? [] : [from.path];
  for (const path of directories) look(path);
  for (const mount of spec.mounts) if (mount.type === "bind") look(mount.source);
  const wanted = wantsRanges(spec, root);
  const kernel = parseRelease(kernelRelease());
  return {
    kernel,
    // Asked of the machine only where an overlay needs it.
    tmpfsAttributes: kernel >= TMPFS_ATTRIBUTES && (from.kind !== "overlay" || hasTmpfsAttributes()),
    uid,
    gid,
    root,
    ranges: wanted ? findRanges(uid, spec.words["idMap"]) : undefined,
    mappers: wanted && !root ? findMappers() : { uid: "newuidmap", gid: "newgidmap" }, // root needs none
    groups: callerGroups(),
    landlock: landlockVersion(),
    terminal: hasTerminal(),
    workspace: findWorkspace(needed),
    kinds,
    unseen,
    owners,
    mountsBelow: from.kind === "overlay" ? mountsBelow(from.lower) : new Map(),
    nofile: callerNofile(),
  };
}

/** struct utsname: fields of 65 bytes each, the release is the third (uname(2)). */
function kernelRelease(): string {
  const names = new Uint8Array(6 * 65);
  rawCall("uname", names);
  return decodeBytes(names.subarray(2 * 65, names.indexOf(0, 2 * 65)));
}

/** The first release whose tmpfs may have user.* attributes. */
const TMPFS_ATTRIBUTES = 6_006;

/** Whether a file of the kernel's own tmpfs (memfd_create(2)) takes one: not without CONFIG_TMPFS_XATTR. */
function hasTmpfsAttributes(): boolean {
  const fd = rawCall("memfd_create", "hutch-attributes", MFD_CLOEXEC);
  if (fd < 0) return true; // what is wrong there will be told where it matters
  const refused = isErrno(rawCall("fsetxattr", fd, "user.hutch", new Uint8Array(1), 1, 0), "ENOTSUP");
  rawCall("close", fd);
  return !refused; // any other error is none of the file system's
}

/** uname(2)'s release as 1000 × major + minor; what is no such thing counts as the newest. */
export function parseRelease(release: string): number {
  const major = Number.parseInt(release, 10);
  const minor = Number.parseInt(release.slice(release.indexOf(".") + 1), 10); // no pattern: compiling one takes longer
  return Number.isNaN(major + minor) ? Number.MAX_SAFE_INTEGER : 1000 * major + minor;
}

/** Landlock's ABI; 0 where the kernel has none or it is not enabled (landlock(7): ENOSYS, ENOTSUP). @throws SystemError */
export function landlockVersion(): number {
  const version = rawCall("landlock_create_ruleset", null, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (version >= 0) return version;
  // A sandbox in a sandbox whose filter refuses what it does not know: EPERM.
  if (["ENOSYS", "ENOTSUP", "EPERM", "EACCES"].some((name) => isErrno(version, name))) return 0;
  throw systemError("landlock_create_ruleset (its version)", -version);
}

/** A directory to cover while the root is assembled; not one that hides what is needed. */
export function findWorkspace(needed = ""): string {
  const free = (path: string) => {
    const found = pathOwner(path);
    return typeof found !== "number" && found.directory && !needed.startsWith(`${path}/`);
  };
  for (const path of ["/tmp", "/run", "/mnt", "/var"]) if (free(path)) return path;
  return "/tmp";
}

/** The initial user namespace maps every id to itself (user_namespaces(7)). */
function inInitialUserNamespace(): boolean {
  const map = readFile("/proc/self/uid_map");
  // Never guessed: a root that is taken for an ordinary user would give its own id to the program.
  if (typeof map === "number") throw systemError("read /proc/self/uid_map", -map, { hint: "hutch needs /proc" });
  const text = decodeBytes(map);
  if (text === "         0          0 4294967295\n") return true; // as it is printed by every kernel yet
  const fields = text.split(" ").filter((field) => field !== "");
  return fields.length === 3 && fields[0] === "0" && fields[1] === "0" && fields[2] === "4294967295\n";
}

function wantsRanges(spec: Asking, root: boolean): boolean {
  return spec.idMap === "range" || (spec.idMap === "default" && root);
}

/** First directory of the standard places that has an executable of this name. */
function findProgram(name: string): string {
  return (
    ["/usr/bin", "/bin", "/usr/sbin", "/run/wrappers/bin"]
      .map((directory) => `${directory}/${name}`)
      .find((path) => typeof pathStatus(path) !== "number") ?? `/usr/bin/${name}`
  );
}

/** Supplementary groups; there are at most 65536 (getgroups(2), NGROUPS_MAX). */
function callerGroups(): readonly number[] {
  const count = call("getgroups", 0, null);
  if (count === 0) return [];
  const list = new Uint8Array(4 * count);
  return words32(list, call("getgroups", count, list));
}

const words32 = (bytes: Uint8Array, count: number): number[] => [...new Uint32Array(bytes.buffer, 0, count)];

/** Whether the process has a controlling terminal (tty(4): opening /dev/tty is ENXIO without one). */
function hasTerminal(): boolean {
  const terminal = rawCall("openat", AT_FDCWD, "/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (terminal >= 0) rawCall("close", terminal);
  return terminal >= 0;
}

/**
 * Soft and hard RLIMIT_NOFILE of the caller. Bun has raised our own before the first line of TypeScript ran; the parent
 * process's is the nearest that can still be known.
 */
function callerNofile(): { soft: number; hard: number } {
  const limit = new Uint8Array(16); // struct rlimit64: soft, hard
  const number = (at: number) => {
    const value = uint64(limit, at);
    return value > 0xffffffffff ? Number.POSITIVE_INFINITY : value;
  };
  const parent = rawCall("getppid");
  const known = parent > 0 && rawCall("prlimit64", parent, RLIMITS["RLIMIT_NOFILE"] ?? 7, null, limit) === 0;
  const soft = known ? number(0) : 1024;
  rawCall("prlimit64", 0, RLIMITS["RLIMIT_NOFILE"] ?? 7, null, limit);
  const hard = number(8);
  return { soft: soft < hard ? soft : hard, hard };
}

/** Mount points strictly below each directory, from /proc/self/mountinfo (proc_pid_mountinfo(5)). */
function mountsBelow(directories: readonly string[]): ReadonlyMap<string, readonly string[]> {
  const points: string[] = [];
  for (const line of (readText("/proc/self/mountinfo") ?? "").split("\n")) {
    let start = 0;
    for (let field = 1; field < 5; field++) start = line.indexOf(" ", start) + 1;
    const point = line.slice(start, line.indexOf(" ", start));
    points.push(point.includes("\\") ? unescapeOctal(point) : point);
  }
  const all = new Map<string, readonly string[]>();
  for (const directory of directories) {
    const real = realPath(directory) ?? directory;
    const prefix = real === "/" ? "/" : `${real}/`;
    const below: string[] = [];
    for (const point of points) if (point.startsWith(prefix) && point !== real) below.push(point);
    all.set(directory, below);
  }
  return all;
}

/** A space, tab, newline or backslash as the kernel writes it there: `\040`. */
const unescapeOctal = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/** Canonical path of what a path leads to, as the kernel tells it. */
function realPath(path: string): string | undefined {
  const descriptor = rawCall("openat", AT_FDCWD, path, O_PATH | O_CLOEXEC);
  if (descriptor < 0) return undefined;
  const target = linkTarget(`/proc/self/fd/${descriptor}`);
  rawCall("close", descriptor);
  return typeof target === "number" ? undefined : target;
}

/** Lines of subuid(5) or subgid(5): `NAME:START:COUNT`; the first usable one for a user. */
export function parseSubordinate(text: string, names: readonly string[]): Range | undefined {
  for (const line of text.split("\n")) {
    const [name, start, size] = line.split(":");
    if (name === undefined || !names.includes(name)) continue;
    const range = { start: Number(start), size: Number(size) };
    if (Number.isSafeInteger(range.start) && range.start > 0 && Number.isSafeInteger(range.size) && range.size > 0)
      return range;
  }
  return undefined;
}

/** Where newuidmap(1) and newgidmap(1) are, or would be. */
export function findMappers(): HostFacts["mappers"] {
  return { uid: findProgram("newuidmap"), gid: findProgram("newgidmap") };
}

/** Subordinate ranges of a user; root has some in any case. `from` is who asks. @throws UsageError when there are none */
export function findRanges(uid: number, from?: string): { readonly uid: Range; readonly gid: Range } {
  const names = uid === 0 ? ["root", "0", "containers"] : [userName(uid), String(uid)];
  const find = (file: string) => {
    const range = parseSubordinate(readText(file) ?? "", names);
    return range === undefined ? undefined : { start: range.start, size: range.size < 65536 ? range.size : 65536 };
  };
  const found = { uid: find("/etc/subuid"), gid: find("/etc/subgid") };
  if (found.uid !== undefined && found.gid !== undefined && (uid !== 0 || found.uid.size >= 65536)) {
    return { uid: found.uid, gid: found.gid };
  }
  if (uid === 0) return { uid: FALLBACK_RANGE, gid: FALLBACK_RANGE };
  const missing = found.uid === undefined ? "/etc/subuid" : "/etc/subgid";
  throw new UsageError(`no range of ids for ${names[0]} in ${missing}`, {
    ...(from === undefined ? {} : { from }),
    hint: `as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ${names[0]}`,
  });
}

function userName(uid: number): string {
  const line = (readText("/etc/passwd") ?? "").split("\n").find((entry) => entry.split(":")[2] === String(uid));
  return line?.split(":")[0] ?? String(uid);
}
