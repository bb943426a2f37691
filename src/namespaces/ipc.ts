/** IPC namespace: System V IPC and POSIX message queues of its own, empty at the start (ipc_namespaces(7)). */

import type { Action } from "../step.ts";

/** Nothing is to be done inside: a new namespace is empty. */
export function ipcSteps(): readonly Action[] {
  return [];
}
