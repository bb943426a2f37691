/** This program as an executable: how it was called, and how it is started again to explain a failure. */

import { ownArguments, type Self } from "../launch/become.ts";

/** Said by scripts/build.ts to the executable that it gives the flags which keep foreign code out. */
declare const HUTCH_HARDENED: boolean;

/** Names under which the binary is a command of its own. */
export const APPLETS: readonly string[] = ["mydocker", "nix-build-shell"];

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
  // Bun takes none of a compiled executable's arguments. (`process` is not even named in this function: it would be made.)
  if (typeof HUTCH_HARDENED !== "undefined" || Bun.isStandaloneExecutable) {
    const self = { executable: "/proc/self/exe", argv: ["hutch"] };
    return { name: baseName(whole[0] ?? ""), args: whole.slice(1), self };
  }
  return packageCommandLine(whole);
}

/** The same of the npm package, which Bun is called with. */
function packageCommandLine(whole: readonly string[]): CommandLine {
  const args = whole.slice(whole.length - (process.argv.length - 2)); // Bun puts its own two in front
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
 * Whether an executable was built with the flags that keep files and variables of the user's folder from running code
 * before the first line (BUN_OPTIONS=--preload…). By a word of its build: asking for process.execArgv takes Bun 1 ms.
 */
export function isHardened(): boolean {
  return typeof HUTCH_HARDENED !== "undefined" || !Bun.isStandaloneExecutable;
}
