/** `hutch explain-failure FD`: what the launcher turns into when a step has failed. Not for people. */

import { UsageError } from "../errors.ts";
import { decodeFailure } from "../launch/failure.ts";
import { call } from "../libc/call.ts";
import { readAll } from "../libc/files.ts";
import type { Command } from "./command.ts";

export const explain: Command = {
  main: ([word]) => {
    const descriptor = Number(word);
    if (word === undefined || !Number.isInteger(descriptor) || descriptor < 0)
      throw new UsageError("explain-failure needs a descriptor");
    call("lseek", descriptor, 0, 0);
    throw decodeFailure(readAll(descriptor));
  },
};
