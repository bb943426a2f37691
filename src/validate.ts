/**
 * Rules that a Spec must keep, each small and named. They are checked before anything is started; every error names the
 * user's own word. Pure.
 */

import { UsageError } from "./errors.ts";
import type { HostFacts } from "./facts.ts";
import { idPlan } from "./namespaces/user.ts";
import { securityOf } from "./process/security.ts";
import type { Spec } from "./spec.ts";

type Rule = (spec: Spec, host: HostFacts) => void;

/** `{ from }` when the user's words for a field are known. */
function words(spec: Spec, field: string): { from?: string } {
  const from = spec.words[field];
  return from === undefined ? {} : { from };
}

const quote = (text: string): string => JSON.stringify(text);

/**
 * That nothing is at a host path, or why it cannot be seen; the working directory's is this one only where it has no
 * other (getcwd(2)).
 */
function absent(path: string, { unseen }: HostFacts, what = ""): string {
  const why = unseen.get(path);
  if (why !== undefined) return `${what}${path}: ${why}`;
  return path === "/proc/self/cwd" ? "the working directory has been removed" : `${what}${path} does not exist`;
}

/** sethostname(2) takes any 64 bytes; a name with a newline or slash is a mistake or an attack on somebody's parser. */
function hostnames(spec: Spec): void {
  for (const [field, name] of [
    ["hostname", spec.hostname],
    ["domainname", spec.domainname],
  ] as const) {
    if (name.length === 0 || name.length > 64) {
      throw new UsageError(`${field} ${quote(name)} has ${name.length} characters`, {
        ...words(spec, field),
        hint: "1 to 64",
      });
    }
    const usual = field === "domainname" && name === "(none)";
    if (!usual && !/^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$/.test(name)) {
      throw new UsageError(`${field} ${quote(name)} is not a host name`, {
        ...words(spec, field),
        hint: "letters, digits, dots and hyphens",
      });
    }
  }
}

/** ROOT must be a directory, and an overlay cannot show what is mounted below its lower layer. */
function root(spec: Spec, host: HostFacts): void {
  const { root: wanted } = spec;
  if (wanted.kind === "scratch") return;
  const { from } = wanted;
  for (const path of wanted.kind === "overlay" ? wanted.lower : [wanted.path]) {
    const kind = host.kinds.get(path);
    if (kind === undefined) throw new UsageError(absent(path, host, "root "), { from });
    if (kind !== "directory") throw new UsageError(`root ${path} is not a directory`, { from });
    const below = host.mountsBelow.get(path) ?? [];
    if (below.length > 0) {
      const more = below.length === 1 ? "" : ` and ${below.length - 1} more`;
      throw new UsageError(
        `${path} has file systems mounted below it, which an overlay cannot show: ${below[0]}${more}`,
        {
          from,
          hint: "use --read-only, which takes them along",
        },
      );
    }
  }
}

/** A writable root that belongs to the machine's root would be a way back to it. */
function writableRoot(spec: Spec, host: HostFacts): void {
  const { root: wanted } = spec;
  if (wanted.kind !== "bind" || wanted.readonly) return;
  const ids = idPlan(spec, host);
  if (!ids.idmappedMounts) return;
  const owner = host.owners.get(wanted.path);
  const inside = ids.uidMappings.some(
    ({ hostID, size }) => owner !== undefined && owner >= hostID && owner < hostID + size,
  );
  if (inside) return;
  const range = ids.uidMappings[0];
  throw new UsageError(`${wanted.path} belongs to uid ${owner}, which the sandbox does not have`, {
    from: wanted.from,
    hint: `started by root, ids inside are ${range?.hostID} and up outside: chown the tree to them, or leave --writable out`,
  });
}

/** What may be shown otherwise below /proc: as runc has it (checkProcMount), for lxcfs and its like. */
const PROC_FILES: readonly string[] = [
  ...["cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo", "stat", "swaps", "uptime"],
  ...["sys/crypto/fips_enabled", "sys/kernel/ns_last_pid"],
];

/** A mount on the sandbox's /proc would lie in the way of its covers and switches, or take the place of the truth. */
function procTarget(destination: string, from: string): void {
  const [top, ...below] = destination.split("/").filter((name) => name !== "" && name !== ".");
  if (top !== "proc" || PROC_FILES.includes(below.join("/"))) return;
  throw new UsageError(`target ${quote(destination)} is in the sandbox's own /proc, which stays as it is`, {
    from,
    hint: `mount it elsewhere; below /proc only ${PROC_FILES.join(" ")} may be`,
  });
}

/** Every bind source must be there, every destination absolute and not the root itself. */
function mounts(spec: Spec, host: HostFacts): void {
  for (const mount of spec.mounts) {
    const { destination, from } = mount;
    if (!destination.startsWith("/")) {
      throw new UsageError(`target ${quote(destination)} is not an absolute path`, { from });
    }
    if (destination.split("/").every((name) => name === "" || name === ".")) {
      throw new UsageError("the root itself cannot be a mount target", {
        from,
        hint: "name a directory as ROOT instead",
      });
    }
    if (destination.split("/").includes(".."))
      throw new UsageError(`target ${quote(destination)} contains ..`, { from });
    if ((mount.type === "bind" || mount.type === "tmpfs") && spec.mounts.some(({ type }) => type === "proc")) {
      procTarget(destination, from);
    }
    if (mount.type === "tmpfs") {
      for (const name of ["size", "nr_inodes"]) {
        const value = mount.options[name];
        if (value === undefined || Number.parseInt(value, 10) !== 0) continue;
        throw new UsageError(`${name}=${value} is no limit to the kernel (tmpfs(5))`, {
          from,
          hint: `leave ${name} out for half of the machine's memory`,
        });
      }
    }
    if (mount.type === "bind" && !host.kinds.has(mount.source)) {
      throw new UsageError(absent(mount.source, host), { from, hint: "hutch does not make bind sources" });
    }
  }
}

