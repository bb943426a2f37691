/** Hand-written machines and Specs for tests of what is pure: nothing here asks the real machine. */

import {
  DEFAULT_CAPABILITIES,
  DEFAULT_NAMESPACES,
  MASKED_PATHS,
  READONLY_PATHS,
  SCRATCH_DIRECTORIES,
  scratchFiles,
} from "../src/defaults.ts";
import type { HostFacts } from "../src/facts.ts";
import type { HostPath, Mount, MountAttribute, Process, SandboxPath, Spec } from "../src/spec.ts";

export const host = (path: string): HostPath => path as HostPath;
export const inside = (path: string): SandboxPath => path as SandboxPath;

/** Directories and files that exist on the hand-written machines. */
const KINDS = new Map([
  ["/srv/root", "directory"],
  ["/srv/layer", "directory"],
  ["/", "directory"],
  ["/data", "directory"],
  ["/data/file", "file"],
  ["/usr/bin/true", "file"],
  ["/usr/lib/libc.so.6", "file"],
  ["/usr/lib/ld-linux.so.2", "file"],
] as const);

const FACTS: HostFacts = {
  kernel: 6_018,
  tmpfsAttributes: true,
  uid: 1000,
  gid: 1000,
  root: false,
  ranges: undefined,
  mappers: { uid: "/usr/bin/newuidmap", gid: "/usr/bin/newgidmap" },
  groups: [],
  landlock: 7,
  terminal: false,
  workspace: "/tmp",
  kinds: KINDS,
  unseen: new Map(),
  owners: new Map([
    ["/srv/root", 0],
    ["/data", 1000],
  ]),
  mountsBelow: new Map(),
  nofile: { soft: 1024, hard: 4096 },
};

/** An ordinary user; one whose subordinate ranges were asked for; the machine's root. */
export const HOSTS = {
  user: FACTS,
  ranges: { ...FACTS, ranges: { uid: { start: 100_000, size: 65_536 }, gid: { start: 200_000, size: 65_536 } } },
  root: {
    ...FACTS,
    uid: 0,
    gid: 0,
    root: true,
    ranges: { uid: { start: 524_288, size: 65_536 }, gid: { start: 589_824, size: 65_536 } },
  },
} as const satisfies Record<string, HostFacts>;

/** A filter of one instruction: allow (BPF_RET | BPF_K, SECCOMP_RET_ALLOW). */
export const ALLOW_ALL = Uint8Array.of(6, 0, 0, 0, 0, 0, 0xff, 0x7f);

const PROCESS: Process = {
  args: ["true"],
  env: ["PATH=/usr/bin:/bin"],
  searchPath: ["/usr/bin", "/bin"],
  cwd: inside("/"),
  uid: 0,
  gid: 0,
  additionalGids: [],
  umask: 0o022,
  capabilities: DEFAULT_CAPABILITIES,
  rlimits: [],
  noNewPrivileges: true,
  seccomp: ALLOW_ALL,
  preserveFds: 0,
};

const BASE: Spec = {
  root: { kind: "overlay", lower: [host("/srv/root")], from: "/srv/root" },
  process: PROCESS,
  hostname: "hutch",
  domainname: "(none)",
  mounts: [
    { type: "proc", destination: inside("/proc"), from: "default" },
    { type: "dev", destination: inside("/dev"), from: "default" },
  ],
  namespaces: DEFAULT_NAMESPACES,
  idMap: "default",
  timeOffsets: undefined,
  maskedPaths: MASKED_PATHS.slice(0, 2),
  readonlyPaths: READONLY_PATHS.slice(0, 2),
  init: true,
  words: {},
};

/** A Spec as `hutch run /srv/root true` makes it, with a few masked paths only; `changes` replace its fields. */
export function specOf(changes: Partial<Omit<Spec, "process">> & { readonly process?: Partial<Process> } = {}): Spec {
  return { ...BASE, ...changes, process: { ...PROCESS, ...changes.process } };
}

