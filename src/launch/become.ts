/**
 * Becoming another program: this process's own words, the descriptors that survive, a program in memory, execve. Pid,
 * terminal, process group and exit status stay, and nothing of this runtime does.
 */

import { decodeBytes, encodeBytes, setUint64 } from "../bytes.ts";
import { addressOf, call, rawCall, systemError } from "../libc/call.ts";
import * as c from "../libc/constants.ts";
import { executableMemory, readFile, writeAll } from "../libc/files.ts";

/** What is needed to run hutch again to explain a failure: an executable and the arguments that come before ours. */
export interface Self {
  readonly executable: string;
  readonly argv: readonly string[];
  /** What errors are said to come from: `hutch run`. */
  readonly label?: string;
}

/** The arguments by which hutch explains a failure, or writes the outcome and denials; descriptors as they will be then. */
export function explainArguments(
  { argv, label = "hutch" }: Self,
  reportFd: number,
  outputFd: number | undefined,
  denialsFd?: number,
): readonly string[] {
  const output = outputFd === undefined ? "-" : String(outputFd);
  const denials = denialsFd === undefined ? [] : [String(denialsFd)];
  return [...argv, "explain-failure", String(reportFd), output, label, ...denials];
}

/** A descriptor of 3 or above: a caller may have closed 0, 1 or 2, and they must stay closed. */
export function moveUp(descriptor: number): number {
  if (descriptor > 2) return descriptor;
  const moved = call("fcntl", descriptor, c.F_DUPFD, 3);
  rawCall("close", descriptor);
  return moved;
}

/** What the launcher needs to explain a failure: a memory file for its report, and the executable by descriptor. */
export function explainDescriptors(self: Self): { readonly reportFd: number; readonly executableFd: number } {
  // Both must survive the next execve; the launcher closes them when the program starts.
  const reportFd = moveUp(call("memfd_create", "hutch-report", 0));
  return { reportFd, executableFd: moveUp(call("openat", c.AT_FDCWD, self.executable, c.O_PATH)) };
}

let own: readonly string[] | undefined; // they never change

/** This process's argv as it was given, byte for byte; JavaScript's own has lost what is not UTF-8. */
export function ownArguments(): readonly string[] {
  if (own !== undefined) return own;
  const bytes = readFile("/proc/self/cmdline");
  if (typeof bytes === "number") throw systemError("read /proc/self/cmdline", -bytes, { hint: "hutch needs /proc" });
  own = splitStrings(bytes);
  return own;
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

/** A memory file with this content, for the next execve only by its descriptor. */
export function memoryFile(name: string, content: Uint8Array): number {
  const fd = moveUp(executableMemory(name, 0));
  writeAll(fd, content);
  return fd;
}

const SIGACTION_BYTES = 32;

/** Whether a struct sigaction of the kernel's begins with the address of a handler: neither SIG_DFL nor SIG_IGN. */
function isHandler(action: Uint8Array): boolean {
  for (let at = 1; at < 8; at++) if (action[at] !== 0) return true;
  return (action[0] ?? 0) > 1;
}

/**
 * Lose no SIGINT or SIGTERM on the way. Where Bun has a terminal it catches both, once (SA_RESETHAND), in whichever of its
 * threads gets one; when execve ends that thread before it has done what the handler does, nobody ever hears of the signal.
 * So the dispositions become the default again, with which the kernel ends all threads at once, and a signal that has come
 * before, taken already or not, is sent once more.
 */
function settleSignals(): void {
  const signals = [c.SIGNALS.SIGINT, c.SIGNALS.SIGTERM];
  const action = new Uint8Array(SIGACTION_BYTES);
  let [caught, taken] = [0, 0];
  for (const signal of signals) {
    rawCall("rt_sigaction", signal, null, action, 8);
    if (isHandler(action)) {
      rawCall("rt_sigaction", signal, new Uint8Array(SIGACTION_BYTES), action, 8);
      caught += 1;
    }
    if (!isHandler(action)) taken = signal;
  }
  if (caught === 0) return; // no terminal: they are the caller's
  const [both, before, pending] = [new Uint8Array(8), new Uint8Array(8), new Uint8Array(8)];
  for (const signal of signals) both[(signal - 1) >> 3] = (both[(signal - 1) >> 3] ?? 0) | (1 << ((signal - 1) & 7));
  rawCall("rt_sigprocmask", c.SIG_BLOCK, both, before, 8); // only what is blocked is told as pending
  rawCall("rt_sigpending", pending, 8);
  rawCall("rt_sigprocmask", c.SIG_SETMASK, before, null, 8);
  for (const signal of signals) if (((pending[(signal - 1) >> 3] ?? 0) >> ((signal - 1) & 7)) & 1) taken = signal;
  if (taken !== 0) rawCall("kill", rawCall("getpid"), taken);
}

/** Become a program in memory, with an empty environment. */
export function execute(imageFd: number, args: readonly string[]): never {
  const argv = pointers(args);
  const environment = pointers([]);
  call("fcntl", imageFd, c.F_SETFD, c.FD_CLOEXEC);
  settleSignals();
  const result = rawCall("execve", `/proc/self/fd/${imageFd}`, argv.array, environment.array);
  throw systemError("execve of the launcher from memory", -result, {
    hint: result === -13 ? "a policy (SELinux, vm.memfd_noexec) forbids executing memory files" : "is /proc mounted?",
  });
}

/** Bytes that arguments take in a process's memory, each with its NUL. */
export function argumentBytes(args: readonly string[]): number {
  let sum = 0;
  for (const text of args) sum += encodeBytes(text).length + 1;
  return sum;
}

/** A NULL-terminated array of pointers for execve; `keep` holds what it points to. */
function pointers(strings: readonly string[]): { array: Uint8Array; keep: Uint8Array } {
  const keep = new Uint8Array(argumentBytes(strings) + 1);
  const base = addressOf(keep);
  const array = new Uint8Array(8 * (strings.length + 1));
  let [offset, index] = [0, 0];
  for (const text of strings) {
    const bytes = encodeBytes(text);
    keep.set(bytes, offset);
    setUint64(array, 8 * index, base + offset);
    offset += bytes.length + 1;
    index += 1;
  }
  return { array, keep };
}
