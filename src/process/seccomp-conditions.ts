/**
 * Rules on arguments to BPF. An argument is 64 bits, the machine compares 32: high word first, low word where that
 * decides nothing. All code here is relocatable: a piece jumps only within itself, or falls off its end.
 */

import { BPF, type Instruction } from "./bpf.ts";
import type { Condition } from "./seccomp-profile.ts";

/** A rule for one system call: all conditions hold, then `action`. None: always. */
export type CallRule = { readonly action: number; readonly conditions: readonly Condition[] };

/** Where a jump leads: the next instruction, past this condition (it holds), past the rule (it does not). */
type Target = "next" | "holds" | "fails";
type Test = { readonly code: number; readonly k: number; readonly yes: Target; readonly no: Target };

/** `ret k` */
export function answer(k: number): Instruction {
  return { code: BPF.RET, jt: 0, jf: 0, k };
}

/** Code for rules tried in order, the first that holds answers; else `otherwise` answers. */
export function callCode(rules: readonly CallRule[], otherwise: number): Instruction[] {
  return [...rules.flatMap(ruleCode), answer(otherwise)];
}

function ruleCode({ action, conditions }: CallRule): Instruction[] {
  const tests = conditions.map(conditionTests);
  const length = tests.reduce((sum, list) => sum + list.length, 1); // and the answer
  let at = 0;
  const code = tests.flatMap((list) => {
    const end = at + list.length;
    return list.map((test) => {
      at += 1;
      const skip = (target: Target) => (target === "next" ? 0 : (target === "holds" ? end : length) - at);
      return { code: test.code, jt: skip(test.yes), jf: skip(test.no), k: test.k };
    });
  });
  return [...code, answer(action)];
}

function load(offset: number): Test {
  return { code: BPF.LD, k: offset, yes: "next", no: "next" };
}

function jump(code: number, k: number, yes: Target, no: Target): Test {
  return { code, k, yes, no };
}

function conditionTests({ index, op, value, valueTwo }: Condition): Test[] {
  const lowAt = 16 + 8 * index;
  const [high, low] = words(value);
  const start = [load(lowAt + 4)];
  switch (op) {
    case "SCMP_CMP_EQ":
      return [...start, jump(BPF.JEQ, high, "next", "fails"), load(lowAt), jump(BPF.JEQ, low, "holds", "fails")];
    case "SCMP_CMP_NE":
      return [...start, jump(BPF.JEQ, high, "next", "holds"), load(lowAt), jump(BPF.JEQ, low, "fails", "holds")];
    case "SCMP_CMP_GT":
    case "SCMP_CMP_GE":
      return [
        ...start,
        jump(BPF.JGT, high, "holds", "next"),
        jump(BPF.JEQ, high, "next", "fails"),
        load(lowAt),
        jump(op === "SCMP_CMP_GT" ? BPF.JGT : BPF.JGE, low, "holds", "fails"),
      ];
    case "SCMP_CMP_LT":
    case "SCMP_CMP_LE":
      return [
        ...start,
        jump(BPF.JGT, high, "fails", "next"),
        jump(BPF.JEQ, high, "next", "holds"),
        load(lowAt),
        jump(op === "SCMP_CMP_LT" ? BPF.JGE : BPF.JGT, low, "fails", "holds"),
      ];
    case "SCMP_CMP_MASKED_EQ": {
      const [wantHigh, wantLow] = words(valueTwo & value); // bits outside the mask are not compared, as libseccomp
      return [...maskedTests(lowAt + 4, high, wantHigh, "next"), ...maskedTests(lowAt, low, wantLow, "holds")];
    }
  }
}

/** `(word & mask) == want`; nothing to load where the mask is 0. */
function maskedTests(offset: number, mask: number, want: number, yes: Target): Test[] {
  if (mask === 0) return [];
  const and = mask === 0xffffffff ? [] : [{ code: BPF.AND, k: mask, yes: "next", no: "next" } as const];
  return [load(offset), ...and, jump(BPF.JEQ, want, yes, "fails")];
}

function words(value: bigint): [high: number, low: number] {
  return [Number(value >> 32n), Number(value & 0xffffffffn)];
}
