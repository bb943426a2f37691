/** Constants of the kernel's interface, the same on x86-64 and aarch64 unless said. Names as in the headers. */

export const AT_FDCWD = -100;
export const AT_SYMLINK_FOLLOW = 0x400;
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_EMPTY_PATH = 0x1000;
export const AT_RECURSIVE = 0x8000;
/** unlinkat(2); faccessat2(2). */
export const AT_REMOVEDIR = 0x200;
export const AT_EACCESS = 0x200;

/** open(2). O_DIRECTORY and O_NOFOLLOW differ between architectures: see {@link openFlags}. */
export const O_RDONLY = 0;
export const O_WRONLY = 1;
export const O_RDWR = 2;
export const O_ACCMODE = 3;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
/** A file without a name; to be or-ed with O_DIRECTORY (open(2)). */
export const O_TMPFILE = 0o20000000;
export const O_TRUNC = 0o1000;
export const O_NOCTTY = 0o400;
export const O_NONBLOCK = 0o4000;
export const O_ASYNC = 0o20000;
export const O_CLOEXEC = 0o2000000;
export const O_PATH = 0o10000000;

/** The open(2) flags whose values depend on the architecture (asm/fcntl.h). */
export const openFlags = {
  x64: { O_DIRECTORY: 0o200000, O_NOFOLLOW: 0o400000 },
  arm64: { O_DIRECTORY: 0o40000, O_NOFOLLOW: 0o100000 },
} as const;

/** openat2(2). */
export const RESOLVE_NO_XDEV = 0x01;
export const RESOLVE_NO_MAGICLINKS = 0x02;
export const RESOLVE_NO_SYMLINKS = 0x04;
export const RESOLVE_IN_ROOT = 0x10;

/** clone(2), unshare(2). */
export const CLONE_FLAGS = {
  time: 0x80,
  mount: 0x20000,
  cgroup: 0x2000000,
  uts: 0x4000000,
  ipc: 0x8000000,
  user: 0x10000000,
  pid: 0x20000000,
  network: 0x40000000,
} as const;

/** clone(2), without a new namespace: one memory; directories; one table of descriptors; one of handlers; one process. */
export const CLONE_VM = 0x100;
export const CLONE_FS = 0x200;
export const CLONE_FILES = 0x400;
export const CLONE_SIGHAND = 0x800;
export const CLONE_THREAD = 0x10000;

/** mount(2), umount2(2), the new mount API. */
export const MS_NOSUID = 2;
export const MS_NODEV = 4;
export const MS_REC = 0x4000;
export const MS_PRIVATE = 0x40000;
export const MNT_DETACH = 2;
export const OPEN_TREE_CLONE = 1;
export const MOVE_MOUNT_F_EMPTY_PATH = 0x4;
export const MOVE_MOUNT_T_EMPTY_PATH = 0x40;
export const FSOPEN_CLOEXEC = 1;
export const FSMOUNT_CLOEXEC = 1;
export const FSCONFIG_SET_FLAG = 0;
export const FSCONFIG_SET_STRING = 1;
export const FSCONFIG_CMD_CREATE = 6;
export const MOUNT_ATTR = {
  ro: 0x1,
  nosuid: 0x2,
  nodev: 0x4,
  noexec: 0x8,
  noatime: 0x10,
  idmap: 0x100000,
  nosymfollow: 0x200000,
} as const;
/** A change of the access time setting has to clear the old one (mount_setattr(2)). */
export const MOUNT_ATTR__ATIME = 0x70;

/** signal(7). */
export const SIGNALS = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGKILL: 9,
  SIGUSR1: 10,
  SIGUSR2: 12,
  SIGPIPE: 13,
  SIGALRM: 14,
  SIGTERM: 15,
  SIGCHLD: 17,
  SIGCONT: 18,
  SIGSTOP: 19,
  SIGTSTP: 20,
  SIGTTIN: 21,
  SIGTTOU: 22,
  SIGXFSZ: 25,
  SIGWINCH: 28,
} as const;
export const SIG_BLOCK = 0;
export const SIG_SETMASK = 2;
/** si_code of a signal that the kernel sent, a terminal's among them. */
export const SI_KERNEL = 0x80;
/** si_code of a signal that a descriptor made (F_SETSIG). */
export const POLL_IN = 1;

/** waitid(2). */
export const P_ALL = 0;
export const P_PID = 1;
export const WNOHANG = 1;
export const WSTOPPED = 2;
export const WEXITED = 4;
export const WCONTINUED = 8;
export const WNOWAIT = 0x01000000;
export const CLD_EXITED = 1;
export const CLD_STOPPED = 5;

/** futex(2). */
export const FUTEX_WAIT = 0;
export const FUTEX_WAKE = 1;

/** prctl(2). */
export const PR_SET_PDEATHSIG = 1;
export const PR_GET_PDEATHSIG = 2;
export const PR_SET_DUMPABLE = 4;
export const PR_SET_NAME = 15;
export const PR_GET_NAME = 16;
export const PR_SET_SECCOMP = 22;
export const PR_CAPBSET_DROP = 24;
export const PR_SET_NO_NEW_PRIVS = 38;
export const PR_SET_SECUREBITS = 28;
export const SECCOMP_MODE_FILTER = 2;
export const CLOSE_RANGE_CLOEXEC = 4;

