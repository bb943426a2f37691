/** Steps and plans as text for people. Pure. */

import { oneLine } from "./bytes.ts";
import type { MountAttribute } from "./spec.ts";
import type { Action, Actor, Landlock, Plan } from "./step.ts";

/** Attributes as a mount option list: `ro,nosuid`. */
const options = (attributes: readonly MountAttribute[], ...more: readonly string[]): string => {
  const list = [...more.filter((word) => word !== ""), ...attributes];
  return list.length === 0 ? "" : ` (${list.join(",")})`;
};

const octal = (mode: number): string => mode.toString(8).padStart(4, "0");
/** A plan that has been JSON has null for infinity. */
const limit = (value: number): string => (Number.isFinite(value) ? String(value) : "unlimited");
const maps = (step: Extract<Action, { op: "map-ids" | "hold-ids" }>): string => {
  const list = (of: typeof step.uidMappings) =>
    of.map(({ containerID, hostID, size }) => `${containerID} → ${hostID}${size === 1 ? "" : ` (${size})`}`).join(", ");
  return `uid ${list(step.uidMappings)}; gid ${list(step.gidMappings)}`;
};

/** `landlock (version 7): all but / execute,read-file; no TCP; …`. */
function describeLandlock({ abi, files, rules, network, scopes }: Landlock): string {
  const parts = [
    ...(files.length === 0 ? [] : [`takes ${files.join(",")}`]),
    ...rules.map(({ path, allow }) => `gives ${path} ${allow.join(",")}`),
    ...(network.length === 0 ? [] : [`no ${network.join(" or ")}`]),
    ...(scopes.length === 0 ? [] : [`${scopes.join(" and ")} of its own only`]),
  ];
  return `landlock (version ${abi}): ${parts.join("; ")}`;
}

