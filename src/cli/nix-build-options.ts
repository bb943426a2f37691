/** The options of `nix-build-shell`. */

import type { ArgsDef } from "citty";
import { UsageError } from "../errors.ts";
import { has, last, type Parsed } from "./options.ts";

export const NIX_BUILD_OPTIONS = {
  keep: { type: "string", valueHint: "DIR", description: "copy the build directory to DIR, and leave it there" },
  diff: { type: "boolean", description: "at the end, show what has changed, on stderr" },
  "no-products": { type: "boolean", description: "with --diff: leave out what builds make" },
  exact: {
    type: "boolean",
    description: "the store and the rules as Nix has them: the build's inputs alone, $out writable",
  },
  verify: { type: "boolean", description: "enter nothing: tell what is as in Nix's own sandbox, and what is not" },
  add: {
    type: "string",
    valueHint: "PROGRAM",
    description: "a program of the host, strace for one, in a directory of its own at the end of PATH (repeatable)",
  },
  drv: {
    type: "string",
    valueHint: "FILE.drv",
    description: "the build's derivation; without BUILD_DIR, enter a build that has not failed yet",
  },
  build: {
    type: "boolean",
    description: "BUILD_DIR is what the command that follows leaves: nix-build …, nix build …",
  },
  pick: { type: "string", valueHint: "N", description: "with --build: of several failed builds, the Nth" },
  list: { type: "boolean", description: "the failed builds that are still kept on this machine" },
  "export-patch": {
    type: "string",
    valueHint: "FILE",
    description: "at the end, write what has changed in the sources to a new FILE, as a patch for the source root",
  },
  log: { type: "string", valueHint: "FILE", description: "the build's log, when it is not in the store" },
  store: { type: "string", valueHint: "DIR", description: "the chroot store below DIR, as given to nix --store" },
  network: { type: "string", valueHint: "none|host", description: "no network but loopback, or the host's [none]" },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;

/** What enters no session, and the options that mean something with it. */
const ALONE = { list: ["store"], verify: ["store", "drv", "exact"] } as const;

/** Options that say nothing without another one. */
const NEEDS = { pick: "build", "no-products": "diff" } as const;

/** Refuse what would be ignored. @throws UsageError for options that do not go together, and for operands of --list */
export function checkTogether(parsed: Parsed): void {
  for (const [mode, allowed] of Object.entries(ALONE)) {
    if (!has(parsed, mode)) continue;
    const other = [...parsed.options.keys()].find((name) => name !== mode && !allowed.some((known) => known === name));
    if (other !== undefined)
      throw new UsageError(`--${mode} and --${other} do not go together`, fromWords(parsed, other));
  }
  if (has(parsed, "list") && parsed.operands.length > 0)
    throw new UsageError("--list takes nothing behind it", { from: parsed.operands.join(" ") });
  if (has(parsed, "build") && has(parsed, "drv"))
    throw new UsageError("--build and --drv do not go together", fromWords(parsed, "drv"));
  for (const [name, needed] of Object.entries(NEEDS))
    if (has(parsed, name) && !has(parsed, needed))
      throw new UsageError(`--${name} needs --${needed}`, fromWords(parsed, name));
}

/** The same for what BUILD_DIR and COMMAND are. @throws UsageError */
export function checkOperands(parsed: Parsed, directory: string | undefined, command: readonly string[]): void {
  if (has(parsed, "verify") && command.length > 0)
    throw new UsageError("--verify enters nothing, and takes no COMMAND", { from: command.join(" ") });
  for (const name of ["diff", "export-patch"])
    if (has(parsed, name) && directory === undefined)
      throw new UsageError(`--${name} needs a BUILD_DIR to compare with`, fromWords(parsed, name));
}

function fromWords(parsed: Parsed, name: string): { readonly from?: string } {
  const given = last(parsed, name);
  return given === undefined ? {} : { from: given.words };
}
