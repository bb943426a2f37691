/**
 * PID 1's word to the launcher that the program has stopped, or goes on: a shell's job is the launcher, and stops when
 * the program does. The launcher waits for signals only, so the pipe makes one of each word (O_ASYNC, fcntl(2)): SIGCONT,
 * which also wakes a launcher that has stopped although the program goes on already.
 */

import * as c from "../libc/constants.ts";
import { type Assembler, at, content, type Label } from "./assembler.ts";
import { field, makePipe, type Pipe, SIGINFO } from "./processes.ts";
import type { Place } from "./program.ts";

/** A word: 8 bytes, 1 for a program that has stopped, else 0. Never so many that the pipe is full: they are read at once. */
const WORD = 8;
const MOST = 512;

/** PID 1's part, after each SIGCHLD: tell every change of the program's that there is. */
export function tellStops(asm: Assembler, program: Place, pipe: Place): void {
  const [info, word] = [asm.cell(SIGINFO.size), asm.cell()];
  const [again, changed, stopped, tell, none] = [asm.label(), asm.label(), asm.label(), asm.label(), asm.label()];
  asm.place(again);
  asm.set(at(info, SIGINFO.pid), 0);
  const changes = c.WSTOPPED | c.WCONTINUED | c.WNOHANG;
  asm.call("waitid", [c.P_PID, content(program), info, changes, 0], { onError: none });
  field(asm, info, SIGINFO.pid, word);
  asm.call("sub", [content(word), 0], { onZero: none, next: changed });
  asm.place(changed);
  asm.set(word, 0);
  field(asm, info, SIGINFO.code, at(info, SIGINFO.pid));
  asm.ifEqual(content(at(info, SIGINFO.pid)), c.CLD_STOPPED, stopped);
  asm.jump(tell);
  asm.place(stopped);
  asm.set(word, 1);
  asm.place(tell);
  asm.call("write", [content(pipe), word, WORD], { onError: "ignore" });
  asm.jump(again);
  asm.place(none);
}

/** Make the pipe, which tells the calling process, the launcher, of each word by SIGCONT. */
export function makeStops(asm: Assembler, pipe: Pipe): void {
  const self = asm.cell();
  makePipe(asm, pipe, c.O_NONBLOCK);
  asm.call("getpid", [], { result: self });
  asm.call("fcntl", [content(pipe.read), c.F_SETOWN, content(self)]);
  asm.call("fcntl", [content(pipe.read), c.F_SETSIG, c.SIGNALS.SIGCONT]);
  asm.call("fcntl", [content(pipe.read), c.F_SETFL, c.O_NONBLOCK | c.O_ASYNC]);
}

/**
 * The launcher's part in its loop: go to `stop` when the program has stopped, by the last word; a signal that was
 * nothing but a word goes back to `loop`, and any other on.
 */
export function heedStops(
  asm: Assembler,
  pipe: Place,
  {
    signal,
    code,
    loop,
    stop,
  }: { readonly signal: Place; readonly code: Place; readonly loop: Label; readonly stop: Label },
): void {
  const [words, size, last] = [asm.cell(MOST * WORD), asm.cell(), asm.cell()];
  const [other, said, none] = [asm.label(), asm.label(), asm.label()];
  asm.ifDifferent(content(signal), c.SIGNALS.SIGCONT, other);
  asm.call("read", [content(pipe), words, MOST * WORD], { result: size, next: said, onZero: none, onError: none });
  asm.place(said);
  asm.call("sub", [content(size), WORD], { result: last });
  asm.call("load64", [words, content(last)], { result: last });
  asm.ifEqual(content(last), 1, stop);
  asm.place(none);
  asm.ifEqual(content(code), c.POLL_IN, loop);
  asm.place(other);
}
