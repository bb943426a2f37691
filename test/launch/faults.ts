/**
 * A real plan's program as an ELF file, with one record changed: made to fail, or followed by death. The program is
 * started as a child and not by execve of the test, with the report's descriptor at a fixed number.
 */

import { chownSync, closeSync, lchownSync, openSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { ftruncateSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { HutchError } from "../../src/errors.ts";
import { describeStep } from "../../src/explain.ts";
import { encodeContext } from "../../src/launch/context.ts";
import { decodeDenials, DENIALS, type Denials } from "../../src/launch/denial-report.ts";
import { newTelling } from "../../src/launch/denials.ts";
import { decodeFailure } from "../../src/launch/failure.ts";
import * as p from "../../src/launch/program.ts";
import { assemble } from "../../src/launch/supervise.ts";
import { ARCH } from "../../src/libc/call.ts";
import { SYSCALLS } from "../../src/libc/syscalls.ts";
import type { Plan, Step } from "../../src/step.ts";
import { type Caller, need } from "../kernel/sandbox.ts";

const REPORT_FD = 3;
const DENIALS_FD = 4;
const NO_SUCH_CALL = 9999; // ENOSYS

/** What one record of a program is for. */
export interface RecordInfo {
  readonly index: number;
  readonly operation: string;
  /** Undefined for the launcher's own records. */
  readonly step: Step | undefined;
}

/** A program that can be changed and started. */
export interface Subject {
  readonly program: p.Program;
  readonly records: readonly RecordInfo[];
  readonly context: Uint8Array;
  readonly caller: Caller;
  /** Folder for the executable and the report. */
  readonly folder: string;
}

/** Assemble a plan for runs as `caller`. */
export function subject(plan: Plan, caller: Caller, folder: string): Subject {
  const telling = newTelling(DENIALS_FD);
  const account = plan.steps.some((step) => step.op === "seccomp" && step.telling === true);
  const assembled = assemble(plan, ARCH, { reportFd: REPORT_FD, argvBytes: 0, become: undefined, account, telling });
  const { program, marks } = assembled;
  const count = program.words.length / p.RECORD_WORDS;
  const records = Array.from({ length: count }, (_, index): RecordInfo => {
    const operation = p.operationName(program.words[index * p.RECORD_WORDS] ?? 0, ARCH);
    const step = marks.findLast(([first]) => first <= index)?.[1] ?? -1;
    return { index, operation, step: plan.steps[step] };
  });
  return { program, records, context: encodeContext({ steps: plan.steps, assembled }), caller, folder };
}

/**
 * The records that are worth a run of their own: every record of the launcher and one of all steps that are written
 * alike (the same kind of step by the same calls, as for each device node).
 */
export function distinct(records: readonly RecordInfo[]): readonly RecordInfo[] {
  const shapes = new Map<Step, string>();
  for (const { step, operation } of records) {
    if (step !== undefined) shapes.set(step, `${shapes.get(step) ?? `${step.by} ${step.op}:`} ${operation}`);
  }
  const first = new Map<string, Step>();
  for (const [step, shape] of shapes) if (!first.has(shape)) first.set(shape, step);
  return records.filter(({ step }) => step === undefined || first.get(shapes.get(step) ?? "") === step);
}

/** The program with a record that is a call which no kernel has. */
export function failing({ program }: Subject, index: number): p.Program {
  const words = program.words.slice();
  words[index * p.RECORD_WORDS + p.RECORD.operation] = NO_SUCH_CALL;
  return { ...program, words };
}

/** The program in which whoever has done a record dies at once: of SIGKILL, or of exit where SIGKILL does nothing (PID 1). */
export function dying({ program }: Subject, index: number): p.Program {
  const count = program.words.length / p.RECORD_WORDS;
  const words = new Int32Array(program.words.length + 3 * p.RECORD_WORDS);
  words.set(program.words);
  const pid = p.CELLS_ADDRESS + program.cellBytes;
  const add = (at: number, operation: number, mask: number, args: readonly number[], result: number = p.UNWANTED) => {
    const start = (count + at) * p.RECORD_WORDS;
    words[start + p.RECORD.operation] = operation;
    words[start + p.RECORD.mask] = mask;
    words.set(args, start + p.RECORD.arguments);
    words[start + p.RECORD.result] = result;
    for (const next of [p.RECORD.next, p.RECORD.onError, p.RECORD.onZero])
      words[start + next] = p.recordAddress(count + at + 1);
  };
  add(0, SYSCALLS.getpid[ARCH], 0, [], pid);
  add(1, SYSCALLS.kill[ARCH], 1, [pid, 9]);
  add(2, SYSCALLS.exit_group[ARCH], 0, [137]);
  const start = index * p.RECORD_WORDS;
  for (const next of [p.RECORD.next, p.RECORD.onError, p.RECORD.onZero]) words[start + next] = p.recordAddress(count);
  return { ...program, words, cellBytes: program.cellBytes + 8 };
}

/**
 * The program in which whoever comes to a record first says so by a byte to one descriptor and waits for one from another.
 * Where they are closed it goes on.
 */
export function pausing(program: p.Program, index: number, says: number, go: number): p.Program {
  const count = program.words.length / p.RECORD_WORDS;
  const words = new Int32Array(program.words.length + 2 * p.RECORD_WORDS);
  words.set(program.words);
  const byte = p.CELLS_ADDRESS + program.cellBytes;
  const pause = (at: number, operation: number, args: readonly number[], next: number) => {
    const start = at * p.RECORD_WORDS;
    words.fill(0, start, start + p.RECORD_WORDS);
    words[start + p.RECORD.operation] = operation;
    words.set(args, start + p.RECORD.arguments);
    words[start + p.RECORD.result] = p.UNWANTED;
    for (const way of [p.RECORD.next, p.RECORD.onError, p.RECORD.onZero]) words[start + way] = p.recordAddress(next);
  };
  words.copyWithin((count + 1) * p.RECORD_WORDS, index * p.RECORD_WORDS, (index + 1) * p.RECORD_WORDS);
  pause(index, SYSCALLS.write[ARCH], [says, byte, 1], count);
  pause(count, SYSCALLS.read[ARCH], [go, byte, 1], count + 1);
  return { ...program, words, cellBytes: program.cellBytes + 8 };
}

/** How a run went. `exitCode` is 128 + the signal that ended the launcher, if one did. */
export interface Ended {
  readonly exitCode: number;
  readonly stdout: string;
  readonly failure: HutchError | undefined;
  /** Whether it had to be ended because it, or somebody who held its stdout, went on for ever. */
  readonly endless: boolean;
  /** Processes that it had made and that lived on; they have been ended. */
  readonly left: number;
  /** What a plan that tells denials has noted. */
  readonly denials: Denials;
}

/**
 * Start a program and wait for it, and for every process that it has made.
 * @param patience milliseconds until a program without an end, or a process that is left, is ended
 */
export async function runProgram(to: Subject, program: p.Program, patience = 2000): Promise<Ended> {
  const path = join(to.folder, "launcher");
  const report = join(to.folder, "report");
  rmSync(path, { force: true });
  writeFileSync(path, p.encode(program), { mode: 0o755 });
  const fd = openSync(report, "w+");
  const denials = openSync(join(to.folder, "denials"), "w+");
  try {
    ftruncateSync(denials, DENIALS.bytes);
    writeSync(fd, to.context);
    const as =
      to.caller === "nobody"
        ? [need("setpriv", "util-linux"), "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
        : [];
    const result = Bun.spawnSync([...as, path], {
      stdio: ["ignore", "pipe", "pipe", fd, denials],
      timeout: patience,
      killSignal: "SIGKILL",
    });
    const left = await allGone(path, patience);
    const bytes = new Uint8Array(readFileSync(report));
    const reported = bytes.subarray(0, 16).some((byte) => byte !== 0);
    truncateSync(report, 0);
    const signal = result.signalCode === undefined ? 0 : 128 + 9;
    return {
      exitCode: result.exitCode ?? signal,
      stdout: result.stdout.toString() + result.stderr.toString(),
      failure: reported ? decodeFailure(bytes) : undefined,
      endless: result.exitedDueToTimeout === true,
      left,
      denials: decodeDenials(new Uint8Array(readFileSync(join(to.folder, "denials")))),
    };
  } finally {
    closeSync(fd);
    closeSync(denials);
  }
}

/** Processes that run an executable. */
function running(path: string): readonly string[] {
  return readdirSync("/proc").filter((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      return readlinkSync(`/proc/${name}/exe`) === path;
    } catch {
      return false; // gone, a kernel thread, or a zombie
    }
  });
}

/** Wait until nobody runs an executable any more. After `patience` milliseconds, end them; their number. */
async function allGone(path: string, patience: number): Promise<number> {
  const deadline = Date.now() + patience;
  for (;;) {
    const left = running(path);
    if (left.length === 0) return 0;
    if (Date.now() > deadline) {
      for (const pid of left) process.kill(Number(pid), "SIGKILL");
      return left.length;
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Make a tree belong to the user who will be shown it. */
export function giveTo(caller: Caller, tree: string): void {
  if (caller !== "nobody") return;
  chownSync(tree, 65534, 65534);
  for (const name of readdirSync(tree, { recursive: true })) lchownSync(join(tree, name.toString()), 65534, 65534);
}

/** A record in words, for lists in tests. */
export function nameOf({ step, operation }: RecordInfo): string {
  return `${step === undefined ? "launcher" : step.op}: ${operation}`;
}

/** Whether a failure names the step of a record. */
export function names(failure: HutchError, { step, operation }: RecordInfo): boolean {
  if (step === undefined) return failure.message.includes("(launcher)");
  if (step.op === "exec") return failure.message.startsWith(`${step.command}: `);
  if (step.op === "seccomp") return failure.message.startsWith("seccomp filter, "); // the report keeps no filter
  return failure.message.startsWith(describeStep(step)) && operation !== "";
}

/** How a program that runs is looked after, by calls that have no reason to fail. Not made to fail. */
export const LOOKING_AFTER = new Set(["getpid", "rt_sigtimedwait", "waitid", "exit_group", "dup3", "close_range"]);

/**
 * Calls whose failure is ignored, or made good by a later call, or that are not reached when all goes well; the sandbox
 * is then complete, to the letter. Beside these every close(2): execve and exit close too.
 */
export const FORGIVEN: ReadonlySet<string> = new Set([
  // PID 1 leads a session of its own already, or stays in the caller\'s group: only signals to the group come twice then.
  "launcher: setpgid",
  // The witness, and what it is asked when a signal comes, which here none does.
  ...["launcher: getppid", "launcher: capset", "launcher: futex", "clone: setpgid"],
  // Dying of a terminal's ^C.
  "clone: rt_sigprocmask",
  // Where the program that explains a failure starts.
  "launcher: chdir",
  // PR_SET_NAME and PR_SET_PDEATHSIG of those who live for a moment; what PID 1 gives up beyond what it has given up.
  ...["launcher: prctl", "hold-ids: prctl", "hold-ids: ppoll", "launcher: close_range", "launcher: kill"],
  // Whoever waits for the other one asks again; and what is there already need not be waited for.
  ...["clone: futex", "open-tree: futex"],
  // The report of a failure that does not happen, and signals that nobody sends.
  ...["launcher: write", "clone: pwrite64", "clone: kill", "clone: close_range", "clone: umask"],
  // For a program that is PID 1: looking up what it does with a signal that nobody sends.
  ...["clone: openat", "clone: read", "launcher: openat", "launcher: read"],
  ...["read-only: openat2", "mask: openat2"],
  // A layer that no other sandbox has is not waited for.
  "overlay: ppoll",
  // A target that is looked up, then made because it was not there: one of the two is enough.
  ...["attach", "directory", "file", "symlink"].flatMap((op) => [`${op}: openat2`, `${op}: mkdirat`]),
  ...["attach: openat", "file: unlinkat"],
  // How a masked path is covered: as a file, or as a directory.
  ...["mask: open_tree", "mask: move_mount"],
]);
