/**
 * What the launcher reports, to whom, and what it keeps open for that: when a step has failed, and when the program has
 * ended and an account of it is wanted, it turns into hutch again.
 */

import * as c from "../libc/constants.ts";
import { type Account, closeAccount } from "./account.ts";
import { type Assembler, content } from "./assembler.ts";
import type { Listener, Telling } from "./denials.ts";
import { forget, type State } from "./listing.ts";
import { end, keepOnly, KEPT_FROM } from "./processes.ts";
import type { Place } from "./program.ts";
import { ACCOUNT_OFFSET } from "./report.ts";
import type { TerminalSettings } from "./terminal.ts";

/** What the launcher does with a failure. */
export interface Reporting {
  /** Descriptor that receives 16 bytes at offset 0: address of the failed record, -errno. */
  readonly reportFd: number;
  /** Descriptors that the launcher keeps open as long as the sandbox lives. */
  readonly held?: readonly number[];
  /** Bytes of the launcher's own argv with their NULs, which PID 1 wipes. */
  readonly argvBytes: number;
  /** Pid of the process with which the launcher is to die. */
  readonly parent?: number | undefined;
  /** The caller's terminal on descriptor 0, for a plan with a terminal. */
  readonly terminal?: TerminalSettings | undefined;
  /** Whether an account of the run is to be written into the report, too. */
  readonly account?: boolean;
  /** Where the sandbox is listed while it runs; needs an account. */
  readonly state?: State | undefined;
  /** For a plan that tells denials; needs an account. */
  readonly telling?: Telling | undefined;
  /** What to become after a failure, or when the account has been written; without it, exit. */
  readonly become?: Successor | undefined;
}

/** An executable (by descriptor) that reads the report; what it writes goes to `outputFd`, if there is one. */
export interface Successor {
  readonly executableFd: number;
  readonly outputFd: number | undefined;
  /** The caller's standard error, if there was one, to say when that could not be written. */
  readonly errorFd?: number | undefined;
  readonly argv: (reportFd: number, outputFd: number | undefined, denialsFd?: number) => readonly string[];
}

/** What of a launcher is needed for that. */
interface Kept {
  readonly account: Account | undefined;
  readonly reporting: Reporting;
  /** The caller's signal mask. */
  readonly mask: Place;
  readonly told: Listener | undefined;
}

/** Turn into the program that reads the report. The descriptors are numbers by now. */
export function become(
  asm: Assembler,
  { executableFd, outputFd, argv }: Successor,
  reportFd: number,
  denials?: number,
): void {
  asm.call("chdir", ["/"], { onError: "ignore" }); // the caller's directory may be covered by the workspace
  for (const fd of [reportFd, outputFd, denials])
    if (fd !== undefined) asm.call("fcntl", [fd, c.F_SETFD, 0], { onError: "ignore" });
  const args = [executableFd, "", asm.strings(argv(reportFd, outputFd, denials)), asm.strings([]), c.AT_EMPTY_PATH];
  asm.call("execveat", args, { onError: "ignore" });
}

/**
 * Close what the launcher does not need while the program runs: nothing of the caller's stays open but what `cells` and
 * the report need. `finish` writes the end of the report.
 */
export function keepWhile(
  asm: Assembler,
  { account, reporting, mask, told }: Kept,
  cells: readonly Place[],
): { finish: () => void; denials?: Place | undefined } {
  if (account === undefined) {
    if (cells.length === 0) asm.call("close_range", [0, -1, 0], { onError: "ignore" });
    else keepOnly(asm, cells);
    return { finish: () => {} };
  }
  const successor = reporting.become;
  const { state } = reporting;
  const numbers = [
    ...[reporting.reportFd, successor?.executableFd, successor?.outputFd],
    ...[state?.directoryFd, state?.fd], // the lock on the latter is held as long as it is open
    ...[successor?.errorFd, reporting.telling?.denialsFd],
  ];
  const fixed = numbers.map((number) => {
    if (number === undefined) return undefined;
    const cell = asm.cell();
    asm.set(cell, number);
    return cell;
  });
  const kept = fixed.filter((cell) => cell !== undefined);
  keepOnly(asm, [...kept, account.read, ...cells]);
  const now = fixed.map((cell) => (cell === undefined ? undefined : KEPT_FROM + kept.indexOf(cell)));
  const [reportFd = 0, executableFd = 0, outputFd] = now;
  const [directory, errors, denials] = [fixed[3], fixed[5], fixed[6]];
  return {
    denials,
    finish: () => {
      if (told !== undefined) end(asm, content(told.teller));
      closeAccount(asm, account, fixed[0] ?? account.read, ACCOUNT_OFFSET);
      if (state !== undefined && directory !== undefined) forget(asm, content(directory), state);
      if (successor === undefined || (outputFd === undefined && denials === undefined)) return;
      // The successor finds something on 0, 1 and 2, whatever the caller had there; its standard error is the caller's.
      asm.call("openat", [c.AT_FDCWD, "/dev/null", c.O_RDWR], { onError: "ignore" });
      for (const fd of [1, 2]) asm.call("dup3", [0, fd, 0], { onError: "ignore" });
      if (errors !== undefined) asm.call("dup3", [content(errors), 2, 0], { onError: "ignore" });
      asm.call("rt_sigprocmask", [c.SIG_SETMASK, mask, 0, 8], { onError: "ignore" });
      become(asm, { ...successor, executableFd, outputFd }, reportFd, now[6]);
    },
  };
}
