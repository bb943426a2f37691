/**
 * Doing something after a sandbox has ended, without a runtime that waits for it: one more program of records between
 * the caller and the launcher.
 *
 *   caller ──▶ keeper (hutch's own process after execve) ──clone──▶ launcher ──▶ sandbox …
 *
 * The keeper passes signals on to the launcher and stops when it is stopped. When the launcher has ended, whatever
 * ended it, the keeper becomes hutch again, which is told the exit status and does the rest. When the keeper is killed
 * by SIGKILL, the launcher dies with it (PR_SET_PDEATHSIG), and its sandbox with that. The removers (remover.ts) are the
 * keeper's children, too, and what it becomes ends them. When the sandbox is to die with the
 * caller, the keeper is told of the caller's end by a signal, kills the launcher and does the rest all the same.
 */

import { call } from "../libc/call.ts";
import * as c from "../libc/constants.ts";
import { readAll } from "../libc/files.ts";
import type { Arch } from "../libc/syscalls.ts";
import { Assembler, at, content } from "./assembler.ts";
import {
  askWitness,
  makeSettling,
  newWitness,
  releaseSettling,
  saySettled,
  sayThere,
  settle,
  startWitness,
  type Witness,
} from "./group.ts";
import { end, field, SIGINFO } from "./processes.ts";
import { FAILURE, type Place, type Program } from "./program.ts";

/** What the keeper starts and becomes. All descriptors are open, above 2, and not close-on-exec. */
export interface Keeping {
  /** The launcher's program as a memory file, and the argv that it is to have. */
  readonly imageFd: number;
  readonly argv: readonly string[];
  /** What to become: an executable, its argv and its environment. */
  readonly executableFd: number;
  readonly thenArgv: readonly string[];
  readonly thenEnv: readonly string[];
  /** A memory file that is told the exit status, and why `rename` has failed (-errno): 8 bytes each, little-endian. */
  readonly outcomeFd: number;
  /** Pid of our parent, when the sandbox is to die with it. */
  readonly parent?: number | undefined;
  /** A directory that gets its name (host paths) just before the launcher is started, so that it has it whole or not at all. */
  readonly rename?: Rename | undefined;
}

export interface Rename {
  readonly from: string;
  readonly to: string;
}

const EXIT_FAILURE = 125;

/** Signals that would end or stop what comes after; they stay blocked, since that is short and must be done. */
const HELD = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGTSTP", "SIGTTIN", "SIGTTOU"] as const;
export const HELD_MASK = HELD.reduce((bits, name) => bits + 2 ** (c.SIGNALS[name] - 1), 0);

/** What tells of the caller's end: the last of the realtime signals but one, which nobody uses. */
const ORPHANED = 63;

/** The keeper's program. */
export function keeperProgram(keeping: Keeping, arch: Arch): Program {
  const asm = new Assembler(arch);
  const { imageFd, executableFd, outcomeFd } = keeping;
  const [mask, child, status] = [asm.cell(), asm.cell(), asm.cell()];
  const [launcher, failed, unstarted] = [asm.label(), asm.label(), asm.label()];
  const [ended, unnamed] = [asm.label(), asm.label()];
  asm.failure = failed;
  asm.call("rt_sigprocmask", [c.SIG_SETMASK, asm.words(-1), mask, 8]);
  asm.call("prctl", [c.PR_SET_NAME, "hutch-keeper"], { onError: "ignore" });
  if (keeping.parent !== undefined) asm.call("prctl", [c.PR_SET_PDEATHSIG, ORPHANED, 0, 0, 0]);
  if (keeping.rename !== undefined) {
    const { from, to } = keeping.rename;
    asm.call("renameat2", [c.AT_FDCWD, from, c.AT_FDCWD, to, 0], { onError: unnamed });
  }
  const witness = newWitness(asm);
  asm.failure = unstarted;
  startWitness(asm, witness);
  makeSettling(asm, witness);
  asm.failure = failed;
  asm.call("clone", [c.SIGNALS.SIGCHLD, 0, 0, 0, 0], { result: child, onZero: launcher, onError: unstarted });
  settle(asm, witness);
  closeAllBut(asm, [2, executableFd, outcomeFd]);
  waitFor(asm, child, status, witness, keeping.parent);
  if (keeping.parent !== undefined) asm.call("prctl", [c.PR_SET_PDEATHSIG, 0, 0, 0, 0], { onError: "ignore" });
  asm.call("pwrite64", [outcomeFd, status, 8, 0], { onError: "ignore" });
  asm.place(ended);
  asm.call("rt_sigprocmask", [c.SIG_SETMASK, asm.words(HELD_MASK), 0, 8], { onError: "ignore" });
  const become = [executableFd, "", asm.strings(keeping.thenArgv), asm.strings(keeping.thenEnv), c.AT_EMPTY_PATH];
  asm.call("execveat", become, { onError: "ignore" });
  asm.call("exit_group", [content(status)], { onError: "ignore" });

  asm.place(launcher);
  releaseSettling(asm, witness);
  sayThere(asm, witness);
  saySettled(asm, witness);
  asm.call("prctl", [c.PR_SET_PDEATHSIG, c.SIGNALS.SIGKILL, 0, 0, 0]);
  asm.call("rt_sigprocmask", [c.SIG_SETMASK, mask, 0, 8]);
  asm.call("execveat", [imageFd, "", asm.strings(keeping.argv), asm.strings([]), c.AT_EMPTY_PATH]);
  asm.place(failed);
  asm.call("exit_group", [EXIT_FAILURE], { onError: "ignore" });
  asm.place(unnamed);
  asm.call("pwrite64", [outcomeFd, at(FAILURE, 8), 8, 8], { onError: "ignore" });
  asm.place(unstarted);
  end(asm, content(witness.pid));
  asm.set(status, EXIT_FAILURE);
  asm.call("pwrite64", [outcomeFd, status, 8, 0], { onError: "ignore" });
  asm.jump(ended);
  return asm.finish();
}

