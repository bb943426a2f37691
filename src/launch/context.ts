/**
 * What the launcher's report holds from the start, so that a failure can be explained. Apart from failure.ts, which
 * reads it: a start that does not fail never loads the texts.
 */

import type { Arch } from "../libc/syscalls.ts";
import type { Step } from "../step.ts";
import { RECORD, RECORD_WORDS } from "./program.ts";
import { emptyReport } from "./report.ts";
import type { Assembled } from "./supervise.ts";

/** A step without what may be long or secret. */
type Brief =
  | Exclude<Step, { op: "seccomp" }>
  | (Omit<Extract<Step, { op: "seccomp" }>, "filter"> & { readonly filter: { readonly length: number } });

/** What explains a failed record: its step, and the call that it is. */
export interface Context {
  readonly steps: readonly Brief[];
  readonly marks: Assembled["marks"];
  /** Operations of all records. */
  readonly operations: readonly number[];
  readonly arch: Arch;
}

/** A report with the context of a program. Arguments, environment and contents of files are left out. */
export function encodeContext(of: { readonly steps: readonly Step[]; readonly assembled: Assembled }): Uint8Array {
  return emptyReport(contextOf(of));
}

/** What {@link encodeContext} writes. */
export function contextOf(of: { readonly steps: readonly Step[]; readonly assembled: Assembled }): Context {
  const { steps, assembled } = of;
  const { program, marks } = assembled;
  const brief = steps.map((step): Brief => {
    if (step.op === "exec") return { ...step, args: [], env: [] };
    if (step.op === "seccomp") return { ...step, filter: { length: step.filter.length } };
    return step.op === "file" ? { ...step, content: "" } : step;
  });
  const operations: number[] = [];
  for (let at = RECORD.operation; at < program.words.length; at += RECORD_WORDS)
    operations.push(program.words[at] ?? 0);
  return { steps: brief, marks, operations, arch: program.arch };
}
