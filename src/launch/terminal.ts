/**
 * The program's own terminal. Theory of operation:
 *
 *   caller's terminal ──▶ input copier ──▶ outer │ pty │ inner ──▶ program: 0, 1, 2, controlling terminal
 *   caller's stdout   ◀── output copier ◀── outer│     │
 *
 * The sandbox opens the pty in its own /dev/pts and hands both ends to the launcher through a socket. When the program
 * has started, the launcher forks three small processes, makes the caller's terminal raw and goes on with its loop
 * (signals.ts). The copiers only copy. The third one restores the caller's terminal should the launcher be killed: it
 * sleeps on a pipe that only the launcher holds.
 *
 * The launcher holds the inner end as well, so that output never ends before the program does, whatever it closes and
 * opens. When the program has ended, the output copier is told by a second pipe, and copies what is left: the kernel
 * delivers all that was written before it says EAGAIN (n_tty_read flushes the buffer's work first).
 */

import * as c from "../libc/constants.ts";
import type { Action } from "../step.ts";
import { type Assembler, type Label, at, content } from "./assembler.ts";
import type { Lowering, PseudoTerminal } from "./lowering.ts";
import { descriptorMessage } from "./passing.ts";
import { allBut, dieWithParent, end, field, fork, keepOnly, makePipe, newPipe } from "./processes.ts";
import type { Place } from "./program.ts";
import { newTree, treeOf } from "./targets.ts";
import { copy, passTyped } from "./terminal-copy.ts";

/** Settings of the caller's terminal on descriptor 0 (struct termios): as they were, and raw. */
export interface TerminalSettings {
  readonly saved: Uint8Array;
  readonly raw: Uint8Array;
}

type OpenTerminal = Extract<Action, { op: "open-terminal" }>;

/** What a program has to end by itself after the caller's terminal was hung up. */
const HANG_UP_SECONDS = 2;

/** Cells for the terminal's descriptors. */
export function pseudoTerminal(asm: Assembler): PseudoTerminal {
  return { receive: asm.cell(), send: asm.cell(), outer: asm.cell(), inner: asm.cell() };
}

/** The sandbox's part: open the pty, prepare it like the caller's terminal, hand it over, hold its node as a tree. */
export function openTerminal(l: Lowering, step: OpenTerminal, { outer, inner, receive, send }: PseudoTerminal): void {
  const { asm } = l;
  const flags = c.O_RDWR | c.O_NOCTTY | c.O_CLOEXEC;
  const [size, settings] = [asm.cell(), asm.cell(64)];
  asm.call("close", [content(receive)]);
  asm.call("openat", [content(treeOf(l, step.devpts)), "ptmx", flags], { result: outer });
  asm.call("ioctl", [content(outer), c.TIOCSPTLCK, asm.words(0)]);
  asm.call("ioctl", [content(outer), c.TIOCGPTPEER, flags], { result: inner });
  asm.call("fcntl", [content(inner), c.F_DUPFD_CLOEXEC, 3], { result: inner });
  asm.call("ioctl", [0, c.TIOCGWINSZ, size], { onError: "ignore" });
  asm.call("ioctl", [content(outer), c.TIOCSWINSZ, size], { onError: "ignore" });
  asm.call("ioctl", [0, c.TCGETS, settings], { onError: "ignore" });
  asm.call("ioctl", [content(inner), c.TCSETS, settings], { onError: "ignore" });
  if (step.uid !== 0) asm.call("fchown", [content(inner), step.uid, -1]);
  // Neither end blocks the copiers; the inner one is another open file, which the program shares with nobody.
  asm.call("fcntl", [content(outer), c.F_SETFL, c.O_RDWR | c.O_NONBLOCK]);
  const { header, descriptors } = descriptorMessage(asm, 2);
  asm.set(descriptors, content(outer));
  asm.set(at(descriptors, 4), content(inner));
  asm.call("sendmsg", [content(send), header, 0]);
  asm.call("close", [content(send)]);
  asm.call("close", [content(outer)]);
  const tree = [content(inner), "", c.OPEN_TREE_CLONE | c.O_CLOEXEC | c.AT_EMPTY_PATH];
  asm.call("open_tree", tree, { result: newTree(l, step.tree) });
}

/** The program's part: a session of its own on the pty. Where the program is PID 1 it may lead a session already. */
export function controlTerminal(asm: Assembler, { inner }: PseudoTerminal): void {
  asm.call("setsid", [], { onError: "ignore" });
  asm.call("ioctl", [content(inner), c.TIOCSCTTY, 0]);
  for (const descriptor of [0, 1, 2]) asm.call("dup3", [content(inner), descriptor, 0]);
}