/** What every scratch root begins with, then `more`. */
export function scratchMounts(more: readonly Mount[] = []): readonly Mount[] {
  const from = "default";
  return [
    ...SCRATCH_DIRECTORIES.map(([path, mode]): Mount => ({ type: "directory", destination: inside(path), mode, from })),
    ...scratchFiles("hutch").map(([path, content]): Mount => ({
      type: "file",
      destination: inside(path),
      content,
      mode: 0o644,
      from,
    })),
    ...BASE.mounts,
    ...more,
  ];
}

/** A bind mount as `-v source:destination:attributes` makes it. */
export function volume(source: string, destination: string, attributes: readonly MountAttribute[] = []): Mount {
  const from = `-v ${[source, destination, ...attributes].join(":")}`;
  const idmap = attributes.includes("ro");
  return { type: "bind", source: host(source), destination: inside(destination), attributes, idmap, from };
}

/** A tmpfs as `--tmpfs destination` makes it. */
export function tmpfs(destination: string): Mount {
  const options = { mode: "1777" };
  const attributes = ["nosuid", "nodev"] as const;
  return { type: "tmpfs", destination: inside(destination), options, attributes, from: `--tmpfs ${destination}` };
}

/** The Specs that plans are shown for, by what is special about them. */
export const SPECS: Readonly<Record<string, Spec>> = {
  scratch: specOf({ root: { kind: "scratch", readonly: false, from: "scratch" }, mounts: scratchMounts() }),
  "scratch, read-only": specOf({ root: { kind: "scratch", readonly: true, from: "scratch" } }),
  overlay: specOf(),
  "overlay of two layers": specOf({
    root: { kind: "overlay", lower: [host("/srv/layer"), host("/srv/root")], from: "image" },
  }),
  "read-only": specOf({ root: { kind: "bind", path: host("/"), readonly: true, from: "--read-only /" } }),
  writable: specOf({ root: { kind: "bind", path: host("/srv/root"), readonly: false, from: "--writable /srv/root" } }),
  volumes: specOf({
    mounts: [
      ...BASE.mounts,
      tmpfs("/scratch"),
      volume("/data", "/scratch/data", ["ro"]),
      volume("/data/file", "/etc/file", ["noexec"]),
      volume("/data", "/data"),
    ],
  }),
  add: specOf({
    root: { kind: "scratch", readonly: false, from: "scratch" },
    mounts: [
      ...BASE.mounts,
      ...["/usr/bin/true", "/usr/lib/libc.so.6", "/usr/lib/ld-linux.so.2"].map((path): Mount => ({
        type: "bind",
        source: host(path),
        destination: inside(path),
        attributes: ["ro", "nosuid", "nodev"],
        idmap: false,
        from: "--add",
      })),
      { type: "symlink", destination: inside("/lib"), target: "usr/lib", from: "--add" },
    ],
  }),
  "denials told": specOf({ process: { explainDenials: true } }),
  "all of a process": specOf({
    process: {
      args: ["/bin/app", "--flag", "two words"],
      argv0: "app",
      env: ["A=1"],
      cwd: inside("/jobs/dir"),
      uid: 0,
      gid: 0,
      rlimits: [
        { type: "RLIMIT_NOFILE", soft: 64, hard: 128 },
        { type: "RLIMIT_CORE", soft: 0, hard: Number.POSITIVE_INFINITY },
      ],
      capabilities: [],
      preserveFds: 2,
      umask: 0o077,
    },
    namespaces: ["user", "mount", "pid", "ipc", "uts", "cgroup", "time"],
    timeOffsets: { monotonic: -5, boottime: 3600 },
    hostname: "box",
    domainname: "example.org",
    init: false,
    words: {
      hostname: "--hostname box",
      domainname: "--domainname example.org",
      cwd: "-w /jobs/dir",
      timeOffsets: "--time-offset monotonic=-5,boottime=3600",
      capabilities: "--cap-drop ALL",
      preserveFds: "--preserve-fds 2",
      RLIMIT_NOFILE: "--ulimit nofile=64:128",
      RLIMIT_CORE: "--ulimit core=0:unlimited",
    },
  }),
};
