/** `mydocker run IMAGE COMMAND [ARG…]`: as few words as possible, the program PID 1, nothing of hutch's own printed. */

import { DEFAULT_PATH } from "../defaults.ts";
import { EXIT, HutchError, UsageError } from "../errors.ts";
import { launch, ownEnvironment } from "../launch/launch.ts";
import { realHostFiles } from "../rootfs/host-files.ts";
import { findProgram, ProgramError } from "../rootfs/program.ts";
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
    const path = onHost(command);
    const spec = await runSpec(parseRun(["--no-init", "--add", path, "scratch", "--", path, ...args]));
    // By its path, as the sandbox's PATH may lack the directory, and under the name that it was called by.
    return launch(planFor({ ...spec, process: { ...spec.process, argv0: command } }), self);
  },
};

/** Path of COMMAND on the host. @throws HutchError with the exit code that a shell would give, 127 or 126 */
function onHost(command: string): string {
  const variable = ownEnvironment().find((entry) => entry.startsWith("PATH="));
  try {
    return findProgram(realHostFiles(), command, { path: variable?.slice(5) ?? DEFAULT_PATH, cwd: process.cwd() });
  } catch (error) {
    if (!(error instanceof ProgramError)) throw error;
    const exitCode = error.reason === "absent" ? EXIT.notFound : EXIT.notExecutable;
    throw new HutchError(error.message, { ...(error.hint === undefined ? {} : { hint: error.hint }), exitCode });
  }
}
