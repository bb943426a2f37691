/** `--json FILE|fd:N`: the Outcome, or the error in its place, as one line of JSON. */

import { encodeBytes } from "../bytes.ts";
import { HutchError, UsageError } from "../errors.ts";
import { formatOutcome, type Outcome } from "../launch/outcome.ts";
import { asSystemError, call, rawCall, systemError } from "../libc/call.ts";
import * as c from "../libc/constants.ts";
import { writeAll } from "../libc/files.ts";
import { last, type Parsed } from "./options.ts";
import { wasClosed } from "./report.ts";

/**
 * Open what `--json` names: a descriptor of 3 or above that survives execve and that the program does not inherit.
 * @throws UsageError
 */
export function openOutput(parsed: Parsed): number {
  const { value = "", words: from = "--json" } = last(parsed, "json") ?? {};
  if (value === "") throw new UsageError("--json needs a file or fd:N", { from });
  const [, number] = /^fd:(\d{1,5})$/.exec(value) ?? [];
  if (number === undefined && value.startsWith("fd:")) throw new UsageError("--json needs a file or fd:N", { from });
  if (number === undefined) {
    const flags = c.O_WRONLY | c.O_CREAT | c.O_TRUNC | c.O_NOCTTY;
    const opened = rawCall("openat", c.AT_FDCWD, value, flags, 0o666);
    if (opened < 0) throw systemError(`open ${value}`, -opened, { from });
    return aside(parsed, opened, true);
  }
  const writable = rawCall("fcntl", Number(number), c.F_GETFL);
  if (writable < 0 || (Number(number) <= 2 && wasClosed(Number(number))))
    throw new UsageError(`descriptor ${number} is not open`, { from });
  if ((writable & c.O_ACCMODE) === c.O_RDONLY)
    throw new UsageError(`descriptor ${number} is not for writing`, { from });
  return aside(parsed, Number(number), Number(number) > 2);
}

/** A copy above all that `--preserve-fds` can name; the original is closed when it is nobody else's. */
function aside(parsed: Parsed, descriptor: number, close: boolean): number {
  const preserved = Number(last(parsed, "preserve-fds")?.value ?? 0) || 0;
  const copy = call("fcntl", descriptor, c.F_DUPFD, 3 + preserved);
  if (close) rawCall("close", descriptor);
  return copy;
}

/**
 * Write how a sandbox has ended, or why it could not be started; `fields` are further ones.
 * @throws HutchError when that cannot be written: what was to be told in it, if that is an error, and why it is not there
 */
export function writeOutcome(
  output: number,
  result: Outcome | Error,
  fields: Readonly<Record<string, unknown>> = {},
): void {
  try {
    writeAll(output, encodeBytes(formatOutcome(result, fields)));
  } catch (cause) {
    const why = `the outcome is not written: ${cause instanceof Error ? cause.message : String(cause)}`;
    if (!(result instanceof Error))
      throw new HutchError(why, { from: "--json", hint: `the program's exit status was ${result.status}`, cause });
    const { exitCode, from, hint } = result instanceof HutchError ? result : new HutchError(result.message);
    const more = { exitCode, ...(from === undefined ? {} : { from }), ...(hint === undefined ? {} : { hint }) };
    throw new HutchError(`${result.message}; and ${why}`, { ...more, cause: result });
  }
}

/** Do something that ends in the launcher; an error on the way is written as JSON, and thrown on. */
export async function reportingTo(output: number, action: () => Promise<number>): Promise<number> {
  try {
    return await action();
  } catch (thrown) {
    const error = asSystemError(thrown);
    writeOutcome(output, error instanceof Error ? error : new Error(String(error)));
    throw error;
  }
}
