/**
 * What is wanted of a run, in the words of hutch's own options → Spec. The command line and the library each fill a
 * {@link Wanted} in their own way; what it comes to stands here. Pure.
 */

import * as defaults from "./defaults.ts";
import type {
  IdMap,
  Mount,
  NamespaceName,
  Rlimit,
  Root,
  SandboxPath,
  SeccompFlag,
  SecurityProfile,
  Spec,
  TimeOffsets,
} from "./spec.ts";

/** What the program may do. */
export interface Rights {
  readonly security: SecurityProfile;
  readonly capabilities: readonly string[];
  readonly seccomp: Uint8Array | undefined;
  readonly seccompFlags: readonly SeccompFlag[];
  readonly explainDenials?: boolean;
  readonly maskedPaths: readonly string[];
  readonly readonlyPaths: readonly string[];
}

/** Everything about a run that has been asked for or looked up. */
export interface Wanted {
  readonly root: Root;
  /** Whether the root is an image's: its hosts and hostname are whatever its builder's were. */
  readonly image: boolean;
  readonly command: readonly string[];
  /** All variables, `K=V` each. */
  readonly env: readonly string[];
  readonly user: { readonly uid: number; readonly gid: number; readonly additionalGids: readonly number[] };
  readonly workdir: string;
  readonly hostname: string;
  readonly domainname: string;
  readonly network: "none" | "host";
  /** What is put into the root behind {@link baseMounts}, in order. */
  readonly mounts: readonly Mount[];
  readonly idMap: IdMap;
  readonly timeOffsets: TimeOffsets | undefined;
  readonly rights: Rights;
  readonly rlimits: readonly Rlimit[];
  readonly preserveFds: number;
  readonly terminal: boolean;
  readonly init: boolean;
  /** The caller's words by the Spec's fields. */
  readonly words: Readonly<Record<string, string>>;
}

/** The Spec of a run. */
export function buildSpec(wanted: Wanted): Spec {
  const { root, env, user, rights, network, timeOffsets, hostname } = wanted;
  const namespaces: NamespaceName[] = defaults.DEFAULT_NAMESPACES.filter(
    (name) => name !== "network" || network !== "host", // any other word is none: never less than asked for
  );
  if (timeOffsets !== undefined) namespaces.push("time");
  return {
    root,
    process: {
      ...(wanted.terminal ? { terminal: true } : {}),
      args: wanted.command,
      env,
      searchPath: searchPathOf(env),
      cwd: workingDirectory(wanted.workdir),
      uid: user.uid,
      gid: user.gid,
      additionalGids: user.additionalGids,
      umask: defaults.DEFAULT_UMASK,
      capabilities: rights.capabilities,
      rlimits: wanted.rlimits,
      noNewPrivileges: true,
      seccomp: rights.seccomp,
      ...(rights.seccompFlags.length === 0 ? {} : { seccompFlags: rights.seccompFlags }),
      ...(rights.explainDenials === true ? { explainDenials: true } : {}),
      preserveFds: wanted.preserveFds,
    },
    hostname,
    domainname: wanted.domainname,
    mounts: [...baseMounts(root, hostname, wanted.image), ...wanted.mounts],
    namespaces,
    idMap: wanted.idMap,
    timeOffsets,
    maskedPaths: rights.maskedPaths,
    readonlyPaths: rights.readonlyPaths,
    security: rights.security,
    init: wanted.init,
    words: wanted.words,
  };
}

/** Directories in which a command without a slash is looked for. */
export function searchPathOf(env: readonly string[]): readonly string[] {
  for (const entry of env) if (entry.startsWith("PATH=")) return entry === "PATH=" ? [] : entry.slice(5).split(":");
  return [];
}

/** What every root gets: the directories and files of an empty one, /proc and /dev. */
function baseMounts(root: Root, hostname: string, image: boolean): readonly Mount[] {
  const from = "default";
  const at = (path: string) => path as SandboxPath;
  const mounts: Mount[] = [];
  if (root.kind === "scratch") {
    for (const [path, mode] of defaults.SCRATCH_DIRECTORIES)
      mounts.push({ type: "directory", destination: at(path), mode, from });
  }
  for (const [path, content] of defaults.scratchFiles(hostname)) {
    const wanted = root.kind === "scratch" || (image && (path === "/etc/hosts" || path === "/etc/hostname"));
    if (wanted) mounts.push({ type: "file", destination: at(path), content, mode: 0o644, from });
  }
  mounts.push({ type: "proc", destination: at("/proc"), from }, { type: "dev", destination: at("/dev"), from });
  return mounts;
}

/** A path in the one form that is compared: no double slash, no `.`, no slash at the end. */
export function tidyPath(path: string): string {
  const names = path.split("/").filter((name) => name !== "" && name !== ".");
  return (path.startsWith("/") ? "/" : "") + names.join("/");
}

/** Tidy when it is absolute; anything else is left for validate.ts to refuse. */
function workingDirectory(word: string): SandboxPath {
  return (word.startsWith("/") ? tidyPath(word) || "/" : word) as SandboxPath;
}
