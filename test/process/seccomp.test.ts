import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { validateBpf } from "../../src/process/bpf.ts";
import { evaluateBpf } from "../../src/process/bpf-evaluate.ts";
import { ARCHITECTURES, compileSeccomp, type SeccompTarget } from "../../src/process/seccomp.ts";
import { formatAction } from "../../src/process/seccomp-actions.ts";
import type { ProfileArgument, ProfileRule, SeccompProfile } from "../../src/process/seccomp-profile.ts";
import { syscallNumbers } from "../../src/process/syscall-numbers.ts";
import { anyProfile, NAMES, telling } from "./profile-arbitrary.ts";
import { interpret } from "./profile-interpreter.ts";

const x64: SeccompTarget = { arch: "x64", capabilities: [], kernel: [6, 1] };
const arm64: SeccompTarget = { ...x64, arch: "arm64" };

function answerOf(profile: SeccompProfile, target: SeccompTarget, nr: number | string, args: bigint[] = []): string {
  const number = typeof nr === "number" ? nr : (syscallNumbers(target.arch).get(nr) ?? -1);
  const program = compileSeccomp(profile, target);
  validateBpf(program);
  return formatAction(evaluateBpf(program, { arch: ARCHITECTURES[target.arch].audit, nr: number, args }));
}

function profileOf(...syscalls: ProfileRule[]): SeccompProfile {
  return { defaultAction: "SCMP_ACT_ERRNO", defaultErrnoRet: 1, syscalls };
}

describe("comparisons are of 64 bits, unsigned", () => {
  const V = 0x1_8000_0000n;
  const M = 0xffffffff_ffffffffn;
  const table: [ProfileArgument["op"], bigint, bigint, bigint[], bigint[]][] = [
    ["SCMP_CMP_EQ", V, 0n, [V], [V - 1n, V + 1n, 0x8000_0000n, V + (1n << 32n), 1n << 32n]],
    ["SCMP_CMP_NE", V, 0n, [0n, 0x8000_0000n, V + (1n << 32n)], [V]],
    ["SCMP_CMP_GT", V, 0n, [V + 1n, 0x2_0000_0000n, M], [V, V - 1n, 0xffff_ffffn, 0n]],
    ["SCMP_CMP_GE", V, 0n, [V, V + 1n, 0x2_0000_0000n, M], [V - 1n, 0xffff_ffffn, 0n]],
    ["SCMP_CMP_LT", V, 0n, [V - 1n, 0xffff_ffffn, 0n], [V, V + 1n, 0x2_0000_0000n, M]],
    ["SCMP_CMP_LE", V, 0n, [V, V - 1n, 0xffff_ffffn, 0n], [V + 1n, 0x2_0000_0000n, M]],
    ["SCMP_CMP_MASKED_EQ", 0xffff_ffffn, 0x5412n, [0x5412n, 0x1_0000_5412n, 0xffffffff_00005412n], [0x5413n, 0n]],
    ["SCMP_CMP_MASKED_EQ", 0xf_0000_000fn, 0x5_0000_0005n, [0x5_0000_0005n, 0xff5_0000_0ff5n], [5n, 0x5_0000_0004n]],
    ["SCMP_CMP_MASKED_EQ", 0n, 0n, [0n, M], []],
  ];
  test.each(table)("%s", (op, value, valueTwo, yes, no) => {
    for (const index of [0, 5]) {
      const profile = profileOf({ names: ["ioctl"], action: "SCMP_ACT_ALLOW", args: [{ index, op, value, valueTwo }] });
      const put = (number: bigint) => [0n, 0n, 0n, 0n, 0n, 0n].with(index, number);
      for (const number of yes) expect(answerOf(profile, x64, "ioctl", put(number))).toBe("allow");
      for (const number of no) expect(answerOf(profile, x64, "ioctl", put(number))).toBe("errno EPERM");
    }
  });
});

