/**
 * Nix's own database, read without Nix and without a trace: which derivation makes an output, and what a path refers to
 * (nix's `local-store.cc`, schema 10: ValidPaths, Refs, DerivationOutputs).
 *
 * SQLite opens a database in write-ahead mode for reading by creating `-wal` and `-shm` beside it when it may (measured:
 * root's `mode=ro` does), and fails when it may not. So the file is opened `immutable=1`, which touches nothing, while
 * no write-ahead log is there, and with one both are read into memory and made one. Either way the answer counts
 * only if neither file has changed meanwhile.
 */

import { Database, constants } from "bun:sqlite";
import { lstatSync, readFileSync, statSync } from "node:fs";
import { HutchError } from "../errors.ts";
import { type Derivation, outputPaths, parseDerivation } from "./derivation.ts";
import { formatBase32, onHost, type Store } from "./store-path.ts";
import type { PathInfo, ReferenceGraph } from "./structured-attributes.ts";
import { withLog } from "./write-ahead-log.ts";

/** Questions to the database; all paths are store paths, without the store's root. */
export interface NixDatabase {
  /** The derivations whose output `path` is, newest first. Several fixed-output derivations may make one path. */
  derivers(path: string): readonly string[];
  isValid(path: string): boolean;
  /** Output name → path of a derivation, as far as the database knows. */
  outputs(derivation: string): ReadonlyMap<string, string>;
  /** The paths and all that they refer to, sorted. @throws HutchError for a path that is not valid */
  closure(paths: readonly string[]): readonly string[];
  info(path: string): PathInfo;
}

const ATTEMPTS = 5;

/**
 * Ask the database of `store`. `ask` may be called again when Nix writes meanwhile, so it should only read.
 * @throws HutchError when the database is absent, not readable, or of an unknown shape
 */
export function askDatabase<Answer>(store: Store, ask: (database: NixDatabase) => Answer): Answer {
  const path = onHost(store, `${store.stateDir}/db/db.sqlite`);
  for (let attempt = 1; ; attempt++) {
    const before = fingerprint(path);
    try {
      const answer = before.wal === "" ? askFile(path, ask) : askImage(path, ask);
      if (sameFiles(before, fingerprint(path))) return answer;
    } catch (error) {
      // a file that changes under the reader may look like anything
      const changed = !sameFiles(before, fingerprint(path));
      if (!changed || attempt === ATTEMPTS) throw explain(path, error);
    }
    if (attempt === ATTEMPTS) throw new HutchError(`read ${path}: it changes all the time`, { hint: "try again" });
  }
}

function explain(path: string, error: unknown): HutchError {
  if (error instanceof HutchError) return error;
  const what = error instanceof Error ? error.message : String(error);
  return new HutchError(`read ${path}: ${what}`, { hint: "give the derivation with --drv FILE", cause: error });
}

interface Fingerprint {
  readonly main: string;
  /** "" when there is no write-ahead log, or an empty one. */
  readonly wal: string;
}

function fingerprint(path: string): Fingerprint {
  const read = (file: string) => {
    const status = statSync(file, { bigint: true, throwIfNoEntry: false });
    return status === undefined
      ? undefined
      : { size: status.size, text: `${status.ino} ${status.size} ${status.mtimeNs}` };
  };
  try {
    const main = read(path);
    if (main === undefined) throw new HutchError(`no Nix database at ${path}`, { hint: "is Nix installed here?" });
    const wal = read(`${path}-wal`);
    return { main: main.text, wal: wal === undefined || wal.size === 0n ? "" : wal.text };
  } catch (error) {
    throw explain(path, error);
  }
}

const sameFiles = (a: Fingerprint, b: Fingerprint): boolean => a.main === b.main && a.wal === b.wal;

