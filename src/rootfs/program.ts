/**
 * Which file a program's name means, and what the kernel starts for it: execvp(3)'s search, execve(2)'s `#!` lines.
 */

import { decodeBytes } from "../bytes.ts";
import { UsageError } from "../errors.ts";
import type { HostFiles } from "./host-files.ts";

/** A program that is not there or cannot be executed; the callers choose exit code 125, 126 or 127 by `reason`. */
export class ProgramError extends UsageError {
  override name = "ProgramError";
  readonly reason: "absent" | "not-executable";

  constructor(reason: "absent" | "not-executable", message: string, detail: { from?: string; hint?: string } = {}) {
    super(message, detail);
    this.reason = reason;
  }
}

/** Where to look for a bare name (PATH's text), and what relative paths count from. Both are the host's. */
export interface Search {
  readonly path: string;
  readonly cwd: string;
}

/**
 * Absolute path of a program as the caller names it: a name without a slash is looked up in PATH, anything else is a
 * path. Links are kept.
 * @throws ProgramError when there is none, or none that is an executable file.
 */
export function findProgram(host: HostFiles, name: string, search: Search): string {
  if (name === "") throw new ProgramError("absent", "empty program name");
  if (name.includes("/")) {
    const path = absolute(name, search.cwd);
    const problem = whyNot(host, path);
    if (problem !== undefined) throw programError(path, problem);
    return path;
  }
  let refused: { path: string; problem: Problem } | undefined;
  const closed: string[] = [];
  for (const directory of search.path.split(":")) {
    const path = absolute(directory === "" ? name : `${directory}/${name}`, search.cwd);
    const problem = whyNot(host, path);
    if (problem === undefined) return path;
    // What may not be opened has a name all the same; where not even that is to be seen, the directory is closed to us.
    if (problem === "denied" && host.readLink(path) === undefined) closed.push(directory);
    else if (problem !== "absent") refused ??= { path, problem };
  }
  if (refused !== undefined) throw programError(refused.path, refused.problem);
  const but = closed.length === 0 ? "" : ` but for ${closed.join(" and ")}, where you may not look`;
  throw new ProgramError("absent", `${name}: no such program in PATH`, { hint: `searched ${search.path}${but}` });
}

type Problem = "absent" | "denied" | "not-a-file" | "no-x";

function whyNot(host: HostFiles, path: string): Problem | undefined {
  const file = host.open(path);
  if (typeof file === "string") return file;
  file.close();
  return (file.mode & 0o111) === 0 ? "no-x" : undefined;
}

function programError(path: string, problem: Problem): ProgramError {
  if (problem === "absent") return new ProgramError("absent", `${path}: no such file`);
  if (problem === "not-a-file") return new ProgramError("not-executable", `${path}: not a regular file`);
  if (problem === "denied") {
    return new ProgramError("not-executable", `${path}: permission denied`, {
      hint: "finding it and its libraries takes searching its directory and reading the file",
    });
  }
  return new ProgramError("not-executable", `${path}: not executable`, {
    hint: `if it is a program: chmod +x ${path}`,
  });
}

/** A path made absolute; only a leading `./` and doubled slashes are cleaned away. */
export function absolute(path: string, cwd: string): string {
  const full = path.startsWith("/") ? path : `${cwd}/${path.replace(/^(\.\/+)+/, "")}`;
  return full.includes("//") ? full.replace(/\/+/g, "/") : full;
}

/** Bytes of a file that the kernel looks at (BINPRM_BUF_SIZE since Linux 5.1). */
export const SCRIPT_HEAD = 256;
/** How many `#!` files may lead to one another before the kernel answers ELOOP (fs/exec.c, exec_binprm). */
export const MAX_SCRIPTS = 5;

export interface Shebang {
  /** Path of the interpreter, as written. */
  readonly interpreter: string;
  /** The rest of the line as one argument, as Linux passes it; undefined when there is none. */
  readonly argument: string | undefined;
}

/**
 * The `#!` line of a file's first {@link SCRIPT_HEAD} bytes; undefined when they begin otherwise.
 * @throws UsageError for a line that the kernel refuses (ENOEXEC): no interpreter, or one cut off at the limit.
 */
export function parseShebang(head: Uint8Array): Shebang | undefined {
  if (head[0] !== 0x23 || head[1] !== 0x21) return undefined;
  // fs/binfmt_script.c: the line ends at a newline or NUL, else one byte before the limit; then it may have been longer,
  // but not so the interpreter's path.
  const bytes = head.subarray(2, SCRIPT_HEAD);
  const found = bytes.findIndex((byte) => byte === 0x0a || byte === 0);
  const end = found >= 0 ? found : Math.min(bytes.length, SCRIPT_HEAD - 3);
  const whole = found >= 0 || head.length < SCRIPT_HEAD;
  const line = decodeBytes(bytes.subarray(0, end)).replace(/^[ \t]+/, "");
  const gap = line.search(/[ \t]/);
  if (line === "") throw new UsageError("#! line without an interpreter");
  if (gap < 0 && !whole) throw new UsageError(`#! line longer than ${SCRIPT_HEAD} bytes`);
  const interpreter = gap < 0 ? line : line.slice(0, gap);
  const argument = gap < 0 ? "" : line.slice(gap).replace(/^[ \t]+|[ \t]+$/g, "");
  return { interpreter, argument: argument === "" ? undefined : argument };
}

/**
 * The program that env(1) of a `#!/usr/bin/env …` line starts: `python3` of `python3`, `-S python3 -u`, `-i A=1 sh`.
 * Undefined when the interpreter is not env or names nothing. Quotes of `-S` are not undone: a name holds none.
 */
export function envProgram(shebang: Shebang): string | undefined {
  if (!/(^|\/)env$/.test(shebang.interpreter) || shebang.argument === undefined) return undefined;
  // Without -S the kernel's one argument is one word, spaces included; env(1) then looks for a program of that name.
  const split = /^(-[a-zA-Z]*S|--split-string[= ])/.exec(shebang.argument);
  if (split === null) return shebang.argument.startsWith("-") ? undefined : shebang.argument;
  const words = shebang.argument.slice(split[0].length).split(/[ \t]+/);
  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? "";
    if (word === "-u" || word === "-C" || word === "--unset" || word === "--chdir") i++;
    else if (word !== "" && !word.startsWith("-") && !word.includes("=")) return word;
  }
  return undefined;
}
