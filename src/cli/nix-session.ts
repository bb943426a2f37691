/** One session of nix-build-shell: the copy of the build directory, the sandbox around it, and what follows. */

import { MASKED_PATHS, READONLY_PATHS } from "../defaults.ts";
import { launchAndThen, type Self } from "../launch/launch.ts";
import { ARCH, rawCall } from "../libc/call.ts";
import { pathStatus } from "../libc/files.ts";
import { type BuildVariables, type KeptBuild } from "../nix/kept-build.ts";
import { removeTree } from "../nix/remove-tree.ts";
import { buildSandbox, commandArguments } from "../nix/sandbox.ts";
import { makeSessionDirectory, removeOldSessions } from "../nix/session-directory.ts";
import { onHost, type Store } from "../nix/store-path.ts";
import { profileFilter } from "../process/filter.ts";
import type { HostPath } from "../spec.ts";
import type { Plan } from "../step.ts";
import { copyBuild } from "./nix-copy.ts";
import type { SessionEnd } from "./nix-session-end.ts";
import { planFor } from "./run.ts";

/** What a session is entered with. */
export interface Session {
  readonly store: Store;
  readonly kept: KeptBuild;
  readonly variables: BuildVariables;
  readonly command: readonly string[];
  readonly hostNetwork: boolean;
}

/** Where sessions keep their copies. */
export function temporaryDirectory(): string {
  const { TMPDIR } = process.env;
  return TMPDIR?.startsWith("/") === true ? TMPDIR : "/tmp";
}

/** Copy, and become the sandbox's launcher. Nothing is left on the host when this throws. */
export async function enterSession(session: Session, self: Self): Promise<never> {
  const parent = temporaryDirectory();
  removeOldSessions(parent);
  const directory = makeSessionDirectory(parent);
  try {
    const build = `${directory}/build`;
    await copyBuild(session.kept.directory, build, session.variables);
    const end: SessionEnd = { directory };
    const then = ["end-nix-session", JSON.stringify(end)];
    return launchAndThen(await sessionPlan(session, build), self, then, []);
  } catch (error) {
    removeTree(directory);
    throw error;
  }
}

async function sessionPlan(session: Session, build: string): Promise<Plan> {
  const { store, variables, command } = session;
  const seccomp = await profileFilter("default", { pid1: true, arch: ARCH, capabilities: [] });
  const nix = onHost(store, "/nix");
  return planFor(
    buildSandbox({
      nix: nix as HostPath,
      covered: socketDirectories(store),
      shell: onHost(store, variables.shell) as HostPath,
      build: build as HostPath,
      kvm: exists("/dev/kvm"),
      uid: rawCall("geteuid"),
      gid: rawCall("getegid"),
      seccomp,
      args: commandArguments(variables.shell, command),
      env: [],
      more: [],
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