/** The launcher's part, as soon as it has a child. A sandbox that failed has closed its end: go on. */
export function receiveTerminal(asm: Assembler, { receive, send, outer, inner }: PseudoTerminal): void {
  const none = asm.label();
  const { header, descriptors } = descriptorMessage(asm, 2);
  asm.call("close", [content(send)]);
  asm.call("recvmsg", [content(receive), header, c.MSG_CMSG_CLOEXEC], { onZero: none });
  field(asm, descriptors, 0, outer);
  field(asm, descriptors, 4, inner);
  asm.place(none);
  asm.call("close", [content(receive)]);
}

/** The launcher's side of the terminal while the program runs; each method writes records. */
export interface TerminalWatch {
  /** Descriptors that the launcher keeps. */
  readonly keep: readonly Place[];
  /** Make the caller's terminal raw, once the descriptors are in order. */
  start: () => void;
  /** Look at a signal that has come in `signal`: go to `loop` when it is the terminal's affair, else on. */
  onSignal: (signal: Place, self: Place, loop: Label) => void;
  /** Go to `hangUp` when a copier has ended: the caller's terminal is gone. Else on. */
  ifGone: (hangUp: Label) => void;
  /** Hang up the program's terminal and wait for the end of `child`, killed when it does not come. */
  hangUp: (child: Place) => void;
  /** After the program's end: copy the rest, end the helpers, restore the caller's terminal. */
  finish: () => void;
}

