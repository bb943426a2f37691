/**
 * Signals. The launcher's loop passes them on and ends with the sandbox; for a program that is PID 1 it also stands in
 * for the default actions, which the kernel does not have for a PID 1 (pid_namespaces(7)).
 */

import { encodeBytes } from "../bytes.ts";
import * as c from "../libc/constants.ts";
import { type Assembler, type Label, at, content } from "./assembler.ts";
import { askWitness, type Witness } from "./group.ts";
import { allBut, end, exitLike, field, SIGINFO } from "./processes.ts";
import type { Place } from "./program.ts";
import { type Account, tellEnd } from "./account.ts";
import { ACCOUNT } from "./report.ts";
import { heedStops, tellStops } from "./stops.ts";
import type { TerminalWatch } from "./terminal.ts";

/** Wait for any signal, interrupted or not. */
function waitForSignal(asm: Assembler, info: Place, signal: Place, loop: Label): void {
  asm.place(loop);
  asm.call("rt_sigtimedwait", [asm.words(-1), info, 0, 8], { result: signal, onError: loop });
}

/** What the launcher's loop looks after. */
export interface Watched {
  readonly child: Place;
  /** The child's directory below /proc, when it is the program and PID 1. */
  readonly processDirectory: Place | undefined;
  /** There, when the program is in this process's group. */
  readonly witness: Witness | undefined;
  /** The pipe by which PID 1 tells that the program has stopped or goes on, if it does. */
  readonly stops: Place | undefined;
  /** The program's own terminal, if it has one. */
  readonly terminal: TerminalWatch | undefined;
  /** Where to note how it ended, if that is wanted. */
  readonly account: Account | undefined;
  /** What a child's end means that is not the sandbox's. */
  readonly onOtherChild: () => void;
  /** What comes before the exit. */
  readonly finish: () => void;
}

/**
 * The launcher's loop. What was sent to the whole process group, as the caller's terminal does, a program in it has had
 * already. hutch stops when the program has stopped, so that a shell sees its job
 * stop; where nobody tells that, when the program is told to.
 */
export function passSignals(asm: Assembler, watched: Watched): void {
  const { child, processDirectory, witness, stops, terminal, account } = watched;
  const info = asm.cell(SIGINFO.size);
  const [ended, emulated, usage] =
    account === undefined
      ? [asm.cell(SIGINFO.size), asm.cell(), 0]
      : [at(account.block, ACCOUNT.info), at(account.block, ACCOUNT.emulated), at(account.block, ACCOUNT.usage)];
  const [signal, code, self, pid] = [asm.cell(), asm.cell(), asm.cell(), asm.cell()];
  const loop = asm.label();
  const childChanged = asm.label();
  const sentToAll = asm.label();
  const forward = asm.label();
  const act = asm.label();
  const stop = asm.label();
  const done = asm.label();

  asm.call("getpid", [], { result: self });
  waitForSignal(asm, info, signal, loop);
  asm.ifEqual(content(signal), c.SIGNALS.SIGCHLD, childChanged);
  const hangUp = asm.label();
  if (terminal !== undefined) {
    terminal.onSignal(signal, self, loop);
    asm.ifDifferent(content(signal), c.SIGNALS.SIGHUP, forward);
  }
  field(asm, info, SIGINFO.code, code);
  const interrupted = witness === undefined ? undefined : noteInterrupt(asm, signal, code);
  if (stops !== undefined) heedStops(asm, stops, { signal, code, loop, stop });
  if (witness !== undefined) askWitness(asm, witness, signal, { all: sentToAll, earlier: forward });
  if (terminal !== undefined) asm.ifEqual(content(code), c.SI_KERNEL, hangUp);
  else if (witness !== undefined) asm.ifEqual(content(code), c.SI_KERNEL, sentToAll);
  asm.jump(forward);

  asm.place(sentToAll);
  if (stops !== undefined) asm.jump(loop);
  // The program has stopped because it is in the background: so must the job that the shell sees.
  for (const stopping of [c.SIGNALS.SIGTTIN, c.SIGNALS.SIGTTOU]) asm.ifEqual(content(signal), stopping, stop);
  asm.jump(act);

  asm.place(forward);
  asm.call("kill", [content(child), content(signal)], { onError: "ignore" });
  if (stops !== undefined) asm.jump(loop);
  asm.place(act);
  if (processDirectory !== undefined)
    defaultActions(asm, { signal, code, child, processDirectory, emulated, loop, stop });
  asm.ifEqual(content(signal), c.SIGNALS.SIGTSTP, stop);
  asm.jump(loop);
  asm.place(stop);
  asm.call("kill", [content(self), c.SIGNALS.SIGSTOP], { onError: "ignore" });
  asm.jump(loop);

  asm.place(childChanged);
  asm.call("waitid", [c.P_PID, content(child), ended, c.WEXITED | c.WNOHANG, usage], { onError: done });
  field(asm, ended, SIGINFO.pid, pid);
  asm.ifDifferent(content(pid), 0, done);
  watched.onOtherChild();
  terminal?.ifGone(hangUp);
  asm.jump(loop);
  if (terminal !== undefined) {
    asm.place(hangUp);
    terminal.hangUp(child);
    asm.call("waitid", [c.P_PID, content(child), ended, c.WEXITED, usage], { onError: done, next: done });
  }
  asm.place(done);
  terminal?.finish();
  if (witness !== undefined) end(asm, content(witness.pid));
  watched.finish();
  if (interrupted !== undefined) dieInterrupted(asm, interrupted, { ended, emulated, self });
  const natural = asm.label();
  asm.ifEqual(content(emulated), 0, natural);
  asm.call("sub", [content(emulated), -128], { result: emulated });
  asm.call("exit_group", [content(emulated)], { onError: "ignore" });
  asm.place(natural);
  exitLike(asm, ended);
}

