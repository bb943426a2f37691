/**
 * The system calls of Linux 6.18, sorted by what hutch's own profiles make of them. Every call of both architectures stands
 * in exactly one of these lists or among the conditional ones of profiles.ts; a test holds that. Data: imports nothing.
 *
 * Where the lists come from: docker's and podman's published profiles and isolate's. What podman's refuses of the calls that
 * it knows is refused here too, and so is what docker's does, with the exceptions that
 * test/process/published-profiles.test.ts names; calls that are newer than both were weighed one by one.
 */

/** A refused group: why is the title. With any of `unless` (capabilities) held it is allowed, as docker does. */
export type RefusedGroup = {
  readonly title: string;
  readonly names: string;
  readonly answer: "EPERM" | "ENOSYS" | "EINVAL";
  readonly unless?: readonly string[];
};

/** Allowed in every profile, whatever the arguments. Needs nobody's trust: the kernel checks ids and capabilities. */
export const ALLOWED: readonly { readonly title: string; readonly names: string }[] = [
  {
    title: "input and output",
    names:
      "close close_range copy_file_range dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 " +
      "epoll_wait eventfd eventfd2 fadvise64 fallocate fcntl fdatasync flock fsync ftruncate lseek pipe pipe2 poll ppoll " +
      "pread64 preadv preadv2 pselect6 pwrite64 pwritev pwritev2 read readahead readv select sendfile sync_file_range " +
      "truncate write writev",
  },
  {
    title: "files and their attributes",
    names:
      "access chdir chmod chown creat faccessat faccessat2 fchdir fchmod fchmodat fchmodat2 fchown fchownat fgetxattr " +
      "file_getattr file_setattr flistxattr fremovexattr fsetxattr fstat fstatfs futimesat getcwd getdents getdents64 " +
      "getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch lchown lgetxattr link linkat " +
      "listxattr listxattrat llistxattr lremovexattr lsetxattr lstat mkdir mkdirat newfstatat open openat openat2 readlink " +
      "readlinkat removexattr removexattrat rename renameat renameat2 rmdir setxattr setxattrat stat statfs statx symlink " +
      "symlinkat umask unlink unlinkat utime utimensat utimes",
  },
  {
    title: "memory",
    names:
      "brk get_mempolicy madvise map_shadow_stack membarrier memfd_create mincore mlock mlock2 mlockall mmap mprotect mremap " +
      "mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect",
  },
  {
    title: "processes and threads",
    names:
      "execve execveat exit exit_group fork futex futex_requeue futex_wait futex_waitv futex_wake get_robust_list " +
      "get_thread_area getcpu getpgid getpgrp getpid getppid getpriority getrlimit getrusage getsid gettid ioprio_get " +
      "ioprio_set kill pause pidfd_open pidfd_send_signal prlimit64 restart_syscall rseq sched_get_priority_max " +
      "sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval " +
      "sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield set_robust_list set_thread_area " +
      "set_tid_address setpgid setpriority setrlimit setsid sysinfo tgkill times tkill uname vfork wait4 waitid",
  },
  {
    title: "users, groups, capabilities, own restrictions",
    names:
      "capget capset getegid geteuid getgid getgroups getresgid getresuid getuid landlock_add_rule landlock_create_ruleset " +
      "landlock_restrict_self setfsgid setfsuid setgid setgroups setregid setresgid setresuid setreuid setuid",
  },
  {
    title: "signals and time",
    names:
      "adjtimex alarm clock_adjtime clock_getres clock_gettime clock_nanosleep getitimer getrandom gettimeofday nanosleep " +
      "rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait " +
      "rt_tgsigqueueinfo setitimer sigaltstack signalfd signalfd4 time timer_create timer_delete timer_getoverrun " +
      "timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime",
  },
  {
    title: "sockets, once made",
    names:
      "accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg sendmsg sendto " +
      "setsockopt shutdown",
  },
];

/** Allowed by default and nested, refused by strict, which a judge can do without. */
export const ALLOWED_UNLESS_STRICT: readonly RefusedGroup[] = [
  {
    title: "System V and POSIX queues, semaphores, shared memory that outlive their process",
    names:
      "mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop " +
      "semtimedop shmat shmctl shmdt shmget",
    answer: "EPERM",
  },
  {
    title: "kernel asynchronous input and output",
    names: "io_cancel io_destroy io_getevents io_setup io_submit",
    answer: "ENOSYS",
  },
  {
    title: "pages moved between pipes and files (every write into a page cache so far)",
    names: "splice tee",
    answer: "EINVAL",
  },
  { title: "writing out other people's files", names: "sync syncfs", answer: "EPERM" },
  {
    title: "rare ways to arrange memory",
    names: "mbind memfd_secret modify_ldt remap_file_pages set_mempolicy set_mempolicy_home_node",
    answer: "EPERM",
  },
  { title: "further filters and their listeners", names: "seccomp", answer: "EPERM" },
  {
    title: "watching and ending other processes",
    names: "fanotify_mark process_mrelease ptrace uprobe uretprobe",
    answer: "EPERM",
  },
];

