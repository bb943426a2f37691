/**
 * A filter whose refusals are told: every ERRNO is turned into USER_NOTIF (seccomp_unotify(2)), so that somebody outside is
 * asked, notes the call and answers with the very error number. Pure. Source: kernel kernel/seccomp.c.
 *
 * Where several filters answer USER_NOTIF the newest one's listener is asked, and it may let the call continue. So that
 * nothing that the program installs can come before ours, it can have no listener of its own: EBUSY, as the kernel says too
 * as long as it has no listeners within listeners.
 */

import { UsageError } from "../errors.ts";
import { type Arch, SYSCALLS } from "../libc/syscalls.ts";
import { assembleBpf, BPF, BPF_MAXINSNS, type Instruction, parseBpf } from "./bpf.ts";
import { ACTIONS, severity } from "./seccomp-actions.ts";

const EBUSY = 16;
const SET_MODE_FILTER = 1;
const NEW_LISTENER = 8;

/** Offsets in struct seccomp_data of the low words. */
const NR = 0;
const ARGUMENTS = 16;

/** The most that the kernel takes for an error number in an answer: a larger one counts as this. */
const MAX_ERRNO = 4095;

/** The error number of a raw answer, 0 included; undefined when it is not ERRNO. */
export function refusalErrno(raw: number): number | undefined {
  return severity(raw) === severity(ACTIONS.SCMP_ACT_ERRNO) ? Math.min(raw & 0xffff, MAX_ERRNO) : undefined;
}

/** Whether a filter refuses anything with an error number. */
export function hasRefusals(filter: Uint8Array): boolean {
  return parseBpf(filter).some(({ code, k }) => code === BPF.RET && refusalErrno(k) !== undefined);
}

/**
 * The filter that tells. What it allows, kills, traps or logs stays as it is.
 * @param filter one that hutch's compiler has made: it returns constants only
 * @throws UsageError when it would be too long for the kernel
 */
export function notifyingFilter(filter: Uint8Array, arch: Arch): Uint8Array {
  const program = parseBpf(filter);
  const passing = [...new Set(program.flatMap(({ code, k }) => (code === BPF.RET && passes(k) ? [k] : [])))];
  const guards = passing.map((answer) => guard(answer, arch));
  const length = guards.reduce((sum, guarded) => sum + guarded.length, program.length);
  if (length > BPF_MAXINSNS) {
    throw new UsageError(
      `seccomp profile: ${length} instructions with what tells denials: the kernel takes at most ${BPF_MAXINSNS} in one filter`,
    );
  }
  const turned = program.map((instruction, at): Instruction => {
    if (instruction.code !== BPF.RET) return instruction;
    if (refusalErrno(instruction.k) !== undefined) return { ...instruction, k: ACTIONS.SCMP_ACT_NOTIFY };
    const which = passing.indexOf(instruction.k);
    if (which < 0) return instruction;
    const start = guards.slice(0, which).reduce((sum, guarded) => sum + guarded.length, program.length);
    return { code: BPF.JA, jt: 0, jf: 0, k: start - at - 1 };
  });
  return assembleBpf([...turned, ...guards.flat()]);
}

/** Whether an answer would give way to the USER_NOTIF of a filter of the program's. */
function passes(raw: number): boolean {
  return severity(raw) > severity(ACTIONS.SCMP_ACT_NOTIFY);
}

/** Give an answer, but to a call that asks for a listener. */
function guard(answer: number, arch: Arch): readonly Instruction[] {
  const load = (k: number) => ({ code: BPF.LD, jt: 0, jf: 0, k });
  return [
    load(NR),
    { code: BPF.JEQ, jt: 0, jf: 5, k: SYSCALLS.seccomp[arch] },
    load(ARGUMENTS),
    { code: BPF.JEQ, jt: 0, jf: 3, k: SET_MODE_FILTER },
    load(ARGUMENTS + 8),
    { code: BPF.JSET, jt: 0, jf: 1, k: NEW_LISTENER },
    { code: BPF.RET, jt: 0, jf: 0, k: (ACTIONS.SCMP_ACT_ERRNO | EBUSY) >>> 0 },
    { code: BPF.RET, jt: 0, jf: 0, k: answer },
  ];
}
