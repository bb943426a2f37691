/**
 * Seccomp profiles as JSON: the OCI runtime specification's `linux.seccomp` and the superset that docker and podman
 * publish (`archMap`, `includes`, `excludes`, `name`, `errno` as a word). Read strictly: a key that is not known is
 * refused, because a misspelt `args` would turn a narrow rule into a wide one.
 *
 * Sources: opencontainers/runtime-spec config-linux.md "Seccomp"; docker's and containers/common's profile loaders.
 */

import { UsageError } from "../errors.ts";
import { errnoNumber } from "../libc/errno.ts";
import { type Action, ACTIONS, WITH_DATA } from "./seccomp-actions.ts";

export const OPERATORS = [
  "SCMP_CMP_NE",
  "SCMP_CMP_LT",
  "SCMP_CMP_LE",
  "SCMP_CMP_EQ",
  "SCMP_CMP_GE",
  "SCMP_CMP_GT",
  "SCMP_CMP_MASKED_EQ",
] as const;

export type Operator = (typeof OPERATORS)[number];

/** Where a rule holds: all that is given must be so. Architectures in Go's words (`amd64`, `arm64`). */
export type RuleFilter = {
  readonly arches?: readonly string[] | null;
  readonly caps?: readonly string[] | null;
  readonly minKernel?: string | null;
};

/** A comparison with argument `index` (0..5). MASKED_EQ is `(argument & value) == (valueTwo & value)`. */
export type ProfileArgument = {
  readonly index: number;
  readonly value: number | bigint;
  readonly valueTwo?: number | bigint;
  readonly op: Operator;
};

export type ProfileRule = {
  readonly names?: readonly string[] | null;
  readonly name?: string;
  readonly action: Action;
  readonly args?: readonly ProfileArgument[] | null;
  readonly errnoRet?: number | null;
  readonly errno?: string;
  readonly comment?: string;
  readonly includes?: RuleFilter | null;
  readonly excludes?: RuleFilter | null;
};

/** A profile in OCI's words; what hutch's own profiles are written in. */
export type SeccompProfile = {
  readonly defaultAction: Action;
  readonly defaultErrnoRet?: number | null;
  readonly defaultErrno?: string;
  readonly architectures?: readonly string[] | null;
  readonly archMap?:
    readonly { readonly architecture: string; readonly subArchitectures?: readonly string[] | null }[] | null;
  readonly flags?: readonly string[] | null;
  readonly listenerPath?: string;
  readonly listenerMetadata?: string;
  readonly syscalls?: readonly ProfileRule[] | null;
};

/** A condition on one argument, all numbers unsigned 64 bits. */
export type Condition = {
  readonly index: number;
  readonly op: Operator;
  readonly value: bigint;
  readonly valueTwo: bigint;
};

/** A checked rule: `action` is the kernel's raw answer; the conditions' meaning is in seccomp.ts. */
export type Rule = {
  readonly names: readonly string[];
  readonly action: number;
  readonly conditions: readonly Condition[];
  readonly includes: RuleFilter;
  readonly excludes: RuleFilter;
};

/**
 * A checked profile. `explicitDefault` says that the default's error number was written down. `architectures(native)` are
 * the SCMP_ARCH_ words that the profile speaks for beside the native one.
 */
export type CheckedProfile = {
  readonly defaultAction: number;
  readonly explicitDefault: boolean;
  readonly architectures: (native: string) => ReadonlySet<string>;
  readonly flags: readonly string[];
  readonly rules: readonly Rule[];
};

const FLAGS = [
  "SECCOMP_FILTER_FLAG_TSYNC",
  "SECCOMP_FILTER_FLAG_LOG",
  "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
  "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];
const PROFILE_KEYS =
  "defaultAction defaultErrnoRet defaultErrno architectures archMap flags listenerPath listenerMetadata syscalls comment $schema";
const RULE_KEYS = "names name action args errnoRet errno comment includes excludes";

/** Names that glibc gives to numbers which errno.ts lists under another name. */
const ERRNO_ALIASES: Readonly<Record<string, number>> = { EWOULDBLOCK: 11, EDEADLK: 35, EOPNOTSUPP: 95 };
const MAX_ERRNO = 4095;

/**
 * Reads a profile's text. Whole numbers beyond 2^53 become bigint, so that 64-bit comparisons are exact.
 * @throws UsageError when it is not JSON; checks nothing else (see {@link checkProfile}).
 */
export function parseSeccompJson(json: string): unknown {
  try {
    return JSON.parse(json, (_key, value: unknown, context?: { source?: string }) =>
      typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? "")
        ? BigInt(context?.source ?? "")
        : value,
    );
  } catch (error) {
    const deep = error instanceof RangeError; // Bun's parser calls itself
    const what = deep ? "it is nested too deeply" : error instanceof Error ? error.message : String(error);
    throw new UsageError(`seccomp profile: not JSON: ${what}`);
  }
}

