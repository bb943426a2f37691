/** Time namespace: CLOCK_MONOTONIC and CLOCK_BOOTTIME moved by an offset (time_namespaces(7)). */

import type { Spec } from "../spec.ts";
import type { Action } from "../step.ts";

/**
 * clone(2) cannot make this namespace (its flag is part of the exit signal), so the sandbox unshares it and writes the
 * offsets before anybody enters: its children do, and on Linux 6 itself at execve.
 */
export function timeSteps(spec: Spec): readonly Action[] {
  return spec.timeOffsets === undefined ? [] : [{ op: "time-offsets", offsets: spec.timeOffsets }];
}