export const CLOCK_MONOTONIC = 1;
export const LOCK_SH = 1;
export const LOCK_EX = 2;
export const LOCK_NB = 4;
export const CLONE_PARENT = 0x8000;
/** The kernel writes the child's pid, 32 bits, to where the third argument says. */
export const CLONE_PARENT_SETTID = 0x100000;
/** When the child ends, the kernel writes 0, 32 bits, to where an argument says, and wakes a futex there. */
export const CLONE_CHILD_CLEARTID = 0x200000;
export const STATX_INO = 0x100;

export const F_GETFL = 3;
export const F_SETFL = 4;
/** faccessat2(2). */
export const W_OK = 2;

export const F_GETFD = 1;
export const F_SETFD = 2;
export const F_SETOWN = 8;
export const F_SETSIG = 10;
export const FD_CLOEXEC = 1;
export const F_DUPFD = 0;
export const F_DUPFD_CLOEXEC = 1030;
export const MFD_CLOEXEC = 1;
export const MFD_EXEC = 0x10;

/** netdevice(7). */
export const AF_INET = 2;
export const SOCK_DGRAM_CLOEXEC = 2 | O_CLOEXEC;
export const SIOCSIFFLAGS = 0x8914;
export const IFF_UP = 0x1;

/** poll(2). */
export const POLLIN = 0x1;
export const POLLOUT = 0x4;
export const POLLERR = 0x8;
export const POLLHUP = 0x10;

/** ioctl_tty(2), asm-generic/ioctls.h. */
export const TCGETS = 0x5401;
export const TCSETS = 0x5402;
export const TCSETSW = 0x5403;
export const TCSBRK = 0x5409;
export const TIOCSCTTY = 0x540e;
export const TIOCGWINSZ = 0x5413;
export const TIOCSWINSZ = 0x5414;
export const TIOCSPTLCK = 0x40045431;
export const TIOCGPTPEER = 0x5441;

/** unix(7): descriptors are passed as ancillary data. */
export const AF_UNIX = 1;
export const SOCK_STREAM_CLOEXEC = 1 | O_CLOEXEC;
export const SOL_SOCKET = 1;
export const SCM_RIGHTS = 1;
export const MSG_CMSG_CLOEXEC = 0x40000000;

/** getrlimit(2), by OCI's names. */
export const RLIMITS: Readonly<Record<string, number>> = {
  RLIMIT_CPU: 0,
  RLIMIT_FSIZE: 1,
  RLIMIT_DATA: 2,
  RLIMIT_STACK: 3,
  RLIMIT_CORE: 4,
  RLIMIT_RSS: 5,
  RLIMIT_NPROC: 6,
  RLIMIT_NOFILE: 7,
  RLIMIT_MEMLOCK: 8,
  RLIMIT_AS: 9,
  RLIMIT_LOCKS: 10,
  RLIMIT_SIGPENDING: 11,
  RLIMIT_MSGQUEUE: 12,
  RLIMIT_NICE: 13,
  RLIMIT_RTPRIO: 14,
  RLIMIT_RTTIME: 15,
};

/** seccomp(2). */
export const SECCOMP_SET_MODE_FILTER = 1;
export const SECCOMP_FLAGS = { SECCOMP_FILTER_FLAG_LOG: 2, SECCOMP_FILTER_FLAG_SPEC_ALLOW: 4 } as const;

/** seccomp_unotify(2). */
export const SECCOMP_FILTER_FLAG_NEW_LISTENER = 0x8;
export const SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 0x20;
export const SECCOMP_IOCTL_NOTIF_RECV = 0xc0502100 | 0;
export const SECCOMP_IOCTL_NOTIF_SEND = 0xc0182101 | 0;
export const SECCOMP_IOCTL_NOTIF_SET_FLAGS = 0x40082104;
export const SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP = 1;

/** mmap(2). */
export const PROT_READ = 1;
export const MAP_SHARED = 1;
export const MAP_FIXED_NOREPLACE = 0x100000;

/** capabilities(7), "The securebits flags". */
export const SECUREBITS = {
  noroot: 0x1,
  "noroot-locked": 0x2,
  "no-setuid-fixup": 0x4,
  "no-setuid-fixup-locked": 0x8,
  "keep-caps-locked": 0x20,
  "no-cap-ambient-raise": 0x40,
  "no-cap-ambient-raise-locked": 0x80,
} as const;

/** landlock(7), linux/landlock.h. */
export const LANDLOCK_CREATE_RULESET_VERSION = 1;
export const LANDLOCK_RULE_PATH_BENEATH = 1;
export const LANDLOCK_FILES = {
  execute: 0x1,
  "write-file": 0x2,
  "read-file": 0x4,
  "read-dir": 0x8,
  "remove-dir": 0x10,
  "remove-file": 0x20,
  "make-char": 0x40,
  "make-dir": 0x80,
  "make-reg": 0x100,
  "make-sock": 0x200,
  "make-fifo": 0x400,
  "make-block": 0x800,
  "make-sym": 0x1000,
  refer: 0x2000,
  truncate: 0x4000,
  "ioctl-dev": 0x8000,
} as const;
export const LANDLOCK_NETWORK = { "bind-tcp": 0x1, "connect-tcp": 0x2 } as const;
export const LANDLOCK_SCOPES = { "abstract-sockets": 0x1, signals: 0x2 } as const;

/** File types of stat(2). */
export const S_IFMT = 0o170000;
export const S_IFCHR = 0o020000;
export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;
export const S_IFLNK = 0o120000;
