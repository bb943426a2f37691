/**
 * Advice for errnos that mislead: which step, which call, which errno → what it means here and what mends it. Sources:
 * the man page of each call, and what was seen on real machines.
 */

import type { Step } from "../step.ts";

interface Hint {
  readonly op: readonly Step["op"][];
  readonly errno: readonly string[];
  readonly call?: string;
  readonly text: string;
}

const NO_USER_NAMESPACES =
  "user namespaces are forbidden here: sysctl user.max_user_namespaces=15000 (ENOSPC), kernel.unprivileged_userns_clone=1 (Debian), kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu 24.04), or run outside of the container that forbids them";

const HINTS: readonly Hint[] = [
  {
    op: ["clone", "hold-ids"],
    call: "clone",
    errno: ["EPERM", "ENOSPC", "EUSERS", "EACCES"],
    text: NO_USER_NAMESPACES,
  },
  { op: ["clone"], errno: ["EINVAL"], text: "the kernel lacks one of these namespaces" },
  { op: ["clone", "hold-ids"], errno: ["EAGAIN"], text: "too many processes: see ulimit -u" },
  { op: ["map-ids"], errno: ["EPERM", "EACCES"], text: NO_USER_NAMESPACES },
  {
    op: ["hold-ids"],
    call: "close",
    errno: ["EBADF"],
    text: "see /etc/subuid and /etc/subgid; newuidmap must be setuid or have CAP_SETUID (Debian: uidmap)",
  },
  { op: ["hold-ids"], call: "write", errno: ["EPERM"], text: "the ids are not all there in this user namespace" },
  { op: ["private-mounts", "leave-mounts"], errno: ["EPERM", "EACCES"], text: NO_USER_NAMESPACES },
  {
    op: ["open-tree"],
    call: "mount_setattr",
    errno: ["EINVAL", "EOPNOTSUPP"],
    text: "this file system cannot show its files under other owners (idmapped mounts): use ext4, xfs, btrfs or, from Linux 6.3, tmpfs, or run as an ordinary user",
  },
  {
    op: ["open-tree"],
    call: "mount_setattr",
    errno: ["EPERM"],
    text: "the mount is already idmapped, or locked by another user namespace",
  },
  {
    op: ["open-tree"],
    call: "open_tree",
    errno: ["EINVAL"],
    text: "mounts below it are locked: it can only be taken with them",
  },
  {
    op: ["open-tree", "open-directory"],
    errno: ["EACCES"],
    text: "a directory on the way may not be entered by this user",
  },
  {
    op: ["new-filesystem"],
    errno: ["EPERM"],
    text: "the kernel mounts proc only where the present one is fully visible: a container that covers parts of /proc forbids it (docker: --security-opt systempaths=unconfined)",
  },
  {
    op: ["overlay"],
    errno: ["EBUSY"],
    text: "the layer is still mounted: by a sandbox that is ending, or held by a process outside (a descriptor, a working directory): end that and try again",
  },
  {
    op: ["overlay"],
    call: "fsconfig",
    errno: ["EPERM", "ENODEV"],
    text: "no overlay in user namespaces here: Linux 5.11 or newer with the overlay module loaded; use --read-only",
  },
  {
    op: ["overlay"],
    call: "fsconfig",
    errno: ["EINVAL"],
    text: "the directory or a tmpfs cannot be an overlay's layer here (mounts below it, or no user.* attributes on tmpfs before Linux 6.6): use --read-only",
  },
  {
    op: ["overlay"],
    call: "fsconfig",
    errno: ["ELOOP", "ENOTSUP", "EOPNOTSUPP"],
    text: "an overlay of overlays: too deep here; use --read-only",
  },
  {
    op: ["attach", "directory"],
    call: "openat2",
    errno: ["ENOENT"],
    text: "the target is missing, and hutch makes targets only in a root of its own: make it, or choose an existing one",
  },
  {
    op: ["attach"],
    call: "openat2",
    errno: ["ELOOP"],
    text: "the target is a symbolic link in the root; it must be a real directory",
  },
  {
    op: ["mask", "read-only"],
    call: "openat2",
    errno: ["ELOOP"],
    text: "a symbolic link of the root is in the way of what must be covered: use a root where /sys is a directory, or none",
  },
  {
    op: ["attach", "directory", "file", "symlink"],
    call: "mkdirat",
    errno: ["EACCES", "EOVERFLOW", "EPERM"],
    text: "the directory above belongs to somebody else, so nothing can be made in it: use a root that you own (a copy), or scratch",
  },
  {
    op: ["attach", "directory", "file"],
    call: "openat",
    errno: ["EACCES", "EOVERFLOW", "EPERM"],
    text: "the directory above belongs to somebody else, so nothing can be made in it: use a root that you own (a copy), or scratch",
  },
  {
    op: ["attach", "directory", "file"],
    call: "mkdirat",
    errno: ["EEXIST"],
    text: "a dangling symbolic link, or a path that leads through another mount, is in the way",
  },
  {
    op: ["attach"],
    call: "move_mount",
    errno: ["ENOTDIR", "EINVAL"],
    text: "a directory can only be mounted on a directory, and a file on a file",
  },
  {
    op: ["chdir"],
    errno: ["ENOENT", "ENOTDIR", "EACCES"],
    text: "the working directory must exist in the root and be open to the user",
  },
  {
    op: ["chdir"],
    errno: ["ELOOP"],
    text: "a working directory may not lead through a link of /proc: it could be outside of the root",
  },
  { op: ["chdir"], call: "close", errno: ["EBADF"], text: "the working directory is outside of the root" },
  {
    op: ["open-tree", "open-null"],
    call: "close",
    errno: ["EBADF"],
    text: "it is not the device of this name: mend /dev (mknod -m 666 /dev/null c 1 3)",
  },
  { op: ["check-groups"], call: "close", errno: ["EBADF"], text: "groups of the caller's were left, which is a bug" },
  { op: ["landlock"], errno: ["ENOSYS", "EOPNOTSUPP", "E2BIG"], text: "landlock has gone since it was asked for" },
  { op: ["rlimit"], errno: ["EPERM"], text: "no more than the caller's hard limit can be given" },
  { op: ["set-ids"], errno: ["EINVAL"], text: "this id is not mapped in the sandbox" },
  {
    op: ["time-offsets"],
    errno: ["EINVAL", "ENOSYS", "ERANGE"],
    text: "time namespaces need Linux 5.6 and offsets that leave the clocks positive",
  },
  { op: ["pivot"], errno: ["EINVAL"], text: "pivot_root cannot leave an initramfs: switch_root to a tmpfs first" },
  {
    op: ["seccomp"],
    call: "clone",
    errno: ["EAGAIN"],
    text: "--explain-denials takes one more thread before the program starts: raise --ulimit nproc",
  },
  {
    op: ["seccomp"],
    call: "clone",
    errno: ["EINVAL"],
    text: "this kernel makes no threads where clocks are about to be moved, and --explain-denials takes one: leave --no-init out",
  },
  {
    op: ["seccomp"],
    call: "close",
    errno: ["EBADF"],
    text: "somebody has killed the process that was to tell denials",
  },
  { op: ["seccomp"], errno: ["EINVAL", "ENOSYS"], text: "the kernel lacks seccomp filters" },
];

