/** The library. Exports only; the rooms behind it hold the code. */

export { HutchError, SystemError, UsageError } from "./errors.ts";
export { plan } from "./plan.ts";
export type { HostFacts } from "./facts.ts";
export type * from "./spec.ts";
export type { Plan, Step } from "./step.ts";
