/** `--explain-denials`: what the filter has refused, as lines on standard error and as fields of the outcome. */

import { encodeBytes, oneLine } from "../bytes.ts";
import { HutchError } from "../errors.ts";
import { decodeDenials, type Denial, type Denials } from "../launch/denial-report.ts";
import { filterWords } from "../launch/failure.ts";
import type { Outcome } from "../launch/outcome.ts";
import { ARCH, call } from "../libc/call.ts";
import { errnoText } from "../libc/errno.ts";
import { readAll, writeAll } from "../libc/files.ts";
import { callName, callText } from "../process/call-text.ts";
import { writeOutcome } from "./json-output.ts";

const errorName = (errno: number): string => (errno === 0 ? "0" : errnoText(errno).name);

/** Why a call was refused, in the user's words. */
function reason(words: string): string {
  return words === "default" ? "not in the default profile" : `refused by ${words}`;
}

const times = (count: number): string => (count === 1 ? "once" : `${count} times`);

/** One line for each kind of call, in the order of their first. `words`: who asked for the filter. */
export function denialLines({ calls, others }: Denials, words: string): readonly string[] {
  const lines = calls.map(
    (denial) => `${callText(denial, ARCH)} = ${errorName(denial.errno)}, ${times(denial.count)}: ${reason(words)}`,
  );
  const rest = others === 0 ? [] : [`calls of more kinds than are listed, ${times(others)}: ${reason(words)}`];
  return [...lines, ...rest].map((line) => oneLine(`hutch: blocked: ${line}`));
}

/** The same for programs. */
export function denialFields({ calls, others }: Denials, words: string): Readonly<Record<string, unknown>> {
  const fields = (denial: Denial) => ({
    call: callText(denial, ARCH),
    syscall: callName(denial, ARCH) ?? null,
    number: denial.nr,
    arch: `0x${denial.arch.toString(16)}`,
    args: denial.args.map((value) => `0x${value.toString(16)}`),
    errno: denial.errno,
    code: errorName(denial.errno),
    count: denial.count,
  });
  return { denials: calls.map(fields), otherDenials: others, filter: words };
}

/**
 * Say what has been refused, and how the sandbox has ended.
 * @param result how, or why it could not be started
 * @param read the launcher's report
 * @returns the exit code @throws HutchError
 */
export function tellDenials(
  denialsFd: number,
  result: Outcome | Error,
  read: () => Uint8Array,
  outputFd: number | undefined,
): number {
  call("lseek", denialsFd, 0, 0);
  const denials = decodeDenials(readAll(denialsFd));
  const words = filterWords(read()) ?? "the filter";
  const ended = denials.lost && !(result instanceof Error) ? lost() : result;
  try {
    writeAll(
      2,
      encodeBytes(
        denialLines(denials, words)
          .map((line) => `${line}\n`)
          .join(""),
      ),
    );
  } catch {
    // Nobody reads it; the exit code is the program's all the same.
  }
  if (outputFd !== undefined) writeOutcome(outputFd, ended, denialFields(denials, words));
  if (ended instanceof Error) throw ended;
  return ended.status;
}

function lost(): HutchError {
  return new HutchError("the process that answers refused calls has ended, and the sandbox was ended with it", {
    from: "--explain-denials",
    hint: "somebody has killed it, or memory was short",
  });
}
