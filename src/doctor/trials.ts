/** What is tried, as system calls: one list of steps for each feature of the kernel that hutch uses. */

import * as c from "../libc/constants.ts";
import { at, content, type Assembler } from "../launch/assembler.ts";
import type { Place } from "../launch/program.ts";
import { ARCH } from "../libc/call.ts";
import { SYSCALLS } from "../libc/syscalls.ts";
import type { Trial } from "./attempt.ts";

/** The caller, to whom ids inside are mapped. */
export interface Ids {
  readonly uid: number;
  readonly gid: number;
}

function writeFile(asm: Assembler, path: string, text: string): void {
  const file = asm.cell();
  asm.call("openat", [c.AT_FDCWD, path, c.O_WRONLY | c.O_CLOEXEC], { result: file });
  const bytes = new TextEncoder().encode(text);
  asm.call("write", [content(file), bytes, bytes.length]);
  asm.call("close", [content(file)]);
}

function mapIds(asm: Assembler, { uid, gid }: Ids): void {
  writeFile(asm, "/proc/self/uid_map", `0 ${uid} 1\n`);
  writeFile(asm, "/proc/self/setgroups", "deny");
  writeFile(asm, "/proc/self/gid_map", `0 ${gid} 1\n`);
}

/** Become root of a new user namespace, and show by a private mount tree that its capabilities are real. */
export function userNamespace(ids: Ids): readonly Trial[] {
  return [
    ["make a user namespace", (asm) => asm.call("unshare", [c.CLONE_FLAGS.user])],
    ["map ids", (asm) => mapIds(asm, ids)],
    [
      "make all mounts private",
      (asm) => {
        asm.call("unshare", [c.CLONE_FLAGS.mount]);
        asm.call("mount", [0, "/", 0, c.MS_REC | c.MS_PRIVATE, 0]);
      },
    ],
  ];
}

/** One more namespace, inside of a user namespace. */
export function otherNamespace(ids: Ids, name: keyof typeof c.CLONE_FLAGS): readonly Trial[] {
  const first = userNamespace(ids).slice(0, 2);
  return [...first, [`make a ${name} namespace`, (asm) => asm.call("unshare", [c.CLONE_FLAGS[name]])]];
}

/** Clocks moved by an hour; the offsets are written before anybody enters (time_namespaces(7)). */
export function timeNamespace(ids: Ids): readonly Trial[] {
  return [
    ["make a user namespace", (asm) => asm.call("unshare", [c.CLONE_FLAGS.user | c.CLONE_FLAGS.time])],
    // Before the ids: as the launcher does it.
    [
      "set the clocks' offsets",
      (asm) => writeFile(asm, "/proc/self/timens_offsets", "monotonic 3600 0\nboottime 3600 0\n"),
    ],
    ["map ids", (asm) => mapIds(asm, ids)],
  ];
}

/** Do `body` in a child, which ends with it; it is waited for, since whoever inherited it might wait for nobody. */
function inChild(asm: Assembler, flags: number, body: () => void): void {
  const [child, inside, outside] = [asm.cell(), asm.label(), asm.label()];
  asm.call("clone", [flags | c.SIGNALS.SIGCHLD, 0, 0, 0, 0], { result: child, onZero: inside, next: outside });
  asm.place(inside);
  body();
  asm.call("exit_group", [0]);
  asm.place(outside);
  asm.call("waitid", [c.P_PID, content(child), 0, c.WEXITED, 0]);
}

/** A proc of the process tree's own: the kernel refuses it where the present one is covered in parts. */
export function ownProc(ids: Ids): readonly Trial[] {
  return [
    ...userNamespace(ids),
    [
      "mount proc in a new process tree",
      (asm) => {
        const [context, mount] = [asm.cell(), asm.cell()];
        asm.call("unshare", [c.CLONE_FLAGS.pid]);
        inChild(asm, 0, () => newFilesystem(asm, "proc", [], context, mount)); // which reports for itself
      },
    ],
  ];
}

