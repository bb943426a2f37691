/**
 * Refused system calls in words, for people. Sources: the man page of each call, linux/sched.h, linux/mount.h,
 * linux/prctl.h, linux/personality.h, asm-generic/ioctls.h, linux/ptrace.h, bits/socket.h. Pure.
 */

import type { Arch } from "../libc/syscalls.ts";
import { ARCHITECTURES } from "./seccomp.ts";
import { syscallNumbers } from "./syscall-numbers.ts";

/** The low 32 bits of an argument to its text. */
type Decoder = (value: number) => string;

interface Shape {
  /** How many arguments the call has. */
  readonly arity: number;
  /** Those that are told, by their index; at most three. */
  readonly told: Readonly<Record<number, Decoder>>;
}

const hex: Decoder = (value) => `0x${value.toString(16)}`;

/** A word for each value, else the number. */
function oneOf(words: Readonly<Record<string, number>>): Decoder {
  return (value) => Object.entries(words).find(([, number]) => number >>> 0 === value)?.[0] ?? hex(value);
}

/** Words for bits, joined by `|`, and what is left as a number; `first` reads the bits that are no flags. */
function flags(words: Readonly<Record<string, number>>, first?: readonly [mask: number, decoder: Decoder]): Decoder {
  return (value) => {
    const named = first === undefined ? [] : [first[1]((value & first[0]) >>> 0)];
    let rest = first === undefined ? value : (value & ~first[0]) >>> 0;
    for (const [word, bit] of Object.entries(words)) {
      if ((rest & bit) >>> 0 !== bit >>> 0) continue;
      named.push(word);
      rest = (rest & ~bit) >>> 0;
    }
    return rest === 0 && named.length > 0 ? named.join("|") : [...named, hex(rest)].join("|");
  };
}

/** `NAME …` in order of their numbers from `first` on; `-` leaves one out. */
function row(prefix: string, names: string, first = 0): Readonly<Record<string, number>> {
  const numbered = names.split(" ").map((name, index) => [prefix + name, first + index] as const);
  return Object.fromEntries(numbered.filter(([name]) => !name.endsWith("-")));
}

