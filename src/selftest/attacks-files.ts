/** Attacks by way of files: descriptors, /proc, devices, mounts. */

import * as c from "../libc/constants.ts";
import { content } from "../launch/assembler.ts";
import { type Attack, BOUND, inChild, readSome } from "./attempt.ts";

const S_IFBLK = 0o060000;
const TIOCSPTLCK = 0x40045431;
const TIOCGPTPEER = 0x5441;
const TIOCSCTTY = 0x540e;
const TIOCSTI = 0x5412;
const TIOCLINUX = 0x541c;

const ABSENT = ["ENOENT", "EACCES", "EPERM"];
const READ_ONLY = ["EROFS", "EACCES", "EPERM", "ENOENT"];
const REFUSED = ["EPERM", "ENOSYS"];

/** Open a path for writing. */
function writing(number: string, path: string, expected = READ_ONLY): Attack {
  return { number, name: `write ${path}`, expected, build: ({ open }) => void open(path, c.O_WRONLY) };
}

/** Read a path's first bytes. */
function reading(number: string, path: string, expected = [...ABSENT, "nothing"]): Attack {
  return { number, name: `read ${path}`, expected, build: (attempt) => readSome(attempt, attempt.open(path)) };
}

/** Open a path at all. */
function entering(number: string, path: string, expected = ABSENT): Attack {
  return { number, name: `open ${path}`, expected, build: ({ open }) => void open(path, c.O_PATH) };
}

/** Type a character into a terminal of one's own: what would be another's, with an inherited one. */
function terminal(name: string, request: number): Attack {
  return {
    number: "B14",
    name,
    expected: ["EPERM"],
    build: (attempt) => {
      const { asm, call, open } = attempt;
      inChild(attempt);
      call("setsid");
      const pty = open("/dev/ptmx", c.O_RDWR | c.O_NOCTTY);
      call("ioctl", content(pty), TIOCSPTLCK, asm.words(0));
      const side = call("ioctl", content(pty), TIOCGPTPEER, c.O_RDWR | c.O_NOCTTY);
      call("ioctl", content(side), TIOCSCTTY, 0);
      call("ioctl", content(side), content(asm.words(request)), "x");
    },
  };
}

