/**
 * Steps that take rights from the program, or make sure that they are gone, as records. A check that does not hold is
 * reported by {@link refuse}.
 */

import * as c from "../libc/constants.ts";
import type { Action } from "../step.ts";
import { type Argument, at, content, type Content } from "./assembler.ts";
import { close, ENOENT, forgive, type Lower, type Lowering } from "./lowering.ts";
import type { Place } from "./program.ts";

type SecurityOp =
  | ("chdir" | "become" | "personality" | "drop-groups" | "check-groups" | "not-dumpable" | "securebits" | "landlock")
  | ("no-new-privileges" | "seccomp");

/** Fail: a call that always does, with EBADF. hints.ts knows it by this. */
function refuse(l: Lowering): void {
  l.asm.call("close", [-1]);
}

/** Refuse unless two values are equal. */
function demand(l: Lowering, value: Content, wanted: number): void {
  const good = l.asm.label();
  l.asm.ifEqual(value, wanted, good);
  refuse(l);
  l.asm.place(good);
}

/** Refuse unless an open file is the character device with these numbers (statx(2)). */
export function demandDevice(l: Lowering, file: Place, [major, minor]: readonly [number, number]): void {
  const { asm } = l;
  const [status, value] = [asm.cell(256), asm.cell()];
  const [isDevice, bad, good] = [asm.label(), asm.label(), asm.label()];
  asm.call("statx", [content(file), "", c.AT_EMPTY_PATH, 1, status]); // STATX_TYPE; the numbers always come
  asm.call("load64", [status, 28], { result: value }); // stx_mode
  asm.call("and", [content(value), c.S_IFMT], { result: value });
  asm.call("sub", [content(value), c.S_IFCHR], { onZero: isDevice, next: bad });
  asm.place(isDevice);
  asm.call("load64", [status, 128], { result: value }); // stx_rdev_major, stx_rdev_minor
  asm.call("sub", [content(value), content(asm.words(minor * 2 ** 32 + major))], { onZero: good, next: bad });
  asm.place(bad);
  refuse(l);
  asm.place(good);
}

const bits = <Name extends string>(names: readonly Name[], table: Readonly<Record<Name, number>>): number =>
  names.reduce((sum, name) => sum | table[name], 0);

function addRule(
  l: Lowering,
  ruleset: Place,
  { path, allow }: { path: string; allow: Extract<Action, { op: "landlock" }>["files"] },
): void {
  const { asm } = l;
  const [here, attribute] = [asm.cell(), asm.cell(16)];
  const [absent, there, done] = [asm.label(), asm.label(), asm.label()];
  const resolve = asm.words(c.O_PATH | c.O_CLOEXEC, 0, c.RESOLVE_NO_MAGICLINKS);
  asm.call("openat2", [c.AT_FDCWD, path, resolve, 24], { result: here, next: there, onError: absent });
  asm.place(absent);
  forgive(l, here, [ENOENT], done); // a mount that was left out needs no right
  asm.place(there);
  asm.set(attribute, bits(allow, c.LANDLOCK_FILES)); // struct landlock_path_beneath_attr
  asm.set(at(attribute, 8), content(here));
  asm.call("landlock_add_rule", [content(ruleset), c.LANDLOCK_RULE_PATH_BENEATH, attribute, 0]);
  close(l, here);
  asm.place(done);
}

/** One entry for each kind of step that is about rights. */
export const LOWER_SECURITY: { readonly [Op in SecurityOp]: Lower<Op> } = {
  // Not by chdir(2): a working directory that the root's author has written may be a magic link (/proc/self/fd/7) to a
  // directory of the host that is still open here.
  chdir: (l, { path }) => {
    const { asm } = l;
    const [here, first, name] = [asm.cell(), asm.cell(), asm.cell(4096)];
    const flags = c.O_PATH | c.O_CLOEXEC | c.openFlags[l.arch].O_DIRECTORY;
    const resolve = asm.words(flags, 0, c.RESOLVE_NO_MAGICLINKS);
    asm.call("openat2", [c.AT_FDCWD, path, resolve, 24], { result: here }); // the root is this process's own by now
    asm.call("fchdir", [content(here)]);
    close(l, here);
    asm.call("getcwd", [name, 4096]); // "(unreachable)/…" outside of the root (getcwd(3), "C library/kernel differences")
    asm.call("load64", [name, 0], { result: first });
    asm.call("and", [content(first), 0xff], { result: first });
    demand(l, content(first), 0x2f);
  },

  personality: ({ asm }, { flags }) => asm.call("personality", [flags]),
  become: ({ asm }, { uid, gid }) => {
    const signal = asm.cell();
    asm.call("prctl", [c.PR_GET_PDEATHSIG, signal, 0, 0, 0]);
    asm.call("setgroups", [0, 0]);
    asm.call("setresgid", [gid, gid, gid]);
    asm.call("setresuid", [uid, uid, uid]);
    // Both are lost with the ids: the signal by which a keeper's death is told, and the right to files below /proc/self.
    asm.call("prctl", [c.PR_SET_PDEATHSIG, content(signal), 0, 0, 0]);
    asm.call("prctl", [c.PR_SET_DUMPABLE, 1, 0, 0, 0]);
  },
  "drop-groups": ({ asm }) => asm.call("setgroups", [0, 0]),

  "check-groups": (l, { count }) => {
    const groups = l.asm.cell();
    l.asm.call("getgroups", [0, 0], { result: groups });
    demand(l, content(groups), count);
  },

  "not-dumpable": ({ asm }) => asm.call("prctl", [c.PR_SET_DUMPABLE, 0, 0, 0, 0]),

  securebits: ({ asm }) => {
    const all = Object.values(c.SECUREBITS).reduce((sum, bit) => sum | bit, 0);
    asm.call("prctl", [c.PR_SET_SECUREBITS, all, 0, 0, 0]);
  },

  landlock: (l, { files, rules, network, scopes }) => {
    const { asm } = l;
    const ruleset = asm.cell();
    // struct landlock_ruleset_attr. Older kernels take a longer one whose end is zero.
    const attribute = asm.words(
      bits(files, c.LANDLOCK_FILES),
      bits(network, c.LANDLOCK_NETWORK),
      bits(scopes, c.LANDLOCK_SCOPES),
    );
    asm.call("landlock_create_ruleset", [attribute, 24, 0], { result: ruleset });
    for (const rule of rules) addRule(l, ruleset, rule);
    asm.call("landlock_restrict_self", [content(ruleset), 0]);
    close(l, ruleset);
  },

  "no-new-privileges": ({ asm }) => asm.call("prctl", [c.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0]),

  seccomp: ({ asm, installTelling }, { filter, flags = [], telling }) => {
    if (telling !== undefined) return installTelling();
    const header = new Uint8Array(16); // struct sock_fprog
    new DataView(header.buffer).setUint16(0, filter.length / 8, true);
    const program: Argument = asm.pointing(header, 8, asm.data(filter));
    if (flags.length === 0) asm.call("prctl", [c.PR_SET_SECCOMP, c.SECCOMP_MODE_FILTER, program, 0, 0]);
    else asm.call("seccomp", [c.SECCOMP_SET_MODE_FILTER, bits(flags, c.SECCOMP_FLAGS), program]);
  },
};