describe("several rules for one call", () => {
  const eq = (index: number, value: number): ProfileArgument => ({ index, value, op: "SCMP_CMP_EQ" });
  const allow = (...args: ProfileArgument[]): ProfileRule => ({ names: ["socket"], action: "SCMP_ACT_ALLOW", args });

  test("are OR-ed, and the conditions of one are AND-ed", () => {
    const profile = profileOf(allow(eq(0, 1)), allow(eq(0, 16), eq(2, 0)));
    expect(answerOf(profile, x64, "socket", [1n, 0n, 5n])).toBe("allow");
    expect(answerOf(profile, x64, "socket", [16n, 0n, 0n])).toBe("allow");
    expect(answerOf(profile, x64, "socket", [16n, 0n, 9n])).toBe("errno EPERM");
  });

  test("one argument twice in a rule is two rules", () => {
    const profile = profileOf(allow(eq(0, 1), eq(0, 2)));
    expect(answerOf(profile, x64, "socket", [1n])).toBe("allow");
    expect(answerOf(profile, x64, "socket", [2n])).toBe("allow");
    expect(answerOf(profile, x64, "socket", [3n])).toBe("errno EPERM");
  });

  test("a conditional refusal holds beside an unconditional allow, in either order", () => {
    const refusal: ProfileRule = { names: ["socket"], action: "SCMP_ACT_ERRNO", errnoRet: 97, args: [eq(0, 38)] };
    for (const profile of [profileOf(allow(), refusal), profileOf(refusal, allow())]) {
      expect(answerOf(profile, x64, "socket", [38n])).toBe("errno EAFNOSUPPORT");
      expect(answerOf(profile, x64, "socket", [2n])).toBe("allow");
    }
  });
});

describe("every action", () => {
  test.each([
    ["SCMP_ACT_KILL_PROCESS", "kill process"],
    ["SCMP_ACT_KILL_THREAD", "kill thread"],
    ["SCMP_ACT_KILL", "kill thread"],
    ["SCMP_ACT_TRAP", "trap"],
    ["SCMP_ACT_ERRNO", "errno EPERM"],
    ["SCMP_ACT_NOTIFY", "notify"],
    ["SCMP_ACT_TRACE", "trace 1"],
    ["SCMP_ACT_LOG", "log"],
    ["SCMP_ACT_ALLOW", "allow"],
  ] as const)("%s", (action, shown) => {
    expect(answerOf({ defaultAction: "SCMP_ACT_TRAP", syscalls: [{ names: ["read"], action }] }, x64, "read")).toBe(
      shown,
    );
  });
});

describe("foreign architectures", () => {
  const silent = profileOf({ names: ["getpid"], action: "SCMP_ACT_ALLOW" });
  const map = [
    { architecture: "SCMP_ARCH_X86_64", subArchitectures: ["SCMP_ARCH_X86", "SCMP_ARCH_X32"] },
    { architecture: "SCMP_ARCH_AARCH64", subArchitectures: ["SCMP_ARCH_ARM"] },
  ];
  const spoken = { ...silent, archMap: map };
  const plain = { ...silent, architectures: ["SCMP_ARCH_X86"] };
  const I386 = 0x40000003;
  const ARM = 0x40000028;
  const RISCV64 = 0xc00000f3;
  const X32_GETPID = 0x40000000 + 39;
  const table: [string, SeccompProfile, SeccompTarget, number, number, string][] = [
    ["i386 unnamed", silent, x64, I386, 39, "kill process"],
    ["i386 in archMap", spoken, x64, I386, 39, "errno ENOSYS"],
    ["i386 in architectures", plain, x64, I386, 39, "errno ENOSYS"],
    ["x32 unnamed", silent, x64, ARCHITECTURES.x64.audit, X32_GETPID, "kill process"],
    ["x32 unnamed, others named", plain, x64, ARCHITECTURES.x64.audit, X32_GETPID, "kill process"],
    ["x32 in archMap", spoken, x64, ARCHITECTURES.x64.audit, X32_GETPID, "errno ENOSYS"],
    ["the last x32 number", silent, x64, ARCHITECTURES.x64.audit, 0xfffffffe, "kill process"],
    ["-1, a skipped call", silent, x64, ARCHITECTURES.x64.audit, 0xffffffff, "errno EPERM"],
    ["arm unnamed", silent, arm64, ARM, 172, "kill process"],
    ["arm in archMap", spoken, arm64, ARM, 172, "errno ENOSYS"],
    ["x86-64 on aarch64", spoken, arm64, ARCHITECTURES.x64.audit, 39, "kill process"],
    ["something else", spoken, x64, RISCV64, 172, "kill process"],
    ["x32's bit means nothing on aarch64", silent, arm64, ARCHITECTURES.arm64.audit, 0x40000000 + 172, "errno EPERM"],
  ];
  test.each(table)("%s", (_what, profile, target, arch, nr, shown) => {
    expect(formatAction(evaluateBpf(compileSeccomp(profile, target), { arch, nr }))).toBe(shown);
  });
});

