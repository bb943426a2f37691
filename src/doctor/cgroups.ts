/**
 * Which cgroup each controller has this process in, and whether it may make others below. hutch makes none and needs
 * none: this is for whoever sets limits around it. So a controller that is out of reach is no fault to be mended.
 */

import { rawCall } from "../libc/call.ts";
import { AT_EACCESS, AT_FDCWD, W_OK } from "../libc/constants.ts";
import { errnoText } from "../libc/errno.ts";
import { readText } from "../libc/files.ts";
import type { Finding } from "./finding.ts";

/** Controllers by their names in version 2; those of version 1 where they differ. */
const CONTROLLERS = ["cpu", "cpuset", "memory", "pids", "io"] as const;
const VERSION_1_NAME: Readonly<Record<string, string>> = { io: "blkio" };

/** Where a process is in one hierarchy: the directory of its cgroup, if that is mounted. */
export interface Membership {
  readonly version: 1 | 2;
  /** Version 1's; those of version 2 are told by its files. */
  readonly controllers: readonly string[];
  readonly directory: string | undefined;
}

/**
 * From /proc/self/cgroup (cgroups(7): `ID:CONTROLLERS:PATH`) and /proc/self/mountinfo (proc_pid_mountinfo(5)). A mount of
 * a part of a hierarchy shows what is below that part.
 */
export function parseMemberships(cgroups: string, mountinfo: string): Membership[] {
  const mounts = mountinfo.split("\n").flatMap((line) => {
    const [left, right] = line.split(" - ");
    const [, , , root, point] = left?.split(" ") ?? [];
    const [type, , options] = right?.split(" ") ?? [];
    if (root === undefined || point === undefined || (type !== "cgroup" && type !== "cgroup2")) return [];
    return [
      { root: unescape(root), point: unescape(point), version: type === "cgroup" ? 1 : 2, options: options ?? "" },
    ];
  });
  return cgroups.split("\n").flatMap((line): Membership[] => {
    const match = /^(\d+):([^:]*):(\/.*)$/.exec(line);
    if (match === null) return [];
    const [, , names = "", path = "/"] = match;
    const version = names === "" ? 2 : 1;
    const controllers = names === "" ? [] : names.split(",");
    const mount = mounts.findLast(
      (one) => one.version === version && controllers.every((name) => one.options.split(",").includes(name)),
    );
    if (mount === undefined) return [{ version, controllers, directory: undefined }];
    const inside = mount.root === "/" || path === mount.root || path.startsWith(`${mount.root}/`);
    const below = !inside ? "" : mount.root === "/" ? path : path.slice(mount.root.length);
    return [{ version, controllers, directory: `${mount.point}${below === "/" ? "" : below}` }];
  });
}

function unescape(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** What is asked of the machine. */
export interface Seen {
  /** Text of a file, undefined when there is none. */
  readonly read: (path: string) => string | undefined;
  /** Whether a file may be written: 0, or minus the error number (access(2): nothing is made or changed). */
  readonly writable: (path: string) => number;
}

/** A line for each controller: its version, directory, and whether cgroups can be made there. */
export function cgroupFindings(): readonly Finding[] {
  return judgeCgroups({
    read: readText,
    writable: (path) => rawCall("faccessat2", AT_FDCWD, path, W_OK, AT_EACCESS),
  });
}

/** The findings from what is seen: `yes`, or `unneeded` with what stands in the way. Pure but for what `seen` does. */
export function judgeCgroups(seen: Seen): readonly Finding[] {
  const memberships = parseMemberships(seen.read("/proc/self/cgroup") ?? "", seen.read("/proc/self/mountinfo") ?? "");
  const unified = memberships.find(({ version }) => version === 2)?.directory;
  const delegated = unified === undefined ? [] : words(seen.read(`${unified}/cgroup.controllers`));
  return CONTROLLERS.map((name): Finding => {
    const old = VERSION_1_NAME[name] ?? name;
    const first = memberships.find(({ controllers }) => controllers.includes(old));
    const finding = { id: `cgroup-${name}`, name: `cgroup: ${name}` };
    if (first !== undefined) {
      const { directory } = first;
      if (directory !== undefined) return { ...finding, ...judge(seen, 1, directory, [""]) };
      return { ...finding, status: "unneeded", detail: "version 1, not mounted" };
    }
    if (unified === undefined) return { ...finding, status: "unneeded", detail: "no hierarchy is mounted" };
    if (!delegated.includes(name)) {
      return { ...finding, status: "unneeded", detail: `version 2, not among the controllers of ${unified}` };
    }
    return { ...finding, ...judge(seen, 2, unified, ["", "/cgroup.procs", "/cgroup.subtree_control"]) };
  });
}

/** Whether all of these files of a cgroup may be written. */
function judge(
  seen: Seen,
  version: 1 | 2,
  directory: string,
  files: readonly string[],
): Pick<Finding, "status" | "detail"> {
  for (const file of files) {
    const result = seen.writable(`${directory}${file}`);
    if (result === 0) continue;
    const { name, meaning } = errnoText(-result);
    return { status: "unneeded", detail: `version ${version}, ${directory}${file}: ${name} ${meaning}` };
  }
  return { status: "yes", detail: `version ${version}, ${directory}` };
}

function words(text: string | undefined): readonly string[] {
  return (text ?? "").split(/\s+/).filter((word) => word !== "");
}
