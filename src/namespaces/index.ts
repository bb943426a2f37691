/** The namespaces in the order in which the sandbox sets them up from inside; each has a file of its own. */

import type { NamespaceName, Spec } from "../spec.ts";
import type { Action } from "../step.ts";
import { cgroupSteps } from "./cgroup.ts";
import { ipcSteps } from "./ipc.ts";
import { networkSteps } from "./network.ts";
import { utsSteps } from "./uts.ts";

/**
 * What each namespace needs from inside once ids and mounts stand. user, time, mount and pid are not here: ids and
 * time offsets come before the mounts, and the death signal after the last change of ids (plan.ts).
 */
export const NAMESPACE_STEPS: readonly (readonly [NamespaceName, (spec: Spec) => readonly Action[]])[] = [
  ["uts", utsSteps],
  ["network", networkSteps],
  ["ipc", ipcSteps],
  ["cgroup", cgroupSteps],
];
