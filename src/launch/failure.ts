/**
 * What went wrong: from the launcher's 16-byte report and the plan to one clear message with a hint.
 */

import { HutchError, EXIT, SystemError } from "../errors.ts";
import { describeStep } from "../explain.ts";
import { errnoText } from "../libc/errno.ts";
import type { Step } from "../step.ts";
import { hintFor } from "./hints.ts";
import { type ProgramRecord, recordAt } from "./program.ts";

/** What must survive the launcher to explain its failure; kept in the same memory file behind the report. */
export interface Context {
  readonly steps: readonly Step[];
  readonly records: readonly Pick<ProgramRecord, "operation">[];
  readonly recordSteps: readonly number[];
}

const REPORT_BYTES = 16;

/** The report's room, then the context as JSON. Arguments and environment of the program are left out. */
export function encodeContext({ steps, records, recordSteps }: Context): Uint8Array {
  const brief = steps.map((step) => {
    if (step.op === "exec") return { ...step, args: [], env: [] };
    if (step.op === "seccomp") return { ...step, filter: [] };
    return step.op === "file" ? { ...step, content: "" } : step;
  });
  const json = JSON.stringify({ steps: brief, records: records.map(({ operation }) => operation), recordSteps });
  const text = new TextEncoder().encode(json);
  const bytes = new Uint8Array(REPORT_BYTES + text.length);
  bytes.set(text, REPORT_BYTES);
  return bytes;
}

/** The error that a report stands for. @throws HutchError when it is not a report of ours. */
export function decodeFailure(bytes: Uint8Array): HutchError {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let context: { steps: Step[]; records: string[]; recordSteps: number[] };
  try {
    context = JSON.parse(new TextDecoder().decode(bytes.subarray(REPORT_BYTES))) as typeof context;
  } catch (cause) {
    return new HutchError("the launcher's report cannot be read", { cause });
  }
  // Written by the launcher, but by way of processes inside: an index is only believed when it is one of the plan's.
  const record = bytes.length < REPORT_BYTES ? -1 : recordAt(view.getUint32(0, true));
  const errno = -view.getInt32(8, true);
  const call = context.records[record];
  if (call === undefined) return new HutchError("the launcher failed before its first step");
  const step = context.steps[context.recordSteps[record] ?? -1];
  return explainFailure(step, call, errno);
}

/** One failed call of one step (undefined: the launcher's own) as an error. */
export function explainFailure(step: Step | undefined, call: string, errno: number): HutchError {
  const { name, meaning } = errnoText(errno);
  if (step === undefined) return new SystemError(`${call} (launcher)`, errno, name, meaning, {});
  if (step.op === "exec") return explainExec(step, errno);
  const hint = hintFor(step, call, name);
  const what = describeStep(step);
  if (step.op === "hold-ids" && step.through === "newuidmap" && call === "close") {
    return new HutchError(`${what}: refused`, { from: step.why, ...(hint === undefined ? {} : { hint }) });
  }
  return new SystemError(`${what}: ${call}`, errno, name, meaning, {
    from: step.why,
    ...(hint === undefined ? {} : { hint }),
  });
}

/** The shell's convention: 127 when the command is not there, 126 when it is and cannot be executed. */
function explainExec(step: Extract<Step, { op: "exec" }>, errno: number): HutchError {
  const { name, meaning } = errnoText(errno);
  const { command } = step;
  if (name === "ENOENT" || name === "ENOTDIR") {
    const hint = command.includes("/")
      ? "not in the root, or its interpreter or dynamic loader is not (see --add)"
      : "not in any directory of the sandbox's PATH (see --add)";
    return new HutchError(`${command}: command not found`, { exitCode: EXIT.notFound, hint });
  }
  const hint =
    name === "ENOEXEC"
      ? "neither an executable of this machine nor a script that begins with #!"
      : name === "EACCES"
        ? "not executable, a directory, or on a noexec mount"
        : undefined;
  return new HutchError(`${command}: cannot be executed: ${name} ${meaning}`, {
    exitCode: EXIT.notExecutable,
    ...(hint === undefined ? {} : { hint }),
  });
}
