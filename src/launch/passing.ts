/** Descriptors handed from one process to another over a socket (unix(7), SCM_RIGHTS). */

import * as c from "../libc/constants.ts";
import { type Assembler, at, content } from "./assembler.ts";
import { words32 } from "./lowering.ts";
import { field } from "./processes.ts";
import type { Place } from "./program.ts";

/** The two ends, close-on-exec. */
export function makeChannel(
  asm: Assembler,
  { receive, send }: { readonly receive: Place; readonly send: Place },
): void {
  const pair = asm.cell();
  asm.call("socketpair", [c.AF_UNIX, c.SOCK_STREAM_CLOEXEC, 0, pair]);
  field(asm, pair, 0, receive);
  field(asm, pair, 4, send);
}

/** struct msghdr for one byte of data and some descriptors; returns it and the place of these ints (cmsg(3)). */
export function descriptorMessage(asm: Assembler, count: number): { header: Place; descriptors: Place } {
  const [header, vector, control] = [asm.cell(56), asm.cell(16), asm.cell(16 + 4 * count)];
  asm.set(vector, asm.cell());
  asm.set(at(vector, 8), 1);
  asm.set(at(header, 16), vector);
  asm.set(at(header, 24), 1);
  asm.set(at(header, 32), control);
  asm.set(at(header, 40), 16 + 4 * count);
  asm.set(control, 16 + 4 * count);
  asm.set(at(control, 8), content(asm.data(words32(c.SOL_SOCKET, c.SCM_RIGHTS))));
  return { header, descriptors: at(control, 16) };
}
