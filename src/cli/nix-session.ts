/** One session of nix-build-shell: the copy of the build directory, the sandbox around it, and what follows. */

import { chmodSync, lchownSync, realpathSync } from "node:fs";
import { decodeBytes, encodeBytes, fsPath, oneLine } from "../bytes.ts";
import { DEFAULT_PATH, MASKED_PATHS, READONLY_PATHS } from "../defaults.ts";
import { UsageError } from "../errors.ts";
import type { Rename } from "../launch/afterwards.ts";
import { ownEnvironment, type Self } from "../launch/become.ts";
import { launchAndThen } from "../launch/launch.ts";
import { ARCH, rawCall, systemError } from "../libc/call.ts";
import { AT_FDCWD } from "../libc/constants.ts";
import { isTerminal, openDevice, pathStatus, writeAll } from "../libc/files.ts";
import type { BuildVariables } from "../nix/kept-build.ts";
import { removeTree } from "../sessions/remove-tree.ts";
import { buildSandbox, commandArguments, wholeStore } from "../nix/sandbox.ts";
import { makeSessionDirectory } from "../sessions/session-directory.ts";
import { onHost, type Store } from "../nix/store-path.ts";
import { profileFilter } from "../process/filter.ts";
import type { Wanted } from "../rootfs/host-programs.ts";
import type { HostPath, Mount } from "../spec.ts";
import type { Plan } from "../step.ts";
import { guardPaths, removeGuarded } from "./guarded-directory.ts";
import type { BuildSource } from "./nix-build-source.ts";
import { ADDED_PATH, type Added, addPrograms } from "./nix-add.ts";
import { copyBuild } from "./nix-copy.ts";
import { type Exact, exactFilter, exactRules, findExact, makeStore, networkFiles, type Owner } from "./nix-exact.ts";
import { type PreparedShell, prepareShell } from "./nix-interactive.ts";
import { checkPatch } from "./nix-patch.ts";
import type { SessionEnd } from "./nix-session-end.ts";
import { formatVerification } from "./nix-verify.ts";
import { planFor, planRenamed } from "./run.ts";

/** What a session is entered with. */
export interface Session {
  readonly store: Store;
  readonly source: BuildSource;
  /** Empty for a shell. */
  readonly command: readonly string[];
  /** `$?` when a shell begins: the exit status of the build that has just failed. */
  readonly status?: number;
  readonly hostNetwork: boolean;
  /** Programs of the host to bring along. */
  readonly added: readonly Wanted[];
  /** Host path to keep the copy in; undefined when it is thrown away. */
  readonly keep: string | undefined;
  readonly log: string | undefined;
  /** Whether changes are shown at the end, and products of the build among them. */
  readonly diff: boolean;
  readonly products: boolean;
  /** Host path of a patch to be written at the end. */
  readonly patch: string | undefined;
  /** Whether the store and the rules are as Nix has them, not as hutch would. */
  readonly exact: boolean;
}

/** Where sessions keep their copies. */
export function temporaryDirectory(): string {
  const given = ownEnvironment()
    .find((entry) => entry.startsWith("TMPDIR="))
    ?.slice("TMPDIR=".length);
  return given?.startsWith("/") === true ? given : "/tmp";
}

