/** UTS namespace: hostname and NIS domain name (uts_namespaces(7)). */

import type { Spec } from "../spec.ts";
import type { Action } from "../step.ts";

/** Set both names, so that the host's are never seen. */
export function utsSteps(spec: Spec): readonly Action[] {
  return [
    { op: "hostname", name: spec.hostname },
    { op: "domainname", name: spec.domainname },
  ];
}