const FAMILY = oneOf(
  row(
    "AF_",
    "UNSPEC UNIX INET AX25 IPX APPLETALK NETROM BRIDGE ATMPVC X25 INET6 ROSE DECnet NETBEUI SECURITY KEY NETLINK PACKET ASH " +
      "ECONET ATMSVC RDS SNA IRDA PPPOX WANPIPE LLC IB MPLS CAN TIPC BLUETOOTH IUCV RXRPC ISDN PHONET IEEE802154 CAIF ALG NFC " +
      "VSOCK KCM QIPCRTR SMC XDP MCTP",
  ),
);
const TYPE = flags({ SOCK_NONBLOCK: 0o4000, SOCK_CLOEXEC: 0o2000000 }, [
  0xf,
  oneOf(row("SOCK_", "STREAM DGRAM RAW RDM SEQPACKET DCCP - - - PACKET", 1)),
]);
const NAMESPACES = {
  CLONE_NEWNS: 0x00020000,
  CLONE_NEWCGROUP: 0x02000000,
  CLONE_NEWUTS: 0x04000000,
  CLONE_NEWIPC: 0x08000000,
  CLONE_NEWUSER: 0x10000000,
  CLONE_NEWPID: 0x20000000,
  CLONE_NEWNET: 0x40000000,
};
const UNSHARED = flags({
  ...NAMESPACES,
  ...{ CLONE_NEWTIME: 0x80, CLONE_VM: 0x100, CLONE_FS: 0x200, CLONE_FILES: 0x400, CLONE_SIGHAND: 0x800 },
  ...{ CLONE_THREAD: 0x10000, CLONE_SYSVSEM: 0x40000 },
});
const SIGNAL: Decoder = (value) => (value === 17 ? "SIGCHLD" : hex(value));
const CLONED = flags(
  {
    ...NAMESPACES,
    ...{ CLONE_VM: 0x100, CLONE_FS: 0x200, CLONE_FILES: 0x400, CLONE_SIGHAND: 0x800, CLONE_PIDFD: 0x1000 },
    ...{
      CLONE_PTRACE: 0x2000,
      CLONE_VFORK: 0x4000,
      CLONE_PARENT: 0x8000,
      CLONE_THREAD: 0x10000,
      CLONE_SYSVSEM: 0x40000,
    },
    ...{ CLONE_SETTLS: 0x80000, CLONE_PARENT_SETTID: 0x100000, CLONE_CHILD_CLEARTID: 0x200000 },
    ...{ CLONE_UNTRACED: 0x800000, CLONE_CHILD_SETTID: 0x1000000 },
  },
  [0xff, SIGNAL],
);
const MOUNTED = flags({
  ...{ MS_RDONLY: 1, MS_NOSUID: 2, MS_NODEV: 4, MS_NOEXEC: 8, MS_SYNCHRONOUS: 16, MS_REMOUNT: 32, MS_MANDLOCK: 64 },
  ...{ MS_DIRSYNC: 128, MS_NOSYMFOLLOW: 256, MS_NOATIME: 1024, MS_NODIRATIME: 2048, MS_BIND: 4096, MS_MOVE: 8192 },
  ...{ MS_REC: 16384, MS_SILENT: 32768, MS_UNBINDABLE: 1 << 17, MS_PRIVATE: 1 << 18, MS_SLAVE: 1 << 19 },
  ...{ MS_SHARED: 1 << 20, MS_RELATIME: 1 << 21, MS_STRICTATIME: 1 << 24, MS_LAZYTIME: 1 << 25 },
});
const UNMOUNTED = flags({ MNT_FORCE: 1, MNT_DETACH: 2, MNT_EXPIRE: 4, UMOUNT_NOFOLLOW: 8 });
const REQUEST = oneOf({ TIOCSTI: 0x5412, TIOCLINUX: 0x541c, TIOCCONS: 0x541d, TIOCSETD: 0x5423 });
const PROCESS = oneOf({
  ...row(
    "PR_",
    "SET_PDEATHSIG GET_PDEATHSIG GET_DUMPABLE SET_DUMPABLE GET_UNALIGN SET_UNALIGN GET_KEEPCAPS SET_KEEPCAPS",
    1,
  ),
  ...row("PR_", "SET_NAME GET_NAME", 15),
  ...row("PR_", "GET_SECCOMP SET_SECCOMP CAPBSET_READ CAPBSET_DROP GET_TSC SET_TSC GET_SECUREBITS SET_SECUREBITS", 21),
  ...row("PR_", "SET_TIMERSLACK GET_TIMERSLACK", 29),
  ...row("PR_", "SET_MM SET_CHILD_SUBREAPER GET_CHILD_SUBREAPER SET_NO_NEW_PRIVS GET_NO_NEW_PRIVS", 35),
  ...row("PR_", "GET_TID_ADDRESS SET_THP_DISABLE GET_THP_DISABLE", 40),
  ...{
    PR_CAP_AMBIENT: 47,
    PR_SET_IO_FLUSHER: 57,
    PR_SCHED_CORE: 62,
    PR_SET_PTRACER: 0x59616d61,
    PR_SET_VMA: 0x53564d41,
  },
});
const PERSONALITY: Decoder = (value) => (value === 0xffffffff ? hex(value) : PERSONALITY_FLAGS(value));
const PERSONALITY_FLAGS = flags(
  {
    ...{ UNAME26: 0x20000, ADDR_NO_RANDOMIZE: 0x40000, FDPIC_FUNCPTRS: 0x80000, MMAP_PAGE_ZERO: 0x100000 },
    ...{ ADDR_COMPAT_LAYOUT: 0x200000, READ_IMPLIES_EXEC: 0x400000, ADDR_LIMIT_32BIT: 0x800000 },
    ...{ SHORT_INODE: 0x1000000, WHOLE_SECONDS: 0x2000000, STICKY_TIMEOUTS: 0x4000000, ADDR_LIMIT_3GB: 0x8000000 },
  },
  [0xff, oneOf({ PER_LINUX: 0, PER_LINUX32: 8 })],
);
const TRACED = oneOf({
  ...row("PTRACE_", "TRACEME PEEKTEXT PEEKDATA PEEKUSER POKETEXT POKEDATA POKEUSER CONT KILL SINGLESTEP"),
  ...row("PTRACE_", "ATTACH DETACH", 16),
  ...row("PTRACE_", "SEIZE INTERRUPT", 0x4206),
});
const FILTERED = oneOf(row("SECCOMP_", "SET_MODE_STRICT SET_MODE_FILTER GET_ACTION_AVAIL GET_NOTIF_SIZES"));
const FILTER_FLAGS = flags(
  Object.fromEntries(
    ["TSYNC", "LOG", "SPEC_ALLOW", "NEW_LISTENER", "TSYNC_ESRCH", "WAIT_KILLABLE_RECV"].map((name, index) => [
      `SECCOMP_FILTER_FLAG_${name}`,
      1 << index,
    ]),
  ),
);
const octal: Decoder = (value) => `0${value.toString(8)}`;
const KIND = flags({}, [
  0o170000,
  oneOf({ S_IFREG: 0o100000, S_IFCHR: 0o020000, S_IFBLK: 0o060000, S_IFIFO: 0o010000, S_IFSOCK: 0o140000 }),
]);
const MODE: Decoder = (value) => KIND((value & 0o170000) >>> 0).replace(/\|0x0$/, "") + `|${octal(value & 0o7777)}`;
const PROGRAMS = oneOf(
  row(
    "BPF_",
    "MAP_CREATE MAP_LOOKUP_ELEM MAP_UPDATE_ELEM MAP_DELETE_ELEM MAP_GET_NEXT_KEY PROG_LOAD OBJ_PIN OBJ_GET PROG_ATTACH PROG_DETACH",
  ),
);
const KEYS = oneOf(
  row(
    "KEYCTL_",
    "GET_KEYRING_ID JOIN_SESSION_KEYRING UPDATE REVOKE CHOWN SETPERM DESCRIBE CLEAR LINK UNLINK SEARCH READ",
  ),
);