function newFilesystem(
  asm: Assembler,
  type: string,
  options: readonly (readonly [string, string])[],
  context: Place,
  mount: Place,
): void {
  asm.call("fsopen", [type, c.FSOPEN_CLOEXEC], { result: context });
  for (const [key, value] of options) {
    if (value === "") asm.call("fsconfig", [content(context), c.FSCONFIG_SET_FLAG, key, 0, 0]);
    else asm.call("fsconfig", [content(context), c.FSCONFIG_SET_STRING, key, value, 0]);
  }
  asm.call("fsconfig", [content(context), c.FSCONFIG_CMD_CREATE, 0, 0, 0]);
  asm.call("fsmount", [content(context), c.FSMOUNT_CLOEXEC, 0], { result: mount });
}

/** Mounts by descriptor, as hutch makes all of them. `directory` exists, and is covered for the moment. */
export function mountApi(ids: Ids, directory: string): readonly Trial[] {
  return [
    ...userNamespace(ids),
    [
      "make a tmpfs",
      (asm) => {
        const [context, mount, found, tree] = [asm.cell(), asm.cell(), asm.cell(), asm.cell()];
        newFilesystem(asm, "tmpfs", [["mode", "755"]], context, mount);
        asm.call("move_mount", [content(mount), "", c.AT_FDCWD, directory, c.MOVE_MOUNT_F_EMPTY_PATH]);
        asm.call("mkdirat", [content(mount), "sub", 0o755]);
        const how = asm.words(c.O_PATH | c.O_CLOEXEC, 0, c.RESOLVE_IN_ROOT | c.RESOLVE_NO_MAGICLINKS);
        asm.call("openat2", [content(mount), "/sub", how, 24], { result: found });
        const clone = c.OPEN_TREE_CLONE | c.O_CLOEXEC | c.AT_RECURSIVE;
        asm.call("open_tree", [c.AT_FDCWD, "/", clone], { result: tree });
        const attributes = asm.words(c.MOUNT_ATTR.ro | c.MOUNT_ATTR.nosuid | c.MOUNT_ATTR.nodev, 0, 0, 0);
        asm.call("mount_setattr", [content(tree), "", c.AT_EMPTY_PATH | c.AT_RECURSIVE, attributes, 32]);
        const flags = c.MOVE_MOUNT_F_EMPTY_PATH | c.MOVE_MOUNT_T_EMPTY_PATH;
        asm.call("move_mount", [content(tree), "", content(found), "", flags]);
        asm.call("close_range", [100, -1, c.CLOSE_RANGE_CLOEXEC]);
      },
    ],
  ];
}

/** An overlay whose upper layer is a tmpfs, and in it a directory removed and made again, which needs user.* attributes. */
export function overlay(ids: Ids, directory: string): readonly Trial[] {
  const cells: { mount?: Place } = {};
  return [
    ...userNamespace(ids),
    [
      "make a tmpfs",
      (asm) => {
        const [context, tmpfs] = [asm.cell(), asm.cell()];
        newFilesystem(asm, "tmpfs", [["mode", "755"]], context, tmpfs);
        asm.call("move_mount", [content(tmpfs), "", c.AT_FDCWD, directory, c.MOVE_MOUNT_F_EMPTY_PATH]);
        for (const name of ["lower", "lower/sub", "upper", "work"]) asm.call("mkdirat", [content(tmpfs), name, 0o755]);
      },
    ],
    [
      "make an overlay",
      (asm) => {
        cells.mount = asm.cell();
        const layers = ["lower", "upper", "work"].map((name) => [`${name}dir`, `${directory}/${name}`] as const);
        newFilesystem(asm, "overlay", [...layers, ["userxattr", ""], ["volatile", ""]], asm.cell(), cells.mount);
      },
    ],
    [
      "make a removed directory again",
      (asm) => {
        if (cells.mount === undefined) return;
        asm.call("unlinkat", [content(cells.mount), "sub", c.AT_REMOVEDIR]);
        asm.call("mkdirat", [content(cells.mount), "sub", 0o755]);
      },
    ],
  ];
}

