/** What a seccomp profile means for one program on one machine, without running anything: names, rules, decisions. */

import { UsageError } from "../errors.ts";
import { parseBpf } from "./bpf.ts";
import { evaluateBpf } from "./bpf-evaluate.ts";
import { ARCHITECTURES, compileSeccomp, isRuleInForce, type SeccompTarget } from "./seccomp.ts";
import { formatAction } from "./seccomp-actions.ts";
import { checkProfile } from "./seccomp-profile.ts";
import { syscallNumbers } from "./syscall-numbers.ts";

/** One call, as the compiled filter decides it. */
export interface Decision {
  /** The user's word: `mount`, or with arguments `socket(17, 3)`. */
  readonly call: string;
  /** As formatAction writes it: `allow`, `errno EPERM`. Arguments that were not given count as 0. */
  readonly action: string;
  /** Whether other arguments may be decided otherwise: a rule in force for this call has conditions on them. */
  readonly byArguments: boolean;
}

/** A profile that has been checked. */
export interface CheckedSeccomp {
  readonly instructions: number;
  readonly defaultAction: string;
  /** Names that this architecture's Linux does not have: they are skipped. */
  readonly unknown: readonly string[];
  /** Names of rules that are not in force here: their capabilities, kernel or architecture are others. */
  readonly notInForce: readonly string[];
  readonly decisions: readonly Decision[];
}

/**
 * Check a profile as `hutch run --seccomp` does, and decide calls by the filter that it would use.
 * @param profile see checkProfile
 * @param calls `NAME` or `NAME(ARGUMENT, …)`, numbers decimal or 0x…, at most six
 * @throws UsageError for a profile or a call that is none
 */
export function checkSeccomp(profile: unknown, target: SeccompTarget, calls: readonly string[]): CheckedSeccomp {
  const { rules, defaultAction } = checkProfile(profile);
  const program = parseBpf(compileSeccomp(profile, target));
  const numbers = syscallNumbers(target.arch);
  const inForce = rules.filter((rule) => isRuleInForce(rule, target));
  const names = (some: typeof rules) => [...new Set(some.flatMap((rule) => rule.names))].toSorted();
  const { audit } = ARCHITECTURES[target.arch];
  const decisions = calls.map((call) => {
    const { name, args } = parseCall(call);
    const nr = numbers.get(name);
    if (nr === undefined) throw new UsageError(`no system call ${name}`, { from: call });
    const conditional = inForce.some((rule) => rule.conditions.length > 0 && rule.names.includes(name));
    return { call, action: formatAction(evaluateBpf(program, { arch: audit, nr, args })), byArguments: conditional };
  });
  return {
    instructions: program.length,
    defaultAction: formatAction(defaultAction),
    unknown: names(rules).filter((name) => !numbers.has(name)),
    notInForce: names(rules.filter((rule) => !inForce.includes(rule))),
    decisions,
  };
}

function parseCall(call: string): { readonly name: string; readonly args: readonly bigint[] } {
  const [, name, list = ""] = /^([a-z_][a-z0-9_]*)(?:\(([^()]*)\))?$/.exec(call) ?? [];
  const words = list.trim() === "" ? [] : list.split(",").map((word) => word.trim());
  if (name === undefined || words.length > 6 || !words.every((word) => /^(\d+|0x[0-9a-f]+)$/i.test(word)))
    throw new UsageError(`${JSON.stringify(call)} is no system call`, {
      hint: "NAME, or NAME(NUMBER, …) of at most six",
    });
  const args = words.map(BigInt);
  if (args.some((value) => value > 0xffff_ffff_ffff_ffffn)) throw new UsageError(`${call}: an argument has 64 bits`);
  return { name, args };
}
