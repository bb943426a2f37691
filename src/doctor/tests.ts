/** What every test of doctor's has at hand, and how it becomes a finding. */

import { attempt, type Executor, formatRefusal, type Refusal, type Trial } from "./attempt.ts";
import type { Finding } from "./finding.ts";
import { type Ids, userNamespace } from "./trials.ts";

/** How a refusal is mended; undefined when nothing is known that would. */
export type Mend = (refusal: Refusal) => string | undefined;

export interface Tests {
  readonly executor: Executor;
  readonly ids: Ids;
  /** Whether the caller is root in the initial user namespace. */
  readonly root: boolean;
  /** The finding that makes most others fail, if there is one. */
  readonly first: Finding | undefined;
}

/** A finding from steps that are tried in a process of their own. */
export async function tried(
  { executor, ids, first }: Tests,
  id: string,
  name: string,
  steps: readonly Trial[],
  mend: Mend,
): Promise<Finding> {
  const refusal = await attempt(executor, steps);
  if (refusal === undefined) return { id, name, status: "yes", detail: "" };
  const early = userNamespace(ids).some(([step]) => step === refusal.step);
  return no(id, name, formatRefusal(refusal), early && first !== undefined ? first.mend : mend(refusal));
}

export function no(id: string, name: string, detail: string, mend: string | undefined): Finding {
  return { id, name, status: "no", detail, ...(mend === undefined ? {} : { mend }) };
}