const HELD = 100; // a descriptor that nothing else has

/** A directory shown under other owners, by the machine's root: the id map is that of a child's user namespace. */
export function idmappedMount(ids: Ids, directory: string): readonly Trial[] {
  return [
    [
      "make a user namespace",
      (asm) => {
        // The child opens its namespace in the table of descriptors that both have, and is gone when we go on.
        const file = asm.cell();
        inChild(asm, c.CLONE_FLAGS.user | c.CLONE_FILES, () => {
          mapIds(asm, ids);
          asm.call("openat", [c.AT_FDCWD, "/proc/self/ns/user", c.O_RDONLY], { result: file });
          asm.call("dup3", [content(file), HELD, c.O_CLOEXEC]);
        });
      },
    ],
    [
      `show ${directory} under other owners`,
      (asm) => {
        const [tree, attributes] = [asm.cell(), asm.cell(32)];
        asm.call("open_tree", [c.AT_FDCWD, directory, c.OPEN_TREE_CLONE | c.O_CLOEXEC], { result: tree });
        asm.set(attributes, c.MOUNT_ATTR.idmap);
        asm.set(at(attributes, 24), HELD);
        asm.call("mount_setattr", [content(tree), "", c.AT_EMPTY_PATH, attributes, 32]);
      },
    ],
  ];
}

/** A pty of a devpts of its own. */
export function ownPty(ids: Ids): readonly Trial[] {
  const options = [
    ["newinstance", ""],
    ["ptmxmode", "0666"],
    ["mode", "0620"],
  ] as const;
  return [
    ...userNamespace(ids),
    [
      "open a terminal of a new devpts",
      (asm) => {
        const [context, mount] = [asm.cell(), asm.cell()];
        newFilesystem(asm, "devpts", options, context, mount);
        asm.call("openat", [content(mount), "ptmx", c.O_RDWR | c.O_NOCTTY | c.O_CLOEXEC]);
      },
    ],
  ];
}

/** A filter that refuses one harmless call, which must then be refused. */
export function seccompFilter(): readonly Trial[] {
  const [load, jumpIfEqual, answer] = [0x20, 0x15, 0x06]; // BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
  const [allow, errno] = [0x7fff0000, 0x00050000];
  const instructions: readonly (readonly [number, number, number, number])[] = [
    [load, 0, 0, 0],
    [jumpIfEqual, 0, 1, SYSCALLS.getppid[ARCH]],
    [answer, 0, 0, errno | 1],
    [answer, 0, 0, allow],
  ];
  const filter = new Uint8Array(8 * instructions.length);
  const view = new DataView(filter.buffer);
  instructions.forEach(([code, yes, no, value], index) => {
    view.setUint16(8 * index, code, true);
    view.setUint8(8 * index + 2, yes);
    view.setUint8(8 * index + 3, no);
    view.setUint32(8 * index + 4, value, true);
  });
  return [
    [
      "install a filter",
      (asm) => {
        const program = new Uint8Array(16); // struct sock_fprog
        new DataView(program.buffer).setUint16(0, instructions.length, true);
        asm.call("prctl", [c.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0]);
        asm.call("prctl", [c.PR_SET_SECCOMP, c.SECCOMP_MODE_FILTER, asm.pointing(program, 8, asm.data(filter)), 0, 0]);
      },
    ],
    [
      "be refused by it",
      (asm) => {
        const refused = asm.label();
        asm.call("getppid", [], { onError: refused });
        asm.call("close", [-1]); // the filter let it pass: fail
        asm.place(refused);
      },
    ],
  ];
}
