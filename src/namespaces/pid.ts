/** PID namespace: a process tree of its own, which ends with its PID 1 (pid_namespaces(7)). */

import type { Action } from "../step.ts";

/**
 * Tie PID 1 to the launcher's life: without it a SIGKILL of hutch would leave the sandbox running. It comes after the
 * last change of ids, which would clear the signal (prctl(2), PR_SET_PDEATHSIG).
 */
export function pidSteps(): readonly Action[] {
  return [{ op: "death-signal" }];
}
