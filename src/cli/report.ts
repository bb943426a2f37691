/** Talking to people: results on stdout, one line for an error on stderr. Written by system calls, so that descriptors shared with others keep their flags. */

import { encodeBytes, oneLine } from "../bytes.ts";
import { EXIT, HutchError } from "../errors.ts";
import { asSystemError, rawCall, systemError } from "../libc/call.ts";
import { F_GETFD, FD_CLOEXEC } from "../libc/constants.ts";
import { errnoNumber } from "../libc/errno.ts";
import { isErrno, writeAll } from "../libc/files.ts";

/**
 * Whether standard input, output or error was closed when hutch began. Bun opens /dev/null in its place, with O_CLOEXEC:
 * no descriptor that came through execve(2) has that flag (fcntl(2)). @throws SystemError
 */
export function wasClosed(descriptor: number): boolean {
  const flags = rawCall("fcntl", descriptor, F_GETFD);
  return flags < 0 ? isErrno(flags, "EBADF") : (flags & FD_CLOEXEC) !== 0; // other errors are for the write to tell
}

/** Write to standard output, all of it. @throws SystemError (EBADF when it is closed, EPIPE when the reader has gone) */
export function writeOutput(bytes: Uint8Array): void {
  if (wasClosed(1))
    throw systemError("write to descriptor 1", errnoNumber("EBADF") ?? 9, { hint: "standard output is closed" });
  writeAll(1, bytes);
}

/** {@link writeOutput} of text. */
export function print(text: string): void {
  writeOutput(encodeBytes(text));
}

/** JSON in which what JSON leaves as it is and a terminal may act upon (DEL, C1) is escaped too. */
export function jsonText(value: unknown, space?: number): string {
  const escape = (char: string): string => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(value, null, space).replace(/[\u007f-\u009f\u2028\u2029]/g, escape);
}

/** {@link jsonText} on standard output. */
export function printJson(value: unknown): void {
  print(`${jsonText(value, 2)}\n`);
}

/** An error as the user sees it: what happened, which of their words asked for it, what to do. */
export function formatError(thrown: unknown, applet: string): string {
  const error = asSystemError(thrown);
  if (!(error instanceof HutchError)) {
    const detail = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    return `${applet}: internal error: ${oneLine(detail)} (this is a bug in hutch)`;
  }
  const from = error.from === undefined || error.from === "default" ? "" : ` (from ${error.from})`;
  const hint = error.hint === undefined ? "" : `; hint: ${error.hint}`;
  return oneLine(`${applet}: ${error.message}${from}${hint}`);
}

/** Say an error on stderr and tell the exit code. Uses consola's levels with a reporter that writes by system calls. */
export async function reportError(error: unknown, applet: string): Promise<number> {
  const { createConsola } = await import("consola/core");
  const log = createConsola({
    reporters: [{ log: ({ args }) => writeAll(2, encodeBytes(`${args.join(" ")}\n`)) }],
  });
  try {
    log.error(formatError(error, applet));
  } catch (failure) {
    // stderr is closed or full: the exit code still tells. Without libc (no JIT) there is only Bun's own way.
    if (failure instanceof HutchError && failure.message.startsWith("bind libc"))
      console.error(formatError(error, applet));
  }
  return error instanceof HutchError ? error.exitCode : EXIT.failure;
}
