/** Asking a person at a terminal, on standard input and error. */

import { read } from "node:fs";
import { constants } from "node:os";
import { encodeBytes } from "../bytes.ts";
import { HutchError } from "../errors.ts";
import { rawCall } from "../libc/call.ts";
import { isIgnored } from "../libc/children.ts";
import { writeAll } from "../libc/files.ts";
import { awaitForeground, changeTerminal, silentSettings, terminalSettings } from "../libc/terminal.ts";

/** What a line of a terminal holds, with its end: the rest is lost (termios(3), "Canonical and noncanonical mode"). */
const LINE_BYTES = 4096;

/** One line of standard input, without its end; undefined at the end of input. The event loop, and signals with it, goes on. */
async function readLine(): Promise<Uint8Array | undefined> {
  const buffer = new Uint8Array(LINE_BYTES);
  for (;;) {
    const { promise, resolve } = Promise.withResolvers<{ error: NodeJS.ErrnoException | null; count: number }>();
    read(0, buffer, 0, buffer.length, null, (error, count) => resolve({ error, count }));
    const { error, count } = await promise;
    if (error?.code === "EINTR") continue;
    if (error?.code === "EAGAIN") {
      await Bun.sleep(20); // somebody else has made the terminal non-blocking
      continue;
    }
    if (error !== null) throw new HutchError(`read from the terminal: ${error.code ?? error.message}`);
    if (count === 0) return undefined;
    if (count >= LINE_BYTES) throw new HutchError(`more than the ${LINE_BYTES - 2} bytes that a terminal's line holds`);
    return buffer.subarray(0, buffer[count - 1] === 10 ? count - 1 : count);
  }
}

const write = (text: string): void => writeAll(2, encodeBytes(text));

/** Ask for a line that is seen while it is typed. undefined at the end of input (^D). */
export async function ask(prompt: string): Promise<Uint8Array | undefined> {
  write(prompt);
  const line = await readLine();
  if (line === undefined) write("\n");
  return line;
}

/** Signals that end a program which knows nothing of them, and that people send. */
const ENDING = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"] as const;

/**
 * Ask for a line that is not seen. The terminal's settings come back on every way out that a program notices: an answer, an
 * error, ^C, ^\, a hang-up, SIGTERM; ^Z gives them back until the job goes on. What the caller has us ignore stays ignored,
 * but for SIGINT and SIGTERM, which Bun takes on every terminal before we can see that.
 */
export async function askSecretly(prompt: string): Promise<Uint8Array | undefined> {
  awaitForeground(0);
  const settings = terminalSettings(0);
  if (settings === undefined) throw new HutchError("standard input is no terminal to hide a password on");
  const silent = silentSettings(settings);
  const hide = (): void => {
    if (!changeTerminal(0, silent)) throw new HutchError("the terminal is gone");
  };
  const end = (signal: NodeJS.Signals): void => {
    restore();
    rawCall("kill", process.pid, constants.signals[signal]); // as if nobody had caught it
  };
  const back = (): void => {
    changeTerminal(0, settings);
    rawCall("write", 2, encodeBytes("\n"), 1); // a terminal that has been hung up takes no more
  };
  const { promise: broken, reject } = Promise.withResolvers<never>();
  const stop = (): void => {
    try {
      back();
      process.off("SIGTSTP", stop);
      rawCall("kill", process.pid, constants.signals.SIGTSTP); // goes on here with SIGCONT
      process.on("SIGTSTP", stop);
      awaitForeground(0);
      hide();
      write(prompt);
    } catch (error) {
      reject(error);
    }
  };
  const isHeeded = (signal: NodeJS.Signals): boolean => !isIgnored(constants.signals[signal]);
  const ending = ENDING.filter(isHeeded);
  const isStopped = isHeeded("SIGTSTP");
  function restore(): void {
    for (const signal of ending) process.off(signal, end);
    if (isStopped) process.off("SIGTSTP", stop);
    back();
  }
  for (const signal of ending) process.on(signal, end);
  if (isStopped) process.on("SIGTSTP", stop);
  try {
    hide();
    write(prompt);
    return await Promise.race([readLine(), broken]);
  } finally {
    restore();
  }
}
