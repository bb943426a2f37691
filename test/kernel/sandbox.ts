/**
 * Real sandboxes by the built executable, to be looked at from inside (a program prints what it sees) and from outside
 * (below /proc, while the program waits for its stdin to end). As root they are started as root and as uid 65534.
 */

import { afterAll } from "bun:test";
import { chmodSync, copyFileSync, existsSync, linkSync, mkdirSync, mkdtempSync, readFileSync } from "node:fs";
import { readlinkSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FALLBACK_RANGE } from "../../src/defaults.ts";
import { parseSubordinate } from "../../src/host.ts";
import { ROOT } from "../../scripts/run.ts";

const isRoot = process.getuid?.() === 0;
const NOBODY = 65534;

/** Who starts the sandboxes; every kernel test is done for each. */
export type Caller = "root" | "nobody" | "user";
export const CALLERS: readonly Caller[] = isRoot ? ["root", "nobody"] : ["user"];

/** A folder that everybody may enter, removed behind the tests that it is made for. Nothing is ever mounted below it. */
export function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "hutch-kernel-"));
  chmodSync(folder, 0o755);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** The path of a program of this machine. @throws naming the package when it is not there */
export function need(program: string, debian: string): string {
  const path = Bun.which(program);
  if (path === null) throw new Error(`${program} is missing: apt-get install ${debian}`);
  return path;
}

function place(source: string, target: string): void {
  try {
    linkSync(source, target); // 110 MB that need no copy on the same file system
  } catch {
    copyFileSync(source, target);
  }
}

let placed: string | undefined; // by the first who asked, and removed behind its tests

/** The executable, where uid 65534 can reach it. */
function executable(): string {
  if (placed !== undefined && existsSync(placed)) return placed;
  const built = join(ROOT, "dist/hutch");
  if (!existsSync(built)) throw new Error("dist/hutch is missing: npm run build");
  const path = join(makeFolder(), "hutch");
  place(built, path);
  placed = path;
  return path;
}

/** A root directory with busybox and its usual names, owned by whoever runs the tests. */
export function makeRoot(): string {
  const root = makeFolder();
  for (const name of ["bin", "etc", "tmp", "proc", "dev", "data"]) mkdirSync(join(root, name));
  for (const name of ["one", "motd"]) writeFileSync(join(root, "etc", name), "");
  // A copy: a link would be the machine's own file, whose owner a test may change.
  copyFileSync(need("busybox", "busybox-static"), join(root, "bin/busybox"));
  for (const name of [
    "sh",
    "ls",
    "cat",
    "touch",
    "mkdir",
    "mount",
    "umount",
    "id",
    "sleep",
    "hostname",
    "readlink",
    "rm",
  ])
    symlinkSync("busybox", join(root, "bin", name));
  return root;
}

