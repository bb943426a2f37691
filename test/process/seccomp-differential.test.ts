/** The compiler against libseccomp. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import fc from "fast-check";
import { debianFile, DOCKER_PROFILE } from "../../scripts/debian-files.ts";
import type { Arch } from "../../src/libc/syscalls.ts";
import { type Instruction, parseBpf, validateBpf } from "../../src/process/bpf.ts";
import { evaluateBpf } from "../../src/process/bpf-evaluate.ts";
import { hutchProfile, PROFILE_NAMES } from "../../src/process/profiles.ts";
import { ARCHITECTURES, compileSeccomp } from "../../src/process/seccomp.ts";
import { formatAction, severity } from "../../src/process/seccomp-actions.ts";
import { checkProfile, parseSeccompJson, type SeccompProfile } from "../../src/process/seccomp-profile.ts";
import { syscallNumbers } from "../../src/process/syscall-numbers.ts";
import { buildC, referenceFilters, referenceNumbers, type ReferenceRule } from "./libseccomp.ts";
import { anyProfile, telling } from "./profile-arbitrary.ts";

const ARCHES: Arch[] = ["x64", "arm64"];
const ALLOW = 0x7fff0000;
const kernel = [6, 1] as const;

let reference: ReturnType<typeof buildC>;
let known: Record<Arch, Map<string, number>>; // what this libseccomp knows, -1 for the rest
beforeAll(() => {
  reference = buildC("libseccomp.c", "-lseccomp");
  const numbers = (arch: Arch) => referenceNumbers(reference.path, arch, [...syscallNumbers(arch).keys()]);
  known = { x64: numbers("x64"), arm64: numbers("arm64") };
});
afterAll(() => reference[Symbol.dispose]());

test.each(ARCHES)("the table of %s agrees with libseccomp's", (arch) => {
  const agreed = [...known[arch]].filter(([, number]) => number >= 0);
  expect(agreed.length).toBeGreaterThan(300);
  for (const [name, number] of agreed) expect([name, number]).toEqual([name, syscallNumbers(arch).get(name) ?? -1]);
});

test("the table of x64 has every call of the installed kernel headers", async () => {
  const file = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h";
  if (!existsSync(file)) throw new Error(`${file} is missing: install linux-libc-dev`);
  const defined = (await Bun.file(file).text()).matchAll(/#define __NR_(\w+) (\d+)/g);
  for (const [, name = "", number] of defined)
    expect([name, syscallNumbers("x64").get(name)]).toEqual([name, Number(number)]);
});

/** Rules as runc hands them to libseccomp: those that hold here, one for each call, one argument twice taken apart. */
function handed(profile: SeccompProfile, arch: Arch, capabilities: readonly string[]): ReferenceRule[] {
  const go = ARCHITECTURES[arch].go;
  return checkProfile(profile).rules.flatMap(({ names, action, conditions, includes, excludes }) => {
    const isHere =
      (!includes.arches?.length || includes.arches.includes(go)) &&
      (includes.caps ?? []).every((cap) => capabilities.includes(cap)) &&
      !(includes.minKernel ?? "0.0").startsWith("6.2") &&
      !excludes.arches?.includes(go) &&
      !excludes.caps?.some((cap) => capabilities.includes(cap));
    const twice = new Set(conditions.map(({ index }) => index)).size < conditions.length;
    const parts = twice ? conditions.map((one) => [one]) : [conditions];
    return (isHere ? names : [])
      .filter((name) => (known[arch].get(name) ?? -1) >= 0)
      .flatMap((name) => parts.map((part) => ({ action, name, conditions: part })));
  });
}

/**
 * The profile as several filters of libseccomp, whose answers the kernel joins by taking the most restrictive: one that
 * allows whatever any rule speaks of, and one for each action. No two actions meet in one filter, where libseccomp's
 * choice is its own.
 */
function stack(profile: SeccompProfile, arch: Arch, capabilities: readonly string[]) {
  const rules = handed(profile, arch, capabilities);
  const others = [...new Set(rules.map(({ action }) => action))].filter((action) => action !== ALLOW);
  const opened = rules.map((rule) => ({ ...rule, action: ALLOW }));
  return [
    { arch, defaultAction: checkProfile(profile).defaultAction, rules: opened },
    ...others.map((action) => ({ arch, defaultAction: ALLOW, rules: rules.filter((rule) => rule.action === action) })),
  ];
}

