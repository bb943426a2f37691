/**
 * A launcher whose program joins a sandbox that is there (hutch exec). setns(2) into a pid namespace is for children only,
 * so the process that has entered the namespaces makes one more, the launcher's own child (CLONE_PARENT), and goes.
 */

import * as c from "../libc/constants.ts";
import { type Assembler, content } from "./assembler.ts";
import type { Pipe } from "./processes.ts";
import type { Place } from "./program.ts";

/** Clone the program; what follows is the program's. Nobody inside may look into it before its execve. */
export function cloneJoined(asm: Assembler, { write }: Pipe): void {
  const [program, start] = [asm.cell(), asm.label()];
  asm.call("prctl", [c.PR_SET_DUMPABLE, 0, 0, 0, 0]);
  asm.call("clone", [c.CLONE_PARENT | c.SIGNALS.SIGCHLD, 0, 0, 0, 0], { result: program, onZero: start });
  asm.call("write", [content(write), program, 8]);
  asm.call("exit_group", [0]);
  asm.place(start);
}

/** The launcher's part: from here on `child` is the program. A process that could not join has said why elsewhere. */
export function adopt(asm: Assembler, { read, write }: Pipe, child: Place): void {
  const [program, none] = [asm.cell(), asm.label()];
  asm.call("close", [content(write)]);
  asm.call("read", [content(read), program, 8], { onZero: none });
  asm.call("waitid", [c.P_PID, content(child), 0, c.WEXITED, 0]);
  asm.set(child, content(program));
  asm.place(none);
}
