/**
 * The sandbox that Nix gives a builder, as a Spec: nix's `local-derivation-goal.cc` and what the course's assignment
 * asks for. Pure: what it must know of the machine comes in.
 */

import type {
  DeviceLayout,
  HostPath,
  Mount,
  MountAttribute,
  NamespaceName,
  Process,
  SandboxPath,
  Spec,
} from "../spec.ts";

/** The ids that a builder has: the user nixbld and the group nixbld of {@link BUILD_FILES}. */
export const BUILD_UID = 1000;
export const BUILD_GID = 100;

/** Where the build directory is inside. */
export const BUILD_TOP = "/build" as SandboxPath;

/** All of /etc, byte for byte as Nix writes it. */
export const BUILD_FILES: readonly (readonly [path: string, content: string])[] = [
  ["/etc/group", "root:x:0:\nnixbld:!:100:\nnogroup:x:65534:\n"],
  [
    "/etc/passwd",
    "root:x:0:0:Nix build user:/build:/noshell\nnixbld:x:1000:100:Nix build user:/build:/noshell\nnobody:x:65534:65534:Nobody:/:/noshell\n",
  ],
  ["/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"],
];

const NAMESPACES: readonly NamespaceName[] = ["user", "mount", "pid", "network", "ipc", "uts"];

const DEVICES: readonly string[] = ["full", "null", "random", "tty", "urandom", "zero"];

const LINKS: DeviceLayout["links"] = [
  ["fd", "/proc/self/fd"],
  ["stdin", "/proc/self/fd/0"],
  ["stdout", "/proc/self/fd/1"],
  ["stderr", "/proc/self/fd/2"],
];

/** What a build's sandbox is made from. */
export interface BuildSandbox {
  /** What is /nix inside: {@link wholeStore} or {@link closureStore}. */
  readonly store: readonly Mount[];
  /** Host path of what is /bin/sh; undefined for none. */
  readonly shell: HostPath | undefined;
  /** Host path of the directory that is /build. */
  readonly build: HostPath;
  /** Whether the host has /dev/kvm. */
  readonly kvm: boolean;
  /** The ids outside that the builder's are: the caller's, or those that root becomes. */
  readonly uid: number;
  readonly gid: number;
  readonly startAs: Spec["startAs"];
  /** Compiled filter, or none. */
  readonly seccomp: Uint8Array | undefined;
  readonly args: readonly string[];
  readonly env: readonly string[];
  /** Further mounts, in order, after all others. */
  readonly more: readonly Mount[];
  /** Whether the network is the host's. */
  readonly hostNetwork: boolean;
  /** What of /proc is covered, and what is read-only. */
  readonly maskedPaths: readonly string[];
  readonly readonlyPaths: readonly string[];
  /** What only Nix's own sandbox has; undefined where hutch's walls come first. */
  readonly exact: ExactRules | undefined;
  /** Whether the program has no controlling terminal. */
  readonly session: boolean;
}

/** Rules of Nix's sandbox that hutch's default ones are stricter than, or have no need of. */
export interface ExactRules {
  /** The bounding set, which Nix leaves as it is. */
  readonly bounding: readonly string[];
  /** The caller's hard limit of RLIMIT_CORE; the soft one is 0. */
  readonly coreLimit: number;
  /** The limit of open files, soft and hard, where it is not the caller's. */
  readonly files: number | undefined;
  /** Permissions of /etc. */
  readonly etcMode: number;
  /** Whether abstract sockets outside are out of reach where the network is the host's, by landlock(7). */
  readonly scopesSockets: boolean;
  /** Whether the builder was a user of its own, to whom the root directory did not belong. */
  readonly sealed: boolean;
}

const ADDR_NO_RANDOMIZE = 0x40000;

const inside = (path: string): SandboxPath => path as SandboxPath;
const from = "default";
const READONLY = ["ro", "nosuid", "nodev"] as const;