function joined(filters: readonly (readonly Instruction[])[], data: Parameters<typeof evaluateBpf>[1]): number {
  const answers = filters.map((filter) => evaluateBpf(filter, data));
  return answers.reduce((one, other) => (severity(other) < severity(one) ? other : one));
}

/** Calls on which to compare: all numbers from 0 to 1000 and the edges of 32 bits and of x32, each with each vector. */
const NUMBERS = [
  ...Array.from({ length: 1001 }, (_, i) => i),
  0x3fffffff,
  0x40000000,
  0x40000001,
  0x40000208,
  0x7fffffff,
  0x80000000,
  0xfffffffe,
  0xffffffff,
];

/** The first difference as text, or undefined. Full vectors only for calls with conditions; a few for all others. */
function difference(
  ours: readonly Instruction[],
  theirs: readonly (readonly Instruction[])[],
  profile: SeccompProfile,
  arch: Arch,
): string | undefined {
  const conditional = new Set(
    (profile.syscalls ?? [])
      .filter((rule) => (rule.args?.length ?? 0) > 0)
      .flatMap((rule) => (rule.names ?? []).map((name) => syscallNumbers(arch).get(name))),
  );
  const vectors = telling(profile);
  const few = vectors.slice(0, 3);
  const unknown = new Set(
    [...known[arch]].filter(([, number]) => number < 0).map(([name]) => syscallNumbers(arch).get(name)),
  );
  for (const audit of [
    ARCHITECTURES[arch].audit,
    ARCHITECTURES[arch].foreign,
    ARCHITECTURES[arch === "x64" ? "arm64" : "x64"].audit,
  ]) {
    for (const nr of NUMBERS) {
      if (unknown.has(nr)) continue;
      for (const args of conditional.has(nr) ? vectors : few) {
        const data = { arch: audit, nr, args };
        const [seen, said] = [evaluateBpf(ours, data), joined(theirs, data)];
        if (seen !== said) {
          return `arch 0x${audit.toString(16)} call ${nr}(${args.join()}): ${formatAction(seen)}, libseccomp ${formatAction(said)}`;
        }
      }
    }
  }
  return undefined;
}

/** An explicit number for the default: libseccomp has no ENOSYS for newer calls. */
function explicit(profile: SeccompProfile): SeccompProfile {
  const has = profile.defaultAction === "SCMP_ACT_ERRNO" && profile.defaultErrno === undefined;
  return { ...profile, archMap: null, ...(has ? { defaultErrnoRet: profile.defaultErrnoRet ?? 1 } : {}) };
}

const SETS: [string, string[]][] = [
  ["none", []],
  ["docker's", ["CAP_SYS_CHROOT", "CAP_AUDIT_WRITE", "CAP_NET_RAW", "CAP_MKNOD"]],
  [
    "many",
    [
      "CAP_SYS_ADMIN",
      "CAP_SYS_PTRACE",
      "CAP_SYS_CHROOT",
      "CAP_SYSLOG",
      "CAP_BPF",
      "CAP_SYS_TIME",
      "CAP_DAC_READ_SEARCH",
    ],
  ],
];

describe("podman's published profile", () => {
  const file = "/usr/share/containers/seccomp.json";
  test.each(ARCHES.flatMap((arch) => SETS.map(([name, held]) => [arch, name, held] as const)))(
    "%s, capabilities %s",
    async (arch, _name, held) => {
      if (!existsSync(file)) throw new Error(`${file} is missing: install golang-github-containers-common`);
      const profile = parseSeccompJson(await Bun.file(file).text()) as SeccompProfile;
      expect(validateBpf(compileSeccomp(profile, { arch, capabilities: held, kernel })).length).toBeGreaterThan(100);
      const plain = explicit(profile);
      const ours = validateBpf(compileSeccomp(plain, { arch, capabilities: held, kernel }));
      // As runc does it, in one filter. It allows and refuses setns without conditions: libseccomp keeps the first.
      const isRefused = !held.includes("CAP_SYS_ADMIN");
      const nr = syscallNumbers(arch).get("setns") ?? -1;
      const { defaultAction } = checkProfile(plain);
      const rules = handed(plain, arch, held).filter(
        ({ action, name }) => action !== defaultAction && !(isRefused && name === "setns"),
      );
      const denied = [{ action: 0x00050001, name: "setns", conditions: [] }];
      const theirs = referenceFilters(reference.path, [
        { arch, defaultAction, rules: isRefused ? [...rules, ...denied] : rules },
      ]);
      expect(difference(ours, theirs.map(parseBpf), plain, arch)).toBeUndefined();
      expect(formatAction(evaluateBpf(ours, { arch: ARCHITECTURES[arch].audit, nr }))).toBe(
        isRefused ? "errno EPERM" : "allow",
      );
    },
  );
});

