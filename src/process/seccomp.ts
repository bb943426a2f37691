/**
 * Seccomp profiles (OCI, docker, podman) to the kernel's filter programs.
 *
 * Meaning: of all rules that match a call, the most restrictive action applies (the kernel's own order, kill first);
 * where none matches, the default. Rules of one action for one call are therefore OR-ed, as libseccomp does. Where rules
 * of different actions overlap libseccomp keeps whichever it likes: it drops a conditional refusal beside an unconditional
 * allow without a word. Here the refusal holds.
 *
 * Several conditions in one rule must all hold, but where one argument is named twice each condition is a rule of its own:
 * runc's and crun's way, on which published profiles are written.
 *
 * Foreign architectures have no table here and are always refused. A call of an architecture (i386 or x32 on x86-64, arm
 * on aarch64) that the profile speaks for gets ENOSYS, as on a kernel built without it; of one that it does not speak for
 * kills the process, which is libseccomp's answer too.
 *
 * A call newer than every call that the profile names gets ENOSYS if the default action is ERRNO and its number is not
 * written down (runc's rule): the author cannot have meant to refuse it, and libraries fall back on ENOSYS only, while
 * EPERM is taken for the answer.
 */

import { UsageError } from "../errors.ts";
import type { Arch } from "../libc/syscalls.ts";
import { assembleBpf, BPF, BPF_MAXINSNS, type Instruction } from "./bpf.ts";
import { ACTIONS, severity } from "./seccomp-actions.ts";
import { answer, type CallRule, callCode } from "./seccomp-conditions.ts";
import { capabilityName, checkProfile, type Condition, type Rule, type RuleFilter } from "./seccomp-profile.ts";
import { syscallNumbers } from "./syscall-numbers.ts";

/** What a profile's conditions are about: the capabilities of the program (`CAP_…`) and the kernel's version. */
export type SeccompTarget = {
  readonly arch: Arch;
  readonly capabilities: readonly string[];
  readonly kernel: readonly [major: number, minor: number];
};

/** The kernel's numbers for architectures (linux/audit.h), the native one and its 32-bit sibling, and OCI's words. */
export const ARCHITECTURES = {
  x64: { audit: 0xc000003e, word: "SCMP_ARCH_X86_64", go: "amd64", foreign: 0x40000003, foreignWord: "SCMP_ARCH_X86" },
  arm64: {
    audit: 0xc00000b7,
    word: "SCMP_ARCH_AARCH64",
    go: "arm64",
    foreign: 0x40000028,
    foreignWord: "SCMP_ARCH_ARM",
  },
} as const satisfies Record<Arch, unknown>;

const X32_BIT = 0x40000000;
const ENOSYS = (ACTIONS.SCMP_ACT_ERRNO | 38) >>> 0;
const LAST_NUMBER = 0xffffffff;

/** Numbers from `first` on, up to the next range, run `code`; `key` is equal where the code does the same. */
type Range = { readonly first: number; readonly key: string; readonly code: readonly Instruction[] };

/**
 * Compiles a profile for one machine and one program. Takes any value and checks it; see checkProfile for what it takes.
 * Returns the bytes of a struct sock_filter array. Names of calls that this architecture does not have are skipped.
 * @throws UsageError for a profile that is malformed, empty, would allow everything, or is too long for the kernel.
 */
export function compileSeccomp(profile: unknown, target: SeccompTarget): Uint8Array {
  const { audit, word, foreign, foreignWord } = ARCHITECTURES[target.arch];
  const checked = checkProfile(profile);
  const numbers = syscallNumbers(target.arch);
  const named = checked.rules.flatMap(({ names }) => names.flatMap((name) => numbers.get(name) ?? []));
  if (named.length === 0 && severity(checked.defaultAction) >= severity(ACTIONS.SCMP_ACT_LOG)) {
    throw new UsageError("seccomp profile: defaultAction allows everything and no rule names a known system call", {
      hint: "ask for no filter by name: --seccomp none",
    });
  }
  const spoken = checked.architectures(word);
  const strange = (listed: boolean) => (listed ? ENOSYS : ACTIONS.SCMP_ACT_KILL_PROCESS);

  const implicitErrno = !checked.explicitDefault && checked.defaultAction === (ACTIONS.SCMP_ACT_ERRNO | 1) >>> 0;
  const newest = implicitErrno && named.length > 0 ? named.reduce((a, b) => Math.max(a, b)) : LAST_NUMBER;
  const ranges = [
    ...callRanges(rulesByNumber(checked.rules, target), checked.defaultAction),
    ...(newest < LAST_NUMBER ? [plain(newest + 1, ENOSYS)] : []),
    // -1 is a tracer's "skip this call", not x32.
    ...(target.arch === "x64"
      ? [plain(X32_BIT, strange(spoken.has("SCMP_ARCH_X32"))), plain(LAST_NUMBER, checked.defaultAction)]
      : []),
  ];
  const isListed = spoken.has(foreignWord);
  const program = [
    { code: BPF.LD, jt: 0, jf: 0, k: 4 },
    { code: BPF.JEQ, jt: isListed ? 3 : 1, jf: 0, k: audit },
    ...(isListed ? [{ code: BPF.JEQ, jt: 0, jf: 1, k: foreign }, answer(ENOSYS)] : []),
    answer(ACTIONS.SCMP_ACT_KILL_PROCESS),
    { code: BPF.LD, jt: 0, jf: 0, k: 0 },
    ...search(merge(ranges)),
  ];
  if (program.length > BPF_MAXINSNS) {
    throw new UsageError(
      `seccomp profile: ${program.length} instructions: the kernel takes at most ${BPF_MAXINSNS} in one filter`,
    );
  }
  return assembleBpf(program);
}

