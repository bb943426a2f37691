/**
 * `hutch in-ranges`: the part of the work on a store that needs the user's ranges of ids, by a process that is root of
 * a user namespace with them (ranges.ts starts it). Not for people: a request comes on standard input, answers go to
 * standard output.
 */

import { encodeBytes } from "../bytes.ts";
import { HutchError } from "../errors.ts";
import { parseRequest, type RangedAnswer, serveRequest } from "../image/ranged.ts";
import type { PullEvent } from "../image/source.ts";
import { writeAll } from "../libc/files.ts";
import type { Command } from "./command.ts";

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
      await serveRequest(parseRequest(await Bun.stdin.text()), onEvent);
      return 0;
    } catch (error) {
      if (!(error instanceof HutchError)) throw error;
      answer({ error: { message: error.message, hint: error.hint } });
      return 1;
    }
  },
};
