/** From a kept build to its derivation: by its output path and the Nix database, else by a look at the store's names. */

import { readdirSync, readFileSync, statSync } from "node:fs";
import { decodeBytes, fsPath } from "../bytes.ts";
import { HutchError, UsageError } from "../errors.ts";
import { logPaths } from "./build-log.ts";
import { type Derivation, outputPaths } from "./derivation.ts";
import type { BuildFacts } from "./env-vars.ts";
import { askDatabase, parseDerivationOf } from "./nix-database.ts";
import { onHost, parseStorePath, type Store } from "./store-path.ts";

/** A derivation and where it came from. */
export interface FoundDerivation {
  /** Its store path. */
  readonly path: string;
  readonly derivation: Derivation;
  /** Why the database was not used, for a word to the user; undefined when it was. */
  readonly note: string | undefined;
}

const MAX_DERIVATION = 64 << 20;

/** Read a derivation by its store path. @throws HutchError when it is absent or malformed */
export function readDerivation(store: Store, path: string): Derivation {
  return parseDerivationOf(path, readText(onHost(store, path)));
}

/**
 * Read a `.drv` file by its host path, which may be a store path.
 * @throws UsageError when it is not a derivation's file
 */
export function readDerivationFile(path: string): Derivation {
  if (!path.endsWith(".drv")) throw new UsageError(`${path} is not a .drv file`);
  return parseDerivationOf(path, readText(path));
}

function readText(path: string): string {
  try {
    if (statSync(fsPath(path)).size > MAX_DERIVATION) throw new HutchError(`${path} is larger than 64 MiB`);
    return decodeBytes(readFileSync(fsPath(path)));
  } catch (error) {
    if (error instanceof HutchError) throw error;
    const { code } = error as { code?: string };
    throw new HutchError(`read ${path}: ${code === "ENOENT" ? "no such file" : (code ?? String(error))}`, {
      cause: error,
    });
  }
}

/**
 * The derivation that a build with these facts was of. Of several that make the same output (fixed-output ones may),
 * the one with the latest log.
 * @throws HutchError when the build names no output or nothing is known of it
 */
export function findDerivation(store: Store, facts: Pick<BuildFacts, "out">): FoundDerivation {
  const out = facts.out === undefined ? undefined : parseStorePath(facts.out, store.storeDir);
  if (out === undefined)
    throw new HutchError("the build's env-vars names no output in the store", {
      hint: "give the derivation with --drv FILE",
    });
  let note: string | undefined;
  let candidates: readonly string[] = [];
  try {
    candidates = askDatabase(store, (database) => database.derivers(out.path));
    if (candidates.length === 0) note = `the Nix database has no derivation for ${out.path}`;
  } catch (error) {
    note = error instanceof Error ? error.message : String(error);
  }
  if (candidates.length === 0) candidates = scanStore(store, out.path, out.name);
  const [path] = candidates.toSorted((a, b) => logTime(store, b) - logTime(store, a));
  if (path === undefined)
    throw new HutchError(`no derivation found for ${out.path}`, {
      hint: `give it with --drv FILE${note === undefined ? "" : ` (${note})`}`,
    });
  return { path, derivation: readDerivation(store, path), note };
}

/** Derivations in the store that make `out`: only those whose name fits are read. */
function scanStore(store: Store, out: string, name: string): readonly string[] {
  let names: readonly string[];
  try {
    names = readdirSync(onHost(store, store.storeDir));
  } catch {
    return []; // a store that may not be listed: the caller says what to do
  }
  return names
    .filter((base) => {
      if (!base.endsWith(".drv")) return false;
      const stem = base.slice(33, -4);
      return name === stem || name.startsWith(`${stem}-`); // an output other than `out` has its own name at the end
    })
    .map((base) => `${store.storeDir}/${base}`)
    .filter((path) => {
      try {
        return [...outputPaths(readDerivation(store, path)).values()].includes(out);
      } catch {
        return false; // half-written or not a derivation: not ours
      }
    });
}

/** When the derivation's log was written, in milliseconds; 0 without one. */
function logTime(store: Store, path: string): number {
  const times = logPaths(store, path).map((log) => statSync(log, { throwIfNoEntry: false })?.mtimeMs ?? 0);
  return Math.max(...times);
}
