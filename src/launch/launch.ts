/**
 * launch: become the launcher. The program is encoded as a static ELF in a memfd and hutch turns into it by execve, so
 * that pid, terminal, process group and exit status stay, and nothing of this runtime does.
 */

import { decodeBytes, encodeBytes } from "../bytes.ts";
import { UsageError } from "../errors.ts";
import { addressOf, ARCH, call, rawCall, systemError } from "../libc/call.ts";
import * as c from "../libc/constants.ts";
import { executableMemory, readFile, writeAll } from "../libc/files.ts";
import { awaitForeground, rawSettings, terminalSettings } from "../libc/terminal.ts";
import type { Plan } from "../step.ts";
import { type Keeping, keeperProgram } from "./afterwards.ts";
import { encodeContext } from "./context.ts";
import { encode } from "./program.ts";
import { assemble, type State, type Successor } from "./supervise.ts";
import type { TerminalSettings } from "./terminal.ts";

/** What is needed to run hutch again to explain a failure: an executable and the arguments that come before ours. */
export interface Self {
  readonly executable: string;
  readonly argv: readonly string[];
  /** What errors are said to come from: `hutch run`. */
  readonly label?: string;
}

/** A descriptor of 3 or above: a caller may have closed 0, 1 or 2, and they must stay closed. */
function moveUp(descriptor: number): number {
  if (descriptor > 2) return descriptor;
  const moved = call("fcntl", descriptor, c.F_DUPFD, 3);
  rawCall("close", descriptor);
  return moved;
}

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

/** This process's argv as it was given, byte for byte; JavaScript's own has lost what is not UTF-8. */
export function ownArguments(): readonly string[] {
  const bytes = readFile("/proc/self/cmdline");
  if (typeof bytes === "number") throw systemError("read /proc/self/cmdline", -bytes, { hint: "hutch needs /proc" });
  return splitStrings(bytes);
}

/** This process's environment as it was given: `KEY=VALUE` each. */
export function ownEnvironment(): readonly string[] {
  const bytes = readFile("/proc/self/environ");
  return typeof bytes === "number" ? [] : splitStrings(bytes);
}

function splitStrings(bytes: Uint8Array): readonly string[] {
  const parts = decodeBytes(bytes).split("\0");
  parts.pop(); // every string is NUL-terminated
  return parts;
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
}

/** Replace this process by the launcher of a plan. Does not return. @throws SystemError when that itself fails. */
export function launch(plan: Plan, self: Self, options: LaunchOptions = {}): never {
  const { imageFd } = launcherImage(plan, self, options);
  execute(imageFd, ownArguments());
}

/**
 * As {@link launch}, and when the sandbox has ended, however it has, this process becomes hutch again, with the
 * arguments `then` and one more: the descriptor that {@link readOutcome} takes. `env` is its whole environment.
 */
export function launchAndThen(
  plan: Plan,
  self: Self,
  then: readonly string[],
  env: readonly string[],
  options: Pick<LaunchOptions, "held" | "outputFd"> = {},
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
  };
  execute(memoryFile("hutch-keeper", encode(keeperProgram(keeping, ARCH))), argv);
}

/** A memory file with this content, for the next execve only by its descriptor. */
function memoryFile(name: string, content: Uint8Array): number {
  const fd = moveUp(executableMemory(name, 0));
  writeAll(fd, content);
  return fd;
}

/** The launcher's program in memory, and the executable that it becomes to explain a failure. */
function launcherImage(
  plan: Plan,
  self: Self,
  { held = [], outputFd, parent, state }: LaunchOptions = {},
): { readonly imageFd: number; readonly executableFd: number } {
  const terminal = plan.steps.some(({ op }) => op === "open-terminal") ? callerTerminal(plan) : undefined;
  // All must survive the next execve; the launcher closes them when the program starts.
  const reportFd = moveUp(call("memfd_create", "hutch-report", 0));
  const executableFd = moveUp(call("openat", c.AT_FDCWD, self.executable, c.O_PATH));
  const argv = pointers(ownArguments());
  const become: Successor = {
    executableFd,
    outputFd,
    argv: (report, output) => [
      ...self.argv,
      "explain-failure",
      String(report),
      output === undefined ? "-" : String(output),
      self.label ?? "hutch",
    ],
  };
  const account = outputFd !== undefined || state !== undefined;
  const argvBytes = argv.keep.length - 1;
  const assembled = assemble(plan, ARCH, { reportFd, held, parent, argvBytes, terminal, account, state, become });
  writeAll(reportFd, encodeContext({ steps: plan.steps, assembled }));
  return { imageFd: memoryFile("hutch", encode(assembled.program)), executableFd };
}

/** Become a program in memory, with an empty environment. */
function execute(imageFd: number, args: readonly string[]): never {
  const argv = pointers(args);
  const environment = pointers([]);
  call("fcntl", imageFd, c.F_SETFD, c.FD_CLOEXEC);
  const result = rawCall("execve", `/proc/self/fd/${imageFd}`, argv.array, environment.array);
  throw systemError("execve of the launcher from memory", -result, {
    hint: result === -13 ? "a policy (SELinux, vm.memfd_noexec) forbids executing memory files" : "is /proc mounted?",
  });
}

/** A NULL-terminated array of pointers for execve; `keep` holds what it points to. */
function pointers(strings: readonly string[]): { array: BigUint64Array; keep: Uint8Array } {
  const encoded = strings.map((text) => encodeBytes(text));
  const keep = new Uint8Array(encoded.reduce((sum, bytes) => sum + bytes.length + 1, 1));
  const base = addressOf(keep);
  const array = new BigUint64Array(strings.length + 1);
  let offset = 0;
  encoded.forEach((bytes, index) => {
    keep.set(bytes, offset);
    array[index] = BigInt(base + offset);
    offset += bytes.length + 1;
  });
  return { array, keep };
}
