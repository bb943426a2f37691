/**
 * Every default of `hutch run`, in one place. docs/run.md shows them as a table; a test compares the two.
 */

import type { DeviceLayout, NamespaceName } from "./spec.ts";

export const DEFAULT_NAMESPACES: readonly NamespaceName[] = ["user", "mount", "pid", "network", "ipc", "uts", "cgroup"];

export const DEFAULT_HOSTNAME = "hutch";
export const DEFAULT_DOMAINNAME = "(none)";
export const DEFAULT_UMASK = 0o022;
export const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Docker's default capabilities (moby oci/caps/defaults.go) less NET_RAW, MKNOD and AUDIT_WRITE. */
export const DEFAULT_CAPABILITIES: readonly string[] = [
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_FOWNER",
  "CAP_FSETID",
  "CAP_KILL",
  "CAP_SETGID",
  "CAP_SETUID",
  "CAP_SETPCAP",
  "CAP_NET_BIND_SERVICE",
  "CAP_SYS_CHROOT",
  "CAP_SETFCAP",
];

/**
 * Covered by /dev/null or an empty tmpfs (moby oci/defaults.go, podman's pkg/specgen/generate; runtime-spec maskedPaths;
 * boot_id tells one host from another). Those of /sys where ROOT or a volume shows it: a sandbox has none of its own.
 */
export const MASKED_PATHS: readonly string[] = [
  "/proc/acpi",
  "/proc/asound",
  "/proc/interrupts",
  "/proc/kcore",
  "/proc/keys",
  "/proc/kmsg",
  "/proc/latency_stats",
  "/proc/sched_debug",
  "/proc/scsi",
  "/proc/sys/kernel/random/boot_id",
  "/proc/timer_list",
  "/proc/timer_stats",
  "/sys/dev/block",
  "/sys/devices/virtual/powercap",
  "/sys/firmware",
  "/sys/fs/selinux",
];

/** Bound read-only on themselves (moby oci/defaults.go, runtime-spec readonlyPaths). */
export const READONLY_PATHS: readonly string[] = [
  "/proc/bus",
  "/proc/fs",
  "/proc/irq",
  "/proc/sys",
  "/proc/sysrq-trigger",
];

/** Device nodes of /dev, bound from the host's (runtime-spec config-linux.md, "Default Devices"). */
export const DEVICES: readonly string[] = ["null", "zero", "full", "random", "urandom", "tty"];

/** Their numbers (Linux's devices.txt): a host file of that name which is something else is not taken for them. */
export const DEVICE_NUMBERS: Readonly<Record<string, readonly [major: number, minor: number]>> = {
  null: [1, 3],
  zero: [1, 5],
  full: [1, 7],
  random: [1, 8],
  urandom: [1, 9],
  tty: [5, 0],
  kvm: [10, 232],
};

/** Links of /dev (runtime-spec config-linux.md, "Dev symbolic links"). */
export const DEVICE_LINKS: readonly (readonly [name: string, target: string])[] = [
  ["fd", "/proc/self/fd"],
  ["stdin", "/proc/self/fd/0"],
  ["stdout", "/proc/self/fd/1"],
  ["stderr", "/proc/self/fd/2"],
  ["ptmx", "pts/ptmx"],
];

/** OCI's /dev, of the two lists above. */
export const DEFAULT_DEVICES: DeviceLayout = {
  devices: DEVICES,
  links: DEVICE_LINKS,
  bindsPtmx: false,
  shm: { options: { mode: "1777", size: "65536k" }, attributes: ["nosuid", "nodev", "noexec"] },
};

/** Directories that a scratch root has, with their modes. */
export const SCRATCH_DIRECTORIES: readonly (readonly [path: string, mode: number])[] = [
  ["/etc", 0o755],
  ["/home", 0o755],
  ["/root", 0o700],
  ["/run", 0o755],
  ["/tmp", 0o1777],
  ["/var", 0o755],
  ["/var/tmp", 0o1777],
];

/** Files that a scratch root has. */
export function scratchFiles(hostname: string): readonly (readonly [path: string, content: string])[] {
  return [
    ["/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"],
    ["/etc/group", "root:x:0:\nnogroup:x:65534:\n"],
    ["/etc/hosts", `127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.0.1\t${hostname}\n`],
    ["/etc/hostname", `${hostname}\n`],
    ["/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nservices: files\n"],
  ];
}

/**
 * Where ids go when root starts a sandbox and neither /etc/subuid nor /etc/subgid names a range for root or
 * `containers`: the first one above those that systemd gives to containers (0x80000 to 0x6fffffff, uids-gids.md).
 */
export const FALLBACK_RANGE = { start: 1_879_048_192, size: 65_536 } as const;
