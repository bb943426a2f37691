/**
 * What went wrong: from the launcher's 16-byte report and the plan to one clear message with a hint.
 */

import { HutchError, EXIT, SystemError } from "../errors.ts";
import { describeStep } from "../explain.ts";
import { errnoText } from "../libc/errno.ts";
import type { Step } from "../step.ts";
import type { Context } from "./context.ts";
import { hintFor } from "./hints.ts";
import { operationName, recordAt } from "./program.ts";
import { REPORT_BYTES } from "./report.ts";

/** What is read back is a Context by its shape only: nothing in it is believed beyond the words of a message. */
type Stored = Omit<Context, "steps"> & { readonly steps: readonly Step[] };

/** The JSON behind the account of a report. @throws SyntaxError */
export function storedContext(bytes: Uint8Array): unknown {
  return JSON.parse(new TextDecoder().decode(bytes.subarray(REPORT_BYTES)));
}

/** Whose words asked for the filter: `default`, or the user's; undefined when the report does not tell. */
export function filterWords(bytes: Uint8Array): string | undefined {
  try {
    return (storedContext(bytes) as Stored).steps.find(({ op }) => op === "seccomp")?.why;
  } catch {
    return undefined;
  }
}

/**
 * The error that a report stands for: 16 bytes {record address, -errno}, the account, the context. Never throws.
 * @param known the context, when the report has only what it can be made from
 */
export function decodeFailure(bytes: Uint8Array, known?: Context): HutchError {
  try {
    return explainReport(bytes, (known ?? storedContext(bytes)) as Stored);
  } catch (cause) {
    return new HutchError("the launcher's report cannot be read", { cause });
  }
}

function explainReport(bytes: Uint8Array, context: Stored): HutchError {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // It came through processes inside: an index is only believed when it is one of the program's.
  const record = recordAt(view.getUint32(0, true));
  const errno = -view.getInt32(8, true);
  const operation = context.operations[record];
  if (operation === undefined) return new HutchError("the launcher failed before its first step");
  const mark = context.marks.findLast(([first]) => first <= record)?.[1] ?? -1;
  const root = context.steps.find(({ op }) => op === "attach-root")?.why;
  // A pid namespace whose PID 1 has ended takes no process any more (clone(2), ENOMEM).
  const called = operationName(operation, context.arch);
  if (
    mark < 0 &&
    called === "clone" &&
    errnoText(errno).name === "ENOMEM" &&
    context.steps.some(({ op }) => op === "join")
  )
    return new HutchError("the sandbox has ended meanwhile, or there is no memory for another process (clone: ENOMEM)");
  return explainFailure(context.steps[mark], called, errno, root);
}

/**
 * One failed call of one step (undefined: the launcher's own) as an error.
 * @param root the user's words for the root: they have asked for what every root gets and this one has no place for
 */
export function explainFailure(step: Step | undefined, call: string, errno: number, root?: string): HutchError {
  const { name, meaning } = errnoText(errno);
  if (step === undefined) return new SystemError(`${call} (launcher)`, errno, name, meaning, {});
  if (step.op === "exec") return explainExec(step, errno);
  const hint = hintFor(step, call, name);
  const what = describeStep(step);
  if (step.op === "hold-ids" && step.through === "newuidmap" && call === "close") {
    return new HutchError(`${what}: refused`, { step: what, from: step.why, ...(hint === undefined ? {} : { hint }) });
  }
  if ((step.op === "clone" || (step.op === "open-tree" && step.idmapped)) && call === "close" && name === "EBADF") {
    const text = `${what}: somebody has killed the process that holds the id maps`;
    return new HutchError(text, { step: what, from: step.why });
  }
  return new SystemError(`${what}: ${call}`, errno, name, meaning, {
    step: what,
    from: step.op === "attach" && step.why === "default" && name === "ENOENT" ? (root ?? step.why) : step.why,
    ...(hint === undefined ? {} : { hint }),
  });
}

/** The shell's convention: 127 when the command is not there, 126 when it is and cannot be executed. */
function explainExec(step: Extract<Step, { op: "exec" }>, errno: number): HutchError {
  const { name, meaning } = errnoText(errno);
  const { command } = step;
  const what = { step: describeStep(step), errno, code: name };
  if (name === "ENOENT" || name === "ENOTDIR") {
    const hint = command.includes("/")
      ? "not in the root, or its interpreter or dynamic loader is not (hutch run --add brings programs along)"
      : "not in any directory of the sandbox's PATH (hutch run --add brings programs along)";
    return new HutchError(`${command}: command not found`, { ...what, exitCode: EXIT.notFound, hint });
  }
  const hint =
    name === "ENOEXEC"
      ? "neither an executable of this machine nor a script that begins with #!"
      : name === "EACCES"
        ? "not executable, a directory, or on a noexec mount"
        : undefined;
  return new HutchError(`${command}: cannot be executed: ${name} ${meaning}`, {
    ...what,
    exitCode: EXIT.notExecutable,
    ...(hint === undefined ? {} : { hint }),
  });
}