/** Fork the helpers. Nothing of the terminal has been changed yet. */
export function watchTerminal(asm: Assembler, pty: PseudoTerminal, { saved, raw }: TerminalSettings): TerminalWatch {
  const { outer, inner } = pty;
  const tty = asm.cell(); // descriptor 0, until it is moved
  const stdout = asm.cell();
  const parent = asm.cell();
  const [ending, alive, isRaw] = [newPipe(asm), newPipe(asm), newPipe(asm)];
  const pids = { input: asm.cell(), output: asm.cell(), restorer: asm.cell() };
  const [savedPlace, rawPlace] = [asm.data(saved), asm.data(raw)];
  const size = asm.cell();
  const everything = asm.words(-1);

  for (const pipe of [ending, alive, isRaw]) makePipe(asm, pipe);
  asm.call("getpid", [], { result: parent });
  asm.set(stdout, 1);

  /** A copier ends with the launcher, and is stopped like any background process that uses the terminal. */
  const becomeCopier = (keep: readonly Place[], jobSignal: number) => {
    const [gone, on] = [asm.label(), asm.label()];
    keepOnly(asm, keep);
    dieWithParent(asm, content(parent), gone);
    asm.jump(on);
    asm.place(gone);
    asm.call("exit_group", [0]);
    asm.place(on);
    asm.call("rt_sigprocmask", [c.SIG_SETMASK, allBut(asm, jobSignal), 0, 8]);
  };

  fork(asm, pids.restorer, () => {
    asm.call("setpgid", [0, 0]); // a signal to the caller's whole group spares it; SIGTTOU is blocked
    keepOnly(asm, [tty, alive.read]);
    asm.call("read", [content(alive.read), asm.cell(), 1]);
    const [now, done] = [asm.cell(40), asm.label()];
    asm.call("ioctl", [content(tty), c.TCGETS, now]);
    sameSettings(asm, now, rawPlace, done); // somebody else, such as a shell, has set it since: leave it
    asm.call("ioctl", [content(tty), c.TCSETS, savedPlace]);
    asm.place(done);
  });
  fork(asm, pids.input, () => {
    becomeCopier([tty, outer, isRaw.read], c.SIGNALS.SIGTTIN);
    asm.call("read", [content(isRaw.read), asm.cell(), 1]);
    copy(asm, tty, outer, undefined);
  });
  fork(asm, pids.output, () => {
    becomeCopier([outer, stdout, ending.read, isRaw.read], c.SIGNALS.SIGTTOU);
    // Until the caller's terminal is raw it would make two line ends of one.
    asm.call("read", [content(isRaw.read), asm.cell(), 1]);
    copy(asm, outer, stdout, ending.read);
  });
  for (const cell of [ending.read, alive.read, isRaw.read]) asm.call("close", [content(cell)]);

  const resize = () => {
    const unknown = asm.label();
    asm.call("ioctl", [content(tty), c.TIOCGWINSZ, size], { onError: unknown });
    asm.call("ioctl", [content(outer), c.TIOCSWINSZ, size], { onError: "ignore" });
    asm.place(unknown);
  };
  /** In the background the kernel stops the whole job here, until it is brought to the foreground. */
  const makeRaw = () => {
    asm.call("rt_sigprocmask", [c.SIG_SETMASK, allBut(asm, c.SIGNALS.SIGTTOU), 0, 8], { onError: "ignore" });
    asm.call("ioctl", [content(tty), c.TCSETSW, rawPlace], { onError: "ignore" });
    asm.call("rt_sigprocmask", [c.SIG_SETMASK, everything, 0, 8], { onError: "ignore" });
    resize();
  };
  const restore = () => asm.call("ioctl", [content(tty), c.TCSETSW, savedPlace], { onError: "ignore" });
  const copiers = [pids.input, pids.output];
  const signalCopiers = (signal: number) => {
    for (const pid of copiers) asm.call("kill", [content(pid), signal], { onError: "ignore" });
  };

  return {
    keep: [tty, outer, inner, ending.write, alive.write, isRaw.write],

    start: () => {
      passTyped(asm, tty, outer);
      makeRaw();
      asm.call("close", [content(isRaw.write)], { onError: "ignore" });
    },

    onSignal: (signal, self, loop) => {
      const [resized, stop, resumed, on] = [asm.label(), asm.label(), asm.label(), asm.label()];
      const { SIGWINCH, SIGTSTP, SIGCONT, SIGTTIN, SIGTTOU } = c.SIGNALS;
      asm.ifEqual(content(signal), SIGWINCH, resized);
      asm.ifEqual(content(signal), SIGTSTP, stop);
      asm.ifEqual(content(signal), SIGCONT, resumed);
      asm.ifEqual(content(signal), SIGTTIN, loop); // meant for the input copier
      asm.ifEqual(content(signal), SIGTTOU, loop);
      asm.jump(on);
      asm.place(resized);
      resize();
      asm.jump(loop);
      asm.place(stop);
      signalCopiers(c.SIGNALS.SIGSTOP);
      restore();
      asm.call("kill", [content(self), c.SIGNALS.SIGSTOP], { onError: "ignore" });
      asm.jump(loop); // SIGCONT waits there
      asm.place(resumed);
      makeRaw();
      signalCopiers(SIGCONT);
      asm.jump(loop);
      asm.place(on);
    },

    ifGone: (hangUp) => {
      const gone = asm.cell(128);
      for (const pid of copiers) {
        asm.set(at(gone, 16), 0);
        asm.call("waitid", [c.P_PID, content(pid), gone, c.WEXITED | c.WNOHANG, 0], { onError: hangUp });
        const [which, still] = [asm.cell(), asm.label()];
        field(asm, gone, 16, which);
        asm.call("sub", [content(which), 0], { onZero: still, next: hangUp });
        asm.place(still);
      }
    },

    hangUp: (child) => {
      const [late, wait, over, info, pid] = [asm.label(), asm.label(), asm.label(), asm.cell(128), asm.cell()];
      for (const copier of copiers) end(asm, content(copier));
      for (const cell of [outer, inner]) asm.call("close", [content(cell)], { onError: "ignore" });
      asm.place(wait);
      const children = asm.words(2 ** (c.SIGNALS.SIGCHLD - 1));
      asm.call("rt_sigtimedwait", [children, 0, asm.words(HANG_UP_SECONDS, 0), 8], { onError: late });
      asm.call("waitid", [c.P_PID, content(child), info, c.WEXITED | c.WNOHANG | c.WNOWAIT, 0], { onError: over });
      field(asm, info, 16, pid);
      asm.call("sub", [content(pid), 0], { onZero: wait, next: over });
      asm.place(late);
      asm.call("kill", [content(child), c.SIGNALS.SIGKILL], { onError: "ignore" });
      asm.place(over);
    },

    finish: () => {
      const [wait, drained, signal] = [asm.label(), asm.label(), asm.cell()];
      const [gone, pid] = [asm.cell(128), asm.cell()];
      const passedOver = [c.SIGNALS.SIGCHLD, c.SIGNALS.SIGWINCH, c.SIGNALS.SIGCONT, c.SIGNALS.SIGTSTP];
      asm.call("close", [content(ending.write)], { onError: "ignore" });
      asm.place(wait);
      asm.call("waitid", [c.P_PID, content(pids.output), gone, c.WEXITED | c.WNOHANG, 0], { onError: drained });
      field(asm, gone, 16, pid);
      const waiting = asm.label();
      asm.call("sub", [content(pid), 0], { onZero: waiting, next: drained });
      asm.place(waiting);
      // A reader who takes his time is waited for, until somebody asks hutch to end.
      asm.call("rt_sigtimedwait", [everything, 0, 0, 8], { result: signal, onError: wait });
      for (const number of passedOver) asm.ifEqual(content(signal), number, wait);
      asm.place(drained);
      for (const copier of copiers) end(asm, content(copier));
      restore();
      end(asm, content(pids.restorer));
    },
  };
}

/** Go to `differ` unless two struct termios (36 bytes; the rest of the last word is not compared) are equal. */
function sameSettings(asm: Assembler, a: Place, b: Place, differ: Label): void {
  const [left, right] = [asm.cell(), asm.cell()];
  for (let offset = 0; offset < 36; offset += 8) {
    const equal = asm.label();
    if (offset === 32) {
      field(asm, a, offset, left);
      field(asm, b, offset, right);
    } else {
      asm.call("load64", [a, offset], { result: left });
      asm.call("load64", [b, offset], { result: right });
    }
    asm.call("sub", [content(left), content(right)], { onZero: equal, next: differ });
    asm.place(equal);
  }
}