/** Copy, and become the sandbox's launcher. Nothing is left on the host when this throws. */
export async function enterSession(session: Session, self: Self): Promise<never> {
  const { store, source, keep, command } = session;
  const { kept } = source;
  if (keep !== undefined && exists(keep))
    throw new UsageError(`${keep} is already there`, { from: `--keep ${keep}`, hint: "--keep makes a new directory" });
  const parent = temporaryDirectory();
  if (keep !== undefined) {
    checkOutside(parentOf(keep), session, `--keep ${keep}`);
    checkKeep(keep);
  }
  checkOutside(parent, session, `TMPDIR=${parent}`);
  if (session.patch !== undefined) {
    checkOutside(parentOf(session.patch), session, `--export-patch ${session.patch}`);
    checkPatch(session.patch);
  }
  const added = addPrograms(session.added, source.variables.shell);
  const { paths, remover } = guardPaths(keep === undefined ? [parent] : [parent, parentOf(keep)], self);
  const [directory = "", copy] = paths;
  const build = copy ?? `${directory}/build`;
  // It gets its name when it is whole and everything else is there, so that a session that is killed before leaves none.
  const rename = keep === undefined ? undefined : { from: build, to: keep };
  try {
    makeSessionDirectory(directory);
    const exact = session.exact ? findExact(store, source) : undefined;
    const owner = exact === undefined ? undefined : ownerOf(source);
    const shell =
      command.length > 0
        ? undefined
        : prepareShell({ ...session, ...source, changes: keep, terminal: isTerminal(0), outside: session.exact });
    if (owner !== undefined) lchownSync(fsPath(directory), owner.uid, owner.gid);
    const unreadable = await copyBuild(source, build, owner);
    if (exact !== undefined) chmodSync(fsPath(build), 0o700); // kept directories are opened only when they are kept
    const made = exact && (await makeStore(store, exact, `${directory}/store`, owner));
    const missing = [...unreadable.map(({ path }) => `${kept}/${path}`), ...(made?.unreadable ?? [])];
    for (const note of [...source.notes, ...added.notes, ...tellUnreadable(missing)]) say(`nix-build-shell: ${note}`);
    for (const path of exact?.missing ?? []) say(`nix-build-shell: ${path} is an input, and no longer in the store`);
    const plan = await sessionPlan({ session, build, rename, shell, exact, closure: made?.mounts, owner, added });
    for (const line of shell?.lines ?? []) say(line);
    const end: SessionEnd = {
      directory,
      kept,
      build: keep ?? build,
      copy,
      remover,
      keep,
      diff: session.diff,
      products: session.products,
      patch: session.patch,
      sourceRoot: sourceRoot(source.variables),
      tells: shell !== undefined || isTerminal(2),
      terminal: shell !== undefined && isTerminal(0),
    };
    const then = ["end-nix-session", JSON.stringify(end)];
    return launchAndThen(plan, self, then, [`PATH=${DEFAULT_PATH}`], { rename });
  } catch (error) {
    await removeGuarded([remover], () => paths.forEach(removeTree));
    throw error;
  }
}

function say(line: string): void {
  writeAll(2, encodeBytes(`${oneLine(line)}\n`));
}

/** The directory below /build that was worked in: what patches of nixpkgs are relative to. */
function sourceRoot({ workingDirectory, buildTop }: BuildVariables): string {
  return workingDirectory?.startsWith(`${buildTop}/`) === true
    ? (workingDirectory.slice(buildTop.length + 1).split("/")[0] ?? "")
    : "";
}

function tellUnreadable(paths: readonly string[]): readonly string[] {
  const [first] = paths;
  if (first === undefined) return [];
  const more = paths.length === 1 ? "" : ` and ${paths.length - 1} more`;
  return [`${first}${more} may not be read, and is left out; hint: run nix-build-shell by sudo`];
}

const WRITE_AND_SEARCH = 3; // W_OK | X_OK

/** Find out whether a directory can be made at host path `keep`. @throws SystemError */
function checkKeep(keep: string): void {
  const from = `--keep ${keep}`;
  const refused = rawCall("faccessat2", AT_FDCWD, parentOf(keep), WRITE_AND_SEARCH, 0);
  if (refused < 0) throw systemError(`make ${keep}`, -refused, { from });
}