/** Calls whose arguments mean something to people. */
const SHAPES: Readonly<Record<string, Shape>> = {
  socket: { arity: 3, told: { 0: FAMILY, 1: TYPE, 2: hex } },
  socketpair: { arity: 4, told: { 0: FAMILY, 1: TYPE, 2: hex } },
  clone: { arity: 5, told: { 0: CLONED } },
  unshare: { arity: 1, told: { 0: UNSHARED } },
  setns: { arity: 2, told: { 1: UNSHARED } },
  mount: { arity: 5, told: { 3: MOUNTED } },
  umount2: { arity: 2, told: { 1: UNMOUNTED } },
  ioctl: { arity: 3, told: { 1: REQUEST } },
  prctl: { arity: 5, told: { 0: PROCESS } },
  personality: { arity: 1, told: { 0: PERSONALITY } },
  ptrace: { arity: 4, told: { 0: TRACED } },
  seccomp: { arity: 3, told: { 0: FILTERED, 1: FILTER_FLAGS } },
  mknod: { arity: 3, told: { 1: MODE } },
  mknodat: { arity: 4, told: { 2: MODE } },
  bpf: { arity: 3, told: { 0: PROGRAMS } },
  keyctl: { arity: 5, told: { 0: KEYS } },
};

/** How many arguments the other calls have that hutch's own profiles refuse. */
const ARITIES: Readonly<Record<string, number>> = Object.fromEntries(
  [
    "vhangup sync",
    "acct chroot io_destroy iopl memfd_secret mq_unlink shmdt swapoff syncfs uselib userfaultfd",
    "clock_settime clone3 create_module delete_module fanotify_init fsopen io_setup io_uring_setup mq_notify msgget " +
      "pivot_root process_mrelease setdomainname sethostname settimeofday swapon ustat",
    "finit_module fsmount fspick init_module io_cancel io_submit ioperm lookup_dcookie lsm_list_modules modify_ldt " +
      "mq_getsetattr msgctl open_by_handle_at open_tree pidfd_getfd semget semop set_mempolicy shmat shmctl shmget sysfs syslog",
    "cachestat io_uring_register kexec_load listmount lsm_get_self_attr lsm_set_self_attr migrate_pages mq_open msgsnd quotactl " +
      "quotactl_fd reboot request_key semctl semtimedop set_mempolicy_home_node statmount tee vmsplice",
    "add_key fanotify_mark fsconfig io_getevents kcmp kexec_file_load mount_setattr move_mount mq_timedreceive " +
      "mq_timedsend msgrcv name_to_handle_at open_tree_attr perf_event_open process_madvise remap_file_pages",
  ].flatMap((names, arity) => names.split(" ").map((name) => [name, arity])),
);

/** The arguments that make a call of a kind of its own, by the call's name: indices, at most three. */
export const TOLD_ARGUMENTS: Readonly<Record<string, readonly number[]>> = Object.fromEntries(
  Object.entries(SHAPES).map(([name, { told }]) => [name, Object.keys(told).map(Number)]),
);

/** A call as the kernel has it: `nr` signed, `arch` an AUDIT_ARCH_ number, six arguments of 64 bits. */
export interface Call {
  readonly nr: number;
  readonly arch: number;
  readonly args: readonly bigint[];
}

/** The name of a call of this machine's own architecture, or undefined. */
export function callName({ nr, arch }: Pick<Call, "nr" | "arch">, machine: Arch): string | undefined {
  if (arch !== ARCHITECTURES[machine].audit) return undefined;
  for (const [name, number] of syscallNumbers(machine)) if (number === nr) return name;
  return undefined;
}

/**
 * A call as text: `socket(AF_PACKET, SOCK_RAW, 0x300)`, `mount(…, MS_BIND, …)`. Arguments without a word of their own are
 * hexadecimal numbers: as many as the call has where that is known, else all six, whatever they are.
 */
export function callText(call: Call, machine: Arch): string {
  const name = callName(call, machine);
  if (name === undefined) return `${strangeName(call, machine)}(…)`;
  const low = (index: number) => Number((call.args[index] ?? 0n) & 0xffffffffn);
  const shape = SHAPES[name];
  if (shape === undefined) {
    const shown = call.args.slice(0, ARITIES[name] ?? call.args.length);
    return `${name}(${shown.map((value) => `0x${value.toString(16)}`).join(", ")})`;
  }
  const words = Array.from({ length: shape.arity }, (_, index) => shape.told[index]?.(low(index)) ?? "…");
  return `${name}(${words.filter((word, index) => word !== "…" || words[index - 1] !== "…").join(", ")})`;
}

function strangeName({ nr, arch }: Call, machine: Arch): string {
  if (arch !== ARCHITECTURES[machine].audit) return `${machine === "x64" ? "i386" : "arm"} system call ${nr}`;
  const x32 = machine === "x64" && nr >= 0x40000000;
  return x32 ? `x32 system call ${nr - 0x40000000}` : `system call ${nr}`;
}
