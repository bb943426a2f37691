/**
 * `hutch in-ranges`: the part of the work on a store that needs the user's ranges of ids, by a process that is root of
 * a user namespace with them (ranges.ts starts it). Not for people: a request comes on standard input, in one line, and
 * then an empty line for each layer that is downloaded; answers go to standard output.
 */

import { encodeBytes } from "../bytes.ts";
import { HutchError } from "../errors.ts";
import { parseRequest, type RangedAnswer, serveRequest } from "../image/ranged.ts";
import type { PullEvent } from "../image/source.ts";
import { writeAll } from "../libc/files.ts";
import { removeTree } from "../sessions/remove-tree.ts";
import type { Command } from "./command.ts";
import { readLines } from "./lines.ts";

/** As often as progress is drawn. */
const INTERVAL_MS = 100;

export const inRanges: Command = {
  main: async () => {
    const answer = (line: RangedAnswer): void => writeAll(1, encodeBytes(`${JSON.stringify(line)}\n`));
    let last = 0;
    const onEvent = (event: PullEvent): void => {
      const now = performance.now();
      if (event.kind === "unpacking" && now - last < INTERVAL_MS) return;
      last = now;
      answer({ event });
    };
    try {
      const lines = readLines(Bun.stdin.stream());
      const request = parseRequest((await lines.next()).value ?? "");
      let downloaded = 0;
      const ready = async (index: number): Promise<void> => {
        for (; downloaded <= index; downloaded++)
          if ((await lines.next()).done === true) throw new HutchError("in-ranges: the layer was not downloaded");
      };
      await serveRequest(request, {
        onEvent,
        ready,
        onText: (path, content) => answer({ text: [path, content] }),
        onChanges: (changes) => answer({ changes }),
        remove: removeTree,
      });
      return 0;
    } catch (error) {
      if (!(error instanceof HutchError)) throw error;
      answer({ error: { message: error.message, hint: error.hint } });
      return 1;
    }
  },
};
