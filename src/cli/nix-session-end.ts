/** `hutch end-nix-session JSON FD`: what follows a session, whatever ended it. Not for people. */

import { encodeBytes, oneLine } from "../bytes.ts";
import { UsageError } from "../errors.ts";
import { readOutcome } from "../launch/afterwards.ts";
import { call, rawCall } from "../libc/call.ts";
import { AT_FDCWD, O_CLOEXEC, O_CREAT, O_EXCL, O_NOCTTY, O_RDWR, O_WRONLY } from "../libc/constants.ts";
import { closeDescriptor, writeAll } from "../libc/files.ts";
import { removeTree } from "../nix/remove-tree.ts";
import type { Command } from "./command.ts";
import { formatError } from "./report.ts";

/** What the session's own process leaves for its successor. All paths are host paths. */
export interface SessionEnd {
  /** The session's directory, to be removed. */
  readonly directory: string;
  readonly kept: string | undefined;
  /** The copy, inside `directory` unless it is kept. */
  readonly build: string;
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
    if (end.terminal) takeTerminalBack();
    try {
      if (end.diff || end.tells || end.patch !== undefined) await tellChanges(end);
    } catch (error) {
      if (end.diff || end.patch !== undefined) say(formatError(error, "nix-build-shell"));
    } finally {
      removeTree(end.directory);
    }
    return readOutcome(Number(descriptor));
  },
};

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

async function tellChanges({ kept, build, keep, diff, products, patch, sourceRoot, tells }: SessionEnd): Promise<void> {
  if (kept === undefined) {
    if (keep !== undefined) say(oneLine(`nix-build-shell: the build directory is kept in ${keep}`));
    return;
  }
  const { compareTrees, formatPatch, isBuildProduct } = await import("../nix/kept-diff.ts");
  const all = compareTrees(kept, build);
  const sources = all.filter((change) => !isBuildProduct(change));
  if (diff) writeAll(2, encodeBytes(await formatPatch(kept, build, products ? all : sources)));
  if (patch !== undefined) {
    const file = call("openat", AT_FDCWD, patch, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644);
    writeAll(file, encodeBytes(await formatPatch(kept, build, sources, sourceRoot)));
    closeDescriptor(file);
  }
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
