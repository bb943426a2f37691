/** The program's environment: defaults, files of variables, `-e`. */

import { decodeBytes } from "../bytes.ts";
import { SystemError, UsageError } from "../errors.ts";
import { ownEnvironment } from "../launch/become.ts";
import { systemError } from "../libc/call.ts";
import { isTerminal, readFile } from "../libc/files.ts";
import { all, type Occurrence, type Parsed } from "./options.ts";

/** Lines `K=V`, or `K` for the caller's value; empty lines and those that begin with # are left out (docker). */
export function parseEnvFile(text: string, from: string): readonly Occurrence[] {
  return text
    .split("\n")
    .map((line) => line.replace(/\r$/, "").replace(/^[ \t]+/, ""))
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => {
      const name = line.split("=")[0] ?? "";
      if (name === "" || /\s/.test(name))
        throw new UsageError(`variable ${JSON.stringify(name)} is not a name`, { from });
      if (line.includes("\0")) throw new UsageError(`variable ${name} holds a NUL byte`, { from });
      return { value: line, words: from };
    });
}

/**
 * The environment from defaults and `K=V` or `K` words, in order, the last of a name winning in the first's place.
 * `K` alone takes the caller's value, or nothing when the caller has none.
 */
export function mergeEnvironment(
  defaults: readonly string[],
  given: readonly Occurrence[],
  caller: readonly string[],
): readonly string[] {
  const variables = new Map<string, string>();
  const put = (entry: string) => variables.set(entry.slice(0, entry.indexOf("=")), entry);
  defaults.forEach(put);
  for (const { value, words } of given) {
    if (value.startsWith("=") || value === "") throw new UsageError("a variable needs a name", { from: words });
    if (value.includes("=")) put(value);
    else {
      const own = caller.find((entry) => entry.startsWith(`${value}=`));
      if (own !== undefined) put(own);
    }
  }
  return [...variables.values()];
}

/**
 * The environment of a run, `K=V` each: what every program gets, an image's own, then what was asked for.
 * @throws UsageError
 */
export function runEnvironment(
  parsed: Parsed,
  hostname: string,
  home: string,
  path: string,
  image: readonly string[],
): readonly string[] {
  const terminal = isTerminal(0) || isTerminal(1) || isTerminal(2);
  const given: Occurrence[] = [];
  for (const { value, words } of all(parsed, "env-file"))
    for (const line of parseEnvFile(readEnvFile(value, words), words)) given.push(line);
  for (const word of all(parsed, "env")) given.push(word);
  let asks = terminal;
  for (const { value } of given) if (!value.includes("=")) asks = true;
  const caller = asks ? ownEnvironment() : [];
  const own = [`PATH=${path}`, `HOME=${home}`, `HOSTNAME=${hostname}`];
  const base = terminal ? own.concat(terminalOf(caller)) : own;
  return image.length + given.length === 0 ? base : mergeEnvironment(base.concat(image), given, caller);
}

function terminalOf(caller: readonly string[]): string {
  for (const entry of caller) if (entry.startsWith("TERM=")) return entry;
  return "TERM=xterm";
}

/** Arguments and environment together may have 6 MiB at most (execve(2)). */
const MOST_ENV_BYTES = 1 << 23;

function readEnvFile(path: string, words: string): string {
  let bytes: Uint8Array | number;
  try {
    bytes = readFile(path, MOST_ENV_BYTES + 1);
  } catch (error) {
    bytes = error instanceof SystemError ? -error.errno : 0;
  }
  if (typeof bytes === "number")
    throw new UsageError(systemError(`${path} cannot be read`, -bytes).message, { from: words });
  if (bytes.length > MOST_ENV_BYTES)
    throw new UsageError(`${path} has more than 8 MiB, and no program can be given as much`, { from: words });
  return decodeBytes(bytes);
}
