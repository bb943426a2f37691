/** What explains a failure of a prelinked launcher: made again from its values, since nothing of it was kept. */

import { type Context, contextOf } from "../launch/context.ts";
import { assemble } from "../launch/supervise.ts";
import type { Arch } from "../libc/syscalls.ts";
import { plainFilter, plainPlan } from "./plain.ts";
import { LEAST_ARGV_BYTES, type PlainRun } from "./shape.ts";

/** What a prelinked launcher's report holds instead of a context; undefined for any other. */
export function plainRunOf(stored: unknown): PlainRun | undefined {
  return typeof stored === "object" && stored !== null && "shape" in stored ? (stored as PlainRun) : undefined;
}

/** The context of a plain run: the numbers that are left out have no part in it. */
export async function plainContext({ shape, values }: PlainRun, arch: Arch): Promise<Context> {
  const { steps, init } = plainPlan(shape, values, await plainFilter(arch));
  const become = { executableFd: 0, outputFd: undefined, argv: () => [] };
  return contextOf({
    steps,
    assembled: assemble({ steps, init }, arch, {
      reportFd: 0,
      argvBytes: LEAST_ARGV_BYTES,
      held: shape.image ? [0] : [],
      become,
    }),
  });
}
