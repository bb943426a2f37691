/** This program as an executable: how it was called, and how it is started again to explain a failure. */

import { ownArguments, type Self } from "../launch/become.ts";

const STRICT = "--disallow-code-generation-from-strings=strict";

export interface CommandLine {
  /** Name that the program was called by, without directories. */
  readonly name: string;
  /** Arguments behind it, byte for byte. */
  readonly args: readonly string[];
  readonly self: Self;
}

/** The command line, from /proc/self/cmdline: JavaScript's own strings have lost what is not UTF-8. */
export function commandLine(): CommandLine {
  const whole = ownArguments();
  const args = whole.slice(whole.length - (process.argv.length - 2)); // Bun puts its own two in front, compiled or not
  if (Bun.isStandaloneExecutable) {
    return { name: baseName(whole[0] ?? ""), args, self: { executable: "/proc/self/exe", argv: ["hutch"] } };
  }
  const script = process.argv[1] ?? "";
  const argv = [
    "bun",
    ...process.execArgv,
    script.replace(/[^/]*$/, (name) => (name.endsWith(".js") ? "main.js" : name)),
  ];
  return { name: baseName(script).replace(/\.[jt]s$/, ""), args, self: { executable: process.execPath, argv } };
}

function baseName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/**
 * Whether the runtime was started with the flags that keep files and variables of the user's folder from running code
 * before the first line (BUN_OPTIONS=--preload…). The built executable always is.
 */
export function isHardened(): boolean {
  return !Bun.isStandaloneExecutable || process.execArgv.includes(STRICT);
}
