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

/** State letter and parent of a process (proc_pid_stat(5)); undefined when there is none. */
function status(pid: number): { readonly state: string; readonly parent: number } | undefined {
  const text = readProc(`/proc/${pid}/stat`);
  if (text === undefined) return undefined;
  const [state = "", parent = ""] = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return { state, parent: Number(parent) };
}

/** Whether a process is there and not a zombie. */
export function isAlive(pid: number): boolean {
  const found = status(pid);
  return found !== undefined && found.state !== "Z" && found.state !== "X";
}

/** State letter of a process: T stopped, S sleeping, R running. */
export function stateOf(pid: number): string | undefined {
  return status(pid)?.state;
}

/** All processes below one, by their pids here. */
export function descendants(pid: number): readonly number[] {
  const all = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => ({ pid: Number(name), parent: status(Number(name))?.parent }));
  const below = (parent: number): number[] =>
    all.filter((one) => one.parent === parent).flatMap((one) => [one.pid, ...below(one.pid)]);
  return below(pid);
}

/** What a process was started as, its arguments joined by blanks. */
function commandOf(pid: number): string {
  return (readProc(`/proc/${pid}/cmdline`) ?? "").split("\0").join(" ").trim();
}

/** The descendant of a process with this command line. */
export async function findDescendant(pid: number, command: string): Promise<number> {
  return until(`a process below ${pid} that runs ${command}`, () =>
    descendants(pid).find((one) => commandOf(one) === command),
  );
}

/** Living descendants of this test run beside those in `known`. Adopted zombies hold nothing, and stay for our end. */
export function strays(known: ReadonlySet<number>): readonly number[] {
  return descendants(process.pid).filter((pid) => !known.has(pid) && isAlive(pid));
}

/** Mount points of this test run's own mount namespace, one line each. */
export function mountLines(): readonly string[] {
  return (readProc("/proc/self/mountinfo") ?? "").trim().split("\n");
}

/** Directories of every control group hierarchy. */
export function cgroupDirectories(): readonly string[] {
  const list = (path: string): readonly string[] => {
    try {
      return readdirSync(path, { withFileTypes: true })
        .filter((entry) => entry.isDirectory())
        .flatMap((entry) => [`${path}/${entry.name}`, ...list(`${path}/${entry.name}`)]);
    } catch {
      return []; // removed meanwhile
    }
  };
  return list("/sys/fs/cgroup");
}
