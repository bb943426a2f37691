/** Cgroup namespace: /proc/self/cgroup shows the sandbox's own cgroup as the root (cgroup_namespaces(7)). */

import type { Action } from "../step.ts";

/** Nothing is to be done inside: the root of the view is the cgroup at the time of clone. */
export function cgroupSteps(): readonly Action[] {
  return [];
}
