/**
 * A terminal for a child's standard error where ours is one: what is written there can be read on its way, and the child
 * still sees a terminal, so that it shows progress and colours as it would without us. Raw: every byte passes as it is.
 */

import { createReadStream } from "node:fs";
import { call, rawCall } from "../libc/call.ts";
import { AT_FDCWD, O_CLOEXEC, O_NOCTTY, O_RDWR, TCSETS, TIOCGPTPEER } from "../libc/constants.ts";
import { TIOCGWINSZ, TIOCSPTLCK, TIOCSWINSZ } from "../libc/constants.ts";
import { closeDescriptor } from "../libc/files.ts";
import { rawSettings, terminalSettings } from "../libc/terminal.ts";

/** Both ends of a pseudoterminal (pty(7)). */
export interface ErrorTerminal {
  /** The child's end, to be closed here once the child has it. */
  readonly inner: number;
  /** What the child writes, until its end is closed everywhere. */
  readonly chunks: () => AsyncIterable<Uint8Array>;
  readonly [Symbol.dispose]: () => void;
}

const FLAGS = O_RDWR | O_NOCTTY | O_CLOEXEC;

/** Open one of the size of the terminal that is our standard error, and keep it of that size. @throws SystemError */
export function openErrorTerminal(): ErrorTerminal {
  const outer = call("openat", AT_FDCWD, "/dev/ptmx", FLAGS);
  call("ioctl", outer, TIOCSPTLCK, new Uint8Array(4));
  const inner = call("ioctl", outer, TIOCGPTPEER, FLAGS);
  const settings = terminalSettings(inner);
  if (settings !== undefined) rawCall("ioctl", inner, TCSETS, rawSettings(settings));
  const size = new Uint8Array(8); // struct winsize
  const resize = () => {
    if (rawCall("ioctl", 2, TIOCGWINSZ, size) === 0) rawCall("ioctl", outer, TIOCSWINSZ, size);
  };
  resize();
  process.on("SIGWINCH", resize);
  return {
    inner,
    chunks: () => readToEnd(outer),
    [Symbol.dispose]: () => void process.off("SIGWINCH", resize),
  };
}

/** What comes out of a terminal's outer end, which is closed then. The end of it is EIO (pty(7)). */
async function* readToEnd(outer: number): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of createReadStream("", { fd: outer, autoClose: false })) yield chunk as Uint8Array;
  } catch (error) {
    if ((error as { code?: unknown }).code !== "EIO") throw error;
  } finally {
    closeDescriptor(outer);
  }
}
