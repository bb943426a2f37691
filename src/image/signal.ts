/** Names of signals as images write them: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3` (moby/sys/signal). */

import { UsageError } from "../errors.ts";

/** Numbers of signal(7), the same on x86-64 and aarch64. */
const NAMES: readonly string[] =
  "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS".split(
    " ",
  );
const ALIASES: Readonly<Record<string, string>> = { CLD: "CHLD", POLL: "IO", IOT: "ABRT", UNUSED: "SYS" };

/** glibc's first and last real-time signal for programs. */
const RTMIN = 34;
const RTMAX = 64;

/** The number of a signal. @throws UsageError when there is none of that name */
export function signalNumber(text: string): number {
  const refuse = (): never => {
    throw new UsageError(`unknown signal ${JSON.stringify(text)}`);
  };
  if (/^\d{1,3}$/.test(text)) {
    const number = Number(text);
    return number >= 1 && number <= RTMAX ? number : refuse();
  }
  const name = text.toUpperCase().replace(/^SIG/, "");
  const plain = NAMES.indexOf(ALIASES[name] ?? name);
  if (plain >= 0) return plain + 1;
  const realTime = /^RT(MIN|MAX)(?:([+-])(\d{1,2}))?$/.exec(name);
  if (realTime === null) return refuse();
  const [, base, sign, offset = "0"] = realTime;
  const number = (base === "MIN" ? RTMIN : RTMAX) + (sign === "-" ? -1 : 1) * Number(offset);
  return number >= RTMIN && number <= RTMAX ? number : refuse();
}

/** The canonical name: `SIGTERM`, `SIGRTMIN+3`. @throws UsageError */
export function canonicalSignal(text: string): string {
  const number = signalNumber(text);
  const name = NAMES[number - 1];
  if (name !== undefined) return `SIG${name}`;
  if (number >= RTMIN) return number === RTMIN ? "SIGRTMIN" : `SIGRTMIN+${number - RTMIN}`;
  throw new UsageError(`signal ${number} is reserved by the C library`);
}
