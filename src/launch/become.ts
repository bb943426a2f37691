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

/** Become a program in memory, with an empty environment. */
export function execute(imageFd: number, args: readonly string[]): never {
  const argv = pointers(args);
  const environment = pointers([]);
  call("fcntl", imageFd, c.F_SETFD, c.FD_CLOEXEC);
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