/** Close every descriptor that is not one of these. */
export function closeAllBut(asm: Assembler, keep: readonly number[]): void {
  let next = 0;
  for (const descriptor of keep.toSorted((a, b) => a - b)) {
    if (descriptor > next) asm.call("close_range", [next, descriptor - 1, 0], { onError: "ignore" });
    next = descriptor + 1;
  }
  asm.call("close_range", [next, -1, 0], { onError: "ignore" });
}

/** Kill the child when `parent` is no more. */
function killOrphan(asm: Assembler, child: Place, parent: number): void {
  const [is, lives] = [asm.cell(), asm.label()];
  asm.call("getppid", [], { result: is });
  asm.ifEqual(content(is), parent, lives);
  asm.call("kill", [content(child), c.SIGNALS.SIGKILL], { onError: "ignore" });
  asm.place(lives);
}

/** Wait for the child's end, passing signals on meanwhile; `status` gets its exit status, or 128 + the signal. */
function waitFor(asm: Assembler, child: Place, status: Place, witness: Witness, parent: number | undefined): void {
  const [info, ended] = [asm.cell(SIGINFO.size), asm.cell(SIGINFO.size)];
  const [signal, code, self] = [asm.cell(), asm.cell(), asm.cell()];
  const [loop, changed, sentToAll, forward] = [asm.label(), asm.label(), asm.label(), asm.label()];
  const [stop, exited, done] = [asm.label(), asm.label(), asm.label()];
  asm.call("getpid", [], { result: self });
  if (parent !== undefined) killOrphan(asm, child, parent); // it may have died before the signal was asked for
  asm.place(loop);
  asm.call("rt_sigtimedwait", [asm.words(-1), info, 0, 8], { result: signal, onError: loop });
  asm.ifEqual(content(signal), c.SIGNALS.SIGCHLD, changed);
  if (parent !== undefined) {
    const other = asm.label();
    asm.ifDifferent(content(signal), ORPHANED, other);
    killOrphan(asm, child, parent);
    asm.jump(loop);
    asm.place(other);
  }
  field(asm, info, SIGINFO.code, code);
  askWitness(asm, witness, signal, { all: sentToAll, earlier: forward });
  asm.ifDifferent(content(code), c.SI_KERNEL, forward);

  // The launcher has had it as well.
  asm.place(sentToAll);
  asm.ifEqual(content(signal), c.SIGNALS.SIGTSTP, stop);
  asm.jump(loop);

  asm.place(forward);
  asm.call("kill", [content(child), content(signal)], { onError: "ignore" });
  asm.ifEqual(content(signal), c.SIGNALS.SIGTSTP, stop);
  asm.jump(loop);
  asm.place(stop);
  asm.call("kill", [content(self), c.SIGNALS.SIGSTOP], { onError: "ignore" });
  asm.jump(loop);

  asm.place(changed);
  asm.set(at(ended, SIGINFO.pid), 0);
  asm.call("waitid", [c.P_PID, content(child), ended, c.WEXITED | c.WNOHANG, 0], { onError: done });
  field(asm, ended, SIGINFO.pid, code);
  asm.ifEqual(content(code), 0, loop);
  asm.place(done);
  field(asm, ended, SIGINFO.code, code);
  field(asm, ended, SIGINFO.status, status);
  asm.ifEqual(content(code), c.CLD_EXITED, exited);
  asm.call("sub", [content(status), -128], { result: status });
  asm.place(exited);
  end(asm, content(witness.pid));
}

/** The exit status that the keeper has written. @throws SystemError */
export function readOutcome(outcomeFd: number): number {
  return readWords(outcomeFd)[0] ?? EXIT_FAILURE;
}

/** The errno with which `rename` has failed; 0 when it has not. @throws SystemError */
export function readRenameError(outcomeFd: number): number {
  const bytes = readWords(outcomeFd);
  return bytes.length < 16 ? 0 : -new DataView(bytes.buffer, bytes.byteOffset).getInt32(8, true);
}

function readWords(outcomeFd: number): Uint8Array {
  call("lseek", outcomeFd, 0, 0);
  return readAll(outcomeFd, 16);
}
