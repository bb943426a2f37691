/** `hutch end-nix-session JSON FD`: what follows a session, whatever ended it. Not for people. */

import { encodeBytes, oneLine } from "../bytes.ts";
import { EXIT, HutchError, UsageError } from "../errors.ts";
import { readOutcome, readRenameError } from "../launch/afterwards.ts";
import { rawCall, systemError } from "../libc/call.ts";
import { AT_FDCWD, O_CLOEXEC, O_NOCTTY, O_RDWR } from "../libc/constants.ts";
import { writeAll } from "../libc/files.ts";
import { removeTree } from "../sessions/remove-tree.ts";
import { rescueSessionDirectory } from "../sessions/session-directory.ts";
import type { Command } from "./command.ts";
import { removeGuarded } from "./guarded-directory.ts";
import { writePatch } from "./nix-patch.ts";
import { formatError } from "./report.ts";

/** What the session's own process leaves for its successor. All paths are host paths. */
export interface SessionEnd {
  /** The session's directory, to be removed. */
  readonly directory: string;
  readonly kept: string | undefined;
  /** The copy, inside `directory` unless it is kept. */
  readonly build: string;
  /** Where a copy that is to be kept was before it got that name. */
  readonly copy: string | undefined;
  /** Pid of who removes both when this process is killed. */
  readonly remover: number;
  readonly keep: string | undefined;
  readonly diff: boolean;
  /** Whether products of the build count as changes. */
  readonly products: boolean;
  /** Where a patch of the sources goes, and what it is relative to, below the build directory. */
  readonly patch: string | undefined;
  readonly sourceRoot: string;
  /** Whether to say that changes are gone, or where they are. */
  readonly tells: boolean;
  /** Whether a shell may have taken the terminal's foreground. */
  readonly terminal: boolean;
}

export const endNixSession: Command = {
  main: async ([json, descriptor]) => {
    if (json === undefined || descriptor === undefined) throw new UsageError("end-nix-session needs a session");
    const end = JSON.parse(json) as SessionEnd;
    const paths = [end.directory, ...(end.copy === undefined ? [] : [end.copy])];
    try {
      return await endSession(end, Number(descriptor));
    } finally {
      await removeGuarded([end.remover], () => paths.forEach(removeTree)); // what has got another name stays
    }
  },
};

/** Tell what is to be told, and write what is to be kept. Returns the exit status. */
async function endSession(end: SessionEnd, outcomeFd: number): Promise<number> {
  if (end.terminal) takeTerminalBack();
  const unnamed = readRenameError(outcomeFd);
  if (unnamed !== 0) {
    say(formatError(systemError(`make ${end.keep}`, unnamed, { from: `--keep ${end.keep}` }), "nix-build-shell"));
    return EXIT.failure;
  }
  try {
    await exportPatch(end);
  } catch (error) {
    return rescue(end, error);
  }
  try {
    if (end.diff || end.tells) await tellChanges(end);
  } catch (error) {
    if (end.diff) say(formatError(error, "nix-build-shell"));
  }
  return readOutcome(outcomeFd);
}

function say(line: string): void {
  writeAll(2, encodeBytes(`${line}\n`));
}

const TIOCSPGRP = 0x5410;

/** The shell was of a process group that is gone now: the caller's is in front again (tcsetpgrp(3); SIGTTOU is blocked). */
function takeTerminalBack(): void {
  const terminal = rawCall("openat", AT_FDCWD, "/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (terminal < 0) return;
  const group = new Uint8Array(4);
  new DataView(group.buffer).setInt32(0, rawCall("getpgid", 0), true);
  rawCall("ioctl", terminal, TIOCSPGRP, group);
  rawCall("close", terminal);
}

async function exportPatch({ kept, build, patch, sourceRoot }: SessionEnd): Promise<void> {
  if (patch === undefined || kept === undefined) return;
  const { compareTrees, formatPatch, isBuildProduct } = await import("../nix/kept-diff.ts");
  const sources = compareTrees(kept, build).filter((change) => !isBuildProduct(change));
  writePatch(patch, await formatPatch(kept, build, sources, sourceRoot));
}

/** The patch is not written: the copy is all that there is of the user's work, and stays. Returns the exit status. */
function rescue({ directory, keep, build }: SessionEnd, error: unknown): number {
  let place = keep;
  if (place === undefined) {
    const rescued = rescueSessionDirectory(directory);
    place = `${rescued}${build.slice(directory.length)}`;
    removeTree(`${rescued}/store`); // --exact's
  }
  const why = error instanceof HutchError ? error.message : String(error);
  const lost = new HutchError(`the patch is not written: ${why}`, { hint: `your changes are in ${place}` });
  say(formatError(lost, "nix-build-shell"));
  return EXIT.failure;
}

async function tellChanges({ kept, build, keep, diff, products, patch, tells }: SessionEnd): Promise<void> {
  if (kept === undefined) {
    if (keep !== undefined) say(oneLine(`nix-build-shell: the build directory is kept in ${keep}`));
    return;
  }
  const { compareTrees, formatPatch, isBuildProduct } = await import("../nix/kept-diff.ts");
  const all = compareTrees(kept, build);
  const sources = all.filter((change) => !isBuildProduct(change));
  if (diff) writeAll(2, encodeBytes(await formatPatch(kept, build, products ? all : sources)));
  if (!tells) return;
  if (keep !== undefined) say(oneLine(`nix-build-shell: the build directory is kept in ${keep}`));
  else if (patch !== undefined) say(oneLine(`nix-build-shell: changes of the sources are in ${patch}`));
  else if (!diff && sources.length > 0) {
    const [first] = sources;
    const more = sources.length === 1 ? "" : ` and ${sources.length - 1} more`;
    say(
      oneLine(
        `nix-build-shell: changes are thrown away: ${first?.path}${more} (--keep DIR keeps them, --diff shows them)`,
      ),
    );
  }
}