describe("docker's published profile", () => {
  test.each(ARCHES.flatMap((arch) => SETS.map(([name, held]) => [arch, name, held] as const)))(
    "%s, capabilities %s",
    async (arch, _name, held) => {
      const profile = parseSeccompJson(await Bun.file(debianFile(DOCKER_PROFILE)).text()) as SeccompProfile;
      expect(validateBpf(compileSeccomp(profile, { arch, capabilities: held, kernel })).length).toBeGreaterThan(80);
      const plain = explicit(profile);
      const ours = validateBpf(compileSeccomp(plain, { arch, capabilities: held, kernel }));
      const theirs = referenceFilters(reference.path, stack(plain, arch, held)).map(validateBpf); // as --seccomp-fd does
      expect(difference(ours, theirs, plain, arch)).toBeUndefined();
    },
  );
});

/** What is peculiar to docker's format, in few rules: no defaultErrnoRet, archMap, `name`, null lists, masked clone. */
const DOCKER_LIKE: SeccompProfile = {
  defaultAction: "SCMP_ACT_ERRNO",
  archMap: [
    { architecture: "SCMP_ARCH_X86_64", subArchitectures: ["SCMP_ARCH_X86", "SCMP_ARCH_X32"] },
    { architecture: "SCMP_ARCH_AARCH64", subArchitectures: ["SCMP_ARCH_ARM"] },
    { architecture: "SCMP_ARCH_RISCV64", subArchitectures: null },
  ],
  syscalls: [
    {
      names: ["read", "write", "_llseek", "fstat64"],
      action: "SCMP_ACT_ALLOW",
      args: null,
      comment: "",
      includes: {},
      excludes: {},
    },
    { name: "exit_group", action: "SCMP_ACT_ALLOW", args: [] },
    { names: ["ptrace"], action: "SCMP_ACT_ALLOW", includes: { minKernel: "4.8" } },
    { names: ["socket"], action: "SCMP_ACT_ALLOW", args: [{ index: 0, value: 40, op: "SCMP_CMP_NE" }] },
    { names: ["arch_prctl"], action: "SCMP_ACT_ALLOW", includes: { arches: ["amd64", "x32"] } },
    { names: ["clone", "clone3", "unshare"], action: "SCMP_ACT_ALLOW", includes: { caps: ["CAP_SYS_ADMIN"] } },
    {
      names: ["clone"],
      action: "SCMP_ACT_ALLOW",
      args: [{ index: 0, value: 2114060288, op: "SCMP_CMP_MASKED_EQ" }],
      excludes: { caps: ["CAP_SYS_ADMIN"], arches: ["s390", "s390x"] },
    },
    { names: ["clone3"], action: "SCMP_ACT_ERRNO", errnoRet: 38, excludes: { caps: ["CAP_SYS_ADMIN"] } },
  ],
};

describe("docker's format and hutch's own profiles", () => {
  const profiles: [string, SeccompProfile][] = [
    ["docker's format", DOCKER_LIKE],
    ...PROFILE_NAMES.map((name): [string, SeccompProfile] => [name, hutchProfile(name, { pid1: true })]),
  ];
  const cases = profiles.flatMap(([name, profile]) =>
    ARCHES.flatMap((arch) => SETS.map(([set, held]) => [name, arch, set, profile, held] as const)),
  );
  test.each(cases)("%s on %s, capabilities %s", (_name, arch, _set, profile, held) => {
    const plain = explicit({
      ...profile,
      syscalls: (profile.syscalls ?? []).map(({ name, ...rule }) => ({
        names: name === undefined ? [] : [name],
        ...rule,
      })),
    });
    const ours = validateBpf(compileSeccomp(plain, { arch, capabilities: held, kernel }));
    const theirs = referenceFilters(reference.path, stack(plain, arch, held)).map(parseBpf);
    expect(difference(ours, theirs, plain, arch)).toBeUndefined();
  });
});