/** As parentOf(3), for paths of any bytes. */
const parentOf = (path: string): string => path.replace(/\/*[^/]+\/*$/, "") || "/";

/** Nothing is ever written into the kept directory or the store. @throws UsageError */
function checkOutside(directory: string, { source, store }: Session, from: string): void {
  const real = realPath(directory);
  for (const place of [source.kept, realPath(onHost(store, "/nix"))]) {
    if (place === undefined) continue;
    if (real === place || real.startsWith(`${place}/`))
      throw new UsageError(`${directory} is in ${place}, which is never written to`, { from });
  }
}

function realPath(path: string): string {
  try {
    return decodeBytes(realpathSync(fsPath(path), "buffer"));
  } catch (error) {
    if (["EIO", "EMFILE", "ENFILE", "ENOMEM"].includes(String((error as { code?: unknown }).code))) throw error;
    return path; // said when it is used
  }
}

/** What `--verify` says, without making anything. */
export function verifySession(store: Store, source: BuildSource, exactly: boolean): string {
  const exact = exactly ? findExact(store, source) : undefined;
  const owner = keptOwner(source);
  const ids = (exactly ? ownerOf(source) : undefined) ?? { uid: rawCall("geteuid"), gid: rawCall("getegid") };
  return formatVerification({ exact, ids, owner, kvm: exactly ? mayWrite("/dev/kvm") : exists("/dev/kvm") });
}

interface Prepared {
  readonly session: Session;
  readonly build: string;
  readonly rename: Rename | undefined;
  readonly shell: PreparedShell | undefined;
  readonly exact: Exact | undefined;
  readonly closure: readonly Mount[] | undefined;
  readonly owner: Owner | undefined;
  readonly added: Added;
}

async function sessionPlan({ session, build, rename, shell, exact, closure, owner, added }: Prepared): Promise<Plan> {
  const { store, source, command } = session;
  const { variables } = source;
  const [uid, gid] = [owner?.uid ?? rawCall("geteuid"), owner?.gid ?? rawCall("getegid")];
  // A map that leads to the machine's root leaves the mounts as the only wall, whatever Nix does.
  const covers = exact === undefined || uid === 0;
  const shellPath = exact === undefined ? variables.shell : exact.shell;
  const network = exact?.fixedOutput === true ? networkFiles(exact) : [];
  const spec = buildSandbox({
    store: closure ?? wholeStore(onHost(store, "/nix"), socketDirectories(store)),
    shell: shellPath === undefined ? undefined : (onHost(store, shellPath) as HostPath),
    build: (rename?.to ?? build) as HostPath,
    kvm: exact === undefined ? exists("/dev/kvm") : mayWrite("/dev/kvm"),
    uid,
    gid,
    startAs: owner,
    seccomp:
      exact === undefined
        ? await profileFilter("default", { pid1: true, arch: ARCH, capabilities: [] })
        : exactFilter(exact),
    args: shell?.args ?? commandArguments(variables.shell, command, added.mounts.length > 0 ? ADDED_PATH : undefined),
    env: shell?.env ?? [],
    more: [...network, ...(shell?.mounts ?? []), ...added.mounts],
    hostNetwork: session.hostNetwork || exact?.fixedOutput === true,
    maskedPaths: covers ? MASKED_PATHS : [],
    readonlyPaths: covers ? READONLY_PATHS : [],
    session: exact !== undefined && shell === undefined,
    exact: exact && exactRules(exact, keptOwner(source)?.uid !== rawCall("geteuid")),
  });
  return rename === undefined ? planFor(spec) : planRenamed(spec, rename);
}

/** Whose the kept directory is; undefined for a build that has not failed yet. */
function keptOwner({ kept }: BuildSource): Owner | undefined {
  const status = kept === undefined ? 0 : pathStatus(kept);
  return typeof status === "number" ? undefined : { uid: status.uid, gid: status.gid };
}

/** Started by root, Nix's builder is the user that owns the kept directory; undefined to stay who we are. */
function ownerOf(source: BuildSource): Owner | undefined {
  const owner = rawCall("geteuid") === 0 ? keptOwner(source) : undefined;
  return owner?.uid === 0 ? undefined : owner;
}

/** Nix shows /dev/kvm to builders when it may use it itself (system-features). */
const mayWrite = (path: string): boolean => {
  const descriptor = openDevice(path);
  if (descriptor >= 0) rawCall("close", descriptor);
  return descriptor >= 0;
};

const exists = (path: string): boolean => typeof pathStatus(path) !== "number";

/**
 * The directories of Nix's sockets. Where the daemon's is absent it is what is there of the way to it: a daemon that is
 * started later would put its socket where the sandbox sees it.
 */
function socketDirectories({ root, stateDir }: Store): readonly string[] {
  let daemon = `${stateDir}/daemon-socket`;
  while (daemon !== "/nix" && !exists(`${root}${daemon}`)) daemon = daemon.slice(0, daemon.lastIndexOf("/"));
  const collector = `${stateDir}/gc-socket`;
  const places = collector.startsWith(`${daemon}/`) ? [daemon] : [daemon, collector];
  return places.filter((path) => path !== "/nix" && exists(`${root}${path}`));
}