/**
 * Checks a profile (an object from {@link parseSeccompJson} or written in TypeScript) and normalizes it.
 * @throws UsageError naming the JSON path: a missing or unknown defaultAction, unknown keys, actions, operators, error
 * names, numbers out of range. Names of system calls are not checked: profiles name calls of other kernels.
 */
export function checkProfile(profile: unknown): CheckedProfile {
  const top = object(profile, "", PROFILE_KEYS);
  if (top["defaultAction"] === undefined) fail("defaultAction", "missing: a profile without one says nothing");
  const action = word(top["defaultAction"], "defaultAction", Object.keys(ACTIONS) as Action[]);
  if (action === "SCMP_ACT_NOTIFY") fail("defaultAction", "SCMP_ACT_NOTIFY would ask about the answer's own calls");
  const flags = list(top["flags"], "flags").map((flag, i) => word(flag, `flags[${i}]`, FLAGS));
  for (const key of ["listenerPath", "listenerMetadata", "comment", "$schema"]) optionalText(top[key], key);
  return {
    defaultAction: rawAction(action, top["defaultErrnoRet"], top["defaultErrno"], "defaultErrnoRet", "defaultErrno"),
    explicitDefault: isGiven(top["defaultErrnoRet"]) || isGiven(top["defaultErrno"]),
    architectures: architectures(top),
    flags,
    rules: list(top["syscalls"], "syscalls").map((rule, i) => checkRule(rule, `syscalls[${i}]`)),
  };
}

function checkRule(value: unknown, path: string): Rule {
  const rule = object(value, path, RULE_KEYS);
  const names = texts(rule["names"], `${path}.names`);
  if (isGiven(rule["name"])) {
    if (names.length > 0) fail(`${path}.name`, "given beside names: use one of them");
    names.push(text(rule["name"], `${path}.name`));
  }
  if (names.length === 0) fail(`${path}.names`, "empty: a rule must name a system call");
  if (rule["action"] === undefined) fail(`${path}.action`, "missing");
  const action = word(rule["action"], `${path}.action`, Object.keys(ACTIONS) as Action[]);
  if (action === "SCMP_ACT_NOTIFY" && names.includes("write")) {
    fail(`${path}.action`, "SCMP_ACT_NOTIFY for write would stop the descriptor from being handed over");
  }
  optionalText(rule["comment"], `${path}.comment`);
  return {
    names,
    action: rawAction(action, rule["errnoRet"], rule["errno"], `${path}.errnoRet`, `${path}.errno`),
    conditions: list(rule["args"], `${path}.args`).map((arg, i) => checkCondition(arg, `${path}.args[${i}]`)),
    includes: checkFilter(rule["includes"], `${path}.includes`),
    excludes: checkFilter(rule["excludes"], `${path}.excludes`),
  };
}

function checkCondition(value: unknown, path: string): Condition {
  const argument = object(value, path, "index value valueTwo op");
  for (const key of ["index", "value", "op"]) if (argument[key] === undefined) fail(`${path}.${key}`, "missing");
  const op = word(argument["op"], `${path}.op`, OPERATORS);
  return {
    index: Number(integer(argument["index"], `${path}.index`, 5n)),
    op,
    value: integer(argument["value"], `${path}.value`, U64_MAX),
    valueTwo: integer(argument["valueTwo"] ?? 0, `${path}.valueTwo`, U64_MAX),
  };
}

function checkFilter(value: unknown, path: string): RuleFilter {
  if (!isGiven(value)) return {};
  const filter = object(value, path, "arches caps minKernel");
  const minKernel = filter["minKernel"];
  if (isGiven(minKernel) && !/^\d+\.\d+$/.test(text(minKernel, `${path}.minKernel`))) {
    fail(`${path}.minKernel`, `${JSON.stringify(minKernel)} is not of the form 4.8`);
  }
  return {
    arches: texts(filter["arches"], `${path}.arches`),
    caps: texts(filter["caps"], `${path}.caps`).map(capabilityName),
    minKernel: isGiven(minKernel) ? String(minKernel) : null,
  };
}

/** `sys_admin`, `SYS_ADMIN`, `CAP_SYS_ADMIN`: the last, whatever was given. */
export function capabilityName(name: string): string {
  const upper = name.toUpperCase();
  return upper.startsWith("CAP_") ? upper : `CAP_${upper}`;
}

