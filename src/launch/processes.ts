/** Small routines of records about processes: pipes, names below /proc, what waitid(2) tells. */

import * as c from "../libc/constants.ts";
import type { Arch } from "../libc/syscalls.ts";
import { type Assembler, type Content, content, type Label } from "./assembler.ts";
import type { Place } from "./program.ts";

/** Offsets in siginfo_t (rt_sigtimedwait(2), waitid(2)), and its size. */
export const SIGINFO = { code: 8, pid: 16, status: 24, size: 128 } as const;

/** Where the descriptors of a pipe's ends are kept. */
export interface Pipe {
  readonly read: Place;
  readonly write: Place;
}

/** The cells of a pipe. */
export function newPipe(asm: Assembler): Pipe {
  return { read: asm.cell(), write: asm.cell() };
}

/** The set (sigset_t) of all signals but one. */
export function allBut(asm: Assembler, signal: number): Place {
  return asm.words(-1 - 2 ** (signal - 1));
}

/** pipe2(2) writes two ints: take them apart into two cells. */
export function makePipe(asm: Assembler, { read, write }: Pipe, flags = 0): void {
  const pair = asm.cell();
  asm.call("pipe2", [pair, flags | c.O_CLOEXEC]);
  field(asm, pair, 0, read);
  field(asm, pair, 4, write);
}

/** Tell the launcher under which name it finds this process below its own /proc: the text of /proc/self. */
export function tellName(asm: Assembler, pipe: Place): void {
  const name = asm.cell(16);
  asm.call("readlinkat", [c.AT_FDCWD, "/proc/self", name, 16]);
  asm.call("write", [content(pipe), name, 16]);
  asm.call("close", [content(pipe)]);
}

/** Receive that name (16 bytes, padded with NUL) and open the directory of the process. */
export function openProcess(asm: Assembler, arch: Arch, pipe: Place, name: Place, into: Place): void {
  asm.call("read", [content(pipe), name, 16]);
  asm.call("close", [content(pipe)]);
  openNamed(asm, arch, name, into);
}

/** Open the directory of a process below /proc by its name there. */
export function openNamed(asm: Assembler, arch: Arch, name: Place, into: Place): void {
  const proc = asm.cell();
  const directory = c.O_PATH | c.O_CLOEXEC | c.openFlags[arch].O_DIRECTORY;
  asm.call("openat", [c.AT_FDCWD, "/proc", directory], { result: proc });
  asm.call("openat", [content(proc), name, directory], { result: into });
  asm.call("close", [content(proc)]);
}

/** Die with the parent, whose pid is `parent`; when it has died before that was asked for, go to `gone`. */
export function dieWithParent(asm: Assembler, parent: number | Content, gone: Label): void {
  const [is, lives] = [asm.cell(), asm.label()];
  asm.call("prctl", [c.PR_SET_PDEATHSIG, c.SIGNALS.SIGKILL, 0, 0, 0]);
  asm.call("getppid", [], { result: is });
  asm.call("sub", [content(is), parent], { onZero: lives, next: gone });
  asm.place(lives);
}

/** A 32-bit field of a structure in memory. */
export function field(asm: Assembler, structure: Place, offset: number, into: Place): void {
  asm.call("load64", [structure, offset], { result: into });
  asm.call("and", [content(into), content(asm.words(0xffffffff))], { result: into });
}

/** The first of the numbers that {@link keepOnly} gives. */
export const KEPT_FROM = 3;

/**
 * Keep the descriptors in some cells and close all others. They become 3, 4, 5, … in this order, close-on-exec, and the
 * cells say so.
 */
export function keepOnly(asm: Assembler, cells: readonly Place[]): void {
  const above = KEPT_FROM + cells.length;
  for (const cell of cells) asm.call("fcntl", [content(cell), c.F_DUPFD_CLOEXEC, above], { result: cell });
  asm.call("close_range", [0, above - 1, 0]);
  cells.forEach((cell, index) => asm.call("dup3", [content(cell), KEPT_FROM + index, c.O_CLOEXEC], { result: cell }));
  asm.call("close_range", [above, -1, 0]);
}

/** Fork a process that does `body` and exits with 0. Errors in it are passed over unless `body` says otherwise. */
export function fork(asm: Assembler, pid: Place, body: () => void): void {
  const [inside, after] = [asm.label(), asm.label()];
  const failure = asm.failure;
  asm.call("clone", [c.SIGNALS.SIGCHLD, 0, 0, 0, 0], { result: pid, onZero: inside, next: after });
  asm.place(inside);
  asm.failure = undefined;
  body();
  asm.call("exit_group", [0]);
  asm.failure = failure;
  asm.place(after);
}

/**
 * End a child and wait for that. What is no child (any more), or no pid, is passed over: waitid(2) refuses it, and a pid
 * that has been waited for may be another's. One that may not be ended is not waited for: it dies with this process.
 */
export function end(asm: Assembler, pid: number | Content): void {
  const none = asm.label();
  asm.call("waitid", [c.P_PID, pid, 0, c.WEXITED | c.WNOHANG | c.WNOWAIT, 0], { onError: none });
  asm.call("kill", [pid, c.SIGNALS.SIGKILL], { onError: none });
  asm.call("waitid", [c.P_PID, pid, 0, c.WEXITED, 0], { onError: "ignore" });
  asm.place(none);
}

/** Exit as a waited-for process did (siginfo_t `info`): its status, or 128 + the signal that ended it. */
export function exitLike(asm: Assembler, info: Place): void {
  const [code, status] = [asm.cell(), asm.cell()];
  const exited = asm.label();
  field(asm, info, SIGINFO.code, code);
  field(asm, info, SIGINFO.status, status);
  asm.ifEqual(content(code), c.CLD_EXITED, exited);
  asm.call("sub", [content(status), -128], { result: status });
  asm.place(exited);
  asm.call("exit_group", [content(status)], { onError: "ignore" });
}
