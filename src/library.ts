/**
 * The library: sandboxes from TypeScript. The same Spec, plan and launcher as the command line's, and nothing is
 * printed. Sandboxes share nothing; as many as wanted run at once.
 */

import { workingDirectory } from "./libc/files.ts";
import { buildSpec, tidyPath } from "./build-spec.ts";
import * as defaults from "./defaults.ts";
import { UsageError } from "./errors.ts";
import { formatPlan } from "./explain.ts";
import { gatherFacts } from "./host.ts";
import {
  checkInput,
  checkMembers,
  checkObject,
  checkOptions,
  checkOutput,
  type SandboxOptions,
} from "./library-options.ts";
import type { Outcome } from "./launch/outcome.ts";
import { type Input, type Output, type Running, spawn, type Stdio } from "./launch/spawn.ts";
import { ARCH } from "./libc/call.ts";
import { plan as makePlan } from "./plan.ts";
import { CAPABILITIES, chooseCapabilities } from "./process/capabilities.ts";
import { profileFilter } from "./process/filter.ts";
import { masksProc } from "./process/security.ts";
import type { HostPath, Mount, Root, SandboxPath, Spec } from "./spec.ts";
import type { Plan } from "./step.ts";
import { validate } from "./validate.ts";

interface Control {
  /** Kills the sandbox; the outcome rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

export interface StartOptions extends Control {
  /** Default: `"null"`. */
  readonly stdin?: Input;
  /** Default: `"pipe"`. */
  readonly stdout?: Output;
  readonly stderr?: Output;
}

export interface RunOptions extends Control {
  /** Default: `"null"`. */
  readonly stdin?: Exclude<Input, "pipe">;
  /** Default: `"bytes"`, to be found in the result. */
  readonly stdout?: "bytes" | "inherit" | "null";
  readonly stderr?: "bytes" | "inherit" | "null";
}

/** The members of both. */
const CONTROLS = ["stdin", "stdout", "stderr", "signal"];

/** An Outcome, with what the program has written where that was wanted as bytes; else empty. */
export interface Finished extends Outcome {
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
}

/** A sandbox that is running. `await using` kills it at the end of the block. */
export interface Sandbox extends Running, AsyncDisposable {}

/**
 * Run a sandbox to its end. A program that fails is no error: see `exitCode` and `signal`.
 * @throws UsageError for what is asked for wrongly, HutchError (`step`, `errno`, `code`, `hint`) when the program cannot
 *   be started, the reason of `signal` when that aborts
 */
export async function run(wanted: SandboxOptions | Spec, options: RunOptions = {}): Promise<Finished> {
  checkMembers(options, CONTROLS);
  const { signal, stdin = "null", stdout = "bytes", stderr = "bytes" } = options;
  checkInput(stdin, ["inherit", "null"]);
  const output = (kind: "bytes" | "inherit" | "null"): Output => (kind === "bytes" ? "pipe" : kind);
  const started = await start(wanted, {
    stdin,
    stdout: output(stdout),
    stderr: output(stderr),
    ...(signal === undefined ? {} : { signal }),
  });
  const [out, err, outcome] = await Promise.all([bytes(started.stdout), bytes(started.stderr), started.outcome]);
  return { ...outcome, stdout: out, stderr: err };
}

async function bytes(stream: ReadableStream<Uint8Array> | undefined): Promise<Uint8Array> {
  return stream === undefined ? new Uint8Array() : new Response(stream).bytes();
}

/** Start a sandbox; its streams, and its end as a promise. @throws UsageError, SystemError; the reason of `signal` */
export async function start(wanted: SandboxOptions | Spec, options: StartOptions = {}): Promise<Sandbox> {
  checkMembers(options, CONTROLS);
  const { signal, stdin = "null", stdout = "pipe", stderr = "pipe" } = options;
  checkInput(stdin, ["inherit", "null", "pipe"]);
  checkOutput("stdout", stdout);
  checkOutput("stderr", stderr);
  const made = await plan(wanted);
  signal?.throwIfAborted();
  const running = spawn(made, { stdin: inputOf(stdin), stdout, stderr });
  const abort = () => running.kill("SIGKILL"); // of the launcher: the sandbox goes with it
  signal?.addEventListener("abort", abort, { once: true });
  const outcome = running.outcome.then(
    (result) => {
      signal?.removeEventListener("abort", abort);
      return result;
    },
    (error: unknown) => {
      signal?.removeEventListener("abort", abort);
      if (signal?.aborted === true) throw signal.reason;
      throw error;
    },
  );
  outcome.catch(() => undefined); // whoever wants it awaits it; whoever only reads a stream is not killed by it
  const dispose = async () => {
    running.kill("SIGKILL");
    await outcome.catch(() => undefined);
  };
  return { ...running, outcome, [Symbol.asyncDispose]: dispose };
}

function inputOf(input: Input): Stdio["stdin"] {
  if (input === "inherit" || input === "null" || input === "pipe") return { kind: input };
  return { data: typeof input === "string" ? new TextEncoder().encode(input) : input };
}

