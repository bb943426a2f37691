/**
 * What the security profiles mean, beside the filter of the same name (profiles.ts). Pure.
 *
 * | profile | filter  | capabilities | uid 0 is root | landlock                   | user namespaces | /proc masks |
 * |---------|---------|--------------|---------------|----------------------------|-----------------|-------------|
 * | default | default | 11           | yes           | no mounts; scopes          | no              | yes         |
 * | strict  | strict  | none         | no, locked    | what the root needs; scopes, no TCP | no     | yes         |
 * | nested  | nested  | 11           | yes           | scopes                     | yes             | no          |
 * | none    | none    | all          | yes           | none                       | yes             | no          |
 *
 * Nested leaves /proc uncovered, because the kernel lets a namespace inside mount a /proc of its own only where the
 * present one is fully visible (mount_too_revealing() in fs/namespace.c). What is in it belongs to ids that the sandbox
 * does not have.
 */

import type { HostFacts } from "../facts.ts";
import type { Mount, SecurityProfile, Spec } from "../spec.ts";
import type { FileRight, Kind, Landlock } from "../step.ts";

export const SECURITY_PROFILES: readonly SecurityProfile[] = ["default", "strict", "nested", "none"];

/** A Spec's profile. */
export function securityOf(spec: Spec): SecurityProfile {
  return spec.security ?? "default";
}

/** Whether user namespaces can be made inside. */
export function allowsUserNamespaces(profile: SecurityProfile): boolean {
  return profile === "nested" || profile === "none";
}

/** Whether the paths below /proc that are covered by default are covered. */
export function masksProc(profile: SecurityProfile): boolean {
  return profile === "default" || profile === "strict";
}

const READ: readonly FileRight[] = ["execute", "read-file", "read-dir"];
const WRITE: readonly FileRight[] = [
  ...(["write-file", "remove-dir", "remove-file", "make-dir", "make-reg", "make-sock", "make-fifo"] as const),
  ...(["make-sym", "refer", "truncate"] as const),
];
const DEVICES: readonly FileRight[] = ["make-char", "make-block"];
/** Rights that a file can have; others in a rule on a file are refused (landlock_add_rule(2)). */
const OF_FILES: readonly FileRight[] = ["execute", "write-file", "read-file", "truncate", "ioctl-dev"];

/** Rights by the version of the interface that brought them; all others are as old as landlock. */
const SINCE: Readonly<Partial<Record<FileRight, number>>> = { refer: 2, truncate: 3, "ioctl-dev": 5 };
const TCP_SINCE = 4;
export const SCOPES_SINCE = 6;

/** The domain of a Spec on this machine, or undefined where nothing is to be taken. */
export function landlockOf(spec: Spec, host: HostFacts): Landlock | undefined {
  const profile = securityOf(spec);
  const abi = host.landlock;
  if (profile === "none") {
    const { scopes = [] } = spec;
    return scopes.length === 0 || abi < SCOPES_SINCE ? undefined : { abi, files: [], rules: [], network: [], scopes };
  }
  if (abi < 1) return undefined;
  const known = (rights: readonly FileRight[]) => rights.filter((right) => (SINCE[right] ?? 1) <= abi);
  const scopes: Landlock["scopes"] = abi >= SCOPES_SINCE ? ["abstract-sockets", "signals"] : [];
  if (profile === "strict") {
    const network: Landlock["network"] =
      abi >= TCP_SINCE && spec.namespaces.includes("network") ? ["bind-tcp", "connect-tcp"] : [];
    const rules = strictRules(spec, host).map(({ path, allow }) => ({ path, allow: known(allow) }));
    return { abi, files: known([...READ, ...WRITE, ...DEVICES, "ioctl-dev"]), rules, network, scopes };
  }
  // A domain that speaks of files at all stops every change of mounts. Where files may not be moved between directories
  // without being asked for (before version 2), that would be too dear; and who keeps CAP_SYS_ADMIN means to mount.
  const mounts = profile === "nested" || spec.process.capabilities.includes("CAP_SYS_ADMIN");
  if (mounts || abi < 2) return scopes.length === 0 ? undefined : { abi, files: [], rules: [], network: [], scopes };
  return { abi, files: ["make-block", "refer"], rules: [{ path: "/", allow: ["refer"] }], network: [], scopes };
}

/** What the program of a strict sandbox may do with files: read all, write where the Spec says so, no device files. */
function strictRules(spec: Spec, host: HostFacts): Landlock["rules"] {
  const { root } = spec;
  const writable = root.kind === "overlay" || !root.readonly;
  const everything = [...READ, ...WRITE];
  const rules: { path: string; allow: readonly FileRight[] }[] = [{ path: "/", allow: writable ? everything : READ }];
  for (const mount of spec.mounts) {
    const path = mount.destination;
    if (mount.type === "dev") {
      rules.push({ path, allow: ["read-file", "read-dir", "write-file", "truncate", "ioctl-dev"] });
      rules.push({ path: `${path}/shm`, allow: everything });
    } else if (!writable && isWritable(mount)) {
      rules.push({ path, allow: ofKind(everything, mount, host) });
    }
  }
  return rules;
}

function isWritable(mount: Mount): boolean {
  return (mount.type === "bind" || mount.type === "tmpfs") && !mount.attributes.includes("ro");
}

function ofKind(rights: readonly FileRight[], mount: Mount, host: HostFacts): readonly FileRight[] {
  const kind: Kind = mount.type === "bind" ? (host.kinds.get(mount.source) ?? "file") : "directory";
  return kind === "directory" ? rights : rights.filter((right) => OF_FILES.includes(right));
}
