/**
 * Trying things out: a few system calls in a process of their own, as a Program of the launcher's kind, so that what is
 * tried (a namespace, a mount) is gone when it ends.
 */

import { tmpdir } from "node:os";
import { join } from "node:path";
import { SystemError } from "../errors.ts";
import { Assembler } from "../launch/assembler.ts";
import { encode, FAILURE, operationName, type Program, RECORD, RECORD_WORDS, recordAt } from "../launch/program.ts";
import { ARCH, call, rawCall, systemError } from "../libc/call.ts";
import { keepChildren } from "../libc/children.ts";
import * as c from "../libc/constants.ts";
import { errnoNumber, errnoText } from "../libc/errno.ts";
import { closeDescriptor, executableMemory, isErrno, writeAll } from "../libc/files.ts";

/** What went wrong: the step in words, the call, the name of its errno (or the signal that ended the process). */
export interface Refusal {
  readonly step: string;
  readonly call: string;
  readonly errno: string;
  readonly meaning: string;
}

/** A step of an attempt: its name for messages, and the records that do it. */
export type Trial = readonly [step: string, write: (asm: Assembler) => void];

/** How a process has ended, and what it wrote to its standard output. */
export interface Ended {
  readonly code: number | null;
  readonly signal: string | number | null;
  readonly output: Uint8Array;
}

/** Runs executables that exist in memory only, or as a file where that is not allowed. */
export interface Executor {
  /** Descriptors of `inherit` become 3, 4, … of the process. @throws when it cannot be started at all */
  readonly execute: (image: Uint8Array, argv0: string, inherit?: readonly number[]) => Promise<Ended>;
}

/** Nothing tried here takes longer than milliseconds; a process that hangs is ended, and the attempt has failed. */
const PATIENCE_MS = 10_000;

async function spawn(path: string, argv0: string, inherit: readonly number[]): Promise<Ended> {
  keepChildren();
  const child = Bun.spawn([path], {
    argv0,
    stdio: ["ignore", "pipe", "ignore", ...inherit],
    env: {},
    cwd: "/",
    timeout: PATIENCE_MS,
    killSignal: "SIGKILL",
  });
  const output = await new Response(child.stdout as ReadableStream<Uint8Array>).bytes();
  await child.exited;
  return { code: child.exitCode, signal: child.signalCode, output };
}

/** From memory files, which is how `hutch run` starts the launcher. */
export const memoryExecutor: Executor = {
  execute: async (image, argv0, inherit = []) => {
    const descriptor = executableMemory("hutch-doctor", c.MFD_CLOEXEC);
    try {
      writeAll(descriptor, image);
      return await spawn(`/proc/${process.pid}/fd/${descriptor}`, argv0, inherit);
    } finally {
      closeDescriptor(descriptor);
    }
  },
};

/** From a file in the temporary directory that has no name there (open(2), O_TMPFILE), or none as soon as it is open. */
export const fileExecutor: Executor = {
  execute: async (image, argv0, inherit = []) => {
    const descriptor = openUnnamed(tmpdir());
    const self = (number: number) => `/proc/${process.pid}/fd/${number}`;
    let program = -1;
    try {
      writeAll(descriptor, image);
      program = call("openat", c.AT_FDCWD, self(descriptor), c.O_RDONLY | c.O_CLOEXEC);
    } finally {
      closeDescriptor(descriptor); // no file that is open for writing is executed
    }
    try {
      return await spawn(self(program), argv0, inherit);
    } finally {
      closeDescriptor(program);
    }
  },
};

const MODE = 0o700;

function openUnnamed(directory: string): number {
  const flags = c.O_RDWR | c.O_CLOEXEC;
  const unnamed = rawCall("openat", c.AT_FDCWD, directory, flags | c.O_TMPFILE | c.openFlags[ARCH].O_DIRECTORY, MODE);
  if (!isErrno(unnamed, "EOPNOTSUPP")) return unnamed < 0 ? fail(directory, unnamed) : unnamed;
  const path = join(directory, `hutch-doctor-${process.pid}`);
  const named = rawCall("openat", c.AT_FDCWD, path, flags | c.O_CREAT | c.O_EXCL, MODE);
  if (named < 0) fail(directory, named);
  rawCall("unlinkat", c.AT_FDCWD, path, 0);
  return named;
}

function fail(directory: string, result: number): never {
  throw systemError(`make a file in ${directory}`, -result, {
    hint: "set TMPDIR to a directory that you may write to",
  });
}

/** A program of these steps, and the first record of each. Exit code 0, or a report on stdout and 1. */
export function assembleTrials(trials: readonly Trial[]): { program: Program; marks: readonly number[] } {
  const asm = new Assembler(ARCH);
  const failed = asm.label();
  asm.failure = failed;
  const marks = trials.map(([, write]) => {
    const first = asm.count;
    write(asm);
    return first;
  });
  asm.call("exit_group", [0], { onError: "ignore" });
  asm.place(failed);
  asm.call("write", [1, FAILURE, 16], { onError: "ignore" });
  asm.call("exit_group", [1], { onError: "ignore" });
  return { program: asm.finish(), marks };
}

/** Try steps in order in a new process: undefined when all of them work, else the first that does not. */
export async function attempt(executor: Executor, trials: readonly Trial[]): Promise<Refusal | undefined> {
  const { program, marks } = assembleTrials(trials);
  let ended: Ended;
  try {
    ended = await executor.execute(encode(program), "hutch-doctor");
  } catch (error) {
    return startFailure(error);
  }
  const { code, signal, output } = ended;
  if (output.length >= 16) {
    const view = new DataView(output.buffer, output.byteOffset, output.byteLength);
    const record = recordAt(view.getUint32(0, true));
    const { name, meaning } = errnoText(-view.getInt32(8, true));
    const operation = program.words[record * RECORD_WORDS + RECORD.operation] ?? -1;
    const step = trials[marks.findLastIndex((first) => first <= record)]?.[0] ?? "";
    return { step, call: operationName(operation, ARCH), errno: name, meaning };
  }
  if (code === 0) return undefined;
  const what = signal === null ? `exit code ${code}` : String(signal);
  return { step: "try", call: "process", errno: what, meaning: "ended by a signal, as by a filter of system calls" };
}

/** posix_spawn(3) and memfd_create(2) tell an errno by name; anything else is told as it is. */
function startFailure(error: unknown): Refusal {
  if (error instanceof SystemError) {
    const { name, meaning } = errnoText(error.errno);
    return { step: "make a memory file", call: error.call, errno: name, meaning };
  }
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const number = errnoNumber(code);
  if (number === undefined) return { step: "start a process", call: "spawn", errno: code, meaning: String(error) };
  return { step: "start a process", call: "execve", errno: code, meaning: errnoText(number).meaning };
}

/** `clone mount: open_tree: EPERM operation not permitted`. */
export function formatRefusal({ step, call: name, errno, meaning }: Refusal): string {
  return `${step}: ${name}: ${errno} ${meaning}`;
}
