/**
 * What the launcher's memory file holds from the start, so that a failure can be explained. Apart from failure.ts, which
 * reads it: a start that does not fail never loads the texts.
 */

import type { Step } from "../step.ts";
import { ACCOUNT, ACCOUNT_OFFSET } from "./account.ts";
import { RECORD, RECORD_WORDS } from "./program.ts";
import type { Assembled } from "./supervise.ts";

/** What must survive the launcher to explain its failure; kept in the same memory file behind the report. */
export interface Context {
  readonly steps: readonly Step[];
  readonly assembled: Assembled;
}

/** Room at the beginning for the report and the account. */
export const REPORT_BYTES = ACCOUNT_OFFSET + ACCOUNT.bytes;

/** The report's room, then the context as JSON. Arguments, environment and contents of the program are left out. */
export function encodeContext({ steps, assembled: { program, marks } }: Context): Uint8Array {
  const brief = steps.map((step) => {
    if (step.op === "exec") return { ...step, args: [], env: [] };
    if (step.op === "seccomp") return { ...step, filter: { length: step.filter.length } };
    return step.op === "file" ? { ...step, content: "" } : step;
  });
  const operations: (number | undefined)[] = [];
  for (let at = RECORD.operation; at < program.words.length; at += RECORD_WORDS) operations.push(program.words[at]);
  const text = new TextEncoder().encode(JSON.stringify({ steps: brief, marks, operations, arch: program.arch }));
  const bytes = new Uint8Array(REPORT_BYTES + text.length);
  bytes.set(text, REPORT_BYTES);
  return bytes;
}
