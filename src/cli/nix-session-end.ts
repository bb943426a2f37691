/** `hutch end-nix-session JSON FD`: what follows a session, whatever ended it. Not for people. */

import { UsageError } from "../errors.ts";
import { readOutcome } from "../launch/afterwards.ts";
import { removeTree } from "../nix/remove-tree.ts";
import type { Command } from "./command.ts";

/** What the session's own process leaves for its successor. */
export interface SessionEnd {
  /** The session's directory on the host, to be removed. */
  readonly directory: string;
}

export const endNixSession: Command = {
  main: ([json, descriptor]) => {
    if (json === undefined || descriptor === undefined) throw new UsageError("end-nix-session needs a session");
    const end = JSON.parse(json) as SessionEnd;
    try {
      return readOutcome(Number(descriptor));
    } finally {
      removeTree(end.directory);
    }
  },
};
