/** What is entered: a kept directory, with its variables or with those that its derivation says; or a derivation alone. */

import { UsageError } from "../errors.ts";
import { ownEnvironment } from "../launch/become.ts";
import { directoryNames, isErrno, pathStatus } from "../libc/files.ts";
import { logPaths } from "../nix/build-log.ts";
import { type Derivation, hasStructuredAttributes, outputPaths } from "../nix/derivation.ts";
import { type BuildEnvironment, type BuildFile, buildEnvironment, rebuiltVariables } from "../nix/environment.ts";
import { formatEnvVars, mapDirectory } from "../nix/env-vars.ts";
import {
  type BuildVariables,
  checkBuildVariables,
  findKeptBuild,
  type KeptBuild,
  readBuildVariables,
} from "../nix/kept-build.ts";
import { readDerivation, readDerivationFile } from "../nix/kept-derivation.ts";
import { askDatabase, referenceGraph } from "../nix/nix-database.ts";
import { derivationName, onHost, parseStorePath, type Store } from "../nix/store-path.ts";

/** A derivation and where it was found. */
export interface FoundDerivation {
  /** Store path, or the host path of a file elsewhere. */
  readonly path: string;
  readonly derivation: Derivation;
}

/** A build that can be entered. */
export interface BuildSource {
  /** Host path of the kept directory; undefined for a build that has not failed yet. */
  readonly kept: string | undefined;
  readonly variables: BuildVariables;
  /** What env-vars is to be in the copy, where that is not the kept one. */
  readonly envVars: string | undefined;
  /** Files that Nix puts into a build directory, to be made where they are not. */
  readonly files: readonly BuildFile[];
  /** The derivation, as far as it was needed. */
  readonly derivation: FoundDerivation | undefined;
  /** What to tell the user about it, a line each. */
  readonly notes: readonly string[];
}

/**
 * Find out what is to be entered. `drv` is the path of a derivation, on the host or in the store.
 * @throws UsageError, HutchError, one line, when there is no way to know the build's environment
 */
export function findSource(store: Store, directory: string | undefined, drv: string | undefined): BuildSource {
  const given = drv === undefined ? undefined : readGiven(store, drv);
  if (directory === undefined) {
    if (given === undefined) throw new UsageError("BUILD_DIR is missing");
    return { ...rebuild(store, given), kept: undefined, notes: [] };
  }
  const kept = findKeptBuild(directory);
  if (kept.envVars === "readable") {
    const variables = readBuildVariables(kept, store);
    const envVars = variables.buildTop === "/build" ? undefined : mapped(kept, variables);
    const notes = given === undefined ? [] : doubts(store, variables, given);
    return { kept: kept.directory, variables, envVars, files: [], derivation: given, notes };
  }
  const found = given ?? byName(store, kept);
  if (found === undefined) {
    readBuildVariables(kept, store); // says what is missing, and what to do
    throw new UsageError(`no env-vars in ${kept.directory}`);
  }
  const why = kept.envVars === "absent" ? "is not there" : "may not be read";
  const note = `${kept.envVarsPath} ${why}: its variables are those that ${found.path} says`;
  return { ...rebuild(store, found), kept: kept.directory, notes: [note] };
}

/** A word when the derivation is not the build's, by their outputs; those of content-addressed ones are not known before. */
function doubts(store: Store, { out }: BuildVariables, { path, derivation }: FoundDerivation): readonly string[] {
  const outputs = [...outputPaths(derivation).values()];
  if (out === undefined || outputs.length === 0 || outputs.includes(out)) return [];
  if (parseStorePath(out, store.storeDir) === undefined) return [];
  return [`${path} makes ${outputs.join(" ")}, and this build made ${out}: is it the right derivation?`];
}