/** Allowed by nested; by default with the capability; by strict never. */
export const NAMESPACE_GROUPS: readonly RefusedGroup[] = [
  {
    title: "mounts (mount_setattr and open_tree_attr too: landlock does not stop them)",
    names: "fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree open_tree_attr pivot_root umount2",
    answer: "EPERM",
    unless: ["CAP_SYS_ADMIN"],
  },
  { title: "another root directory", names: "chroot", answer: "EPERM", unless: ["CAP_SYS_CHROOT"] },
  { title: "host and domain name", names: "setdomainname sethostname", answer: "EPERM", unless: ["CAP_SYS_ADMIN"] },
  { title: "clone with flags that a filter cannot read; libc falls back to clone", names: "clone3", answer: "ENOSYS" },
];

/** By capability, in default and nested; by strict never. */
export const CAPABILITY_GROUPS: readonly RefusedGroup[] = [
  {
    title: "other processes' memory and descriptors",
    names: "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev",
    answer: "EPERM",
    unless: ["CAP_SYS_PTRACE"],
  },
  { title: "disk quotas", names: "quotactl quotactl_fd", answer: "EPERM", unless: ["CAP_SYS_ADMIN"] },
  { title: "watching a whole file system", names: "fanotify_init", answer: "EPERM", unless: ["CAP_SYS_ADMIN"] },
  { title: "process accounting", names: "acct", answer: "EPERM", unless: ["CAP_SYS_PACCT"] },
  { title: "the kernel's log", names: "syslog", answer: "EPERM", unless: ["CAP_SYSLOG", "CAP_SYS_ADMIN"] },
  { title: "ending the machine", names: "reboot", answer: "EPERM", unless: ["CAP_SYS_BOOT"] },
  { title: "setting the clock", names: "clock_settime settimeofday", answer: "EPERM", unless: ["CAP_SYS_TIME"] },
  { title: "hanging up terminals", names: "vhangup", answer: "EPERM", unless: ["CAP_SYS_TTY_CONFIG"] },
];

/** Refused by every profile, whatever capabilities are held. */
export const REFUSED: readonly RefusedGroup[] = [
  {
    title: "io_uring: operations that no filter sees",
    names: "io_uring_enter io_uring_register io_uring_setup",
    answer: "ENOSYS",
  },
  { title: "keyrings, which no namespace separates", names: "add_key keyctl request_key", answer: "ENOSYS" },
  { title: "programs and probes in the kernel", names: "bpf lookup_dcookie perf_event_open", answer: "EPERM" },
  {
    title: "waiting for asynchronous input and output with another signal mask: podman refuses it",
    names: "io_pgetevents",
    answer: "ENOSYS",
  },
  { title: "page faults held by the program", names: "userfaultfd", answer: "EPERM" },
  { title: "files by handle, past every directory", names: "name_to_handle_at open_by_handle_at", answer: "EPERM" },
  { title: "another kernel", names: "kexec_file_load kexec_load", answer: "EPERM" },
  {
    title: "kernel modules",
    names: "create_module delete_module finit_module get_kernel_syms init_module query_module",
    answer: "EPERM",
  },
  { title: "swap", names: "swapoff swapon", answer: "EPERM" },
  { title: "hardware ports", names: "ioperm iopl", answer: "EPERM" },
  { title: "pages of others and of pipes", names: "migrate_pages move_pages vmsplice", answer: "EPERM" },
  { title: "obsolete", names: "_sysctl nfsservctl sysfs uselib ustat", answer: "EPERM" },
  {
    title: "new ways to look at mounts, security modules, the page cache: nothing needs them yet",
    names: "cachestat listmount lsm_get_self_attr lsm_list_modules lsm_set_self_attr statmount",
    answer: "ENOSYS",
  },
  {
    title: "names that Linux never filled",
    names: "afs_syscall epoll_ctl_old epoll_wait_old getpmsg putpmsg security tuxcall vserver",
    answer: "ENOSYS",
  },
];