describe("calls newer than the profile", () => {
  const rules: ProfileRule[] = [{ names: ["read", "openat2"], action: "SCMP_ACT_ALLOW" }]; // openat2 is 437
  test("get ENOSYS where the default's number is not written down", () => {
    const profile = { defaultAction: "SCMP_ACT_ERRNO", syscalls: rules } as const;
    expect(answerOf(profile, x64, 436)).toBe("errno EPERM");
    expect(answerOf(profile, x64, 437)).toBe("allow");
    expect(answerOf(profile, x64, 438)).toBe("errno ENOSYS");
    expect(answerOf(profile, arm64, 100000)).toBe("errno ENOSYS");
    expect(answerOf(profile, x64, 0x40000000)).toBe("kill process");
  });
  test("get the default otherwise", () => {
    expect(answerOf(profileOf(...rules), x64, 438)).toBe("errno EPERM");
    expect(answerOf({ defaultAction: "SCMP_ACT_KILL_PROCESS", syscalls: rules }, x64, 438)).toBe("kill process");
  });
  test("a rule that does not hold here still names its calls", () => {
    const away: ProfileRule = { names: ["openat2"], action: "SCMP_ACT_ALLOW", includes: { caps: ["CAP_SYS_ADMIN"] } };
    const profile: SeccompProfile = {
      defaultAction: "SCMP_ACT_ERRNO",
      syscalls: [{ names: ["read"], action: "SCMP_ACT_ALLOW" }, away],
    };
    expect(answerOf(profile, x64, 437)).toBe("errno EPERM");
    expect(answerOf(profile, x64, 438)).toBe("errno ENOSYS");
  });
});

test("includes, excludes: capabilities with or without CAP_, kernels by number", () => {
  const profile = profileOf(
    { names: ["chroot"], action: "SCMP_ACT_ALLOW", includes: { caps: ["CAP_SYS_CHROOT"] } },
    { names: ["ptrace"], action: "SCMP_ACT_ALLOW", includes: { minKernel: "4.10" } },
    { names: ["mount"], action: "SCMP_ACT_ALLOW", excludes: { caps: ["CAP_SYS_ADMIN"] } },
  );
  const target: SeccompTarget = { arch: "x64", capabilities: ["sys_chroot"], kernel: [4, 9] };
  expect(answerOf(profile, target, "chroot")).toBe("allow");
  expect(answerOf(profile, target, "mount")).toBe("allow");
  expect(answerOf(profile, { ...target, capabilities: ["SYS_ADMIN"] }, "mount")).toBe("errno EPERM");
  expect(answerOf(profile, target, "ptrace")).toBe("errno EPERM");
  expect(answerOf(profile, { ...target, kernel: [4, 10] }, "ptrace")).toBe("allow");
  expect(answerOf(profile, { ...target, kernel: [5, 0] }, "ptrace")).toBe("allow");
});

