/**
 * A thread of its own that copies regular files: an entry point beside main.ts (scripts/build.ts), started by
 * copy-crew.ts. It shares the process's descriptors, so a job names its directories by those.
 */

import { HutchError, SystemError } from "../errors.ts";
import { linksOf } from "../libc/walk.ts";
import { type Answer, type Failure, SHARED, type Task } from "./copy-crew.ts";
import { copyRegular, type Hand, makeHand } from "./copy-entry.ts";

declare const self: Worker;

let hand: Hand | undefined;

self.addEventListener("message", ({ data }: MessageEvent<Task>): void => {
  hand ??= makeHand(data.rules);
  const aside: Uint8Array[] = [];
  let failure: Failure | undefined;
  try {
    copyFiles(hand, data, aside);
  } catch (error) {
    failure = toFailure(error);
  }
  const answer: Answer = { id: data.id, aside, skipped: hand.skipped.splice(0), failure };
  self.postMessage(answer, []);
});

function copyFiles(own: Hand, { place, names, shared }: Task, aside: Uint8Array[]): void {
  const counts = new BigInt64Array(shared);
  for (const name of names) {
    const steps = copyRegular(own, place, name, () => linksOf(own.status) > 1 && aside.push(name) > 0);
    for (const bytes of steps) {
      if (Atomics.load(counts, SHARED.stop) !== 0n) return;
      Atomics.add(counts, SHARED.bytes, BigInt(bytes));
    }
    if (Atomics.load(counts, SHARED.stop) !== 0n) return;
    Atomics.add(counts, SHARED.entries, 1n);
  }
}

function toFailure(error: unknown): Failure {
  if (error instanceof SystemError) return { what: error.call, errno: error.errno };
  return { message: error instanceof HutchError ? error.message : String(error), errno: undefined };
}
