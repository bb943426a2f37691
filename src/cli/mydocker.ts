/** `mydocker run IMAGE COMMAND [ARG…]`: as few words as possible, the program PID 1, nothing of hutch's own printed. */

import { UsageError } from "../errors.ts";
import { launch } from "../launch/launch.ts";
import type { Command } from "./command.ts";
import { planFor } from "./run.ts";
import { parseRun, runSpec } from "./run-spec.ts";

const USAGE = "mydocker run IMAGE COMMAND [ARG…]";

/**
 * Until hutch has images, the root is empty but for COMMAND, which is taken from the host with what it needs: hutch has
 * less to offer then, never less isolation.
 */
export const mydocker: Command = {
  main: async (argv, self) => {
    const [verb, image, command, ...args] = argv;
    if (verb !== "run")
      throw new UsageError(verb === undefined ? "a command is missing" : `unknown command ${verb}`, { hint: USAGE });
    if (image === undefined || image === "") throw new UsageError("IMAGE is missing", { hint: USAGE });
    if (image.startsWith("-"))
      throw new UsageError(`unknown option ${image}`, { hint: `${USAGE}; for options use hutch run` });
    if (command === undefined || command === "") throw new UsageError("COMMAND is missing", { hint: USAGE });
    const words = ["--no-init", "--add", command, "scratch", "--", command, ...args];
    return launch(planFor(await runSpec(parseRun(words))), self);
  },
};
