/**
 * `hutch explain-failure REPORT OUTPUT|- LABEL` (descriptors, and what the error is said to come from): what the launcher turns into when a step has failed, or at the
 * end when the outcome is wanted as JSON. Not for people.
 */

import { encodeBytes } from "../bytes.ts";
import { type HutchError, UsageError } from "../errors.ts";
import { decodeFailure, storedContext } from "../launch/failure.ts";
import { decodeReport, formatOutcome } from "../launch/outcome.ts";
import { ARCH, call } from "../libc/call.ts";
import { readAll, writeAll } from "../libc/files.ts";
import { plainContext, plainRunOf } from "../prelinked/explain.ts";
import type { PlainRun } from "../prelinked/shape.ts";
import type { Command } from "./command.ts";

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
  main: async ([word, output]) => {
    const report = descriptor(word);
    call("lseek", report, 0, 0);
    if (output === undefined || output === "-") throw await explained(readAll(report));
    const result = decodeReport(readAll(report));
    try {
      writeAll(descriptor(output), encodeBytes(formatOutcome(result)));
    } catch {
      // The program has run, and standard error is no longer ours: its status is all that can still be told.
    }
    if (result instanceof Error) throw result;
    return result.status;
  },
};
