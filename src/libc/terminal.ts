/** Settings of a terminal: struct termios as the kernel's TCGETS and TCSETS have it (ioctl_tty(2), termios(3)). */

import { rawCall, systemError } from "./call.ts";
import { TCGETS, TCSBRK, TCSETSW } from "./constants.ts";
import { isErrno } from "./files.ts";

const TERMIOS_BYTES = 36; // four flag words, c_line, c_cc[19]; the same on both architectures

/**
 * Settings of the terminal on a descriptor, 36 bytes; undefined when it is not a terminal.
 * @throws SystemError of a terminal that does not give them (EIO: it has been hung up)
 */
export function terminalSettings(descriptor: number): Uint8Array | undefined {
  const settings = new Uint8Array(TERMIOS_BYTES);
  const result = rawCall("ioctl", descriptor, TCGETS, settings);
  if (result === 0) return settings;
  if (["ENOTTY", "EBADF", "EINVAL"].some((name) => isErrno(result, name))) return undefined;
  throw systemError(`ioctl TCGETS of descriptor ${descriptor}`, -result);
}

/**
 * Wait until this job has the terminal: in the background the kernel stops it here (SIGTTOU), like any job that wants
 * to change settings. False when nobody could ever bring it to the foreground (EIO). @throws SystemError
 */
export function awaitForeground(descriptor: number): boolean {
  // tcdrain(3), the only call of that kind that changes nothing
  for (;;) {
    const result = rawCall("ioctl", descriptor, TCSBRK, 1);
    if (result === 0 || isErrno(result, "EIO")) return result === 0;
    if (!isErrno(result, "EINTR")) throw systemError(`ioctl TCSBRK of descriptor ${descriptor}`, -result);
  }
}

// asm-generic/termbits.h
const INPUT = 0o1 | 0o2 | 0o10 | 0o40 | 0o100 | 0o200 | 0o400 | 0o2000; // IGNBRK BRKINT PARMRK ISTRIP INLCR IGNCR ICRNL IXON
const OUTPUT = 0o1; // OPOST
const LOCAL = 0o1 | 0o2 | 0o10 | 0o100 | 0o100000; // ISIG ICANON ECHO ECHONL IEXTEN
const SIZE_AND_PARITY = 0o60 | 0o400; // CSIZE PARENB
const EIGHT_BITS = 0o60; // CS8
const CONTROL_CHARACTERS = 17;
const VTIME = 5;
const VMIN = 6;

/** The same settings in raw mode, as cfmakeraw(3) makes them: every byte passes, none is acted upon. */
export function rawSettings(settings: Uint8Array): Uint8Array {
  const raw = settings.slice();
  const view = new DataView(raw.buffer);
  const change = (offset: number, clear: number, set = 0) =>
    view.setUint32(offset, ((view.getUint32(offset, true) & ~clear) | set) >>> 0, true);
  change(0, INPUT);
  change(4, OUTPUT);
  change(8, SIZE_AND_PARITY, EIGHT_BITS);
  change(12, LOCAL);
  raw[CONTROL_CHARACTERS + VTIME] = 0;
  raw[CONTROL_CHARACTERS + VMIN] = 1;
  return raw;
}

const ECHO = 0o10;
const LOCAL_WORD = 12;

/** The same settings without echo, to type a password; lines and signal characters stay (getpass(3)). */
export function silentSettings(settings: Uint8Array): Uint8Array {
  const silent = settings.slice();
  silent[LOCAL_WORD] = (silent[LOCAL_WORD] ?? 0) & ~ECHO;
  return silent;
}

/** Give a terminal settings, once what was written is out; false when it is gone. In the background that stops us (SIGTTOU). */
export function changeTerminal(descriptor: number, settings: Uint8Array): boolean {
  for (;;) {
    const result = rawCall("ioctl", descriptor, TCSETSW, settings);
    if (!isErrno(result, "EINTR")) return result === 0;
  }
}
