/**
 * Spec: what is wanted, in the words of the OCI runtime specification (config.md, config-linux.md) where it has them.
 *
 * Every front end (run, mydocker, …) turns its arguments into a Spec and does nothing else. A Spec is plain readonly
 * data. Strings that the kernel sees are lossless byte strings (bytes.ts). This file imports nothing.
 */

declare const host: unique symbol;
declare const inside: unique symbol;

/** An absolute path as the caller sees it. */
export type HostPath = string & { readonly [host]: true };
/** An absolute path as the sandboxed program sees it. */
export type SandboxPath = string & { readonly [inside]: true };

/** The namespaces of namespaces(7), by OCI's names. */
export type NamespaceName = "user" | "mount" | "pid" | "network" | "ipc" | "uts" | "cgroup" | "time";

/** What one line of uid_map or gid_map says (user_namespaces(7)). */
export interface IdMapping {
  readonly containerID: number;
  readonly hostID: number;
  readonly size: number;
}

/**
 * How ids inside map to ids outside.
 * - `default`: a subordinate range when started by root, else the caller's own id alone.
 * - `range`: the caller's subordinate ranges, by newuidmap(1) when not root.
 * - explicit maps: what is given; more than the caller's own id needs privilege.
 */
export type IdMap = "default" | "range" | IdMaps;

/** Explicit maps of a user namespace (OCI `linux.uidMappings`, `linux.gidMappings`). */
export interface IdMaps {
  readonly uidMappings: readonly IdMapping[];
  readonly gidMappings: readonly IdMapping[];
}

/** Where the root file system comes from. */
export type Root =
  /** An empty tmpfs, of this mode (0755 when absent). */
  | { readonly kind: "scratch"; readonly readonly: boolean; readonly mode?: number; readonly from: string }
  /** Directories, lowest first, under a throw-away overlay: writes vanish with the sandbox. */
  | {
      readonly kind: "overlay";
      readonly lower: readonly HostPath[];
      /** Make it read-only when all has been put into it. */
      readonly readonly?: boolean;
      readonly from: string;
    }
  /**
   * A directory that hutch has made for this sandbox alone, where there can be no overlay: missing targets are made in
   * it, and its files belong to the sandbox's own ids outside.
   */
  | { readonly kind: "own"; readonly path: HostPath; readonly readonly?: boolean; readonly from: string }
  /** A directory itself with what is mounted below it, read-only or writable. */
  | { readonly kind: "bind"; readonly path: HostPath; readonly readonly: boolean; readonly from: string };

/** Mount options that can be set on any mount (mount_setattr(2)). */
export type MountAttribute = "ro" | "nosuid" | "nodev" | "noexec" | "noatime" | "nosymfollow";

/** What a private /dev consists of; `pts` is always an own instance of devpts. */
export interface DeviceLayout {
  /** Names of the host's device nodes that are bound. */
  readonly devices: readonly string[];
  readonly links: readonly (readonly [name: string, target: string])[];
  /** Whether the own devpts' ptmx is bound on /dev/ptmx; without it, a link may lead there. */
  readonly bindsPtmx: boolean;
  /** The tmpfs on /dev/shm. */
  readonly shm: {
    readonly options: Readonly<Record<string, string>>;
    readonly attributes: readonly MountAttribute[];
  };
}

/**
 * One thing to put into the root, in order. `from` quotes the user's words that asked for it. `follow` tells whether
 * symbolic links inside the root are followed on the way to the destination (never out of the root).
 */
export type Mount = { readonly destination: SandboxPath; readonly from: string } & (
  | {
      readonly type: "bind";
      readonly source: HostPath;
      readonly attributes: readonly MountAttribute[];
      /** Show root-owned files as the sandbox's root where ids map to a range; only ever with `ro`. */
      readonly idmap: boolean;
      /** Leave it out where its target cannot be made for want of rights. */
      readonly optional?: boolean;
    }
  | {
      readonly type: "tmpfs";
      readonly attributes: readonly MountAttribute[];
      /** tmpfs(5) options: size, mode, nr_inodes. */
      readonly options: Readonly<Record<string, string>>;
    }
  | { readonly type: "proc" }
  /** A private /dev: OCI's when there is no layout. */
  | { readonly type: "dev"; readonly layout?: DeviceLayout }
  /** A directory, made when it is missing. */
  | { readonly type: "directory"; readonly mode: number }
  /** A small file with this content; an existing one is left when `keep`. */
  | { readonly type: "file"; readonly content: string; readonly mode: number }
  /** A symbolic link, made when nothing is there. */
  | { readonly type: "symlink"; readonly target: string }
);