/** Non-zero once the caller's terminal has sent ^C. */
function noteInterrupt(asm: Assembler, signal: Place, code: Place): Place {
  const [interrupted, other] = [asm.cell(), asm.label()];
  asm.ifDifferent(content(signal), c.SIGNALS.SIGINT, other);
  asm.ifDifferent(content(code), c.SI_KERNEL, other);
  asm.set(interrupted, 1);
  asm.place(other);
  return interrupted;
}

/**
 * Die of SIGINT, as a shell wants it to break a loop, when the terminal has sent it and the program has ended of it, or
 * with the exit status that says so, as PID 1 does for it. Where the caller ignores SIGINT, on to the exit.
 */
function dieInterrupted(
  asm: Assembler,
  interrupted: Place,
  { ended, emulated, self }: { readonly ended: Place; readonly emulated: Place; readonly self: Place },
): void {
  const [code, status, exited] = [asm.cell(), asm.cell(), asm.label()];
  const [die, on] = [asm.label(), asm.label()];
  // One that has come since the program ended ends this process here.
  asm.call("rt_sigprocmask", [c.SIG_SETMASK, allBut(asm, c.SIGNALS.SIGINT), 0, 8], { onError: "ignore" });
  asm.ifEqual(content(interrupted), 0, on);
  asm.ifEqual(content(emulated), c.SIGNALS.SIGINT, die);
  field(asm, ended, SIGINFO.code, code);
  field(asm, ended, SIGINFO.status, status);
  asm.ifEqual(content(code), c.CLD_EXITED, exited);
  asm.ifEqual(content(status), c.SIGNALS.SIGINT, die);
  asm.jump(on);
  asm.place(exited);
  asm.ifDifferent(content(status), 128 + c.SIGNALS.SIGINT, on);
  asm.place(die);
  asm.call("kill", [content(self), c.SIGNALS.SIGINT], { onError: "ignore" });
  asm.place(on);
}

/** Signals whose default action ends or stops a process, of those that people send. */
const WITH_DEFAULT_ACTION = [
  "SIGHUP",
  "SIGINT",
  "SIGQUIT",
  "SIGUSR1",
  "SIGUSR2",
  "SIGALRM",
  "SIGTERM",
  "SIGTSTP",
] as const;

interface Emulation {
  readonly signal: Place;
  /** Its si_code. */
  readonly code: Place;
  readonly child: Place;
  readonly processDirectory: Place;
  readonly emulated: Place;
  readonly loop: Label;
  readonly stop: Label;
}

/**
 * Look into /proc/PID/status whether the program ignores or catches the signal; if neither, do what the kernel would
 * have done to any other process: end it, to be reported as 128 + signal, or stop it.
 */
