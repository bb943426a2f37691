/** The threads that help to copy a tree. They are Bun's Workers: of one process, so that descriptors mean the same. */

import { availableParallelism } from "node:os";
import { HutchError } from "../errors.ts";
import { systemError } from "../libc/call.ts";
import type { CopyRules, Place, Skipped } from "./copy-entry.ts";

/** Places in the memory that all threads share, in units of eight bytes. */
export const SHARED = { stop: 0, entries: 1, bytes: 2 } as const;

/** Regular files of one directory; their names have a final NUL. */
export interface Job<P extends Place = Place> {
  readonly place: P;
  readonly names: readonly Uint8Array[];
}

export interface Task extends Job {
  readonly id: number;
  readonly rules: CopyRules;
  readonly shared: SharedArrayBuffer;
}

/** An error, as it travels between threads. */
export type Failure =
  { readonly what: string; readonly errno: number } | { readonly message: string; readonly errno: undefined };

export interface Answer {
  readonly id: number;
  /** Names of files with several links, which only one thread may copy. */
  readonly aside: readonly Uint8Array[];
  readonly skipped: readonly Skipped[];
  readonly failure: Failure | undefined;
}

/** A job that is done, and what is left of it. */
export interface Done<P extends Place> {
  readonly place: P;
  readonly aside: readonly Uint8Array[];
  readonly skipped: readonly Skipped[];
}

export interface Crew<P extends Place> {
  /** Give the job to a thread that will soon have time for it; false when there is none. */
  readonly give: (job: Job<P>) => boolean;
  /** What has been done since the last call. @throws HutchError for the first failure of any thread */
  readonly takeDone: () => readonly Done<P>[];
  readonly isBusy: () => boolean;
  /** Until something is done, but no longer than so many milliseconds. */
  readonly wait: (ms: number) => Promise<void>;
  /** What the threads have copied so far. */
  readonly counts: () => { readonly entries: number; readonly bytes: number };
  /** Have all threads stop, and wait until they have. */
  readonly stop: () => Promise<void>;
}

/** Jobs that a thread has at a time: the next one lies ready when one is done. */
const AHEAD = 2;
/** More threads than these wait for each other in the file system. */
const MOST = 7;

interface Member {
  readonly worker: Worker;
  jobs: number;
}

/** Threads for this process: as many as it has processors beside its own, and at least one. */
export function startCrew<P extends Place>(rules: CopyRules): Crew<P> {
  const shared = new SharedArrayBuffer(24);
  const counters = new BigInt64Array(shared);
  const places = new Map<number, P>();
  const done: Done<P>[] = [];
  let failure: HutchError | undefined;
  let next = 0;
  let wake: (() => void) | undefined;

  const members = Array.from({ length: Math.min(Math.max(availableParallelism() - 1, 1), MOST) }, (): Member => {
    const worker = new Worker(workerFile());
    worker.unref();
    const member: Member = { worker, jobs: 0 };
    worker.addEventListener("message", ({ data }: MessageEvent<Answer>) => {
      const place = places.get(data.id);
      places.delete(data.id);
      member.jobs--;
      if (data.failure !== undefined) failure ??= toError(data.failure);
      if (place !== undefined) done.push({ place, aside: data.aside, skipped: data.skipped });
      wake?.();
    });
    worker.addEventListener("error", ({ message }) => {
      failure ??= new HutchError(`a thread that copies: ${message}`);
      member.jobs = 0;
      wake?.();
    });
    return member;
  });
  const isBusy = () => members.some(({ jobs }) => jobs > 0);
  const wait = async (ms: number) => {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    wake = undefined;
  };
  return {
    isBusy,
    wait,
    give: ({ place, names }) => {
      const member = members.reduce((least, other) => (other.jobs < least.jobs ? other : least));
      if (member.jobs >= AHEAD) return false;
      const { from, into, path } = place;
      const task: Task = { id: next++, place: { from, into, path }, names, rules, shared };
      member.worker.postMessage(task, []);
      member.jobs++;
      places.set(task.id, place);
      return true;
    },
    takeDone: () => {
      if (failure !== undefined) throw failure;
      return done.splice(0);
    },
    counts: () => ({
      entries: Number(Atomics.load(counters, SHARED.entries)),
      bytes: Number(Atomics.load(counters, SHARED.bytes)),
    }),
    stop: async () => {
      Atomics.store(counters, SHARED.stop, 1n);
      while (isBusy()) await wait(1000);
      for (const { worker } of members) worker.terminate();
    },
  };
}

function toError(failure: Failure): HutchError {
  return failure.errno === undefined ? new HutchError(failure.message) : systemError(failure.what, failure.errno);
}

/** The worker's file where this module runs from: its source, the executable, or dist/chunks (scripts/build.ts). */
function workerFile(): string {
  if (import.meta.url.endsWith(".ts")) return new URL("copy-worker.ts", import.meta.url).href;
  if (Bun.isStandaloneExecutable) return "/$bunfs/root/nix/copy-worker.js";
  return new URL("../nix/copy-worker.js", import.meta.url).href;
}