/** The advice for a failed call, or undefined when the errno speaks for itself. */
export function hintFor(step: Step, call: string, errno: string): string | undefined {
  if (errno === "ENOSYS" && ["open_tree", "move_mount", "mount_setattr", "openat2", "close_range"].includes(call)) {
    return "hutch needs Linux 5.12 or newer";
  }
  if (errno === "EMFILE" && step.op === "seccomp")
    return "while denials are told the limit of open files (--ulimit nofile) has to leave room for what the sandbox is made of: give it 256 or more";
  if (errno === "EMFILE")
    return "what a sandbox is made of is open meanwhile: raise the limit of open files (ulimit -n)";
  // What every root gets, and a bound one must have.
  if (errno === "ENOENT" && step.op === "attach" && step.make === undefined && step.why === "default")
    return "the root lacks this directory: make it there (mkdir), or leave --read-only or --writable out, and hutch makes it for this run alone";
  if (errno === "ENOSPC" && step.op !== "clone" && step.op !== "hold-ids")
    return "out of memory for a tmpfs, too many mounts (fs.mount-max), or a full disk where writes are kept (--persist)";
  return HINTS.find(
    (hint) =>
      hint.op.includes(step.op) && hint.errno.includes(errno) && (hint.call === undefined || hint.call === call),
  )?.text;
}
