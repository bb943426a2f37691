/** Words of the command line that name a directory, or do not. */

import { tidyPath } from "../build-spec.ts";
import { UsageError } from "../errors.ts";
import type { HostPath } from "../spec.ts";

/** `.`, `..`, `./…` or `../…`. No pattern: compiling one costs a start more. */
function isRelative(word: string): boolean {
  return word === "." || word === ".." || word.startsWith("./") || word.startsWith("../");
}

/** Whether a word means a directory or `scratch`; all else is an image. */
export function isImageName(word: string): boolean {
  return word !== "scratch" && !word.startsWith("/") && !isRelative(word);
}

/** A host path: absolute as it is, `.` and `..` relative to `cwd`. @throws UsageError for a bare word */
export function hostPath(word: string, cwd: string, from: string): HostPath {
  if (word.startsWith("/")) return word as HostPath;
  if (isRelative(word)) return tidyPath(`${cwd}/${word}`) as HostPath;
  throw new UsageError(`${JSON.stringify(word)} is not a path`, {
    from,
    hint: `hutch has no named volumes; for a directory here write ./${word}`,
  });
}