/** The ordered steps that {@link run} would do on this machine. @throws UsageError for what is asked for wrongly */
export async function plan(wanted: SandboxOptions | Spec): Promise<Plan> {
  checkObject(wanted);
  const spec = "process" in wanted ? wanted : await specOf(wanted);
  const host = gatherFacts(spec);
  validate(spec, host);
  return makePlan(spec, host);
}

/** A plan as text: each step, and why it is there. */
export function explain(made: Plan): string {
  return formatPlan(made);
}

/** The Spec of these options. Reads what programs to add need from this machine. @throws UsageError */
export async function specOf(options: SandboxOptions): Promise<Spec> {
  const { security = "default", init = true, hostname = defaults.DEFAULT_HOSTNAME, network = "none" } = options;
  checkOptions(options);
  const root = rootOf(options);
  const [command] = options.command;
  if (command === undefined || command === "") throw new UsageError("command is empty");
  const uid = options.user?.uid ?? 0;
  const env = Object.entries({
    PATH: defaults.DEFAULT_PATH,
    HOME: uid === 0 ? "/root" : "/",
    HOSTNAME: hostname,
    ...options.env,
  }).map(([key, value]) => {
    if (key === "" || key.includes("=")) throw new UsageError(`${JSON.stringify(key)} is not a variable's name`);
    return `${key}=${value}`;
  });
  const strict = security === "strict";
  if (strict && (options.capAdd ?? []).length > 0) throw new UsageError("strict keeps no capability");
  const capabilities = strict
    ? []
    : chooseCapabilities(
        security === "none" ? CAPABILITIES : defaults.DEFAULT_CAPABILITIES,
        options.capAdd ?? [],
        options.capDrop ?? [],
      );
  const masked = masksProc(security);
  return buildSpec({
    root,
    image: false,
    command: options.command,
    env,
    user: { uid, gid: options.user?.gid ?? 0, additionalGids: options.user?.additionalGids ?? [] },
    workdir: options.cwd ?? "/",
    hostname,
    domainname: defaults.DEFAULT_DOMAINNAME,
    network,
    mounts: [...(await added(options, root, env)), ...givenMounts(options)],
    idMap: "default",
    timeOffsets: undefined,
    rights: {
      security,
      capabilities,
      seccomp:
        security === "none" ? undefined : await profileFilter(security, { pid1: !init, arch: ARCH, capabilities }),
      seccompFlags: [],
      maskedPaths: masked ? defaults.MASKED_PATHS : [],
      readonlyPaths: masked ? defaults.READONLY_PATHS : [],
    },
    rlimits: options.rlimits ?? [],
    preserveFds: 0,
    terminal: false,
    init,
    words: {},
  });
}

function rootOf({ root, access = "overlay" }: SandboxOptions): Root {
  if (root === "scratch") return { kind: "scratch", readonly: access === "read-only", from: root };
  if (!root.startsWith("/") && !/^\.\.?(\/|$)/.test(root)) {
    throw new UsageError(`root ${JSON.stringify(root)} is not a directory's path`, { hint: `write ./${root}` });
  }
  const path = hostPath(root);
  return access === "overlay"
    ? { kind: "overlay", lower: [path], from: root }
    : { kind: "bind", path, readonly: access !== "writable", from: root };
}

const hostPath = (path: string): HostPath =>
  (path.startsWith("/") ? path : tidyPath(`${workingDirectory()}/${path}`)) as HostPath;

async function added({ add = [], addPaths = [] }: SandboxOptions, root: Root, env: readonly string[]) {
  if (add.length + addPaths.length === 0) return [];
  const { closureMounts, programsClosure } = await import("./rootfs/host-programs.ts");
  const { emptyRoot } = await import("./rootfs/closure-layout.ts");
  const { directoryView } = await import("./rootfs/directory-view.ts");
  const wanted = (values: readonly string[], what: string) =>
    values.map((value) => ({ value, words: `${what} ${value}` }));
  const nsswitch = defaults.scratchFiles("").find(([name]) => name === "/etc/nsswitch.conf")?.[1] ?? "";
  const search = { path: defaults.DEFAULT_PATH, cwd: workingDirectory() };
  const closure = programsClosure({
    programs: wanted(add, "add"),
    paths: wanted(addPaths, "addPaths"),
    search,
    env,
    nsswitch,
  });
  const directory = root.kind === "scratch" ? undefined : root.kind === "overlay" ? root.lower.at(-1) : root.path;
  return closureMounts(closure, directory === undefined ? emptyRoot : directoryView(directory));
}

function givenMounts({ tmpfs = [], volumes = [], mounts = [] }: SandboxOptions): readonly Mount[] {
  const inside = (path: string) => (path.startsWith("/") ? tidyPath(path) || "/" : path) as SandboxPath;
  return [
    ...tmpfs.map(({ target, size, mode = 0o1777 }): Mount => ({
      type: "tmpfs",
      destination: inside(target),
      attributes: ["nosuid", "nodev"],
      options: { mode: mode.toString(8), ...(size === undefined ? {} : { size: String(size) }) },
      from: `tmpfs ${target}`,
    })),
    ...volumes.map(({ source, target, writable = false }): Mount => ({
      type: "bind",
      source: hostPath(source),
      destination: inside(target),
      attributes: writable ? [] : ["ro"],
      idmap: !writable,
      from: `volume ${source}:${target}`,
    })),
    ...mounts,
  ];
}
