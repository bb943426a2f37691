/** Filters that tell: what they answer, beside the filters that they are made of. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type Arch, SYSCALLS } from "../../src/libc/syscalls.ts";
import { assembleBpf, BPF, BPF_MAXINSNS, validateBpf } from "../../src/process/bpf.ts";
import { evaluateBpf, type SeccompData } from "../../src/process/bpf-evaluate.ts";
import { hasRefusals, notifyingFilter, refusalErrno } from "../../src/process/notify.ts";
import { hutchProfile, PROFILE_NAMES } from "../../src/process/profiles.ts";
import { ARCHITECTURES, compileSeccomp } from "../../src/process/seccomp.ts";
import { ACTIONS, formatAction, severity } from "../../src/process/seccomp-actions.ts";
import type { SeccompProfile } from "../../src/process/seccomp-profile.ts";
import { syscallNumbers } from "../../src/process/syscall-numbers.ts";
import { anyProfile, NAMES, telling } from "./profile-arbitrary.ts";

const ARCHES: readonly Arch[] = ["x64", "arm64"];
const compile = (profile: SeccompProfile, arch: Arch, capabilities: readonly string[] = []) =>
  compileSeccomp(profile, { arch, capabilities, kernel: [6, 1] });

/** What the filter that tells must answer where the plain one answers `plain`. */
function expected(plain: number, { nr, args = [] }: SeccompData, arch: Arch): number {
  if (refusalErrno(plain) !== undefined) return ACTIONS.SCMP_ACT_NOTIFY;
  const low = (index: number) => Number((args[index] ?? 0n) & 0xffffffffn);
  const asksForListener = nr === SYSCALLS.seccomp[arch] && low(0) === 1 && (low(1) & 8) !== 0;
  const passes = severity(plain) > severity(ACTIONS.SCMP_ACT_NOTIFY);
  return asksForListener && passes ? (ACTIONS.SCMP_ACT_ERRNO | 16) >>> 0 : plain;
}

function compare(plain: Uint8Array, arch: Arch, calls: Iterable<SeccompData>): void {
  const turned = notifyingFilter(plain, arch);
  validateBpf(turned);
  for (const call of calls) {
    const wanted = expected(evaluateBpf(plain, call), call, arch);
    const is = evaluateBpf(turned, call);
    if (is !== wanted) expect([call, formatAction(is)]).toEqual([call, formatAction(wanted)]);
  }
}

describe.each(ARCHES)("on %s", (arch) => {
  const { audit, foreign } = ARCHITECTURES[arch];

  test.each(PROFILE_NAMES)("the profile %s, every call and some that are none", (name) => {
    for (const pid1 of [false, true]) {
      const plain = compile(hutchProfile(name, { pid1 }), arch);
      const numbers = [...syscallNumbers(arch).values(), 470, 600, 0x40000000, 0x40000029, 0x7fffffff, 0xffffffff];
      const values = [0n, 1n, 2n, 8n, 16n, 17n, 0x5412n, 0x10000000n, 0xffffffffn, 0x1_0000_0001n];
      const calls = numbers.flatMap((nr) =>
        values.flatMap((one) => values.map((two) => ({ arch: audit, nr, args: [one, two, two] }))),
      );
      compare(plain, arch, [...calls, { arch: foreign, nr: 1 }, { arch: 0, nr: SYSCALLS.seccomp[arch] }]);
      expect(hasRefusals(plain)).toBe(true);
    }
  });

  test("any profile", () => {
    fc.assert(
      fc.property(anyProfile, (profile) => {
        const plain = compile(profile, arch);
        const calls = [...NAMES, "seccomp"].flatMap((name) => {
          const nr = syscallNumbers(arch).get(name);
          return nr === undefined ? [] : telling(profile).map((args) => ({ arch: audit, nr, args }));
        });
        compare(plain, arch, calls);
      }),
      { numRuns: 100 },
    );
  });

  test("a listener of the program's own is refused where the call itself passes, whatever passes it", () => {
    const nr = SYSCALLS.seccomp[arch];
    for (const action of ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"] as const) {
      const plain = compile({ defaultAction: action, syscalls: [{ names: ["acct"], action: "SCMP_ACT_ERRNO" }] }, arch);
      const calls = [0n, 1n, 2n].flatMap((operation) =>
        [0n, 8n, 0x28n, 7n, 0x1_0000_0008n].map((flags) => ({ arch: audit, nr, args: [operation, flags] })),
      );
      compare(plain, arch, calls);
      const answer = evaluateBpf(notifyingFilter(plain, arch), { arch: audit, nr, args: [1n, 0x28n] });
      expect(formatAction(answer)).toBe("errno EBUSY");
    }
  });
});

test("a filter that refuses nothing is said to", () => {
  const kills = { defaultAction: "SCMP_ACT_ALLOW", syscalls: [{ names: ["acct"], action: "SCMP_ACT_KILL" }] } as const;
  expect(hasRefusals(compile(kills, "x64"))).toBe(false);
  expect(hasRefusals(compile({ ...kills, defaultAction: "SCMP_ACT_ERRNO" }, "x64"))).toBe(true);
});

test("an error number of 0 is one, and a too large one is what the kernel makes of it", () => {
  expect([0x00050000, 0x00050001, 0x0005ffff, 0x7fff0000, 0x00030001].map(refusalErrno)).toEqual([
    ...[0, 1, 4095],
    ...[undefined, undefined],
  ]);
});

test("what would be too long for the kernel is refused", () => {
  const refusal = { code: BPF.RET, jt: 0, jf: 0, k: 0x00050001 };
  const longest = Array.from({ length: BPF_MAXINSNS - 1 }, () => refusal);
  const allow = { ...refusal, k: ACTIONS.SCMP_ACT_ALLOW };
  expect(() => notifyingFilter(assembleBpf([...longest, allow]), "x64")).toThrow("at most 4096");
  expect(notifyingFilter(assembleBpf([...longest, refusal]), "x64").length).toBe(8 * BPF_MAXINSNS);
});