/** What a step does, in one line: `mount tmpfs → /tmp (nosuid,nodev)`. */
export function describeStep(step: Action): string {
  switch (step.op) {
    case "hold-ids":
      return `map ids in a namespace of their own${step.through === "newuidmap" ? " by newuidmap" : ""}: ${maps(step)}`;
    case "leave-mounts":
      return "unshare mount, private";
    case "enter-ids":
      return "enter the user namespace";
    case "clone":
      return `clone ${step.namespaces.join(", ")}`;
    case "join":
      return `enter ${step.namespaces.map(({ name }) => name).join(", ")}`;
    case "map-ids":
      return `map ids: ${maps(step)}; setgroups denied`;
    case "set-ids":
      return `become uid ${step.uid}, gid ${step.gid}${step.groups === undefined ? "" : `, groups [${step.groups.join(" ")}]`}`;
    case "time-offsets":
      return `unshare time: monotonic ${step.offsets.monotonic} s, boottime ${step.offsets.boottime} s`;
    case "private-mounts":
      return "make all mounts private";
    case "open-tree":
      return `clone mount ${step.source} as ${step.tree}${options(step.attributes, step.recursive ? "recursive" : "", step.idmapped ? "idmapped" : "")}`;
    case "open-inside":
      return `clone mount ${step.path} of the new root as ${step.tree}`;
    case "open-directory":
      return `open ${step.source} as ${step.tree}`;
    case "stage":
      return `hand over below ${step.directory}: ${step.trees.map(({ tree }) => tree).join(" ")}`;
    case "new-filesystem": {
      const words = step.options.map(([key, value]) => (value === "" ? key : `${key}=${value}`));
      return `new ${step.type} as ${step.tree}${options(step.attributes, ...words)}`;
    }
    case "open-terminal":
      return `new pseudo-terminal of ${step.devpts} as ${step.tree}`;
    case "controlling-terminal":
      return "new session on the pseudo-terminal; it becomes descriptors 0, 1, 2";
    case "workspace":
      return `mount tmpfs → ${step.directory}`;
    case "overlay": {
      const place =
        step.kept === true
          ? `, writes on ${step.disk}, which is kept`
          : step.disk !== undefined
            ? `, writes on ${step.disk}: this kernel's tmpfs has no user.* attributes`
            : step.unmarked === true
              ? ", writes in memory: without user.* attributes there, directories below cannot be removed (EIO)"
              : "";
      const way = step.classic === true ? ", by mount(2): this kernel's fsconfig(2) takes no layer by itself" : "";
      return `new overlay of ${step.lower.join(":")} as ${step.tree} (userxattr,${step.kept === true ? "index=on" : "volatile"})${place}${way}`;
    }
    case "attach-root":
      return `attach ${step.tree} → ${step.directory} as the new root`;
    case "attach":
      return `attach ${step.tree} → ${step.target}${step.follow ? "" : " (nosymfollow)"}`;
    case "directory":
      return `mkdir ${step.path} ${octal(step.mode)}`;
    case "file":
      return `write ${step.path} ${octal(step.mode)}`;
    case "symlink":
      return `link ${step.path} → ${step.to}`;
    case "open-null":
      return "open /dev/null, which must be the device 1:3";
    case "mask":
      return `cover ${step.paths.join(" ")}`;
    case "read-only":
      return `remount ${step.paths.join(" ")} (ro)`;
    case "seal-root":
      return "remount / (ro)";
    case "write":
      return `write ${JSON.stringify(step.text)} > /proc/${step.path}`;
    case "pivot":
      return "pivot_root, detach the old root";
    case "hostname":
    case "domainname":
      return `${step.op} ${step.name}`;
    case "loopback":
      return "bring lo up";
    case "death-signal":
      return "die with the launcher (PR_SET_PDEATHSIG)";
    case "session":
      return "new session";
    case "process-group":
      return "new process group";
    case "umask":
      return `umask ${octal(step.mask)}`;
    case "rlimit":
      return `${step.type} ${limit(step.soft)}:${limit(step.hard)}`;
    case "chdir":
      return `chdir ${step.path}`;
    case "bounding-set":
      return `bounding set: ${step.keep.join(" ") || "empty"}`;
    case "capabilities":
      return `capabilities: ${step.hold.join(" ") || "none"}`;
    case "become":
      return `become uid ${step.uid}, gid ${step.gid} outside, without groups`;
    case "personality":
      return `personality 0x${step.flags.toString(16)}`;
    case "drop-groups":
      return "drop the caller's groups";
    case "check-groups":
      return `supplementary groups must be ${step.count === 0 ? "none" : step.count}`;
    case "not-dumpable":
      return "not dumpable until execve";
    case "securebits":
      return "securebits: uid 0 is nobody special, locked";
    case "landlock":
      return describeLandlock(step);
    case "no-new-privileges":
      return "no_new_privs";
    case "seccomp":
      return `seccomp filter, ${step.filter.length / 8} instructions${step.flags === undefined ? "" : ` (${step.flags.join(",")})`}${step.telling === true ? ", denials are told" : ""}`;
    case "close-descriptors":
      return `close descriptors from ${step.from}`;
    case "exec":
      return `exec ${step.candidates.length === 1 ? step.candidates[0] : step.command}`;
  }
}

/** A plan as aligned text, a heading for each actor, and behind each step why it is there. */
export function formatPlan(plan: Plan): string {
  const rows = plan.steps.map((step) => ({ by: step.by, text: oneLine(describeStep(step)), why: oneLine(step.why) }));
  const width = Math.min(72, Math.max(...rows.map(({ text }) => text.length)));
  const lines: string[] = [];
  let actor: Actor | undefined;
  for (const { by, text, why } of rows) {
    if (by !== actor) lines.push(`${actor === undefined ? "" : "\n"}${by}`);
    actor = by;
    lines.push(`  ${text.padEnd(width)}  # ${why}`);
  }
  return `${lines.join("\n")}\n`;
}

/** A plan as JSON: the steps, with byte strings as they are and the filter in hexadecimal. */
export function planToJson(plan: Plan): string {
  const replacer = (_key: string, value: unknown) => {
    if (value instanceof Uint8Array) return Buffer.from(value).toString("hex");
    return value === Number.POSITIVE_INFINITY ? "unlimited" : value;
  };
  return `${JSON.stringify(plan, replacer, 2)}\n`;
}