function defaultActions(
  asm: Assembler,
  { signal, code, child, processDirectory, emulated, loop, stop }: Emulation,
): void {
  const [file, position, word, digit, bit] = [asm.cell(), asm.cell(), asm.cell(), asm.cell(), asm.cell()];
  const text = asm.cell(4096 + 8);
  const check = asm.label();
  const out = asm.label();
  const entries = WITH_DEFAULT_ACTION.map((name) => {
    const entry = asm.label();
    asm.ifEqual(content(signal), c.SIGNALS[name], entry);
    return { entry, number: c.SIGNALS[name] };
  });
  asm.jump(out);
  for (const { entry, number } of entries) {
    // The mask is 16 hexadecimal digits behind "SigIgn:\t", signal 1 being the last digit's lowest bit.
    asm.place(entry);
    asm.set(digit, 8 + 15 - ((number - 1) >> 2));
    asm.set(bit, 1 << ((number - 1) & 3));
    asm.jump(check);
  }
  asm.place(check);
  asm.call("openat", [content(processDirectory), "status", c.O_RDONLY | c.O_CLOEXEC], { result: file, onError: out });
  asm.call("read", [content(file), text, 4096], { onError: "ignore" });
  asm.call("close", [content(file)], { onError: "ignore" });
  asm.set(position, text);
  const [scan, found] = [asm.label(), asm.label()];
  const key = content(asm.data(encodeBytes("SigIgn:	")));
  asm.place(scan);
  asm.call("load64", [content(position), 0], { result: word });
  asm.ifEqual(content(word), key, found);
  asm.call("sub", [content(position), -1], { result: position });
  asm.call("sub", [content(position), at(text, 4096)], { onZero: out, next: scan });
  asm.place(found);
  for (const line of [0, 25]) {
    // SigIgn, then SigCgt 25 bytes later
    asm.call("sub", [content(position), -line], { result: word });
    asm.call("load64", [content(word), content(digit)], { result: word });
    const letter = asm.label();
    const value = asm.label();
    const absent = asm.label();
    const kind = asm.cell();
    asm.call("and", [content(word), 0x40], { result: kind, next: letter, onZero: value });
    asm.place(letter);
    asm.call("and", [content(word), 0xf], { result: word });
    asm.call("sub", [content(word), -9], { result: word });
    asm.place(value);
    asm.call("and", [content(word), content(bit)], { result: word, onZero: absent, next: out });
    asm.place(absent);
  }
  const suspend = asm.label();
  asm.ifEqual(content(signal), c.SIGNALS.SIGTSTP, suspend);
  asm.set(emulated, content(signal));
  asm.call("kill", [content(child), c.SIGNALS.SIGKILL], { onError: "ignore" });
  asm.jump(loop);
  asm.place(suspend);
  asm.call("kill", [content(child), c.SIGNALS.SIGSTOP], { onError: "ignore" });
  asm.jump(stop);
  asm.place(out);
  // A program that takes no notice of the terminal's ^Z has not stopped; whoever stops hutch itself means it.
  const meant = asm.label();
  asm.ifDifferent(content(signal), c.SIGNALS.SIGTSTP, meant);
  asm.ifEqual(content(code), c.SI_KERNEL, loop);
  asm.place(meant);
}

/**
 * PID 1: reap everything, pass on what comes from outside, end with the program. Signals from inside the namespace and
 * those that the terminal has sent to the whole group are not passed on.
 */
export function reap(
  asm: Assembler,
  program: Place,
  { account, stops }: { readonly account: Account | undefined; readonly stops: Place | undefined },
): void {
  const [info, ended] = [asm.cell(SIGINFO.size), asm.cell(SIGINFO.size)];
  const [signal, value] = [asm.cell(), asm.cell()];
  const [loop, children, outside, done] = [asm.label(), asm.label(), asm.label(), asm.label()];
  waitForSignal(asm, info, signal, loop);
  asm.ifEqual(content(signal), c.SIGNALS.SIGCHLD, children);
  field(asm, info, SIGINFO.code, value);
  asm.ifEqual(content(value), c.SI_KERNEL, loop);
  field(asm, info, SIGINFO.pid, value);
  asm.call("sub", [content(value), 0], { onZero: outside, next: loop }); // a sender outside has no pid here
  asm.place(outside);
  asm.call("kill", [content(program), content(signal)], { onError: "ignore" });
  asm.jump(loop);

  asm.place(children);
  if (stops !== undefined) tellStops(asm, program, stops);
  const next = asm.label();
  asm.place(next);
  asm.set(at(ended, SIGINFO.pid), 0); // waitid leaves it alone when there is nothing to wait for
  asm.call("waitid", [c.P_ALL, 0, ended, c.WEXITED | c.WNOHANG, 0], { onError: loop });
  field(asm, ended, SIGINFO.pid, value);
  asm.ifEqual(content(value), 0, loop);
  asm.ifEqual(content(value), content(program), done);
  asm.jump(next);
  asm.place(done);
  if (account !== undefined) tellEnd(asm, account, ended);
  exitLike(asm, ended);
}
