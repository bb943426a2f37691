/**
 * Signals to the whole process group. The program is in the launcher's group, as a shell's job must be, so what is sent
 * to the group (`kill %1`, `kill -- -PGID`) reaches it without the launcher, who must then not pass it on; siginfo_t
 * does not say whether a signal was sent to one process or to all of a group.
 *
 * So there is a witness: one more process of the group, in the launcher's memory, that blocks every signal and leaves
 * them pending. A signal that the launcher has got and that is pending there too was sent to all. (Its siginfo_t cannot
 * be compared: for a group with members in a pid namespace the kernel changes si_pid on the way from one to the next.)
 */

import * as c from "../libc/constants.ts";
import { type Assembler, content, type Label } from "./assembler.ts";
import { dieWithParent } from "./processes.ts";
import type { Place } from "./program.ts";

/** The answers of a witness, and none yet. */
const NONE = 0;
const SENT_TO_ALL = 1;
const SENT_TO_ONE = 2;

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
}

/** Make the witness of this process (`self` holds its pid). Without one, every signal is taken as sent to one. */
export function makeWitness(asm: Assembler, self: Place): Witness {
  const witness = { pid: asm.cell(), request: asm.cell(), answer: asm.cell(), signal: asm.cell(), group: asm.cell() };
  const [inside, after, bound, gone] = [asm.label(), asm.label(), asm.label(), asm.label()];
  const failure = asm.failure;
  asm.call("getpgid", [0], { result: witness.group });
  // No stack is needed: the interpreter has none. The kernel writes the pid: both processes write the call's result.
  const flags = c.CLONE_VM | c.CLONE_PARENT_SETTID | c.SIGNALS.SIGCHLD;
  asm.call("clone", [flags, 0, witness.pid, 0, 0], { onError: "ignore", next: after, onZero: inside });
  asm.place(inside);
  asm.failure = gone;
  dieWithParent(asm, content(self), gone);
  asm.jump(bound);
  asm.place(gone);
  asm.call("exit_group", [0]);
  asm.place(bound);
  asm.call("close_range", [0, -1, 0], { onError: "ignore" });
  asm.failure = undefined;
  testify(asm, witness);
  asm.failure = failure;
  asm.place(after);
  return witness;
}

/** The witness's loop: asked about a signal, it takes that one from those that are pending for it. */
function testify(asm: Assembler, { request, answer, signal }: Witness): void {
  const masks = new Uint8Array(8 * 65);
  for (let number = 1; number <= 64; number++) masks[8 * number + ((number - 1) >> 3)] = 1 << ((number - 1) & 7);
  const [mask, offset, twice] = [asm.cell(), asm.cell(), asm.cell()];
  const [loop, all, one, reply] = [asm.label(), asm.label(), asm.label(), asm.label()];
  asm.place(loop);
  asm.call("futex", [request, c.FUTEX_WAIT, 0, 0, 0, 0]);
  asm.ifEqual(content(request), 0, loop);
  asm.set(request, 0);
  asm.set(offset, content(signal));
  for (let times = 0; times < 3; times++) {
    asm.call("sub", [0, content(offset)], { result: twice });
    asm.call("sub", [content(offset), content(twice)], { result: offset });
  }
  asm.call("load64", [asm.data(masks), content(offset)], { result: mask });
  asm.call("rt_sigtimedwait", [mask, 0, asm.words(0, 0), 8], { next: all, onError: one });
  asm.place(all);
  asm.set(answer, SENT_TO_ALL);
  asm.jump(reply);
  asm.place(one);
  asm.set(answer, SENT_TO_ONE);
  asm.place(reply);
  asm.call("futex", [answer, c.FUTEX_WAKE, 1, 0, 0, 0]);
  asm.jump(loop);
}

/**
 * Ask whether a signal was sent to the whole group: go to `all`, else on. To be asked about every signal, also where the
 * answer does not matter, for what stays pending would be taken for a later one.
 */
export function askWitness(asm: Assembler, witness: Witness, signal: Place, all: Label): void {
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
}