/** The Spec of a build's sandbox: its ids, names and files are Nix's, its only writable places /build, /tmp and /dev/shm. */
export function buildSandbox(build: BuildSandbox): Spec {
  const { uid, gid, startAs, exact } = build;
  return {
    root: { kind: "scratch", readonly: exact?.sealed === true, from, ...(exact === undefined ? {} : { mode: 0o750 }) },
    process: buildProcess(build),
    hostname: "localhost",
    domainname: "(none)",
    mounts: buildMounts(build),
    namespaces: NAMESPACES.filter((name) => name !== "network" || !build.hostNetwork),
    idMap: {
      uidMappings: [{ containerID: BUILD_UID, hostID: uid, size: 1 }],
      gidMappings: [{ containerID: BUILD_GID, hostID: gid, size: 1 }],
    },
    timeOffsets: undefined,
    maskedPaths: build.maskedPaths,
    readonlyPaths: build.readonlyPaths,
    init: false,
    words: {},
    session: build.session,
    ...(exact === undefined ? {} : { security: "none", scopes: exact.scopesSockets ? ["abstract-sockets"] : [] }),
    ...(startAs === undefined ? {} : { startAs }),
  };
}

function buildProcess({ args, env, seccomp, exact }: BuildSandbox): Process {
  return {
    args,
    env,
    searchPath: [],
    cwd: BUILD_TOP,
    uid: BUILD_UID,
    gid: BUILD_GID,
    additionalGids: [],
    umask: 0o022,
    capabilities: exact?.bounding ?? [],
    rlimits: exact === undefined ? [] : limits(exact),
    noNewPrivileges: true,
    seccomp,
    preserveFds: 0,
    ...(exact === undefined ? {} : { personality: ADDR_NO_RANDOMIZE }),
  };
}

function limits({ coreLimit, files }: ExactRules): Process["rlimits"] {
  const open = files === undefined ? [] : [{ type: "RLIMIT_NOFILE", soft: files, hard: files }];
  return [{ type: "RLIMIT_CORE", soft: 0, hard: coreLimit }, ...open];
}

/** All of a store's /nix, with these directories below it covered: those of sockets, which read-only does not close. */
export function wholeStore(nix: string, covered: readonly string[]): readonly Mount[] {
  return [
    bind(nix, "/nix", READONLY),
    ...covered.map((path): Mount => ({
      type: "tmpfs",
      destination: inside(path),
      attributes: [...READONLY, "noexec"],
      options: { mode: "755", nr_inodes: "2" },
      from,
    })),
  ];
}

/**
 * A store of the builder's own, with some paths of the real one: `directory` is the host directory that is /nix/store,
 * in which there is a place for each of them.
 */
export function closureStore(
  directory: string,
  paths: readonly (readonly [path: string, source: string])[],
): readonly Mount[] {
  return [
    bind(directory, "/nix/store", ["nosuid", "nodev"]),
    ...paths.map(([path, source]) => bind(source, path, READONLY)),
  ];
}

function bind(source: string, destination: string, attributes: readonly MountAttribute[]): Mount {
  return { type: "bind", source: source as HostPath, destination: inside(destination), attributes, idmap: false, from };
}

function buildMounts({ store, shell, build, kvm, more, exact }: BuildSandbox): readonly Mount[] {
  const ptmx = ["ptmx", "/dev/pts/ptmx"] as const;
  const layout: DeviceLayout = {
    devices: kvm ? [...DEVICES, "kvm"] : DEVICES,
    links: exact === undefined ? LINKS : [...LINKS, ptmx],
    bindsPtmx: exact === undefined,
    shm: { options: { mode: "1777", size: "50%" }, attributes: ["nosuid", "nodev"] },
  };
  return [
    exact?.sealed === true
      ? { type: "tmpfs", destination: inside("/tmp"), attributes: ["nosuid", "nodev"], options: { mode: "1777" }, from }
      : { type: "directory", destination: inside("/tmp"), mode: 0o1777, from },
    ...(exact === undefined
      ? []
      : [{ type: "directory", destination: inside("/etc"), mode: exact.etcMode, from } as const]),
    ...BUILD_FILES.map(([path, content]): Mount => ({
      type: "file",
      destination: inside(path),
      content,
      mode: 0o644,
      from,
    })),
    { type: "proc", destination: inside("/proc"), from },
    { type: "dev", destination: inside("/dev"), layout, from },
    ...store,
    ...(shell === undefined ? [] : [bind(shell, "/bin/sh", READONLY)]),
    bind(build, BUILD_TOP, ["nosuid", "nodev"]),
    ...more,
  ];
}

/**
 * What the shell is started with for a command: the variables are sourced, then the command takes the shell's place.
 * `added` is a directory for the end of PATH, without characters that a shell knows.
 */
export function commandArguments(shell: string, command: readonly string[], added?: string): readonly string[] {
  const path = added === undefined ? "" : ` export PATH="$PATH:${added}";`;
  return [shell, "-c", `source /build/env-vars;${path} exec "$@"`, "--", ...command];
}
