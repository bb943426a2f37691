import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { UsageError } from "../../src/errors.ts";
import { compileSeccomp } from "../../src/process/seccomp.ts";
import { checkProfile, parseSeccompJson } from "../../src/process/seccomp-profile.ts";

const target = { arch: "x64", capabilities: [], kernel: [6, 1] } as const;
const rule = (more: object) => ({ defaultAction: "SCMP_ACT_ERRNO", syscalls: [{ names: ["read"], ...more }] });
const arg = (more: object) =>
  rule({ action: "SCMP_ACT_ALLOW", args: [{ index: 0, value: 1, op: "SCMP_CMP_EQ", ...more }] });

describe("refused, naming the path", () => {
  const table: [unknown, string][] = [
    [null, "seccomp profile: null is not an object"],
    [[], "[] is not an object"],
    ["SCMP_ACT_ALLOW", "is not an object"],
    [{}, "defaultAction: missing"],
    [{ syscalls: [] }, "defaultAction: missing"],
    [{ defaultAction: null }, "defaultAction: unknown value null"],
    [{ defaultAction: "ALLOW" }, 'defaultAction: unknown value "ALLOW"'],
    [{ defaultAction: "SCMP_ACT_NOTIFY" }, "defaultAction: SCMP_ACT_NOTIFY"],
    [{ defaultAction: "SCMP_ACT_ALLOW" }, "allows everything"],
    [{ defaultAction: "SCMP_ACT_LOG", syscalls: [] }, "allows everything"],
    [
      { defaultAction: "SCMP_ACT_ALLOW", syscalls: [{ names: ["mountt"], action: "SCMP_ACT_ERRNO" }] },
      "allows everything",
    ],
    [{ defaultAction: "SCMP_ACT_ERRNO", syscall: [] }, "syscall: unknown key"],
    [{ defaultAction: "SCMP_ACT_KILL", defaultErrnoRet: 1 }, "defaultErrnoRet: SCMP_ACT_KILL carries no error number"],
    [{ defaultAction: "SCMP_ACT_ERRNO", defaultErrnoRet: 4096 }, "defaultErrnoRet: 4096 is not in 0..4095"],
    [{ defaultAction: "SCMP_ACT_ERRNO", defaultErrno: "ENOPE" }, 'defaultErrno: unknown error name "ENOPE"'],
    [{ defaultAction: "SCMP_ACT_ERRNO", architectures: ["x86"] }, 'architectures: unknown architecture "x86"'],
    [
      {
        defaultAction: "SCMP_ACT_ERRNO",
        architectures: ["SCMP_ARCH_X86"],
        archMap: [{ architecture: "SCMP_ARCH_X86_64" }],
      },
      "archMap: given beside architectures",
    ],
    [{ defaultAction: "SCMP_ACT_ERRNO", flags: ["TSYNC"] }, 'flags[0]: unknown value "TSYNC"'],
    [{ defaultAction: "SCMP_ACT_ERRNO", syscalls: {} }, "syscalls: {} is not a list"],
    [{ defaultAction: "SCMP_ACT_ERRNO", syscalls: [null] }, "syscalls[0]: null is not an object"],
    [rule({}), "syscalls[0].action: missing"],
    [rule({ action: "SCMP_ACT_DENY" }), 'syscalls[0].action: unknown value "SCMP_ACT_DENY"'],
    [rule({ action: "toString" }), "syscalls[0].action: unknown value"],
    [rule({ action: "SCMP_ACT_ALLOW", names: [] }), "syscalls[0].names: empty"],
    [rule({ action: "SCMP_ACT_ALLOW", names: [7] }), "syscalls[0].names[0]: 7 is not a name"],
    [rule({ action: "SCMP_ACT_ALLOW", name: "open" }), "syscalls[0].name: given beside names"],
    [rule({ action: "SCMP_ACT_ALLOW", arg: [] }), "syscalls[0].arg: unknown key"],
    [rule({ action: "SCMP_ACT_ALLOW", errnoRet: 1 }), "syscalls[0].errnoRet: SCMP_ACT_ALLOW carries no"],
    [rule({ action: "SCMP_ACT_ERRNO", errno: "constructor" }), "syscalls[0].errno: unknown error name"],
    [rule({ action: "SCMP_ACT_NOTIFY", names: ["write"] }), "syscalls[0].action: SCMP_ACT_NOTIFY for write"],
    [rule({ action: "SCMP_ACT_ALLOW", includes: { cap: [] } }), "syscalls[0].includes.cap: unknown key"],
    [rule({ action: "SCMP_ACT_ALLOW", excludes: { minKernel: "new" } }), "syscalls[0].excludes.minKernel"],
    [arg({ op: "SCMP_CMP_FOO" }), 'syscalls[0].args[0].op: unknown value "SCMP_CMP_FOO"'],
    [arg({ op: undefined }), "syscalls[0].args[0].op: missing"],
    [arg({ value: undefined }), "syscalls[0].args[0].value: missing"],
    [arg({ value: -1 }), "syscalls[0].args[0].value: -1 is not in"],
    [arg({ value: 1.5 }), "syscalls[0].args[0].value: 1.5 is not a whole number"],
    [arg({ value: 2 ** 60 }), "is not a whole number"],
    [arg({ value: 1n << 64n }), "is not in"],
    [arg({ valueTwo: "0" }), 'syscalls[0].args[0].valueTwo: "0" is not a whole number'],
    [arg({ index: 6 }), "syscalls[0].args[0].index: 6 is not in 0..5"],
  ];
  test.each(table.map(([profile, message]) => [message, profile] as const))("%s", (message, profile) => {
    let thrown: unknown;
    try {
      compileSeccomp(profile, target);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(UsageError);
    expect(String(thrown)).toContain(message);
  });
});

test("text that is not JSON is refused", () => {
  expect(() => parseSeccompJson("{")).toThrow("seccomp profile: not JSON");
  expect(() => parseSeccompJson("")).toThrow(UsageError);
});

test("64-bit numbers in the text are exact", () => {
  const text = JSON.stringify(arg({})).replace(
    '"value":1',
    '"value":18446744073709551615,"valueTwo":9223372036854775809',
  );
  const [first] = checkProfile(parseSeccompJson(text)).rules;
  expect(first?.conditions[0]).toMatchObject({ value: 18446744073709551615n, valueTwo: 9223372036854775809n });
});

test("a number or a word says the same error", () => {
  const action = (more: object) => checkProfile(rule({ action: "SCMP_ACT_ERRNO", ...more })).rules[0]?.action;
  expect(action({ errnoRet: 38 })).toBe(0x00050026);
  expect(action({ errno: "ENOSYS" })).toBe(0x00050026);
  expect(action({ errno: "EOPNOTSUPP" })).toBe(0x0005005f);
  expect(action({})).toBe(0x00050001);
});

test("any JSON is compiled or refused with a UsageError", () => {
  const keys = [
    "defaultAction",
    "syscalls",
    "names",
    "action",
    "args",
    "index",
    "value",
    "op",
    "includes",
    "caps",
    "archMap",
  ];
  const leaf = fc.oneof(
    fc.constantFrom("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_CMP_EQ", "read", null, 0, -1, true),
    fc.bigInt(),
    fc.double(),
  );
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof(
      { maxDepth: 5 },
      leaf,
      fc.array(tie("value")),
      fc.dictionary(fc.constantFrom(...keys), tie("value")),
    ),
  }));
  fc.assert(
    fc.property(value, (profile) => {
      try {
        compileSeccomp(profile, target);
      } catch (error) {
        if (!(error instanceof UsageError)) throw error;
      }
    }),
    { numRuns: 500 },
  );
});
