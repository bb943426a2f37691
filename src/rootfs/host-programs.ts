/** `--add` and `--add-path`: programs and paths of the host as mounts of the sandbox. */

import { HutchError } from "../errors.ts";
import type { HostPath, Mount, SandboxPath } from "../spec.ts";
import { createCollector, type Closure } from "./closure.ts";
import { addExtras } from "./closure-extras.ts";
import { closureLayout, type LayoutEntry, type RootView } from "./closure-layout.ts";
import { parseNsswitch } from "./closure-rules.ts";
import { type HostFiles, realHostFiles } from "./host-files.ts";
import { absolute, findProgram, ProgramError, type Search } from "./program.ts";
import { refuseShim } from "./shim.ts";
import { parentOf } from "./walk.ts";

/** What the user asked for, in their words. */
export interface Wanted {
  readonly value: string;
  readonly words: string;
}

export interface Programs {
  readonly programs: readonly Wanted[];
  readonly paths: readonly Wanted[];
  /** Where bare names and relative paths are looked up: the caller's PATH and directory. */
  readonly search: Search;
  /** The sandbox's variables, `K=V` each: they decide which terminfo and locale are wanted. */
  readonly env: readonly string[];
  /** Services of the sandbox's nsswitch.conf. */
  readonly nsswitch: string;
}

/**
 * The closure of all that is wanted, with what it opens at run time.
 * @throws HutchError with the user's word when a program, a path or a library is missing
 */
export function programsClosure(wanted: Programs, host: HostFiles = realHostFiles()): Closure {
  const collector = createCollector(host, wanted.search);
  const paths = wanted.paths.map(({ value }) => absolute(value, wanted.search.cwd));
  for (const { value, words } of wanted.programs)
    withWords(words, () => {
      refuseShim(host, findProgram(host, value, wanted.search), paths);
      collector.program(value);
    });
  for (const { value, words } of wanted.paths) withWords(words, () => collector.path(value));
  const env = Object.fromEntries(wanted.env.map((entry) => [entry.split("=")[0], entry.slice(entry.indexOf("=") + 1)]));
  addExtras(host, collector, { env, nss: parseNsswitch(wanted.nsswitch) });
  return collector.closure();
}

/**
 * Directories in which programs named without a slash were found, each once: a PATH with them finds the same inside.
 * Names that are not found are passed over; {@link programsClosure} says so.
 */
export function programDirectories(
  names: readonly string[],
  search: Search,
  host: HostFiles = realHostFiles(),
): readonly string[] {
  const found = names
    .filter((name) => name !== "" && !name.includes("/"))
    .flatMap((name) => {
      try {
        return [parentOf(findProgram(host, name, search))];
      } catch (error) {
        if (error instanceof ProgramError) return [];
        throw error;
      }
    });
  return [...new Set(found)];
}

function withWords(words: string, action: () => void): void {
  try {
    action();
  } catch (error) {
    if (!(error instanceof HutchError) || error.from !== undefined) throw error;
    throw new HutchError(error.message, {
      from: words,
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      cause: error,
    });
  }
}

/** A closure as mounts, in the order in which they are made. `root` tells what is there already. */
export function closureMounts(closure: Closure, root: RootView): readonly Mount[] {
  const from = "--add";
  const layout: LayoutEntry[] = [];
  withWords(from, () => layout.push(...closureLayout(closure, root)));
  return layout.map((entry): Mount => {
    const destination = entry.path as SandboxPath;
    if (entry.kind === "symlink") return { type: "symlink", destination, target: entry.to, from };
    const attributes = ["ro", "nosuid", "nodev"] as const;
    return {
      type: "bind",
      source: entry.source as HostPath,
      destination,
      attributes,
      idmap: false,
      optional: entry.optional === true,
      from,
    };
  });
}
