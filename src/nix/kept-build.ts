/**
 * The directory that Nix keeps of a failed build, in every shape that Nix and Lix have given it: the directory itself,
 * its `build/` (Nix 2.18.5 on) or `b/` (Lix), or the parent of those; and its env-vars file.
 */

import { closeSync, constants, fstatSync, lstatSync, openSync, readFileSync, realpathSync, statSync } from "node:fs";
import { decodeBytes, fsPath } from "../bytes.ts";
import { UsageError } from "../errors.ts";
import { pathStatus } from "../libc/files.ts";
import { buildFacts, type BuildFacts, type EnvVar, parseEnvVars } from "./env-vars.ts";
import { onHost, parseStorePath, type Store } from "./store-path.ts";

/** What became of the env-vars file. */
export type EnvVarsState = "readable" | "absent" | "unreadable";

/** A kept build directory, found but not read. All paths are host paths without links. */
export interface KeptBuild {
  /** The directory whose content was /build. */
  readonly directory: string;
  /** Where its env-vars is, or would be. */
  readonly envVarsPath: string;
  readonly envVars: EnvVarsState;
  /** Who owns the directory. */
  readonly uid: number;
  readonly gid: number;
}

/** The content of a kept build's env-vars. */
export interface BuildVariables extends BuildFacts {
  readonly variables: readonly EnvVar[];
  /** As in {@link BuildFacts}, and certainly there. */
  readonly shell: string;
  /** Always absolute: `/build` where env-vars does not say. */
  readonly buildTop: string;
}

const MAX_ENV_VARS = 64 << 20;
const LAYERS = ["build", "b"];

/**
 * Find the build directory that `path` stands for. An env-vars that is absent or not readable is no error here, since
 * the environment can also come from the derivation.
 * @throws UsageError for a path that is not a directory or may not be entered; one line, with the command that helps
 */
export function findKeptBuild(path: string): KeptBuild {
  const given = enter(path);
  // a builder may have left links by these names, to where only the caller may go
  const candidates = [given, ...LAYERS.map((layer) => `${given}/${layer}`).filter((layer) => !isLink(layer))];
  const found = candidates.map((directory) => ({ directory, envVars: envVarsState(directory, path) }));
  const best =
    found.find(({ envVars }) => envVars === "readable") ??
    found.find(({ envVars }) => envVars === "unreadable") ??
    found.find(({ directory }, i) => i > 0 && isWrapper(given) && isDirectory(directory)) ??
    found[0];
  const directory = best?.directory ?? given;
  const status = statSync(fsPath(directory));
  return {
    directory,
    envVarsPath: `${directory}/env-vars`,
    envVars: best?.envVars ?? "absent",
    uid: status.uid,
    gid: status.gid,
  };
}

/** Whether the directory's name is that of the one which Nix puts `build/` into, or Lix `b/`. */
function isWrapper(directory: string): boolean {
  return /\/(?:nix-build-.*-\d+|nix-\d+-\d+)$/.test(directory) || /\/nix\/var\/nix\/b\/[^/]+$/.test(directory);
}

function enter(path: string): string {
  try {
    const real = decodeBytes(realpathSync(fsPath(path), "buffer"));
    if (!statSync(fsPath(real)).isDirectory()) throw new UsageError(`${path} is not a directory`);
    return real;
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw refusal(error, path);
  }
}

function refusal(error: unknown, path: string): UsageError {
  const { code } = error as { code?: string };
  if (code === "ENOENT")
    return new UsageError(`${path} does not exist`, { hint: "Nix removes kept builds after a week" });
  if (code === "ENOTDIR") return new UsageError(`${path} is not a directory`);
  if (code === "ELOOP") return new UsageError(`${path} is a loop of symbolic links`);
  if (code === "EACCES")
    return new UsageError(`${path} may not be entered by this user`, {
      hint: `run: sudo nix-build-shell ${quote(path)}`,
    });
  return new UsageError(`${path}: ${code ?? String(error)}`);
}