/** argv that starts hutch as a caller. */
export function asCaller(caller: Caller, argv: readonly string[]): string[] {
  const own = [executable(), ...argv];
  if (caller !== "nobody") return own;
  const setpriv = need("setpriv", "util-linux");
  return [setpriv, `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups", "--", ...own];
}

export interface Result {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number | null;
}

/** Run a sandbox to its end; `argv` begins behind `hutch run`. */
export function run(caller: Caller, ...argv: string[]): Result {
  return spawnToEnd(asCaller(caller, ["run", ...argv]));
}

/** Any program to its end, without stdin. */
export function spawnToEnd(argv: readonly string[]): Result {
  const { stdout, stderr, exitCode } = Bun.spawnSync([...argv], { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  return { stdout: stdout.toString(), stderr: stderr.toString(), exitCode };
}

/** What a run printed. @throws when it failed, with its stderr */
export function output(result: Result): string {
  if (result.exitCode !== 0) throw new Error(`exit code ${result.exitCode}: ${result.stderr}${result.stdout}`);
  return result.stdout;
}

/** What a Python program in a sandbox with the host's file systems, read-only, prints as JSON. */
export function python(caller: Caller, options: readonly string[], code: string, root = "/"): unknown {
  need("python3", "python3");
  const program = `import json, os, sys, errno\n${code}`;
  const result = run(caller, ...options, "--read-only", root, "python3", "-c", program);
  try {
    return JSON.parse(output(result));
  } catch (cause) {
    throw new Error(`not JSON: ${result.stdout}${result.stderr}`, { cause });
  }
}

/** A sandbox whose program waits. All pids are those outside. */
export interface Running extends AsyncDisposable {
  readonly launcher: number;
  /** PID 1 inside: hutch's reaper, or the program itself with --no-init. */
  readonly init: number;
  readonly program: number;
  /** What the program printed before it began to wait. */
  readonly printed: string;
  /** Let the program end, and wait for it: its exit code, and what it printed since. */
  readonly end: () => Promise<{ exitCode: number; rest: string }>;
}

/** Start a sandbox whose program runs a shell script, prints a line `ready`, and waits for the end of its stdin. */
export async function start(caller: Caller, options: readonly string[], root: string, script = ":"): Promise<Running> {
  return waitReady(asCaller(caller, ["run", ...options, root, "sh", "-c", `${script}; echo ready; read end; exit 0`]));
}

/** Start a command that becomes hutch, and wait until its program is ready. */
export async function waitReady(argv: readonly string[]): Promise<Running> {
  const child = Bun.spawn([...argv], { stdin: "pipe", stdout: "pipe", stderr: "pipe" });
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (!/^ready$/m.test(text)) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`ended with ${await child.exited}: ${text}${await new Response(child.stderr).text()}`);
    text += value;
  }
  // A child that is no sandbox may have made it, and not be waited for yet.
  const init = childrenOf(child.pid).find((pid) => status(pid, "NSpid").includes(" ")) ?? -1;
  // With --no-init PID 1 is the program, which may have children of its own.
  const program = status(init, "Name") === "hutch-init" ? (childrenOf(init)[0] ?? -1) : init;
  const end = async () => {
    await child.stdin.end();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      rest += value;
    }
    return { exitCode: await child.exited, rest };
  };
  return {
    launcher: child.pid,
    init,
    program,
    printed: text.replace(/^ready\n/m, ""),
    end,
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGKILL");
      await child.exited;
    },
  };
}

/** Children of a process, by all of its threads (proc_pid_task_children(5)). */
export function childrenOf(pid: number): readonly number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number);
}

/** Wait until something holds. @throws when it still does not after 20 seconds */
export async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`waited in vain: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** A file of a process's directory below /proc. */
export function procFile(pid: number | "self", name: string): string {
  return readFileSync(`/proc/${pid}/${name}`, "utf8");
}

/** A field of /proc/PID/status, words separated by one space. */
export function status(pid: number | "self", field: string): string {
  const line = procFile(pid, "status")
    .split("\n")
    .find((text) => text.startsWith(`${field}:`));
  return (line ?? "")
    .slice(field.length + 1)
    .trim()
    .replace(/\s+/g, " ");
}

/** The identity of a namespace of a process: `user:[4026531837]`. */
export function namespaceOf(pid: number | "self", name: string): string {
  return readlinkSync(`/proc/${pid}/ns/${name}`);
}

/** Map lines with one space between numbers. */
export function mapOf(pid: number, file: "uid_map" | "gid_map"): readonly string[] {
  return procFile(pid, file)
    .trim()
    .split("\n")
    .map((line) => line.trim().replace(/ +/g, " "));
}

/** The ids outside that are 0 inside, and how many follow. */
export function outsideIds(caller: Caller): { uid: number; gid: number; size: number } {
  if (caller === "nobody") return { uid: NOBODY, gid: NOBODY, size: 1 };
  if (caller === "user") return { uid: process.getuid?.() ?? -1, gid: process.getgid?.() ?? -1, size: 1 };
  const names = ["root", "0", "containers"];
  const [uid, gid] = ["/etc/subuid", "/etc/subgid"].map((path) =>
    existsSync(path) ? parseSubordinate(readFileSync(path, "utf8"), names) : undefined,
  );
  const found = uid !== undefined && gid !== undefined && uid.size >= 65536;
  return { uid: (found ? uid : FALLBACK_RANGE).start, gid: (found ? gid : FALLBACK_RANGE).start, size: 65536 };
}

/** One line of mountinfo (proc_pid_mountinfo(5)). */
export interface MountLine {
  readonly root: string;
  readonly point: string;
  readonly options: readonly string[];
  readonly propagation: readonly string[];
  readonly type: string;
  readonly superOptions: readonly string[];
}

export function parseMountinfo(text: string): readonly MountLine[] {
  return text
    .trim()
    .split("\n")
    .map((line) => {
      const [before = "", after = ""] = line.split(" - ");
      const [, , , root = "", point = "", options = "", ...propagation] = before.split(" ");
      const [type = "", , superOptions = ""] = after.split(" ");
      return { root, point, options: options.split(","), propagation, type, superOptions: superOptions.split(",") };
    });
}
