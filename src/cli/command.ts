/** What a command is to the rest of the command line. */

import type { Self } from "../launch/become.ts";

export interface Command {
  /** Run with the arguments behind the command's name; the exit code, unless the process has become something else. */
  readonly main: (argv: readonly string[], self: Self) => number | Promise<number>;
}
