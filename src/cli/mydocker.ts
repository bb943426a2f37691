/** `mydocker run IMAGE COMMAND [ARG…]`: as few words as possible, the program PID 1, nothing of hutch's own printed. */

import { workingDirectory } from "../libc/files.ts";
import { DEFAULT_PATH } from "../defaults.ts";
import { EXIT, HutchError, UsageError } from "../errors.ts";
import { RegistryError } from "../image/registry-error.ts";
import { ownEnvironment } from "../launch/become.ts";
import { realHostFiles } from "../rootfs/host-files.ts";
import { findProgram, ProgramError } from "../rootfs/program.ts";
import type { Command } from "./command.ts";
import { start } from "./run.ts";
import { print } from "./report.ts";
import { isImageName } from "./root-word.ts";
import { parseRun } from "./run-request.ts";
import { type PreparedRun, runSpec } from "./run-spec.ts";
import { openRoot, type ShownRoot } from "./shown-root.ts";

const USAGE = "mydocker run [--require-image] IMAGE COMMAND [ARG…]";

/**
 * The image is the root. When its registry gives no answer at all and the image is not in the store, the root is empty
 * but for COMMAND, which is taken from the host with what it needs: less to work with, never less isolation.
 */
export const mydocker: Command = {
  main: async (argv, self) => {
    const [verb, ...words] = argv;
    if (verb === "--help" || (verb === "run" && words[0] === "--help")) {
      print(`USAGE ${USAGE}\n\nRuns COMMAND in an image, as PID 1. For options use hutch run.\n`);
      return 0;
    }
    if (verb !== "run")
      throw new UsageError(verb === undefined ? "a command is missing" : `unknown command ${verb}`, { hint: USAGE });
    const required = words[0] === "--require-image";
    const [image, command, ...args] = required ? words.slice(1) : words;
    if (image === undefined || image === "") throw new UsageError("IMAGE is missing", { hint: USAGE });
    if (image.startsWith("-"))
      throw new UsageError(`unknown option ${image}`, { hint: `${USAGE}; for options use hutch run` });
    if (command === undefined || command === "") throw new UsageError("COMMAND is missing", { hint: USAGE });
    const prepared = await prepare(image, [command, ...args], required);
    return start(prepared.spec, self, { held: prepared.held });
  },
};

/** Milliseconds for which a registry that gave no answer is not asked again. */
const REMEMBERED = 60_000;
/** Milliseconds after which a registry that is silent is one without an answer. */
const FIRST_ANSWER = 3000;

async function prepare(image: string, command: readonly string[], required: boolean): Promise<PreparedRun> {
  if (!isImageName(image)) throw new UsageError(`${image} is not the name of an image`, { hint: "see hutch run" });
  const program = command[0] ?? "";
  const shown = await openImage(image, required);
  if (shown === undefined) return await fromHost(command);
  const add = program.startsWith("/") && shown.has?.(program) === false && isHostProgram(program);
  const words = ["--no-init", ...(add ? ["--add", program] : []), image, "--", ...command];
  return await runSpec(parseRun(words), shown);
}

/** The image, or undefined when there was no answer from its registry and it may be done without. */
async function openImage(image: string, required: boolean): Promise<ShownRoot | undefined> {
  try {
    return await openRoot(parseRun([image]).parsed, image, workingDirectory(), {
      firstAnswer: FIRST_ANSWER,
      rememberFor: required ? 0 : REMEMBERED,
    });
  } catch (error) {
    if (!required && error instanceof RegistryError && error.connection === "unreachable") return undefined;
    throw error;
  }
}

/** An empty root with COMMAND alone: by its path, as PATH inside may lack the directory, under the name it was called by. */
async function fromHost(command: readonly string[]): Promise<PreparedRun> {
  const path = onHost(command[0] ?? "");
  const words = ["--no-init", "--add", path, "scratch", "--", path, ...command.slice(1)];
  const prepared = await runSpec(parseRun(words));
  const { spec } = prepared;
  return { ...prepared, spec: { ...spec, process: { ...spec.process, argv0: command[0] ?? "" } } };
}

function isHostProgram(path: string): boolean {
  try {
    onHost(path);
    return true;
  } catch (error) {
    if (error instanceof HutchError) return false;
    throw error;
  }
}

/** Path of COMMAND on the host. @throws HutchError with the exit code that a shell would give, 127 or 126 */
function onHost(command: string): string {
  const variable = ownEnvironment().find((entry) => entry.startsWith("PATH="));
  try {
    return findProgram(realHostFiles(), command, { path: variable?.slice(5) ?? DEFAULT_PATH, cwd: workingDirectory() });
  } catch (error) {
    if (!(error instanceof ProgramError)) throw error;
    const exitCode = error.reason === "absent" ? EXIT.notFound : EXIT.notExecutable;
    throw new HutchError(error.message, { ...(error.hint === undefined ? {} : { hint: error.hint }), exitCode });
  }
}