export const FILE_ATTACKS: readonly Attack[] = [
  {
    number: "B11",
    name: "overwrite the supervisor's executable",
    expected: ["EACCES", "EPERM", "ETXTBSY", "EROFS"],
    build: ({ open }) => void open("/proc/1/exe", c.O_RDWR),
  },
  {
    number: "B12",
    name: "use a descriptor that the caller had open",
    expected: ["EBADF"],
    build: ({ call, bait }) => void call("fcntl", bait.descriptor, c.F_GETFD),
  },
  terminal("type into a terminal (TIOCSTI)", TIOCSTI),
  terminal("the same, with a high bit that the kernel does not look at", 2 ** 32 + TIOCSTI),
  terminal("paste into a console (TIOCLINUX)", TIOCLINUX),
  ...[
    ...["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/fs/binfmt_misc/register"],
    ...["/proc/sys/kernel/modprobe", "/proc/irq/default_smp_affinity", "/sys/kernel/uevent_helper"],
  ].map((path) => writing("B15", path)),
  ...["/proc/kcore", "/proc/kmsg", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/sys/firmware"].map((path) =>
    reading("B16", path),
  ),
  {
    number: "B18",
    name: "mount a tmpfs",
    expected: REFUSED,
    build: ({ call }) => void call("mount", "none", "/tmp", "tmpfs", 0, 0),
  },
  {
    number: "B18",
    name: "take a cover of /proc away (umount2)",
    expected: [...REFUSED, "EINVAL", "ENOENT"],
    build: ({ call }) => void call("umount2", "/proc/sys", c.MNT_DETACH),
  },
  {
    number: "B18",
    name: "clone a mount (open_tree)",
    expected: REFUSED,
    build: ({ call }) => void call("open_tree", c.AT_FDCWD, "/", c.OPEN_TREE_CLONE),
  },
  {
    number: "B18",
    name: "make a file system (fsopen)",
    expected: REFUSED,
    build: ({ call }) => void call("fsopen", "tmpfs", 0),
  },
  {
    number: "B18",
    name: "make a read-only mount writable (mount_setattr)",
    expected: [...REFUSED, "EINVAL"],
    build: ({ asm, call }) => void call("mount_setattr", c.AT_FDCWD, BOUND, 0, asm.words(0, c.MOUNT_ATTR.ro, 0, 0), 32),
  },
  {
    number: "B18",
    name: "move a mount (move_mount)",
    expected: [...REFUSED, "EINVAL"],
    build: ({ call }) => void call("move_mount", c.AT_FDCWD, "/proc", c.AT_FDCWD, "/tmp", 0),
  },
  {
    number: "B18",
    name: "change the root (pivot_root)",
    expected: [...REFUSED, "EINVAL", "EBUSY"],
    build: ({ call }) => void call("pivot_root", ".", "."),
  },
  {
    number: "B19",
    name: "leave by a directory kept over chroot",
    // The sandbox's own root is all that there is above: the host's would have this file.
    expected: [...ABSENT, "ENOTDIR"],
    build: ({ call, open }) => {
      const root = open("/", c.O_RDONLY);
      call("mkdirat", c.AT_FDCWD, "/tmp/prison", 0o700);
      call("chroot", "/tmp/prison");
      call("openat", content(root), "../../../../../../etc/machine-id", c.O_RDONLY, 0);
    },
  },
  {
    number: "B20",
    name: "make a block device",
    expected: ["EPERM", "EACCES"],
    build: ({ call }) => void call("mknodat", c.AT_FDCWD, "/tmp/disk", S_IFBLK | 0o600, 254 * 256),
  },
  ...["/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/sda"].map((path) => entering("B20", path)),
  {
    number: "B22",
    name: "mount cgroups, for a release_agent",
    expected: REFUSED,
    build: ({ call }) => void call("mount", "none", "/tmp", "cgroup", 0, "memory"),
  },
  writing("B23", "/sys/fs/cgroup/cgroup.procs"),
  {
    number: "B30",
    name: "make a file in a directory that was bound read-only",
    expected: ["EROFS", "EACCES"],
    // one without a name: nothing is left on the host where it works
    build: ({ arch, open }) => void open(BOUND, c.O_RDWR | c.O_TMPFILE | c.openFlags[arch].O_DIRECTORY),
  },
  {
    number: "B30",
    name: "gift pages to a pipe (vmsplice)",
    expected: REFUSED,
    build: ({ asm, call }) => {
      const pair = asm.cell();
      call("pipe2", pair, 0);
      const [file, page] = [asm.cell(), asm.cell(64)];
      asm.call("load64", [pair, 4], { result: file });
      asm.call("and", [content(file), content(asm.words(0xffffffff))], { result: file });
      const vector = new Uint8Array(16);
      vector[8] = 64;
      call("vmsplice", content(file), asm.pointing(vector, 0, page), 1, 0);
    },
  },
  {
    number: "B31",
    name: "name a file by handle",
    expected: REFUSED,
    build: ({ asm, call }) => {
      const handle = asm.cell(160);
      asm.set(handle, 128);
      call("name_to_handle_at", c.AT_FDCWD, "/", handle, asm.cell(), 0);
    },
  },
  ...["/proc/1/root/", "/proc/1/cwd/"].map((path) => entering("B32", path)),
  {
    number: "B32",
    name: "list what PID 1 has mapped",
    expected: ABSENT,
    build: ({ open }) => void open("/proc/1/map_files", c.O_RDONLY),
  },
  entering("D53", "/etc/machine-id"),
  reading("D53", "/proc/1/environ"),
  reading("D53", "/proc/sys/kernel/random/boot_id"),
];
