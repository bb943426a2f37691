/** Shims of version managers (pyenv, rbenv, asdf, …): scripts that hand over to a program which only the manager knows. */

import { decodeBytes } from "../bytes.ts";
import { type HostFiles, readWhole } from "./host-files.ts";
import { ProgramError } from "./program.ts";
import { isWithin, parentOf } from "./walk.ts";

/** `exec "/root/.pyenv/libexec/pyenv" exec …`, `exec asdf exec …`: how the managers' own generators write them. */
const HANDS_OVER = /^\s*exec\s+"?(?:[^\s"]*\/)?((?:py|rb|nod|j|pl|go|ph|tf|lua)env|asdf|mise|rtx)"?\s+exec\s/m;
/** Shims have a few hundred bytes. */
const SHIM_BYTES = 4096;

/**
 * Refuse a program that is a shim, unless one of `paths` (absolute) brings its manager along: alone it ends with "no such
 * file", said by the shell in the sandbox. @throws ProgramError
 */
export function refuseShim(host: HostFiles, program: string, paths: readonly string[]): void {
  const directory = parentOf(program);
  if (!directory.endsWith("/shims") || paths.some((path) => isWithin(directory, path))) return;
  const text = readWhole(host, program, SHIM_BYTES);
  const manager = text === undefined ? undefined : HANDS_OVER.exec(decodeBytes(text))?.[1];
  if (manager === undefined) return;
  const name = program.slice(directory.length + 1);
  throw new ProgramError("not-executable", `${program}: a shim of ${manager}, which starts another program`, {
    hint: `add that one: "$(${manager} which ${name})", or /usr/bin/${name}`,
  });
}