function isLink(path: string): boolean {
  try {
    return lstatSync(fsPath(path)).isSymbolicLink();
  } catch {
    return false; // not there, or behind a directory that may not be entered: said later
  }
}

function isDirectory(path: string): boolean {
  const found = pathStatus(path);
  return typeof found !== "number" && found.kind === "directory";
}

function envVarsState(directory: string, given: string): EnvVarsState {
  let fd: number | undefined;
  try {
    fd = openRegular(`${directory}/env-vars`);
    return fd === undefined ? "absent" : "readable";
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === "ENOENT" || code === "ENOTDIR") return "absent";
    if (code !== "EACCES") throw refusal(error, `${given}/env-vars`);
    // the file itself, or a parent that only root may enter (Nix 2.18.5 to 2.24.0)
    return isDirectory(directory) ? "unreadable" : "absent";
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Open a file that a build user made: no links, no waiting on a fifo. Undefined when it is not a regular file. */
function openRegular(path: string): number | undefined {
  let fd: number;
  try {
    fd = openSync(fsPath(path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === "ELOOP" || code === "ENXIO") return undefined; // a link, or a socket
    throw error;
  }
  if (fstatSync(fd).isFile()) return fd;
  closeSync(fd);
  return undefined;
}

/**
 * Read and check the env-vars of a kept build.
 * @throws UsageError, one line: no env-vars, not readable (with what to run by sudo), no SHELL in it, SHELL not in the
 * store, the store absent; HutchError when the file is not bash's
 */
export function readBuildVariables(kept: KeptBuild, store: Store): BuildVariables {
  if (kept.envVars === "absent")
    throw new UsageError(`no env-vars in ${kept.directory}`, {
      hint: "the builder is not nixpkgs' stdenv or failed before it began: give the derivation with --drv FILE.drv",
    });
  if (kept.envVars === "unreadable")
    throw new UsageError(`${kept.envVarsPath} may only be read by its owner (uid ${kept.uid})`, {
      hint: `run: sudo nix-build-shell ${quote(kept.directory)}, or give the derivation with --drv FILE.drv`,
    });
  return checkBuildVariables(parseEnvVars(readEnvVars(kept.envVarsPath)), store, kept.envVarsPath);
}

function readEnvVars(path: string): string {
  const fd = openRegular(path);
  if (fd === undefined) throw new UsageError(`${path} is not a regular file`);
  try {
    if (fstatSync(fd).size > MAX_ENV_VARS) throw new UsageError(`${path} is larger than 64 MiB`);
    return decodeBytes(readFileSync(fd));
  } finally {
    closeSync(fd);
  }
}

/** Check variables, from env-vars or rebuilt, that a shell is to be started with. `from` names them in errors. */
export function checkBuildVariables(variables: readonly EnvVar[], store: Store, from: string): BuildVariables {
  const facts = buildFacts(variables);
  const { shell } = facts;
  if (shell === undefined)
    throw new UsageError(`no SHELL in ${from}`, {
      hint: "stdenv sets it; for a builder that does not, export it in that file or give the derivation (--drv) alone",
    });
  const storeRoot = onHost(store, store.storeDir);
  if (!isDirectory(storeRoot)) throw new UsageError(`no Nix store at ${storeRoot}`, { hint: "is Nix installed here?" });
  if (parseStorePath(shell, store.storeDir) === undefined)
    throw new UsageError(`SHELL in ${from} is not in the store: ${shell}`);
  checkShell(onHost(store, shell), shell);
  const buildTop = facts.buildTop?.startsWith("/") ? facts.buildTop : "/build";
  return { ...facts, shell, buildTop, variables };
}

function checkShell(path: string, shell: string): void {
  try {
    if (statSync(fsPath(path)).isFile()) return;
  } catch (error) {
    const { code } = error as { code?: string };
    const gone = code === "ENOENT" ? "is no longer in the store" : `cannot be used: ${code ?? String(error)}`;
    throw new UsageError(`${shell} ${gone}`, { hint: "it may have been garbage-collected: build again" });
  }
  throw new UsageError(`${shell} is not a file`);
}

/** A word for the user's shell. */
function quote(text: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