function architectures(top: Readonly<Record<string, unknown>>): (native: string) => ReadonlySet<string> {
  if (list(top["archMap"], "archMap").length > 0 && list(top["architectures"], "architectures").length > 0) {
    fail("archMap", "given beside architectures: use one of them");
  }
  const plain = archWords(top["architectures"], "architectures");
  const map = list(top["archMap"], "archMap").map((entry, i) => {
    const path = `archMap[${i}]`;
    const { architecture, subArchitectures } = object(entry, path, "architecture subArchitectures");
    const [main = ""] = archWords([architecture], `${path}.architecture`);
    return { main, sub: archWords(subArchitectures, `${path}.subArchitectures`) };
  });
  return (native) => new Set([...plain, ...map.filter(({ main }) => main === native).flatMap(({ sub }) => sub)]);
}

function archWords(value: unknown, path: string): string[] {
  return texts(value, path).map((name) =>
    /^SCMP_ARCH_[A-Z0-9_]+$/.test(name) ? name : fail(path, `unknown architecture ${JSON.stringify(name)}`),
  );
}

function rawAction(action: Action, number: unknown, name: unknown, numberPath: string, namePath: string): number {
  const data = WITH_DATA.has(action);
  if (isGiven(name) && name !== "") {
    const errorName = text(name, namePath);
    const alias = Object.hasOwn(ERRNO_ALIASES, errorName) ? ERRNO_ALIASES[errorName] : undefined;
    const found = errnoNumber(errorName) ?? alias;
    if (!data) fail(namePath, `${action} carries no error number`);
    if (found === undefined) fail(namePath, `unknown error name ${JSON.stringify(errorName)}`);
    return (ACTIONS[action] | (found ?? 0)) >>> 0;
  }
  if (isGiven(number)) {
    if (!data) fail(numberPath, `${action} carries no error number`);
    const limit = action === "SCMP_ACT_ERRNO" ? MAX_ERRNO : 0xffff;
    return (ACTIONS[action] | Number(integer(number, numberPath, BigInt(limit)))) >>> 0;
  }
  return (ACTIONS[action] | (data ? 1 : 0)) >>> 0; // EPERM, for both, as runc does
}

const U64_MAX = 0xffff_ffff_ffff_ffffn;

function integer(value: unknown, path: string, max: bigint): bigint {
  const whole = typeof value === "bigint" || (typeof value === "number" && Number.isSafeInteger(value));
  if (!whole) return fail(path, `${show(value)} is not a whole number`);
  const number = BigInt(value);
  return number >= 0n && number <= max ? number : fail(path, `${number} is not in 0..${max}`);
}

function object(value: unknown, path: string, keys: string): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return fail(path, `${show(value)} is not an object`);
  }
  const known = keys.split(" ");
  const stranger = Object.keys(value).find((key) => !known.includes(key));
  if (stranger !== undefined) fail(path === "" ? stranger : `${path}.${stranger}`, "unknown key");
  return value as Record<string, unknown>;
}

function list(value: unknown, path: string): readonly unknown[] {
  if (!isGiven(value)) return [];
  return Array.isArray(value) ? value : fail(path, `${show(value)} is not a list`);
}

function texts(value: unknown, path: string): string[] {
  const items = list(value, path);
  items.forEach((item, i) => {
    if (typeof item !== "string" || item === "") text(item, `${path}[${i}]`); // throws: the path only then
  });
  return items.slice() as string[];
}

function text(value: unknown, path: string): string {
  return typeof value === "string" && value !== "" ? value : fail(path, `${show(value)} is not a name`);
}

function optionalText(value: unknown, path: string): void {
  if (isGiven(value) && typeof value !== "string") fail(path, `${show(value)} is not a text`);
}

function word<Word extends string>(value: unknown, path: string, words: readonly Word[]): Word {
  const found = words.find((candidate) => candidate === value);
  return found ?? fail(path, `unknown value ${show(value)}`, `one of ${words.join(", ")}`);
}

function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null;
}

function show(value: unknown): string {
  const shown =
    JSON.stringify(value, (_key, part: unknown) => (typeof part === "bigint" ? String(part) : part)) ?? "nothing";
  return shown.length > 60 ? `${shown.slice(0, 57)}...` : shown;
}

function fail(path: string, what: string, hint?: string): never {
  throw new UsageError(`seccomp profile: ${path === "" ? "" : `${path}: `}${what}`, hint === undefined ? {} : { hint });
}
