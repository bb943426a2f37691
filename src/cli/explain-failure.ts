/**
 * `hutch explain-failure REPORT OUTPUT|- LABEL [DENIALS]` (descriptors, and what the error is said to come from): what the
 * launcher turns into when a step has failed, or at the end when the outcome is wanted as JSON or denials are to be told.
 * Not for people.
 */

import { type HutchError, UsageError } from "../errors.ts";
import { decodeFailure, storedContext } from "../launch/failure.ts";
import { decodeReport, type Outcome } from "../launch/outcome.ts";
import { ARCH, call } from "../libc/call.ts";
import { readAll } from "../libc/files.ts";
import { plainContext, plainRunOf } from "../prelinked/explain.ts";
import type { PlainRun } from "../prelinked/shape.ts";
import type { Command } from "./command.ts";
import { writeOutcome } from "./json-output.ts";

function descriptor(word: string | undefined): number {
  if (word === undefined || !/^\d+$/.test(word)) throw new UsageError("explain-failure needs a descriptor");
  return Number(word);
}

/** The failure in a report, whichever launcher has written it. */
async function explained(bytes: Uint8Array): Promise<HutchError> {
  let plain: PlainRun | undefined;
  try {
    plain = plainRunOf(storedContext(bytes));
  } catch {
    // No JSON: decodeFailure says so.
  }
  return decodeFailure(bytes, plain === undefined ? undefined : await plainContext(plain, ARCH));
}

export const explain: Command = {
  main: async ([word, output, , denials]) => {
    const report = descriptor(word);
    const read = (): Uint8Array => {
      call("lseek", report, 0, 0);
      return readAll(report);
    };
    const outputFd = output === undefined || output === "-" ? undefined : descriptor(output);
    if (denials !== undefined) {
      const { tellDenials } = await import("./denials.ts");
      return tellDenials(descriptor(denials), outcome(read), read, outputFd);
    }
    if (outputFd === undefined) throw await explained(read());
    const result = outcome(read);
    writeOutcome(outputFd, result);
    if (result instanceof Error) throw result;
    return result.status;
  },
};

/** What a report tells, or why it cannot be read. */
function outcome(read: () => Uint8Array): Outcome | Error {
  try {
    return decodeReport(read());
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}
