/**
 * The launcher's memory file: 16 bytes about a failure {record address, -errno}, the account, and from the start behind
 * them, as JSON, what must survive to explain a failure. Only how it is laid out; nothing that a start would load for it.
 */

import { encodeBytes } from "../bytes.ts";

/** Offsets in the block; all numbers have 64 bits, in the machine's order. */
export const ACCOUNT = {
  /** CLOCK_MONOTONIC {seconds, nanoseconds} when the program had started and when it had ended. */
  started: 0,
  ended: 16,
  /** The sandbox's first process, as the launcher's pid namespace names it. */
  pid: 32,
  /** Signal whose default action the launcher has done for a program that is PID 1, or 0. */
  emulated: 40,
  /** siginfo_t of that process. */
  info: 48,
  /** PID 1's word on the program: si_code and si_status, or 0 and 0. */
  told: 176,
  /** struct rusage of the whole tree (getrusage(2)). */
  usage: 192,
  /** Inode numbers in the order of {@link NAMESPACE_LINKS}. */
  namespaces: 336,
  bytes: 400,
} as const;

/** Where in the report the account is written: behind the 16 bytes about a failure. */
export const ACCOUNT_OFFSET = 16;

/** Room at the beginning for the failure and the account. */
export const REPORT_BYTES = ACCOUNT_OFFSET + ACCOUNT.bytes;

/** A report in which nothing has happened yet. */
export function emptyReport(context: unknown): Uint8Array {
  const text = encodeBytes(JSON.stringify(context));
  const bytes = new Uint8Array(REPORT_BYTES + text.length);
  bytes.set(text, REPORT_BYTES);
  return bytes;
}