/** OCI `process.rlimits`: a resource of getrlimit(2) without RLIMIT_, in its own unit; Infinity is RLIM_INFINITY. */
export interface Rlimit {
  readonly type: string;
  readonly soft: number;
  readonly hard: number;
}

/** Flags of seccomp(2) that mean something for one process that is about to execute its program. */
export type SeccompFlag = "SECCOMP_FILTER_FLAG_LOG" | "SECCOMP_FILTER_FLAG_SPEC_ALLOW";

/** OCI `process`. */
export interface Process {
  /** Whether the program gets a pseudo-terminal of its own; the caller's standard input must be a terminal then. */
  readonly terminal?: boolean;
  /** The command and its arguments; a name without a slash is looked up in `searchPath`. */
  readonly args: readonly string[];
  /** argv[0] when it differs from args[0]. */
  readonly argv0?: string;
  readonly env: readonly string[];
  readonly searchPath: readonly string[];
  readonly cwd: SandboxPath;
  readonly uid: number;
  readonly gid: number;
  readonly additionalGids: readonly number[];
  readonly umask: number;
  /** Capabilities to keep, as CAP_… (capabilities(7)). */
  readonly capabilities: readonly string[];
  readonly rlimits: readonly Rlimit[];
  readonly noNewPrivileges: boolean;
  /** A compiled filter: struct sock_filter's, or none. */
  readonly seccomp: Uint8Array | undefined;
  /** OCI's words for flags of seccomp(2); absent means none. */
  readonly seccompFlags?: readonly SeccompFlag[];
  /** Whether the calls that the filter refuses with an error number are noted, to be told at the end. */
  readonly explainDenials?: boolean;
  /** Flags of personality(2), such as ADDR_NO_RANDOMIZE (0x40000); absent leaves the caller's. */
  readonly personality?: number;
  /** How many descriptors after 2 the program inherits. */
  readonly preserveFds: number;
}

/** OCI `linux.timeOffsets`: seconds added to the two clocks of time_namespaces(7). */
export interface TimeOffsets {
  readonly monotonic: number;
  readonly boottime: number;
}

/** How much is taken from the program beside its namespaces; what each means stands in process/security.ts. */
export type SecurityProfile = "default" | "strict" | "nested" | "none";

/** Everything that is wanted of one sandbox. */
export interface Spec {
  readonly root: Root;
  readonly process: Process;
  readonly hostname: string;
  readonly domainname: string;
  readonly mounts: readonly Mount[];
  /** New namespaces; the ones left out are shared with the host. user, mount and pid are always new. */
  readonly namespaces: readonly NamespaceName[];
  readonly idMap: IdMap;
  readonly timeOffsets: TimeOffsets | undefined;
  /** Paths below /proc that are covered or made read-only. */
  readonly maskedPaths: readonly string[];
  readonly readonlyPaths: readonly string[];
  /** Absent means `default`. */
  readonly security?: SecurityProfile;
  /** What landlock(7) keeps inside all the same where `security` is `none` and the kernel can. */
  readonly scopes?: readonly ("abstract-sockets" | "signals")[];
  /** Whom the machine's root becomes before anything else, for good; explicit maps then lead to these ids. */
  readonly startAs?: { readonly uid: number; readonly gid: number };
  /** Whether a reaper of hutch's is PID 1 and the program its child, or the program itself is PID 1. */
  readonly init: boolean;
  /** Whether the program has a session of its own, and so no controlling terminal, where the caller has one. */
  readonly session?: boolean;
  /** The user's words for things that have no `from` of their own, such as `--hostname x`, by the Spec's field. */
  readonly words: Readonly<Record<string, string>>;
}
