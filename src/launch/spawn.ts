/**
 * spawn: start the launcher of a plan as a child process, for a parent that lives on. The launcher is the same as
 * launch.ts's; instead of becoming hutch again to explain a failure it leaves its report in memory shared with us.
 */

import { HutchError } from "../errors.ts";
import { ARCH, call, rawCall } from "../libc/call.ts";
import { keepChildren } from "../libc/children.ts";
import * as c from "../libc/constants.ts";
import { executableMemory, readAll, writeAll } from "../libc/files.ts";
import { signalNumber } from "../libc/signal.ts";
import type { Plan } from "../step.ts";
import { encodeContext } from "./context.ts";
import type { Telling } from "./denials.ts";
import { decodeReport, type Outcome } from "./outcome.ts";
import { encode } from "./program.ts";
import { assemble } from "./supervise.ts";

/** What the program reads: our own standard input, nothing, what we write to `stdin`, or these bytes or this stream. */
export type Input = "inherit" | "null" | "pipe" | string | Uint8Array | ReadableStream<Uint8Array>;
/** Where the program writes: our own descriptor, nowhere, or a stream. */
export type Output = "inherit" | "null" | "pipe";

export interface Stdio {
  readonly stdin: { readonly kind: "inherit" | "null" | "pipe" } | { readonly data: Uint8Array | ReadableStream };
  readonly stdout: Output;
  readonly stderr: Output;
  /** Descriptors of ours that the launcher is to have, by numbers from 4 that it knows nothing of. */
  readonly more?: readonly (readonly [number: number, descriptor: number])[];
  /** For a plan that tells denials: its file is one of `more`. */
  readonly telling?: Telling | undefined;
}

/** A launcher that has been started. */
export interface Running {
  /** The launcher's pid: signals to it are passed on to the program. */
  readonly pid: number;
  readonly stdin: Bun.FileSink | undefined;
  readonly stdout: ReadableStream<Uint8Array> | undefined;
  readonly stderr: ReadableStream<Uint8Array> | undefined;
  readonly kill: (signal: NodeJS.Signals | number) => void;
  /** How it ended. Rejects with a HutchError when the program could not be started. */
  readonly outcome: Promise<Outcome>;
}

const NAME = "hutch";
/** The report's number in the launcher. */
const REPORT_FD = 3;

/** Start the launcher. @throws SystemError */
export function spawn(plan: Plan, { stdin, stdout, stderr, more = [], telling }: Stdio): Running {
  if (plan.steps.some(({ op }) => op === "open-terminal")) {
    throw new HutchError("a sandbox with a terminal of its own can only be had from the command line (hutch run -t)");
  }
  const reportFd = call("memfd_create", "hutch-report", c.MFD_CLOEXEC);
  const imageFd = executableMemory(NAME, c.MFD_CLOEXEC);
  try {
    const argvBytes = NAME.length + 1;
    const parent = process.pid; // nothing is left behind when we are killed
    const assembled = assemble(plan, ARCH, { reportFd: REPORT_FD, argvBytes, parent, account: true, telling });
    writeAll(reportFd, encodeContext({ steps: plan.steps, assembled }));
    writeAll(imageFd, encode(assembled.program));
    keepChildren();
    const bun = (output: Output) => (output === "null" ? "ignore" : output);
    const stdio: (number | "ignore")[] = [reportFd];
    for (const [number, descriptor] of more) {
      while (stdio.length < number - REPORT_FD) stdio.push("ignore");
      stdio[number - REPORT_FD] = descriptor;
    }
    const child = Bun.spawn([`/proc/${process.pid}/fd/${imageFd}`], {
      argv0: NAME,
      cwd: "/",
      env: {},
      stdio: ["data" in stdin ? stdin.data : bun(stdin.kind), bun(stdout), bun(stderr), ...stdio],
    });
    const stream = (of: unknown) => (of instanceof ReadableStream ? (of as ReadableStream<Uint8Array>) : undefined);
    return {
      pid: child.pid,
      stdin: "kind" in stdin && stdin.kind === "pipe" ? (child.stdin as unknown as Bun.FileSink) : undefined,
      stdout: stream(child.stdout),
      stderr: stream(child.stderr),
      kill: (signal) => child.kill(typeof signal === "number" ? signal : signalNumber(signal)),
      outcome: readOutcome(child, reportFd),
    };
  } catch (error) {
    rawCall("close", reportFd);
    throw error;
  } finally {
    rawCall("close", imageFd);
  }
}

async function readOutcome(child: Bun.Subprocess, reportFd: number): Promise<Outcome> {
  await child.exited;
  try {
    if (child.signalCode !== null) throw new HutchError(`the launcher was killed by ${child.signalCode}`);
    call("lseek", reportFd, 0, 0);
    const result = decodeReport(readAll(reportFd));
    if (result instanceof Error) throw result;
    return result;
  } finally {
    rawCall("close", reportFd);
  }
}