test("random profiles", () => {
  const profiles = fc.sample(anyProfile, 60).map((profile) => withoutSharedOrder(explicit(profile)));
  let compared = 0;
  for (const arch of ARCHES) {
    for (const profile of profiles) {
      const wanted = stack(profile, arch, ["CAP_SYS_ADMIN"]);
      const theirs = refusedAsInvalid(() => referenceFilters(reference.path, wanted).map(parseBpf));
      if (theirs === undefined) continue; // libseccomp cannot hold some sets of rules for one call
      const ours = validateBpf(compileSeccomp(profile, { arch, capabilities: ["CAP_SYS_ADMIN"], kernel }));
      const found = difference(ours, theirs, profile, arch);
      if (found !== undefined)
        throw new Error(
          `${found}\n${JSON.stringify(profile, (_k, v: unknown) => (typeof v === "bigint" ? `${v}n` : v))}`,
        );
      compared += 1;
    }
  }
  expect(compared).toBeGreaterThan(profiles.length);
}, 60_000);

/**
 * Without rules that order an argument (LT, LE, GT, GE) which an earlier rule of the same call, or the same rule, has
 * ordered too: libseccomp 2.5.4 then gets some values above 2^63 wrong (seen: LE and GT on one argument). Ours
 * are held to a plain interpreter of profiles there (seccomp.test.ts).
 */
function withoutSharedOrder(profile: SeccompProfile): SeccompProfile {
  const ordered = new Set<string>();
  const syscalls = (profile.syscalls ?? []).filter(({ names, args }) => {
    const keys = (names ?? []).flatMap((name) => (args ?? []).map(({ index }) => `${name} ${index}`));
    const order = (args ?? []).some(({ op }) => !/_(?:EQ|NE)$/.test(op));
    if (new Set(keys).size !== keys.length || keys.some((key) => ordered.has(key))) return false;
    if (order) for (const key of keys) ordered.add(key);
    return true;
  });
  return { ...profile, syscalls };
}

/** undefined when libseccomp takes a rule for invalid. */
function refusedAsInvalid<T>(make: () => T): T | undefined {
  try {
    return make();
  } catch (error) {
    if (error instanceof Error && /rule_add \w+: Invalid argument/.test(error.message)) return undefined;
    throw error;
  }
}

test("where libseccomp is laxer: it drops a conditional refusal beside an unconditional allow", () => {
  const profile: SeccompProfile = {
    defaultAction: "SCMP_ACT_ERRNO",
    defaultErrnoRet: 1,
    syscalls: [
      { names: ["ioctl"], action: "SCMP_ACT_ALLOW" },
      {
        names: ["ioctl"],
        action: "SCMP_ACT_ERRNO",
        errnoRet: 2,
        args: [{ index: 1, value: 0x5412, op: "SCMP_CMP_EQ" }],
      },
    ],
  };
  const [theirs = new Uint8Array()] = referenceFilters(reference.path, [
    { arch: "x64", defaultAction: 0x00050001, rules: handed(profile, "x64", []) },
  ]);
  const data = { arch: ARCHITECTURES.x64.audit, nr: 16, args: [0n, 0x5412n] };
  expect(formatAction(evaluateBpf(theirs, data))).toBe("allow");
  expect(formatAction(evaluateBpf(compileSeccomp(profile, { arch: "x64", capabilities: [], kernel }), data))).toBe(
    "errno ENOENT",
  );
});

test("the comparison can fail: each changed instruction is noticed", () => {
  const profile = explicit(DOCKER_LIKE);
  const plain = { ...profile, syscalls: (profile.syscalls ?? []).filter(({ names }) => names !== undefined) };
  const ours = validateBpf(compileSeccomp(plain, { arch: "x64", capabilities: [], kernel }));
  const theirs = referenceFilters(reference.path, stack(plain, "x64", [])).map(parseBpf);
  expect(difference(ours, theirs, plain, "x64")).toBeUndefined();
  const missed = ours.flatMap((instruction, at) => {
    const kind = instruction.code & 0x07;
    const changed: Instruction =
      kind === 0x05
        ? { ...instruction, k: (instruction.k + 1) >>> 0 }
        : kind === 0x06
          ? { ...instruction, k: instruction.k === ALLOW ? 0x00050001 : ALLOW }
          : kind === 0x00
            ? { ...instruction, k: instruction.k === 0 ? 16 : 0 }
            : { ...instruction, k: 0 };
    return difference(ours.with(at, changed), theirs, plain, "x64") === undefined ? [at] : [];
  });
  expect(missed).toEqual([]);
});