function readGiven(store: Store, drv: string): FoundDerivation {
  const path = drv.startsWith(`${store.root}/nix/`) ? drv.slice(store.root.length) : drv;
  const inStore = parseStorePath(path, store.storeDir)?.rest === "";
  if (isErrno(pathStatus(inStore ? onHost(store, path) : drv), "ENOENT"))
    throw new UsageError(`${drv} does not exist`, { from: `--drv ${drv}` });
  if (!inStore) return { path: drv, derivation: readDerivationFile(drv) };
  if (!path.endsWith(".drv")) throw new UsageError(`${drv} is not a .drv file`, { from: `--drv ${drv}` });
  return { path, derivation: readDerivation(store, path) };
}

/** The derivation that a kept directory's name tells of (Nix before 2.30); of several, the one with the latest log. */
function byName(store: Store, { directory }: KeptBuild): FoundDerivation | undefined {
  const name = /\/nix-build-(.+)\.drv-\d+(?:-\d+)?(?:\/(?:build|b))?$/.exec(directory)?.[1];
  const names = name === undefined ? [] : directoryNames(onHost(store, store.storeDir));
  if (typeof names === "number") return undefined;
  const fitting = names
    .map((base) => `${store.storeDir}/${base}`)
    .filter((path) => path.endsWith(".drv") && derivationName(path) === name && parseStorePath(path) !== undefined);
  const logged = fitting.filter((path) => logPaths(store, path).some((log) => typeof pathStatus(log) !== "number"));
  // two with a log would be a guess
  const [path, ...others] = logged.length > 0 ? logged : fitting;
  return path === undefined || others.length > 0 ? undefined : { path, derivation: readDerivation(store, path) };
}

/** An unsandboxed build believed to be in a directory of the host, under the name it was given or under the kept one. */
function mapped(kept: KeptBuild, { buildTop, variables }: BuildVariables): string {
  return formatEnvVars(mapDirectory(mapDirectory(variables, buildTop, "/build"), kept.directory, "/build"));
}

function rebuild(store: Store, found: FoundDerivation): Omit<BuildSource, "kept" | "notes"> {
  const { path, derivation } = found;
  const environment = environmentOf(store, derivation);
  const rebuilt = rebuiltVariables(derivation, environment);
  const variables = checkBuildVariables(rebuilt, store, path);
  const envVars = formatEnvVars(rebuilt) + (hasStdenv(derivation) ? SETUP : "");
  return { variables, envVars, files: environment.files, derivation: found };
}

function environmentOf(store: Store, derivation: Derivation): BuildEnvironment {
  const impure = Object.fromEntries(
    ownEnvironment().map((entry) => {
      const equals = entry.indexOf("=");
      return [entry.slice(0, equals), entry.slice(equals + 1)];
    }),
  );
  const options = { cores: navigator.hardwareConcurrency, storeDir: store.storeDir, impure };
  const exported =
    derivation.env.has("exportReferencesGraph") || derivation.env.get("__json")?.includes('"exportReferencesGraph"');
  if (exported !== true) return buildEnvironment(derivation, options);
  return askDatabase(store, (db) => buildEnvironment(derivation, { ...options, graph: referenceGraph(db) }));
}

function hasStdenv(derivation: Derivation): boolean {
  return derivation.env.has("stdenv") || hasStructuredAttributes(derivation);
}

/**
 * The kept env-vars would hold what stdenv's setup adds to the derivation's variables, PATH above all: so take that up.
 * In a shell of its own, since setup changes the shell's options and sets traps.
 */
const SETUP = `
__hutch_setup() {
  cd /build
  if [ -e .attrs.sh ]; then source .attrs.sh; fi
  [ -n "\${stdenv:-}" ] && [ -e "$stdenv/setup" ] || return 0
  noDumpEnvVars=1
  source "$stdenv/setup"
  trap - EXIT
  unset noDumpEnvVars
  export -p
}
eval "$(__hutch_setup 2>/dev/null </dev/null | while IFS= read -r __hutch_line || [ -n "$__hutch_line" ]; do
  case $__hutch_line in "declare -x PWD="*|"declare -x OLDPWD"*|"declare -x SHLVL="*) ;; *) printf '%s\\n' "$__hutch_line" ;; esac
done)"
unset -f __hutch_setup
`;