/** Ids must be in the map, or the kernel would refuse them in the middle of the launch. */
function mappedIds(spec: Spec, host: HostFacts): void {
  const { kind, uidMappings, gidMappings } = idPlan(spec, host);
  const mapped = (list: typeof uidMappings, id: number) =>
    list.some(({ containerID, size }) => id >= containerID && id < containerID + size);
  const { uid, gid, additionalGids } = spec.process;
  if (!mapped(uidMappings, uid)) {
    throw new UsageError(`uid ${uid} is outside of the sandbox's ids`, { ...words(spec, "user"), hint: "0 to 65535" });
  }
  // A map of one's own denies setgroups(2): the program goes without the groups that its name would have brought.
  for (const id of kind === "held" ? [gid, ...additionalGids] : [gid]) {
    if (!mapped(gidMappings, id)) {
      throw new UsageError(`gid ${id} is outside of the sandbox's ids`, { ...words(spec, "user"), hint: "0 to 65535" });
    }
  }
}

/** NUL ends a string for the kernel: no argument, variable or path may have one. */
function nul(spec: Spec): void {
  const { args, env, cwd } = spec.process;
  for (const text of [...args, ...env, cwd, ...spec.mounts.map(({ destination }) => destination)]) {
    if (text.includes("\0")) throw new UsageError(`${quote(text)} contains a NUL byte`);
  }
}

/** Strict is a promise: what this machine or this caller cannot keep is refused. */
function strictness(spec: Spec, host: HostFacts): void {
  if (securityOf(spec) !== "strict") return;
  const from = words(spec, "security");
  if (host.landlock < 1) {
    throw new UsageError("strict needs landlock, which this kernel does not have", {
      ...from,
      hint: "Linux 5.13 or newer, with landlock in lsm= on its command line",
    });
  }
  const foreign = host.groups.filter((group) => group !== host.gid);
  if (foreign.length > 0 && !host.root && idPlan(spec, host).kind === "self") {
    throw new UsageError(`the caller's groups ${foreign.join(" ")} cannot be given up without privilege`, {
      ...from,
      hint: "--userns auto gives them up; so does setpriv --clear-groups by root",
    });
  }
}

/**
 * An ordinary user's read-only mounts belong to the sandbox's own user namespace, where CAP_SYS_ADMIN may undo them
 * (root's are made outside and locked, mount_namespaces(7)).
 */
function lockedMounts(spec: Spec, host: HostFacts): void {
  const { uid, noNewPrivileges, capabilities } = spec.process;
  if (host.root || !capabilities.includes("CAP_SYS_ADMIN")) return;
  if (securityOf(spec) === "none") return; // which asks for nothing to be held
  if (uid !== 0 && noNewPrivileges) return; // then they only bound what it could get, and it can get none
  const { root: wanted } = spec;
  const own = (path: string) => host.owners.get(path) === host.uid;
  // A directory may hold files of the caller's own; a single file of somebody else's could not be written anyway.
  const mount = spec.mounts.find(
    (one) =>
      one.type === "bind" &&
      one.attributes.includes("ro") &&
      (own(one.source) || (one.idmap && host.kinds.get(one.source) === "directory")),
  );
  const from = wanted.kind === "bind" && wanted.readonly ? wanted.from : mount?.from;
  if (from === undefined) return;
  throw new UsageError("with CAP_SYS_ADMIN the program could make what is read-only writable again", {
    from: `${spec.words["capabilities"] ?? "--cap-add SYS_ADMIN"} ${from}`,
    hint: "leave the capability out, or start hutch as root, whose read-only mounts are locked",
  });
}

/** Limits: soft at most hard, and no more than the caller may give. */
function rlimits(spec: Spec): void {
  for (const { type, soft, hard } of spec.process.rlimits) {
    const limit = (value: number) => (value === Number.POSITIVE_INFINITY ? "unlimited" : value);
    if (soft > hard)
      throw new UsageError(
        `${type}: soft limit ${limit(soft)} is above the hard limit ${limit(hard)}`,
        words(spec, type),
      );
  }
}

function workingDirectory(spec: Spec): void {
  if (!spec.process.cwd.startsWith("/")) {
    throw new UsageError(`working directory ${quote(spec.process.cwd)} is not an absolute path`, words(spec, "cwd"));
  }
}

/** A terminal is made in the sandbox's own /dev/pts. */
function terminal(spec: Spec): void {
  if (spec.process.terminal !== true || spec.mounts.some(({ type }) => type === "dev")) return;
  throw new UsageError("a terminal needs a /dev in the sandbox", words(spec, "terminal"));
}

/** The first release in which a signal does not repeat a call that is being answered (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV). */
const TELLING_SINCE = 5_019;

/** Denials must be told exactly, or not at all. */
function denials(spec: Spec, host: HostFacts): void {
  if (spec.process.explainDenials !== true) return;
  if (host.kernel >= TELLING_SINCE) return;
  throw new UsageError("denials cannot be told exactly before Linux 5.19", words(spec, "explainDenials"));
}

const RULES: readonly Rule[] = [
  nul,
  hostnames,
  root,
  mounts,
  writableRoot,
  lockedMounts,
  mappedIds,
  strictness,
  rlimits,
  workingDirectory,
  terminal,
  denials,
];

/** Check all rules. @throws UsageError for the first one broken. */
export function validate(spec: Spec, host: HostFacts): void {
  for (const rule of RULES) rule(spec, host);
}