function askFile<Answer>(path: string, ask: (database: NixDatabase) => Answer): Answer {
  // in a file: URI only these three are special
  const uri = path.replace(/[%?#]/g, (char) => `%${char.charCodeAt(0).toString(16)}`);
  const flags = constants.SQLITE_OPEN_READONLY | constants.SQLITE_OPEN_URI;
  using database = new Database(`file:${uri}?immutable=1`, flags);
  return ask(queries(database));
}

/** From memory: a copy on disk would have to be removed. */
function askImage<Answer>(path: string, ask: (database: NixDatabase) => Answer): Answer {
  const log = readFileSync(`${path}-wal`); // first: a checkpoint in between shows in the fingerprint
  using database = Database.deserialize(withLog(readFileSync(path), log), { readonly: true });
  return ask(queries(database));
}

interface InfoRow {
  readonly path: string;
  readonly hash: string;
  readonly narSize: number | null;
  readonly ca: string | null;
}

function queries(database: Database): NixDatabase {
  const idOf = database.query<{ id: number }, [string]>("select id from ValidPaths where path = ?");
  const refsOf = database.query<{ id: number; path: string }, [number]>(
    "select v.id, v.path from Refs r join ValidPaths v on v.id = r.reference where r.referrer = ?",
  );
  const id = (path: string): number => {
    const row = idOf.get(path);
    if (row === null) throw new HutchError(`${path} is not in the store`, { hint: `nix-store --realise ${path}` });
    return row.id;
  };
  return {
    derivers: (path) =>
      database
        .query<{ path: string }, [string]>(
          "select v.path from DerivationOutputs o join ValidPaths v on v.id = o.drv where o.path = ? order by v.registrationTime desc, v.id desc",
        )
        .all(path)
        .map((row) => row.path),
    isValid: (path) => idOf.get(path) !== null,
    outputs: (derivation) => {
      const rows = database
        .query<{ id: string; path: string }, [number]>(
          "select id, path from DerivationOutputs where drv = ? order by id",
        )
        .all(id(derivation));
      return new Map(rows.map((row) => [row.id, row.path]));
    },
    closure: (paths) => {
      const found = new Map<number, string>(paths.map((path) => [id(path), path]));
      for (const next of found.keys()) for (const row of refsOf.all(next)) found.set(row.id, row.path);
      return [...found.values()].toSorted();
    },
    info: (path) => {
      const number = id(path);
      const row = database
        .query<InfoRow, [number]>("select path, hash, narSize, ca from ValidPaths where id = ?")
        .get(number);
      if (row === null) throw new HutchError(`${path} is not in the store`);
      const references = refsOf
        .all(number)
        .map((ref) => ref.path)
        .toSorted();
      return { path, narHash: base32Hash(row.hash), narSize: row.narSize ?? 0, references, ca: row.ca ?? undefined };
    },
  };
}

/** `sha256:` and hexadecimal, as the database has it, in base 32, as Nix shows it. */
function base32Hash(text: string): string {
  const [algorithm = "", digits = ""] = text.split(":");
  return `${algorithm}:${formatBase32(Uint8Array.fromHex(digits))}`;
}

/** For `exportReferencesGraph`: closures with all that the database knows of each path. */
export function referenceGraph(database: NixDatabase): ReferenceGraph {
  return (paths) => database.closure(paths).map((path) => database.info(path));
}

/** Reads a derivation by its store path. */
export type ReadDerivation = (path: string) => Derivation;

/**
 * The store paths that the builder of `derivation` sees: its sources and the wanted outputs of its input derivations,
 * and all that they refer to; sorted. What is in it but is not valid is in `missing` and not in `paths`.
 */
export function inputClosure(
  database: NixDatabase,
  derivation: Derivation,
  readDerivation: ReadDerivation,
): { readonly paths: readonly string[]; readonly missing: readonly string[] } {
  const direct = new Set(derivation.inputSources);
  const missing: string[] = [];
  for (const input of derivation.inputDerivations) {
    const known = database.isValid(input.path) ? database.outputs(input.path) : new Map<string, string>();
    const stated = () => new Map(readDerivation(input.path).outputs.map((output) => [output.name, output.path]));
    const paths = input.outputs.every((name) => known.has(name)) ? known : stated();
    for (const name of input.outputs) {
      const path = paths.get(name) ?? "";
      if (path === "") missing.push(`${input.path}!${name}`);
      else direct.add(path);
    }
  }
  const valid = [...direct].filter((path) => database.isValid(path));
  missing.push(...[...direct].filter((path) => !database.isValid(path)));
  return { paths: database.closure(valid), missing };
}

/**
 * What a failed build has left at its outputs' paths (Nix moves it out of the sandbox "for easier debugging"): output
 * name → store path, for those that are in the store without being valid.
 */
export function partialOutputs(
  database: NixDatabase,
  store: Store,
  derivation: Derivation,
): ReadonlyMap<string, string> {
  const left = [...outputPaths(derivation)].filter(
    ([, path]) => !database.isValid(path) && lstatSync(onHost(store, path), { throwIfNoEntry: false }) !== undefined,
  );
  return new Map(left);
}

/** {@link parseDerivation} of a text that came from `path`, with the path in its errors. */
export function parseDerivationOf(path: string, text: string): Derivation {
  try {
    return parseDerivation(text);
  } catch (error) {
    throw new HutchError(`read ${path}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}
