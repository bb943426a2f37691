/**
 * Directories on disk for one sandbox that are gone when this process is, however it ends: their remover
 * (launch/remover.ts) is started before they are made.
 */

import { HutchError, SystemError } from "../errors.ts";
import type { Self } from "../launch/become.ts";
import { endRemover, startRemover } from "../launch/remover.ts";
import { removeTree } from "../sessions/remove-tree.ts";
import { makeSessionDirectory, removeOldSessions, sessionPath } from "../sessions/session-directory.ts";
import type { Command } from "./command.ts";

/** Host paths, and the pid of who removes what is there when this process was killed. */
export interface Guarded {
  readonly paths: readonly string[];
  readonly remover: number;
}

/**
 * New names below these directories, guarded from now on: whatever is made of that name is removed when this process has
 * ended. Whoever wants one kept renames it. @throws HutchError when nobody can be found to remove them
 */
export function guardPaths(parents: readonly string[], self: Self): Guarded {
  for (const parent of parents) removeOldSessions(parent); // of those whose remover was killed, too
  const paths = parents.map((parent) => sessionPath(parent));
  return { paths, remover: startRemover(paths, self, ["remove-sessions", ...paths]) };
}

/** A directory of a sandbox. */
export interface GuardedDirectory {
  readonly directory: string;
  readonly remover: number;
}

/** A new directory for the caller alone, guarded. @throws HutchError when it cannot be made */
export async function makeGuardedDirectory(parent: string, self: Self): Promise<GuardedDirectory> {
  const { paths, remover } = guardPaths([parent], self);
  const [directory = ""] = paths;
  try {
    makeSessionDirectory(directory);
  } catch (error) {
    await removeGuarded([remover], () => removeTree(directory));
    throw error;
  }
  return { directory, remover };
}

/**
 * Remove what is guarded and end its removers. When that fails it is done once more, as a remover would, and the error
 * is told; what cannot be removed at all is left to the removers. @throws what `remove` throws
 */
export async function removeGuarded(removers: readonly number[], remove: () => void | Promise<void>): Promise<void> {
  let failed: { readonly error: unknown } | undefined;
  try {
    await remove();
  } catch (error) {
    failed = { error };
    await remove();
  }
  for (const remover of removers) endRemover(remover);
  if (failed !== undefined) throw failed.error;
}

const PATIENCE_MS = 10_000;
const PAUSE_MS = 20;

/** Remove a directory of a sandbox that is about to end: its processes may still write for a moment. */
async function removeSession(path: string): Promise<void> {
  const start = performance.now();
  for (;;) {
    try {
      removeTree(path);
      return;
    } catch (error) {
      const busy = error instanceof SystemError && error.code === "ENOTEMPTY";
      if (!busy || performance.now() - start > PATIENCE_MS) throw error;
      await Bun.sleep(PAUSE_MS);
    }
  }
}

/** `hutch remove-sessions PATH…`: what the remover becomes when hutch was killed. Not for people, who would see nothing. */
export const removeSessions: Command = {
  main: async (paths) => {
    const results = await Promise.allSettled(paths.map(removeSession));
    const failed = results.find((result) => result.status === "rejected");
    if (failed !== undefined) throw new HutchError(String(failed.reason), { cause: failed.reason });
    return 0;
  },
};