/** Which rules hold here, by number of the call, the most restrictive first; equal ones in the profile's order. */
function rulesByNumber(rules: readonly Rule[], target: SeccompTarget): ReadonlyMap<number, readonly CallRule[]> {
  const numbers = syscallNumbers(target.arch);
  const byNumber = new Map<number, CallRule[]>();
  for (const rule of rules.filter((candidate) => isRuleInForce(candidate, target))) {
    const alternatives = splitRepeated(rule.conditions).map((conditions) => ({ action: rule.action, conditions }));
    for (const name of rule.names) {
      const number = numbers.get(name);
      if (number === undefined) continue;
      const others = byNumber.get(number);
      if (others === undefined) byNumber.set(number, alternatives.slice());
      else others.push(...alternatives);
    }
  }
  for (const list of byNumber.values()) {
    if (list.length > 1) list.sort((a, b) => severity(a.action) - severity(b.action));
  }
  return byNumber;
}

/**
 * Whether a rule holds for a program: `includes` needs all that it lists, `excludes` takes the rule away for any one of
 * what it lists (docker's reading).
 */
export function isRuleInForce({ includes, excludes }: Rule, target: SeccompTarget): boolean {
  const held = new Set(target.capabilities.map(capabilityName));
  const { go } = ARCHITECTURES[target.arch];
  const isNewer = ({ minKernel }: RuleFilter) => {
    const [major = 0, minor = 0] = (minKernel ?? "").split(".").map(Number);
    return target.kernel[0] > major || (target.kernel[0] === major && target.kernel[1] >= minor);
  };
  if (excludes.arches?.includes(go) === true || excludes.caps?.some((cap) => held.has(cap)) === true) return false;
  if (typeof excludes.minKernel === "string" && isNewer(excludes)) return false;
  if (includes.arches !== undefined && includes.arches !== null && includes.arches.length > 0) {
    if (!includes.arches.includes(go)) return false;
  }
  return includes.caps?.every((cap) => held.has(cap)) !== false && isNewer(includes);
}

function splitRepeated(conditions: readonly Condition[]): readonly (readonly Condition[])[] {
  const isRepeated = new Set(conditions.map(({ index }) => index)).size < conditions.length;
  return isRepeated ? conditions.map((condition) => [condition]) : [conditions];
}

function plain(first: number, action: number): Range {
  return { first, key: String(action), code: [answer(action)] };
}

function callRanges(byNumber: ReadonlyMap<number, readonly CallRule[]>, otherwise: number): Range[] {
  const ranges: Range[] = [plain(0, otherwise)];
  for (const [number, rules] of [...byNumber].toSorted(([a], [b]) => a - b)) {
    const [first] = rules;
    if (first?.conditions.length === 0) {
      // by far the most, and nothing that follows can be more restrictive
      ranges.push(plain(number, first.action), plain(number + 1, otherwise));
      continue;
    }
    const always = rules.findIndex(({ conditions }) => conditions.length === 0);
    const last = always < 0 ? otherwise : (rules[always]?.action ?? otherwise);
    const tried = always < 0 ? rules : rules.slice(0, always);
    const useful = tried.slice(0, tried.findLastIndex(({ action }) => action !== last) + 1);
    const code = callCode(useful, last);
    const key = code.map((instruction) => Object.values(instruction).join(" ")).join();
    ranges.push(useful.length === 0 ? plain(number, last) : { first: number, key, code }, plain(number + 1, otherwise));
  }
  return ranges;
}

/** One range for each run of numbers with the same answer. Of two that begin at the same number the later one counts. */
function merge(ranges: readonly Range[]): Range[] {
  const merged: Range[] = [];
  for (const range of ranges) {
    while ((merged.at(-1)?.first ?? -1) >= range.first) merged.pop();
    if (merged.at(-1)?.key !== range.key) merged.push(range);
  }
  return merged;
}

/** Binary search for the accumulator (the call's number) over ranges; every leaf answers. */
function search(ranges: readonly Range[]): readonly Instruction[] {
  const half = Math.ceil(ranges.length / 2);
  const pivot = ranges[half];
  if (pivot === undefined) return ranges[0]?.code ?? [];
  const below = search(ranges.slice(0, half));
  const above = search(ranges.slice(half));
  if (below.length <= 255) {
    return [{ code: BPF.JGE, jt: below.length, jf: 0, k: pivot.first }, ...below, ...above];
  }
  // A conditional jump reaches 255 instructions: go over a plain one.
  return [
    { code: BPF.JGE, jt: 0, jf: 1, k: pivot.first },
    { code: BPF.JA, jt: 0, jf: 0, k: below.length },
    ...below,
    ...above,
  ];
}
