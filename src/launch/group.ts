/**
 * Signals to the whole process group. The program is in the launcher's group, as a shell's job must be, so what is sent
 * to the group (`kill %1`, `kill -- -PGID`) reaches it without the launcher, who must then not pass it on; siginfo_t
 * does not say whether a signal was sent to one process or to all of a group.
 *
 * So there is a witness: one more process of the group, in the launcher's memory, that blocks every signal and leaves
 * them pending. A signal that the launcher has got and that is pending there too was sent to all. (Its siginfo_t cannot
 * be compared: for a group with members in a pid namespace the kernel changes si_pid on the way from one to the next.)
 *
 * The witness is there before the program is, or what is sent meanwhile would come twice. What has been sent before the
 * program was there the program has not had: the two compare what is pending for them, the program last (settle).
 */

import * as c from "../libc/constants.ts";
import { type Assembler, content, type Label } from "./assembler.ts";
import { holdCapabilities } from "./lowering.ts";
import { allBut, dieWithParent, makePipe, newPipe, type Pipe } from "./processes.ts";
import type { Place } from "./program.ts";

/** The answers of a witness, and none yet. */
const NONE = 0;
const SENT_TO_ALL = 1;
const SENT_TO_ONE = 2;
const SENT_EARLIER = 3;

/** What the launcher and its witness share. */
export interface Witness {
  /** It is a child, to be ended before this process ends: whoever inherited it might wait for nobody. */
  readonly pid: Place;
  /** Non-zero: asked. */
  readonly request: Place;
  readonly answer: Place;
  /** The signal that is asked about. */
  readonly signal: Place;
  /** The process group. */
  readonly group: Place;
  /** Signals that had come before the program was there (sigset_t). */
  readonly earlier: Place;
  /** The pipes over which that is settled: what the program says, and one that is closed for it to go on. */
  readonly says: Pipe;
  readonly go: Pipe;
}

/** The cells of a witness. */
export function newWitness(asm: Assembler): Witness {
  const [pid, request, answer, signal] = [asm.cell(), asm.cell(), asm.cell(), asm.cell()];
  const [group, earlier] = [asm.cell(), asm.cell()];
  return { pid, request, answer, signal, group, earlier, says: newPipe(asm), go: newPipe(asm) };
}

/** Make the witness of this process, all of whose signals are blocked. */
export function startWitness(asm: Assembler, witness: Witness): void {
  const [inside, after, bound, gone, self] = [asm.label(), asm.label(), asm.label(), asm.label(), asm.cell()];
  const failure = asm.failure;
  asm.call("getpid", [], { result: self });
  asm.call("getpgid", [0], { result: witness.group });
  // No stack is needed: the interpreter has none. The kernel writes the pid: both processes write the call's result.
  const flags = c.CLONE_VM | c.CLONE_PARENT_SETTID | c.SIGNALS.SIGCHLD;
  asm.call("clone", [flags, 0, witness.pid, 0, 0], { next: after, onZero: inside });
  asm.place(inside);
  asm.failure = gone;
  dieWithParent(asm, content(self), gone);
  asm.jump(bound);
  asm.place(gone);
  asm.call("exit_group", [0]);
  asm.place(bound);
  asm.call("close_range", [0, -1, 0], { onError: "ignore" });
  asm.failure = undefined;
  holdCapabilities(asm, []);
  testify(asm, witness);
  asm.failure = failure;
  asm.place(after);
}

/** Make the pipes, before the program is cloned. */
export function makeSettling(asm: Assembler, { says, go }: Witness): void {
  for (const pipe of [says, go]) makePipe(asm, pipe);
}

/** The launcher's part, when the program is about to be there: find out what it has not had. A failed one says nothing. */
export function settle(asm: Assembler, { says, go, earlier }: Witness): void {
  const [its, both, none] = [asm.cell(), asm.cell(), asm.label()];
  asm.call("close", [content(says.write)]);
  asm.call("close", [content(go.read)]);
  asm.call("read", [content(says.read), its, 8], { onZero: none });
  asm.call("rt_sigpending", [earlier, 8]);
  asm.call("close", [content(go.write)]);
  asm.call("read", [content(says.read), its, 8], { onZero: none });
  asm.call("and", [content(earlier), content(its)], { result: both });
  asm.call("sub", [content(earlier), content(both)], { result: earlier });
  asm.place(none);
  asm.call("close", [content(says.read)]);
}

