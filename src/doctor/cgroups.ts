/** Which cgroup each controller has this process in, and whether it may make others below. */

import { rawCall } from "../libc/call.ts";
import { AT_EACCESS, AT_FDCWD, W_OK } from "../libc/constants.ts";
import { errnoText } from "../libc/errno.ts";
import { pathStatus, readText } from "../libc/files.ts";
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
  /** Where the hierarchy is mounted. */
  readonly mounted: string | undefined;
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
    if (mount === undefined) return [{ version, controllers, directory: undefined, mounted: undefined }];
    const inside = mount.root === "/" || path === mount.root || path.startsWith(`${mount.root}/`);
    const below = !inside ? "" : mount.root === "/" ? path : path.slice(mount.root.length);
    return [{ version, controllers, directory: `${mount.point}${below === "/" ? "" : below}`, mounted: mount.point }];
  });
}

function unescape(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** What is asked of the machine. */
export interface Seen {
  readonly uid: number;
  /** Text of a file, undefined when there is none. */
  readonly read: (path: string) => string | undefined;
  /** Whether a file may be written: 0, or minus the error number (access(2): nothing is made or changed). */
  readonly writable: (path: string) => number;
  /** Whether systemd runs the machine. */
  readonly systemd: boolean;
}

/** A line for each controller: its version, directory, and whether cgroups can be made there. */
export function cgroupFindings(uid: number): readonly Finding[] {
  return judgeCgroups({
    uid,
    read: readText,
    writable: (path) => rawCall("faccessat2", AT_FDCWD, path, W_OK, AT_EACCESS),
    systemd: typeof pathStatus("/run/systemd/system") !== "number",
  });
}

/** The findings from what is seen. Pure but for what `seen` does. */
export function judgeCgroups(seen: Seen): readonly Finding[] {
  const memberships = parseMemberships(seen.read("/proc/self/cgroup") ?? "", seen.read("/proc/self/mountinfo") ?? "");
  const second = memberships.find(({ version }) => version === 2);
  const unified = second?.directory;
  const delegated = unified === undefined ? [] : words(seen.read(`${unified}/cgroup.controllers`));
  return CONTROLLERS.map((name): Finding => {
    const old = VERSION_1_NAME[name] ?? name;
    const first = memberships.find(({ controllers }) => controllers.includes(old));
    const finding = { id: `cgroup-${name}`, name: `cgroup: ${name}` };
    if (first !== undefined) {
      const { directory } = first;
      if (directory !== undefined) return { ...finding, ...judge(seen, first, directory, [""]) };
      const mend = `mount -t cgroup -o ${old} cgroup /sys/fs/cgroup/${old}`;
      return { ...finding, status: "no", detail: "version 1, not mounted", mend };
    }
    if (second === undefined || unified === undefined) {
      const mend = "mount -t cgroup2 cgroup2 /sys/fs/cgroup";
      return { ...finding, status: "no", detail: "no hierarchy is mounted", mend };
    }
    if (!delegated.includes(name)) {
      const detail = `version 2, not among the controllers of ${unified}`;
      return { ...finding, status: "no", detail, mend: delegation(seen, unified, second.mounted ?? "") };
    }
    return { ...finding, ...judge(seen, second, unified, ["", "/cgroup.procs", "/cgroup.subtree_control"]) };
  });
}

/** Whether all of these files of a cgroup may be written. */
function judge(
  seen: Seen,
  { version, mounted = "" }: Membership,
  directory: string,
  files: readonly string[],
): Pick<Finding, "status" | "detail" | "mend"> {
  for (const file of files) {
    const result = seen.writable(`${directory}${file}`);
    if (result === 0) continue;
    const { name, meaning } = errnoText(-result);
    const detail = `version ${version}, ${directory}${file}: ${name} ${meaning}`;
    if (name === "EROFS") {
      return { status: "no", detail, mend: `mount -o remount,rw ${mounted}, or a container that has it writable` };
    }
    const mend = version === 2 ? delegation(seen, directory, mounted) : ownership(directory, seen.uid);
    return { status: "no", detail, mend };
  }
  return { status: "yes", detail: `version ${version}, ${directory}` };
}

function ownership(directory: string, uid: number): string {
  return `as root: mkdir ${directory}/hutch && chown -R ${uid} ${directory}/hutch`;
}

/**
 * How a cgroup of version 2 gets controllers and an owner (cgroups(7), "Delegating a hierarchy"). At the top of what is
 * mounted nobody above can hand controllers down but whoever mounted it.
 */
function delegation({ uid, systemd }: Seen, directory: string, mounted: string): string {
  if (systemd) return `systemd-run ${uid === 0 ? "" : "--user "}--scope -p Delegate=yes hutch …`;
  if (uid !== 0) return ownership(directory, uid);
  if (directory === mounted) return "a kernel or container that has this controller for version 2";
  const above = directory.slice(0, directory.lastIndexOf("/"));
  return `echo "+cpu +cpuset +io +memory +pids" > ${above}/cgroup.subtree_control`;
}

function words(text: string | undefined): readonly string[] {
  return (text ?? "").split(/\s+/).filter((word) => word !== "");
}
