/** Network namespace: nothing but a loopback interface (network_namespaces(7)). */

import type { Action } from "../step.ts";

/** Bring lo up; the kernel then gives it 127.0.0.1/8 and ::1/128 (drivers/net/loopback.c, addrconf). */
export function networkSteps(): readonly Action[] {
  return [{ op: "loopback" }];
}
