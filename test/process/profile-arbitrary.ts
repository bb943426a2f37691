/** Random profiles and the arguments on which they could go wrong. */

import fc from "fast-check";
import { ACTIONS, type Action } from "../../src/process/seccomp-actions.ts";
import {
  OPERATORS,
  type ProfileArgument,
  type ProfileRule,
  type SeccompProfile,
} from "../../src/process/seccomp-profile.ts";

/** Few names, so that rules meet: neighbours, far apart, unknown to one architecture, unknown to both. */
export const NAMES = ["read", "write", "close", "openat", "ioctl", "clone", "open", "socket", "mseal", "no_such_call"];

const EDGES = [
  0n,
  1n,
  2n,
  0x7fffffffn,
  0x80000000n,
  0xffffffffn,
  0x1_0000_0000n,
  0x1_0000_0001n,
  1n << 63n,
  (1n << 64n) - 1n,
];
const value = fc.oneof(fc.constantFrom(...EDGES), fc.bigInt(0n, (1n << 64n) - 1n));

const argument: fc.Arbitrary<ProfileArgument> = fc.record({
  index: fc.nat(5),
  value,
  valueTwo: value,
  op: fc.constantFrom(...OPERATORS),
});

const args = fc.oneof(
  { weight: 3, arbitrary: fc.uniqueArray(argument, { maxLength: 3, selector: ({ index }) => index }) },
  { weight: 1, arbitrary: fc.array(argument, { maxLength: 3 }) }, // one argument twice
);

const ACTION_NAMES = Object.keys(ACTIONS) as Action[];
const caps = fc.subarray(["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"]);
const where = fc.record({
  caps,
  arches: fc.subarray(["amd64", "arm64", "s390x"]),
  minKernel: fc.constantFrom(null, "4.8", "6.1", "6.2"),
});

function withNumber<Rule extends { action: Action }>(rule: Rule, number: number) {
  const has = rule.action === "SCMP_ACT_ERRNO" || rule.action === "SCMP_ACT_TRACE";
  return { ...rule, errnoRet: has ? number : null };
}

export const anyRule: fc.Arbitrary<ProfileRule> = fc
  .tuple(
    fc.record({
      names: fc.uniqueArray(fc.constantFrom(...NAMES), { minLength: 1, maxLength: 3 }),
      action: fc.constantFrom(...ACTION_NAMES),
      args,
      includes: fc.option(where),
      excludes: fc.option(fc.record({ caps, arches: fc.subarray(["s390x", "arm64"]) })),
    }),
    fc.nat(4095),
  )
  .map(([rule, number]) =>
    rule.action === "SCMP_ACT_NOTIFY" && rule.names.includes("write")
      ? { ...withNumber(rule, number), names: ["read"] }
      : withNumber(rule, number),
  );

/** A profile whose default is explicit, so that newer calls get it too. */
export const anyProfile: fc.Arbitrary<SeccompProfile> = fc.record({
  defaultAction: fc.constant("SCMP_ACT_ERRNO" as const),
  defaultErrnoRet: fc.nat(200),
  syscalls: fc.array(anyRule, { minLength: 1, maxLength: 12 }),
});

/** Six-argument vectors: for every number that the profile compares with, in every place, it and its neighbours. */
export function telling(profile: SeccompProfile): bigint[][] {
  const compared = (profile.syscalls ?? []).flatMap(({ args: list }) => list ?? []);
  const vectors = compared.flatMap(({ index, value: one, valueTwo = 0 }) => {
    const [a, b] = [BigInt(one), BigInt(valueTwo)];
    const near = [a, a - 1n, a + 1n, a ^ (1n << 32n), a ^ (1n << 63n), a & 0xffffffffn, b, a & b, b | ~a];
    return near.map((number) => ({ index, number: BigInt.asUintN(64, number) }));
  });
  // Whole vectors for rules of several conditions: every place at its own number, then one of them moved.
  const base = [0, 1, 2, 3, 4, 5].map((place) => BigInt(compared.find(({ index }) => index === place)?.value ?? 0));
  const zeros = base.map(() => 0n);
  return [
    zeros,
    base,
    ...vectors.map(({ index, number }) => zeros.with(index, number)),
    ...vectors.map(({ index, number }) => base.with(index, number)),
  ];
}
