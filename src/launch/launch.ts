/** launch: become the launcher of a plan. Its program is encoded as a static ELF in memory (become.ts). */

import { UsageError } from "../errors.ts";
import { ARCH, call, rawCall } from "../libc/call.ts";
import * as c from "../libc/constants.ts";
import { writeAll } from "../libc/files.ts";
import { awaitForeground, rawSettings, terminalSettings } from "../libc/terminal.ts";
import type { Plan } from "../step.ts";
import { type Keeping, keeperProgram, type Rename } from "./afterwards.ts";
import {
  argumentBytes,
  execute,
  explainArguments,
  explainDescriptors,
  memoryFile,
  moveUp,
  ownArguments,
  type Self,
} from "./become.ts";
import { encodeContext } from "./context.ts";
import type { Telling } from "./denials.ts";
import type { State } from "./listing.ts";
import { encode } from "./program.ts";
import type { Successor } from "./reporting.ts";
import { assemble } from "./supervise.ts";
import type { TerminalSettings } from "./terminal.ts";

/**
 * Settings of the caller's terminal for a program with a terminal of its own. Descriptors 1 and 2 are opened if they
 * were not, so that no other takes their numbers before the program gets them.
 */
function callerTerminal(plan: Plan): TerminalSettings {
  const is = terminalSettings(0) !== undefined;
  const foreground = is && awaitForeground(0);
  const saved = foreground ? terminalSettings(0) : undefined; // a shell's own, as long as we are in the background
  if (is && !foreground) throw new UsageError("the terminal belongs to another job");
  if (saved === undefined) {
    const from = plan.steps.find(({ op }) => op === "open-terminal")?.why;
    throw new UsageError("the input device is not a TTY", {
      ...(from === undefined ? {} : { from }),
      hint: "leave -t out when standard input is no terminal",
    });
  }
  for (const descriptor of [1, 2]) {
    if (rawCall("fcntl", descriptor, c.F_GETFD) < 0) call("openat", c.AT_FDCWD, "/dev/null", c.O_RDWR);
  }
  return { saved, raw: rawSettings(saved) };
}

/** What the launcher does beside waiting. */
export interface LaunchOptions {
  /** Descriptors, not close-on-exec, that stay open as long as the sandbox lives. */
  readonly held?: readonly number[];
  /** Where the Outcome is written as JSON when the sandbox has ended (3 or above). */
  readonly outputFd?: number | undefined;
  /** Pid of our parent, when the sandbox is to die with it. */
  readonly parent?: number | undefined;
  /** Where the sandbox is listed while it runs. */
  readonly state?: State | undefined;
  /** For a plan that tells denials (denials.ts). */
  readonly telling?: Telling | undefined;
}

/** Replace this process by the launcher of a plan. Does not return. @throws SystemError when that itself fails. */
export function launch(plan: Plan, self: Self, options: LaunchOptions = {}): never {
  const { imageFd } = launcherImage(plan, self, options);
  execute(imageFd, ownArguments());
}

/**
 * As {@link launch}, and when the sandbox has ended, however it has, this process becomes hutch again, with the
 * arguments `then` and one more: the descriptor that {@link readOutcome} takes. `env` is its whole environment. With
 * `rename` a directory gets its name by the last thing before the launcher's start.
 */
export function launchAndThen(
  plan: Plan,
  self: Self,
  then: readonly string[],
  env: readonly string[],
  { parent, rename, ...options }: LaunchOptions & { readonly rename?: Rename | undefined } = {},
): never {
  const { imageFd, executableFd } = launcherImage(plan, self, options);
  const outcomeFd = moveUp(call("memfd_create", "hutch-outcome", 0));
  const argv = ownArguments();
  const keeping: Keeping = {
    imageFd,
    argv,
    executableFd,
    thenArgv: [...self.argv, ...then, String(outcomeFd)],
    thenEnv: env,
    outcomeFd,
    parent,
    rename,
  };
  execute(memoryFile("hutch-keeper", encode(keeperProgram(keeping, ARCH))), argv);
}

/** The launcher's program in memory, and the executable that it becomes to explain a failure. */
function launcherImage(
  plan: Plan,
  self: Self,
  { held = [], outputFd, parent, state, telling }: LaunchOptions = {},
): { readonly imageFd: number; readonly executableFd: number } {
  const terminal = plan.steps.some(({ op }) => op === "open-terminal") ? callerTerminal(plan) : undefined;
  const { reportFd, executableFd } = explainDescriptors(self);
  const become: Successor = {
    executableFd,
    outputFd,
    errorFd: outputFd === undefined && telling === undefined ? undefined : errorsAbove(outputFd ?? 3),
    argv: (report, output, denials) => explainArguments(self, report, output, denials),
  };
  const account = outputFd !== undefined || state !== undefined || telling !== undefined;
  const reporting = { reportFd, held, parent, argvBytes: argumentBytes(ownArguments()), terminal, account, state };
  const assembled = assemble(plan, ARCH, { ...reporting, telling, become });
  writeAll(reportFd, encodeContext({ steps: plan.steps, assembled }));
  return { imageFd: memoryFile("hutch", encode(assembled.program)), executableFd };
}

/** A copy of standard error above a descriptor, so that the program has neither; undefined when it is closed. */
function errorsAbove(descriptor: number): number | undefined {
  const copy = rawCall("fcntl", 2, c.F_DUPFD, descriptor);
  return copy < 0 ? undefined : copy;
}
