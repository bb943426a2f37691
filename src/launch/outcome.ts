/** Outcome: how a sandbox ended and what it used, from the launcher's report. Pure. */

import { EXIT, HutchError, SystemError } from "../errors.ts";
import { CLD_EXITED } from "../libc/constants.ts";
import { signalNames } from "../libc/signal.ts";
import type { NamespaceName } from "../spec.ts";
import { NAMESPACE_LINKS } from "./account.ts";
import { ACCOUNT, ACCOUNT_OFFSET } from "./report.ts";
import { decodeFailure } from "./failure.ts";

/** How a sandbox ended. Exactly one of `exitCode` and `signal` is not null. */
export interface Outcome {
  /** What the program exited with, 0 to 255. */
  readonly exitCode: number | null;
  /** Name of the signal that ended the program, such as `SIGKILL`, or its number as text when it has no name. */
  readonly signal: string | null;
  /** Exit code as a shell tells it: `exitCode`, or 128 + the signal's number. */
  readonly status: number;
  /** From the program's start to the end of the sandbox, in seconds. */
  readonly wallSeconds: number;
  /** Processor time of all processes of the sandbox that have been waited for, in seconds (getrusage(2)). */
  readonly userSeconds: number;
  readonly systemSeconds: number;
  /** The largest resident set that any one process had, in bytes. */
  readonly peakMemoryBytes: number;
  /** The sandbox's first process, as the caller's pid namespace names it. */
  readonly pid: number;
  /** Inode numbers of the sandbox's namespaces, as /proc/PID/ns has them. */
  readonly namespaces: Readonly<Partial<Record<NamespaceName, number>>>;
}

/** The report of a launcher that has ended: an outcome, or the error that kept the program from starting. */
export function decodeReport(bytes: Uint8Array): Outcome | HutchError {
  if (bytes.length < ACCOUNT_OFFSET + ACCOUNT.bytes) return new HutchError("the launcher's report cannot be read");
  const view = new DataView(bytes.buffer, bytes.byteOffset + ACCOUNT_OFFSET, ACCOUNT.bytes);
  const word = (offset: number) => Number(view.getBigInt64(offset, true));
  const seconds = (offset: number, fraction: number) => word(offset) + word(offset + 8) / fraction;
  if (word(ACCOUNT.pid) === 0 || word(ACCOUNT.started) === 0) return decodeFailure(bytes);
  const told = word(ACCOUNT.told) !== 0;
  const emulated = word(ACCOUNT.emulated);
  const code = told ? word(ACCOUNT.told) : view.getInt32(ACCOUNT.info + 8, true);
  const value = told ? word(ACCOUNT.told + 8) : view.getInt32(ACCOUNT.info + 24, true);
  const exited = code === CLD_EXITED && emulated === 0;
  const signal = emulated === 0 ? value : emulated;
  const namespaces: Partial<Record<NamespaceName, number>> = {};
  NAMESPACE_LINKS.forEach(([name], index) => {
    const inode = word(ACCOUNT.namespaces + 8 * index);
    if (inode !== 0) namespaces[name] = inode;
  });
  return {
    exitCode: exited ? value : null,
    signal: exited ? null : (signalNames()[signal] ?? String(signal)),
    status: exited ? value : EXIT.signalBase + signal,
    wallSeconds: rounded(seconds(ACCOUNT.ended, 1e9) - seconds(ACCOUNT.started, 1e9)),
    userSeconds: rounded(seconds(ACCOUNT.usage, 1e6)),
    systemSeconds: rounded(seconds(ACCOUNT.usage + 16, 1e6)),
    peakMemoryBytes: word(ACCOUNT.usage + 32) * 1024,
    pid: word(ACCOUNT.pid),
    namespaces,
  };
}

/** To microseconds: more is noise of the floating point. */
const rounded = (seconds: number): number => Math.round(seconds * 1e6) / 1e6;

/** Name and version of the JSON below; a field is never removed or given another meaning under the same name. */
export const OUTCOME_SCHEMA = "hutch-outcome-1";

/** An outcome, or an error, as one line of JSON; `more` are further fields. */
export function formatOutcome(result: Outcome | Error, more: Readonly<Record<string, unknown>> = {}): string {
  const told = result instanceof Error ? { error: errorFields(result) } : result;
  return `${JSON.stringify({ schema: OUTCOME_SCHEMA, ...told, ...more })}\n`;
}

function errorFields(error: Error): Record<string, unknown> {
  if (!(error instanceof HutchError)) return { message: error.message, status: EXIT.failure };
  const { message, step, errno, code, from, hint, exitCode } = error;
  const call = error instanceof SystemError ? error.call : undefined;
  return { message, step, call, errno, code, from, hint, status: exitCode }; // JSON leaves out what is undefined
}
