/** `nix-build-shell --exact`: what of the machine and of the build's derivation Nix's own sandbox is made from. */

import { accessSync, chmodSync, constants, copyFileSync, lchownSync, lstatSync, mkdirSync } from "node:fs";
import { readlinkSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { fsPath } from "../bytes.ts";
import { DEFAULT_PATH } from "../defaults.ts";
import { HutchError } from "../errors.ts";
import { ownEnvironment } from "../launch/become.ts";
import { ARCH, rawCall } from "../libc/call.ts";
import { RLIMITS } from "../libc/constants.ts";
import { pathStatus, readText } from "../libc/files.ts";
import { copyTree } from "../nix/copy-tree.ts";
import { type Derivation, isFixedOutput } from "../nix/derivation.ts";
import {
  type Installed,
  nixSeccompProfile,
  parseInstalled,
  parseSandboxShell,
  versionRules,
} from "../nix/exact-rules.ts";
import { findDerivation, readDerivation } from "../nix/kept-derivation.ts";
import { askDatabase, inputClosure, partialOutputs } from "../nix/nix-database.ts";
import { closureStore, type ExactRules } from "../nix/sandbox.ts";
import { onHost, parseStorePath, type Store } from "../nix/store-path.ts";
import { CAPABILITIES } from "../process/capabilities.ts";
import { compileSeccomp } from "../process/seccomp.ts";
import type { HostPath, Mount, SandboxPath } from "../spec.ts";
import type { BuildSource } from "./nix-build-source.ts";

/** Ids outside that the builder gets. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** Nix's sandbox for one build, before anything has been made. */
export interface Exact {
  readonly derivation: Derivation;
  /** Store paths that the builder sees. */
  readonly closure: readonly string[];
  /** Store paths of what the failed build has left of its outputs. */
  readonly partial: readonly string[];
  /** Inputs that are no longer in the store. */
  readonly missing: readonly string[];
  readonly fixedOutput: boolean;
  /** Store path of what nix.conf makes /bin/sh, if anything. */
  readonly shell: string | undefined;
  readonly nix: Installed;
}

/** @throws HutchError when the derivation or the Nix database cannot be read */
export function findExact(store: Store, source: BuildSource): Exact {
  const { derivation } = source.derivation ?? findDerivation(store, source.variables);
  const shell = parseSandboxShell(readText("/etc/nix/nix.conf") ?? "");
  const shellObject = shell === undefined ? undefined : parseStorePath(shell, store.storeDir)?.path;
  const { closure, partial, more } = askDatabase(store, (database) => ({
    closure: inputClosure(database, derivation, (input) => readDerivation(store, input)),
    more: shellObject !== undefined && database.isValid(shellObject) ? database.closure([shellObject]) : [],
    partial: [...partialOutputs(database, store, derivation).values()],
  }));
  return {
    derivation,
    closure: [...new Set([...closure.paths, ...more])],
    shell: more.length > 0 ? shell : undefined,
    missing: closure.missing,
    partial,
    fixedOutput: isFixedOutput(derivation),
    nix: installedNix(),
  };
}

function installedNix(): Installed {
  const program = Bun.which("nix") ?? Bun.which("nix-store");
  if (program === null) return parseInstalled(undefined);
  // it ends by SIGABRT where it may not look into HOME
  const env = { HOME: "/homeless-shelter", PATH: DEFAULT_PATH };
  const child = Bun.spawnSync([program, "--version"], { stdin: "ignore", stderr: "ignore", env });
  return parseInstalled(child.stdout.toString());
}

/** /nix/store of `--exact`. */
export interface MadeStore {
  readonly mounts: readonly Mount[];
  /** Host paths of what is missing from outputs that the build has left. */
  readonly unreadable: readonly string[];
}

/**
 * Make the directory that is to be /nix/store: a place for each path of the closure, and what the build has left of its
 * outputs, as the builder's own. @throws HutchError
 */
export async function makeStore(
  store: Store,
  exact: Exact,
  directory: string,
  owner: Owner | undefined,
): Promise<MadeStore> {
  mkdirSync(fsPath(directory));
  const shown: (readonly [string, string])[] = [];
  for (const path of exact.closure) {
    const base = path.slice(store.storeDir.length + 1);
    if (parseStorePath(path, store.storeDir)?.rest !== "") throw new HutchError(`${path} is not a store path`);
    const source = onHost(store, path);
    const found = lstatSync(source, { throwIfNoEntry: false });
    if (found === undefined)
      throw new HutchError(`${path} is not in the store`, { hint: `nix-store --realise ${path}` });
    const place = `${directory}/${base}`;
    if (found.isSymbolicLink()) {
      symlinkSync(readlinkSync(source), fsPath(place));
      continue;
    }
    if (found.isDirectory()) mkdirSync(fsPath(place));
    else writeFileSync(fsPath(place), "");
    shown.push([path, source]);
  }
  const unreadable: string[] = [];
  for (const path of exact.partial) {
    const place = `${directory}/${path.slice(store.storeDir.length + 1)}`;
    unreadable.push(...(await copyOutput(onHost(store, path), place, owner)));
  }
  if (owner !== undefined) lchownSync(fsPath(directory), owner.uid, owner.gid);
  chmodSync(fsPath(directory), 0o1775);
  return { mounts: closureStore(directory, shown), unreadable };
}

/** Copy what a build has left of an output: a directory, a file or a link. Returns what the caller may not read. */
async function copyOutput(source: string, place: string, owner: Owner | undefined): Promise<readonly string[]> {
  const found = lstatSync(source, { throwIfNoEntry: false });
  if (found?.isDirectory() === true) {
    const { skipped } = await copyTree(source, place, {
      unreadable: "skip",
      ...(owner === undefined ? {} : { owner }),
    });
    return skipped.map(({ path }) => `${source}/${path}`);
  }
  if (found?.isSymbolicLink() === true) {
    symlinkSync(readlinkSync(source, "buffer"), fsPath(place));
    if (owner !== undefined) lchownSync(fsPath(place), owner.uid, owner.gid);
  } else if (found?.isFile() === true) {
    if (!mayRead(source)) return [source];
    copyFileSync(source, fsPath(place), constants.COPYFILE_EXCL);
    if (owner !== undefined) lchownSync(fsPath(place), owner.uid, owner.gid);
    chmodSync(fsPath(place), found.mode & 0o7777); // after chown(2), which clears set-user-ID
    utimesSync(fsPath(place), found.atime, found.mtime);
  }
  return [];
}

function mayRead(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

/** Nix's filter for the installed version. */
export function exactFilter({ nix }: Exact): Uint8Array {
  return compileSeccomp(nixSeccompProfile(nix.version), { arch: ARCH, capabilities: [], kernel: [5, 12] });
}

/** What else Nix does to the builder's process; `sealed` as in {@link ExactRules}. */
export function exactRules({ nix }: Exact, sealed: boolean): ExactRules {
  const { etcMode, scopesSockets, raisesFiles } = versionRules(nix.version);
  const files = raisesFiles ? hardLimit("RLIMIT_NOFILE", 7) : undefined;
  return { bounding: CAPABILITIES, coreLimit: hardLimit("RLIMIT_CORE", 4), files, etcMode, scopesSockets, sealed };
}

function hardLimit(name: string, number: number): number {
  const limit = new BigUint64Array(2);
  rawCall("prlimit64", 0, RLIMITS[name] ?? number, null, limit);
  const hard = limit[1] ?? 0n;
  return hard > 0xffffffffffn ? Number.POSITIVE_INFINITY : Number(hard);
}

/** Where Nix takes the host's certificates from, unless NIX_SSL_CERT_FILE says (nix's `globals.cc`). */
const CERTIFICATES = [
  "/etc/ssl/certs/ca-certificates.crt",
  "/nix/var/nix/profiles/default/etc/ssl/certs/ca-bundle.crt",
] as const;

function certificates(): readonly string[] {
  const given = ownEnvironment()
    .find((entry) => entry.startsWith("NIX_SSL_CERT_FILE="))
    ?.slice("NIX_SSL_CERT_FILE=".length);
  const candidates = given === undefined || given === "" ? CERTIFICATES : [given];
  return candidates.filter((path) => typeof pathStatus(path) !== "number").slice(0, 1);
}

/** The host's files that a fixed-output derivation gets to find its way in the network. */
export function networkFiles({ nix }: Exact): readonly Mount[] {
  const from = "fixed output";
  const content = "hosts: files dns\nservices: files\n";
  const at = (path: string) => path as SandboxPath;
  const same = ["/etc/resolv.conf", "/etc/services", "/etc/hosts"].filter(
    (path) => typeof pathStatus(path) !== "number",
  );
  const trusted = versionRules(nix.version).certificates ? certificates() : [];
  const bound = [
    ...same.map((path) => [path, path] as const),
    ...trusted.map((path) => [path, CERTIFICATES[0]] as const),
  ];
  return [
    { type: "file", destination: at("/etc/nsswitch.conf"), content, mode: 0o644, from },
    ...bound.map(([path, place]): Mount => ({
      type: "bind",
      source: path as HostPath,
      destination: at(place),
      attributes: ["ro", "nosuid", "nodev"],
      idmap: false,
      from,
    })),
  ];
}
