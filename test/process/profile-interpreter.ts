/**
 * What a profile means, said a second time and as plainly as can be, to hold the compiler against: no numbers, no merging,
 * no program. Shares nothing with src/process but types.
 */

import type { ProfileRule, RuleFilter, SeccompProfile } from "../../src/process/seccomp-profile.ts";

type Call = { readonly name: string; readonly args: readonly bigint[] };
type Machine = {
  readonly arch: "amd64" | "arm64";
  readonly capabilities: readonly string[];
  readonly kernel: readonly [number, number];
};

/** SCMP_ACT_ words in the kernel's order, the most restrictive first; the answer's number. */
const ORDER: readonly (readonly [string, number])[] = [
  ["SCMP_ACT_KILL_PROCESS", 0x80000000],
  ["SCMP_ACT_KILL_THREAD", 0],
  ["SCMP_ACT_KILL", 0],
  ["SCMP_ACT_TRAP", 0x30000],
  ["SCMP_ACT_ERRNO", 0x50000],
  ["SCMP_ACT_NOTIFY", 0x7fc00000],
  ["SCMP_ACT_TRACE", 0x7ff00000],
  ["SCMP_ACT_LOG", 0x7ffc0000],
  ["SCMP_ACT_ALLOW", 0x7fff0000],
];

/** The raw answer that the profile asks for, for a call known by name, of the native architecture. */
export function interpret(profile: SeccompProfile, call: Call, machine: Machine): number {
  let best: ProfileRule | undefined;
  for (const rule of profile.syscalls ?? []) {
    if (!(rule.names ?? []).includes(call.name)) continue;
    if (!isHere(rule, machine) || !matches(rule, call.args)) continue;
    if (best === undefined || rank(rule.action) < rank(best.action)) best = rule;
  }
  return best === undefined ? raw(profile.defaultAction, profile.defaultErrnoRet) : raw(best.action, best.errnoRet);
}

/** KILL and KILL_THREAD are one. */
function rank(action: string): number {
  const number = ORDER.find(([name]) => name === action)?.[1];
  return ORDER.findIndex(([, other]) => other === number);
}

function raw(action: string, data: number | null | undefined): number {
  const [, number] = ORDER.find(([name]) => name === action) ?? ["", -1];
  return action === "SCMP_ACT_ERRNO" || action === "SCMP_ACT_TRACE" ? number + (data ?? 1) : number;
}

function isHere(rule: ProfileRule, machine: Machine): boolean {
  const version = (filter: RuleFilter) => {
    const [major, minor] = (filter.minKernel ?? "0.0").split(".").map(Number) as [number, number];
    return machine.kernel[0] * 1000 + machine.kernel[1] >= major * 1000 + minor;
  };
  const { includes, excludes } = rule;
  if (includes?.arches?.length && !includes.arches.includes(machine.arch)) return false;
  if (includes?.caps?.some((cap) => !machine.capabilities.includes(cap))) return false;
  if (includes?.minKernel && !version(includes)) return false;
  if (excludes?.arches?.includes(machine.arch)) return false;
  if (excludes?.caps?.some((cap) => machine.capabilities.includes(cap))) return false;
  return !(excludes?.minKernel && version(excludes));
}

function matches(rule: ProfileRule, args: readonly bigint[]): boolean {
  const conditions = rule.args ?? [];
  const outcomes = conditions.map(({ index, op, value, valueTwo }) => {
    const [have, want] = [args[index] ?? 0n, BigInt(value)];
    if (op === "SCMP_CMP_EQ") return have === want;
    if (op === "SCMP_CMP_NE") return have !== want;
    if (op === "SCMP_CMP_LT") return have < want;
    if (op === "SCMP_CMP_LE") return have <= want;
    if (op === "SCMP_CMP_GT") return have > want;
    if (op === "SCMP_CMP_GE") return have >= want;
    return ((have ^ BigInt(valueTwo ?? 0)) & want) === 0n;
  });
  const isRepeated = conditions.some((one, i) => conditions.slice(0, i).some((other) => other.index === one.index));
  return isRepeated ? outcomes.includes(true) : !outcomes.includes(false);
}
