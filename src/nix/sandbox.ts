/**
 * The sandbox that Nix gives a builder, as a Spec: nix's `local-derivation-goal.cc` and what the course's assignment
 * asks for. Pure: what it must know of the machine comes in.
 */

import type { DeviceLayout, HostPath, Mount, NamespaceName, Process, SandboxPath, Spec } from "../spec.ts";

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
  /** Host path of what is /nix inside. */
  readonly nix: HostPath;
  /** Directories below /nix that are covered by empty ones: those of sockets, which a read-only mount does not close. */
  readonly covered: readonly string[];
  /** Host path of env-vars' SHELL, which is /bin/sh. */
  readonly shell: HostPath;
  /** Host path of the directory that is /build. */
  readonly build: HostPath;
  /** Whether the host has /dev/kvm. */
  readonly kvm: boolean;
  /** The caller's ids. */
  readonly uid: number;
  readonly gid: number;
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
  /** The user's words, by the Spec's field. */
  readonly words: Readonly<Record<string, string>>;
}

const inside = (path: string): SandboxPath => path as SandboxPath;

/** The Spec of a build's sandbox: its ids, names and files are Nix's, its only writable places /build, /tmp and /dev/shm. */
export function buildSandbox(build: BuildSandbox): Spec {
  return {
    root: { kind: "scratch", readonly: false, from: "default" },
    process: buildProcess(build),
    hostname: "localhost",
    domainname: "(none)",
    mounts: buildMounts(build),
    namespaces: NAMESPACES.filter((name) => name !== "network" || !build.hostNetwork),
    idMap: {
      uidMappings: [{ containerID: BUILD_UID, hostID: build.uid, size: 1 }],
      gidMappings: [{ containerID: BUILD_GID, hostID: build.gid, size: 1 }],
    },
    timeOffsets: undefined,
    maskedPaths: build.maskedPaths,
    readonlyPaths: build.readonlyPaths,
    init: false,
    words: build.words,
  };
}

function buildProcess({ args, env, seccomp }: BuildSandbox): Process {
  return {
    args,
    env,
    searchPath: [],
    cwd: BUILD_TOP,
    uid: BUILD_UID,
    gid: BUILD_GID,
    additionalGids: [],
    umask: 0o022,
    capabilities: [],
    rlimits: [],
    noNewPrivileges: true,
    seccomp,
    preserveFds: 0,
  };
}

function buildMounts({ nix, covered, shell, build, kvm, more }: BuildSandbox): readonly Mount[] {
  const from = "default";
  const readonly = ["ro", "nosuid", "nodev"] as const;
  const layout: DeviceLayout = {
    devices: kvm ? [...DEVICES, "kvm"] : DEVICES,
    links: LINKS,
    bindsPtmx: true,
    shm: { options: { mode: "1777", size: "50%" }, attributes: ["nosuid", "nodev"] },
  };
  return [
    { type: "directory", destination: inside("/tmp"), mode: 0o1777, from },
    ...BUILD_FILES.map(([path, content]): Mount => ({
      type: "file",
      destination: inside(path),
      content,
      mode: 0o644,
      from,
    })),
    { type: "proc", destination: inside("/proc"), from },
    { type: "dev", destination: inside("/dev"), layout, from },
    { type: "bind", source: nix, destination: inside("/nix"), attributes: readonly, idmap: false, from },
    ...covered.map((path): Mount => ({
      type: "tmpfs",
      destination: inside(path),
      attributes: [...readonly, "noexec"],
      options: { mode: "755", nr_inodes: "2" },
      from,
    })),
    { type: "bind", source: shell, destination: inside("/bin/sh"), attributes: readonly, idmap: false, from: "SHELL" },
    { type: "bind", source: build, destination: BUILD_TOP, attributes: ["nosuid", "nodev"], idmap: false, from },
    ...more,
  ];
}

/** What the shell is started with for a command: the variables are sourced, then the command takes the shell's place. */
export function commandArguments(shell: string, command: readonly string[]): readonly string[] {
  return [shell, "-c", 'source /build/env-vars; exec "$@"', "--", ...command];
}
