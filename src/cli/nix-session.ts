/** One session of nix-build-shell: the copy of the build directory, the sandbox around it, and what follows. */

import { realpathSync } from "node:fs";
import { dirname } from "node:path";
import { encodeBytes, oneLine } from "../bytes.ts";
import { DEFAULT_PATH, MASKED_PATHS, READONLY_PATHS } from "../defaults.ts";
import { UsageError } from "../errors.ts";
import { launchAndThen, type Self } from "../launch/launch.ts";
import { ARCH, rawCall } from "../libc/call.ts";
import { isTerminal, pathStatus, writeAll } from "../libc/files.ts";
import type { Skipped } from "../nix/copy-tree.ts";
import { removeTree } from "../nix/remove-tree.ts";
import { buildSandbox, commandArguments } from "../nix/sandbox.ts";
import { makeSessionDirectory, removeOldSessions } from "../nix/session-directory.ts";
import { onHost, type Store } from "../nix/store-path.ts";
import { profileFilter } from "../process/filter.ts";
import type { HostPath } from "../spec.ts";
import type { Plan } from "../step.ts";
import type { BuildSource } from "./nix-build-source.ts";
import { copyBuild } from "./nix-copy.ts";
import { type PreparedShell, prepareShell } from "./nix-interactive.ts";
import type { SessionEnd } from "./nix-session-end.ts";
import { planFor } from "./run.ts";

/** What a session is entered with. */
export interface Session {
  readonly store: Store;
  readonly source: BuildSource;
  /** Empty for a shell. */
  readonly command: readonly string[];
  readonly hostNetwork: boolean;
  /** Host path to keep the copy in; undefined when it is thrown away. */
  readonly keep: string | undefined;
  readonly log: string | undefined;
  /** Whether changes are shown at the end, and products of the build among them. */
  readonly diff: boolean;
  readonly products: boolean;
}

/** Where sessions keep their copies. */
export function temporaryDirectory(): string {
  const { TMPDIR } = process.env;
  return TMPDIR?.startsWith("/") === true ? TMPDIR : "/tmp";
}

/** Copy, and become the sandbox's launcher. Nothing is left on the host when this throws. */
export async function enterSession(session: Session, self: Self): Promise<never> {
  const { source, keep, command } = session;
  const { kept } = source;
  if (keep !== undefined && exists(keep))
    throw new UsageError(`${keep} is already there`, { from: `--keep ${keep}`, hint: "--keep makes a new directory" });
  const parent = temporaryDirectory();
  if (keep !== undefined) checkOutside(dirname(keep), session, `--keep ${keep}`);
  checkOutside(parent, session, `TMPDIR=${parent}`);
  removeOldSessions(parent);
  const directory = makeSessionDirectory(parent);
  const shell =
    command.length > 0 ? undefined : prepareShell({ ...session, ...source, changes: keep, terminal: isTerminal(0) });
  const build = keep ?? `${directory}/build`;
  let copied = false;
  try {
    const unreadable = await copyBuild(source, build);
    copied = true;
    for (const note of [...source.notes, ...tellUnreadable(unreadable, kept)]) say(`nix-build-shell: ${note}`);
    const plan = await sessionPlan(session, build, shell);
    for (const line of shell?.lines ?? []) say(line);
    const end: SessionEnd = {
      directory,
      kept,
      build,
      keep,
      diff: session.diff,
      products: session.products,
      tells: shell !== undefined || isTerminal(2),
      terminal: shell !== undefined && isTerminal(0),
    };
    return launchAndThen(plan, self, ["end-nix-session", JSON.stringify(end)], [`PATH=${DEFAULT_PATH}`]);
  } catch (error) {
    removeTree(directory);
    if (copied && keep !== undefined) removeTree(keep);
    throw error;
  }
}

function say(line: string): void {
  writeAll(2, encodeBytes(`${oneLine(line)}\n`));
}

function tellUnreadable(skipped: readonly Skipped[], kept: string | undefined): readonly string[] {
  const [first] = skipped;
  if (first === undefined || kept === undefined) return [];
  const more = skipped.length === 1 ? "" : ` and ${skipped.length - 1} more`;
  return [`${kept}/${first.path}${more} may not be read, and is left out; hint: run nix-build-shell by sudo`];
}

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
    return realpathSync(path);
  } catch {
    return path; // said when it is used
  }
}

async function sessionPlan(session: Session, build: string, shell: PreparedShell | undefined): Promise<Plan> {
  const { store, source, command } = session;
  const { variables } = source;
  const seccomp = await profileFilter("default", { pid1: true, arch: ARCH, capabilities: [] });
  return planFor(
    buildSandbox({
      nix: onHost(store, "/nix") as HostPath,
      covered: socketDirectories(store),
      shell: onHost(store, variables.shell) as HostPath,
      build: build as HostPath,
      kvm: exists("/dev/kvm"),
      uid: rawCall("geteuid"),
      gid: rawCall("getegid"),
      seccomp,
      args: shell?.args ?? commandArguments(variables.shell, command),
      env: shell?.env ?? [],
      more: shell?.mounts ?? [],
      hostNetwork: session.hostNetwork,
      maskedPaths: MASKED_PATHS,
      readonlyPaths: READONLY_PATHS,
      words: {},
    }),
  );
}

const exists = (path: string): boolean => typeof pathStatus(path) !== "number";

/**
 * The directories of Nix's sockets. Where the daemon's is absent it is what is there of the way to it: a daemon that is
 * started later would put its socket where the sandbox sees it.
 */
function socketDirectories({ root, stateDir }: Store): readonly string[] {
  let daemon = `${stateDir}/daemon-socket`;
  while (daemon !== "/nix" && !exists(`${root}${daemon}`)) daemon = daemon.slice(0, daemon.lastIndexOf("/"));
  const collector = `${stateDir}/gc-socket`;
  return [daemon, collector].filter((path) => path !== "/nix" && exists(`${root}${path}`));
}