test("long ways are jumped over: every call with three 64-bit conditions, on both sides of a search", () => {
  const syscalls: ProfileRule[] = [...syscallNumbers("x64").keys()].slice(0, 200).map((name, i) => ({
    names: [name],
    action: "SCMP_ACT_ALLOW",
    args: [0, 1, 2].map((index) => ({ index, value: BigInt(i) << 31n, op: "SCMP_CMP_EQ" })),
  }));
  const program = compileSeccomp(profileOf(...syscalls), x64);
  expect(validateBpf(program).length).toBeGreaterThan(2000);
  for (let nr = 0; nr < 200; nr++) {
    const args = [0, 1, 2].map(() => BigInt(nr) << 31n);
    const data = { arch: ARCHITECTURES.x64.audit, nr, args };
    expect(formatAction(evaluateBpf(program, data))).toBe("allow");
    expect(formatAction(evaluateBpf(program, { ...data, args: args.with(2, 1n) }))).toBe("errno EPERM");
  }
});

test("the longest conditional jump is 255: code of every length around it", () => {
  // `read` is number 0, so that its code is the lower half of the search: 5 instructions for an EQ, 3 for a masked low word.
  const lengths = new Set<number>();
  for (let count = 46; count <= 56; count++) {
    for (let short = 0; short < 5; short++) {
      const args = (value: number): ProfileArgument => ({ index: 0, value, op: "SCMP_CMP_EQ" });
      const low = (valueTwo: number): ProfileArgument => ({
        index: 1,
        value: 0xffffffff,
        valueTwo,
        op: "SCMP_CMP_MASKED_EQ",
      });
      const profile = profileOf(
        ...Array.from({ length: count }, (_, i): ProfileRule => ({
          names: ["read"],
          action: "SCMP_ACT_ALLOW",
          args: [args(i + 1)],
        })),
        ...Array.from({ length: short }, (_, i): ProfileRule => ({
          names: ["read"],
          action: "SCMP_ACT_ALLOW",
          args: [low(i + 1)],
        })),
        { names: ["write", "close", "fstat"], action: "SCMP_ACT_LOG" },
      );
      lengths.add(5 * count + 3 * short + 1);
      expect(answerOf(profile, x64, "write")).toBe("log");
      expect(answerOf(profile, x64, "fstat")).toBe("log");
      expect(answerOf(profile, x64, "poll")).toBe("errno EPERM");
      expect(answerOf(profile, x64, "read", [BigInt(count)])).toBe("allow");
      expect(answerOf(profile, x64, "read", [0n, BigInt(short + 1)])).toBe("errno EPERM");
    }
  }
  for (let length = 250; length <= 262; length++) expect(lengths).toContain(length);
});

test("a program beyond 4096 instructions is refused", () => {
  const syscalls: ProfileRule[] = Array.from({ length: 900 }, (_, value) => ({
    names: ["ioctl"],
    action: "SCMP_ACT_ALLOW",
    args: [{ index: 1, value, op: "SCMP_CMP_EQ" }],
  }));
  expect(() => compileSeccomp(profileOf(...syscalls), x64)).toThrow("instructions: the kernel takes at most 4096");
});

test("compiled programs mean what the profile says", () => {
  const capabilities = fc.subarray(["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"]);
  fc.assert(
    fc.property(anyProfile, capabilities, fc.constantFrom("x64", "arm64"), (profile, held, arch) => {
      const program = validateBpf(compileSeccomp(profile, { arch, capabilities: held, kernel: [6, 1] }));
      const machine = { arch: ARCHITECTURES[arch].go, capabilities: held, kernel: [6, 1] } as const;
      const vectors = telling(profile);
      for (const name of [...NAMES, "getpid"]) {
        const nr = syscallNumbers(arch).get(name);
        if (nr === undefined) continue;
        for (const args of vectors) {
          const seen = evaluateBpf(program, { arch: ARCHITECTURES[arch].audit, nr, args });
          const said = interpret(profile, { name, args }, machine);
          if (seen !== said)
            throw new Error(`${name}(${args.join()}): ${formatAction(seen)}, not ${formatAction(said)}`);
        }
      }
    }),
    { numRuns: 300 },
  );
});
