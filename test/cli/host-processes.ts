/** The machine's processes and mounts as the tests see them from outside, and waiting for conditions. */

import { readdirSync, readFileSync } from "node:fs";
import { rawCall } from "../../src/libc/call.ts";

const PR_SET_CHILD_SUBREAPER = 36;
const POLL_MS = 5;

/** Adopt processes whose parent has died (prctl(2)), so that whatever a sandbox leaves behind becomes our child. */
export function adoptOrphans(on: boolean): void {
  rawCall("prctl", PR_SET_CHILD_SUBREAPER, on ? 1 : 0, 0, 0, 0);
}

/** Poll until a condition holds; its value. Fails, saying what was awaited, after some seconds. */
export async function until<T>(
  what: string | (() => string),
  condition: () => T | undefined | false | null | Promise<T | undefined | false | null>,
  seconds = 10,
): Promise<T> {
  const end = performance.now() + seconds * 1000;
  for (;;) {
    const value = await condition();
    if (value !== undefined && value !== false && value !== null) return value;
    if (performance.now() > end)
      throw new Error(`waited ${seconds} s in vain for ${typeof what === "string" ? what : what()}`);
    await Bun.sleep(POLL_MS);
  }
}

function readProc(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return undefined; // it has ended meanwhile
  }
}

/** State letter of a process (proc_pid_stat(5)): T stopped, S sleeping, R running, Z zombie; undefined when it is gone. */
export function stateOf(pid: number): string | undefined {
  const text = readProc(`/proc/${pid}/stat`);
  return text?.slice(text.lastIndexOf(")") + 2).split(" ")[0];
}

/** Whether a process is there and not a zombie. */
export function isAlive(pid: number): boolean {
  const state = stateOf(pid);
  return state !== undefined && state !== "Z" && state !== "X";
}

/** All processes below one, zombies included, by their pids here (proc_tid_children(5)). */
export function descendants(pid: number): readonly number[] {
  let tasks: readonly string[] = [];
  try {
    tasks = readdirSync(`/proc/${pid}/task`);
  } catch {
    return []; // it has ended meanwhile
  }
  const children = tasks.flatMap((task) => (readProc(`/proc/${pid}/task/${task}/children`) ?? "").match(/\d+/g) ?? []);
  return children.map(Number).flatMap((child) => [child, ...descendants(child)]);
}

/** What a process was started as, its arguments joined by blanks. */
function commandOf(pid: number): string {
  return (readProc(`/proc/${pid}/cmdline`) ?? "").split("\0").join(" ").trim();
}

/** The descendant of a process with this command line, or one that matches. */
export async function findDescendant(pid: number, command: string | RegExp): Promise<number> {
  const is = (text: string) => (typeof command === "string" ? text === command : command.test(text));
  return until(`a process below ${pid} that runs ${String(command)}`, () =>
    descendants(pid).find((one) => is(commandOf(one))),
  );
}

/** Living descendants of this test run beside those in `known`. Adopted zombies hold nothing, and stay for our end. */
export function strays(known: ReadonlySet<number>): readonly number[] {
  return descendants(process.pid).filter((pid) => !known.has(pid) && isAlive(pid));
}

/** Descendants of this test run beside those in `known`, zombies included, as proc_pid_stat(5) has them: name and state. */
export function remains(known: ReadonlySet<number>): readonly string[] {
  return descendants(process.pid)
    .filter((pid) => !known.has(pid))
    .flatMap((pid) => /\(.*\) ./s.exec(readProc(`/proc/${pid}/stat`) ?? "") ?? []);
}

/** Mount points of this test run's own mount namespace, one line each. */
export function mountLines(): readonly string[] {
  return (readProc("/proc/self/mountinfo") ?? "").trim().split("\n");
}

/** Directories of every control group hierarchy. */
export function cgroupDirectories(): readonly string[] {
  const list = (path: string): readonly string[] => {
    try {
      return readdirSync(path, { withFileTypes: true }).flatMap((entry) =>
        entry.isDirectory() ? [`${path}/${entry.name}`, ...list(`${path}/${entry.name}`)] : [],
      );
    } catch {
      return []; // removed meanwhile
    }
  };
  return list("/sys/fs/cgroup");
}
