/** The library. Exports only; the rooms behind it hold the code. */

export { doctor } from "./doctor/doctor.ts";
export type { Finding, Report, Status } from "./doctor/finding.ts";
export { HutchError, SystemError, UsageError } from "./errors.ts";
export { explain, plan, run, specOf, start } from "./library.ts";
export type { Outcome } from "./launch/outcome.ts";
export type { Finished, RunOptions, Sandbox, StartOptions } from "./library.ts";
export type { SandboxOptions } from "./library-options.ts";
export type * from "./spec.ts";
export type { Plan, Step } from "./step.ts";
