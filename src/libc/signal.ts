/** Signals as people and images write them: `SIGTERM`, `term`, `15`, `SIGRTMIN+3` (signal(7), moby/sys/signal). */

import { UsageError } from "../errors.ts";

const ALIASES: Readonly<Record<string, string>> = { CLD: "CHLD", POLL: "IO", IOT: "ABRT", UNUSED: "SYS" };

/** glibc's first and last real-time signal for programs. */
const RTMIN = 34;
const RTMAX = 64;

/** The number of a signal; `from` are the words that asked for it. @throws UsageError when there is none of that name */
export function signalNumber(text: string, from?: string): number {
  const refuse = (): never => {
    throw new UsageError(`unknown signal ${JSON.stringify(text)}`, from === undefined ? {} : { from });
  };
  if (/^\d{1,3}$/.test(text)) {
    const number = Number(text);
    return number >= 1 && number <= RTMAX ? number : refuse();
  }
  const name = text.toUpperCase().replace(/^SIG/, "");
  const plain = signalNames().indexOf(`SIG${ALIASES[name] ?? name}`);
  if (plain > 0) return plain;
  const realTime = /^RT(MIN|MAX)(?:([+-])(\d{1,2}))?$/.exec(name);
  if (realTime === null) return refuse();
  const [, base, sign, offset = "0"] = realTime;
  const number = (base === "MIN" ? RTMIN : RTMAX) + (sign === "-" ? -1 : 1) * Number(offset);
  return number >= RTMIN && number <= RTMAX ? number : refuse();
}

/** The canonical name: `SIGTERM`, `SIGRTMIN+3`; `from` are the words that asked for it. @throws UsageError */
export function canonicalSignal(text: string, from?: string): string {
  const number = signalNumber(text, from);
  const name = signalNames()[number];
  if (name !== undefined) return name;
  if (number >= RTMIN) return number === RTMIN ? "SIGRTMIN" : `SIGRTMIN+${number - RTMIN}`;
  throw new UsageError(`signal ${number} is reserved by the C library`, from === undefined ? {} : { from });
}

/** Names by number, as kill -l has them. Made when they are asked for, which no start does. */
export function signalNames(): readonly (string | undefined)[] {
  const names =
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG " +
    "XCPU XFSZ VTALRM PROF WINCH IO PWR SYS";
  return [undefined, ...names.split(" ").map((name) => `SIG${name}`)];
}