/** For every process that is cloned from the launcher after {@link makeSettling}: let go of the launcher's end. */
export function releaseSettling(asm: Assembler, { go }: Witness): void {
  asm.call("close", [content(go.write)]);
}

/** Say that the program is there, as which a process that has been in the group meanwhile does not count any more. */
export function sayThere(asm: Assembler, { says }: Witness): void {
  asm.call("write", [content(says.write), asm.words(0), 8]);
}

/** The program's part: say what it has had by now, later than the launcher has looked. */
export function saySettled(asm: Assembler, { says, go }: Witness): void {
  const its = asm.cell();
  asm.call("read", [content(go.read), its, 1]);
  asm.call("rt_sigpending", [its, 8]);
  asm.call("write", [content(says.write), its, 8]);
  for (const end of [go.read, says.write]) asm.call("close", [content(end)]);
}

/** Drop what has come to a process that leaves the group, once the program is in it. Its children still count. */
export function dropSignals(asm: Assembler): void {
  const [again, none] = [asm.label(), asm.label()];
  asm.place(again);
  asm.call("rt_sigtimedwait", [allBut(asm, c.SIGNALS.SIGCHLD), 0, asm.words(0, 0), 8], { next: again, onError: none });
  asm.place(none);
}

/** The set (sigset_t) of one signal. Records cannot shift, so it is looked up. */
function setOf(asm: Assembler, signal: Place, set: Place): void {
  const [offset, twice] = [asm.cell(), asm.cell()];
  asm.set(offset, content(signal));
  for (let times = 0; times < 3; times++) {
    asm.call("sub", [0, content(offset)], { result: twice });
    asm.call("sub", [content(offset), content(twice)], { result: offset });
  }
  const sets = Array.from({ length: 65 }, (_, number) => (number === 0 ? 0 : 2 ** (number - 1)));
  asm.call("load64", [asm.words(...sets), content(offset)], { result: set });
}

/** The witness's loop: asked about a signal, it takes that one from those that are pending for it. */
function testify(asm: Assembler, { request, answer, signal, earlier }: Witness): void {
  const [set, bit, reply] = [asm.cell(), asm.cell(), asm.cell()];
  const [loop, all, look, was, say] = [asm.label(), asm.label(), asm.label(), asm.label(), asm.label()];
  asm.place(loop);
  asm.call("futex", [request, c.FUTEX_WAIT, 0, 0, 0, 0]);
  asm.ifEqual(content(request), 0, loop);
  asm.set(request, 0);
  setOf(asm, signal, set);
  asm.set(reply, SENT_TO_ONE);
  asm.call("rt_sigtimedwait", [set, 0, asm.words(0, 0), 8], { next: all, onError: look });
  asm.place(all);
  asm.set(reply, SENT_TO_ALL);
  asm.place(look);
  asm.call("and", [content(earlier), content(set)], { result: bit, next: was, onZero: say });
  asm.place(was);
  asm.call("sub", [content(earlier), content(bit)], { result: earlier });
  asm.set(reply, SENT_EARLIER);
  asm.place(say);
  asm.set(answer, content(reply));
  asm.call("futex", [answer, c.FUTEX_WAKE, 1, 0, 0, 0]);
  asm.jump(loop);
}

/**
 * Ask about a signal: go to `all` when the whole group has had it, to `earlier` when it came before the program was there,
 * else on. To be asked about every signal, also where the answer does not matter, for what stays pending would be taken
 * for a later one.
 */
export function askWitness(
  asm: Assembler,
  witness: Witness,
  signal: Place,
  { all, earlier }: { readonly all: Label; readonly earlier: Label },
): void {
  const { request, answer, group } = witness;
  asm.set(witness.signal, content(signal));
  // Whoever is still sending to the group holds tasklist_lock, and setpgid(2) waits for that lock; it changes nothing.
  asm.call("setpgid", [0, content(group)], { onError: "ignore" });
  asm.set(answer, NONE);
  asm.set(request, 1);
  asm.call("futex", [request, c.FUTEX_WAKE, 1, 0, 0, 0], { onError: "ignore" });
  // A second, in case somebody has ended it.
  asm.call("futex", [answer, c.FUTEX_WAIT, NONE, asm.words(1, 0), 0, 0], { onError: "ignore" });
  asm.ifEqual(content(answer), SENT_TO_ALL, all);
  asm.ifEqual(content(answer), SENT_EARLIER, earlier);
}
