/**
 * What a caller of the library may ask for. Checked in full: a caller in JavaScript has no types, and a word or a member
 * that is misspelt must not mean less isolation.
 */

import { UsageError } from "./errors.ts";
import { SECURITY_PROFILES } from "./process/security.ts";
import type { Mount, Rlimit, SecurityProfile } from "./spec.ts";

/** What a sandbox is to be. Only `root` and `command` must be there; the rest has the defaults of `hutch run`. */
export interface SandboxOptions {
  /** `"scratch"`, an empty root; or a directory: absolute, or relative with `./` or `../`. */
  readonly root: string;
  /** How a directory is shown: through an overlay in memory, so that it never changes (default), or itself. */
  readonly access?: "overlay" | "read-only" | "writable";
  /** The command and its arguments; a name without a slash is looked up in the sandbox's PATH. */
  readonly command: readonly string[];
  /** Programs of this machine to bring along, with what they need. */
  readonly add?: readonly string[];
  /** Files and directories of this machine to show read-only at the same path. */
  readonly addPaths?: readonly string[];
  /** Variables; PATH, HOME and HOSTNAME have defaults. Nothing of our own environment is passed on. */
  readonly env?: Readonly<Record<string, string>>;
  /** Directories and files to bind, read-only unless `writable`. */
  readonly volumes?: readonly { readonly source: string; readonly target: string; readonly writable?: boolean }[];
  /** Empty tmpfs: `size` in bytes, `mode` as a number such as 0o1777. */
  readonly tmpfs?: readonly { readonly target: string; readonly size?: number; readonly mode?: number }[];
  /** Anything else of {@link Mount}, after the others. */
  readonly mounts?: readonly Mount[];
  /** Working directory inside. */
  readonly cwd?: string;
  /** Ids inside. */
  readonly user?: { readonly uid: number; readonly gid: number; readonly additionalGids?: readonly number[] };
  readonly hostname?: string;
  readonly network?: "none" | "host";
  /** Whether hutch's reaper is PID 1 (default) or the program itself. */
  readonly init?: boolean;
  readonly security?: SecurityProfile;
  /** Capabilities beyond, and not among, the profile's. */
  readonly capAdd?: readonly string[];
  readonly capDrop?: readonly string[];
  readonly rlimits?: readonly Rlimit[];
}

type Test = (value: unknown) => boolean;

const isText: Test = (value) => typeof value === "string";
const isFlag: Test = (value) => typeof value === "boolean";
const isCount: Test = (value) => typeof value === "number" && value >= 0 && !Number.isNaN(value);
const isOneOf =
  (words: readonly unknown[]): Test =>
  (value) =>
    words.includes(value);
const isListOf =
  (is: Test): Test =>
  (value) =>
    Array.isArray(value) && value.every(is);
const isMap = (value: unknown): value is object => typeof value === "object" && value !== null && !Array.isArray(value);
const isRecordOf =
  (is: Test): Test =>
  (value) =>
    isMap(value) && Object.values(value).every(is);

/** An object with these members and no others. An absent one may be undefined. */
const isObject = (members: Readonly<Record<string, Test>>, optional: Readonly<Record<string, Test>> = {}): Test => {
  const all = Object.entries({ ...members, ...optional });
  return (value) =>
    isMap(value) &&
    Object.keys(value).every((key) => Object.hasOwn(members, key) || Object.hasOwn(optional, key)) &&
    all.every(([key, is]) => {
      const member: unknown = (value as Readonly<Record<string, unknown>>)[key];
      return is(member) || (member === undefined && Object.hasOwn(optional, key));
    });
};

const words = (list: readonly string[]) =>
  [list.map((word) => JSON.stringify(word)).join(", "), isOneOf(list)] as const;
const TEXTS = ["a list of strings", isListOf(isText)] as const;
const TEXT = ["a string", isText] as const;

/** Each option: what it must be, in words and as a test. */
const OPTIONS: Readonly<Record<keyof SandboxOptions, readonly [what: string, is: Test]>> = {
  root: TEXT,
  access: words(["overlay", "read-only", "writable"]),
  command: TEXTS,
  add: TEXTS,
  addPaths: TEXTS,
  env: ["an object of strings", isRecordOf(isText)],
  volumes: [
    "a list of { source, target, writable? }",
    isListOf(isObject({ source: isText, target: isText }, { writable: isFlag })),
  ],
  tmpfs: [
    "a list of { target, size?, mode? }",
    isListOf(isObject({ target: isText }, { size: isCount, mode: isCount })),
  ],
  mounts: ["a list of mounts of a Spec", isListOf(isMap)],
  cwd: TEXT,
  user: [
    "{ uid, gid, additionalGids? }",
    isObject({ uid: isCount, gid: isCount }, { additionalGids: isListOf(isCount) }),
  ],
  hostname: TEXT,
  network: words(["none", "host"]),
  init: ["a boolean", isFlag],
  security: words(SECURITY_PROFILES),
  capAdd: TEXTS,
  capDrop: TEXTS,
  rlimits: ["a list of { type, soft, hard }", isListOf(isObject({ type: isText, soft: isCount, hard: isCount }))],
};

const REQUIRED: readonly string[] = ["root", "command"];

/** @throws UsageError */
export function checkObject(wanted: unknown): asserts wanted is object {
  if (!isMap(wanted)) throw new UsageError("what is wanted must be an object");
}

/** Every member of options from a caller without types. @throws UsageError that names the first wrong one */
export function checkOptions(options: unknown): asserts options is SandboxOptions {
  checkObject(options);
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(OPTIONS, name))
      throw new UsageError(`there is no option ${name}`, { hint: Object.keys(OPTIONS).join(", ") });
    const [what, is] = OPTIONS[name as keyof SandboxOptions];
    if (!is(value) && (value !== undefined || REQUIRED.includes(name))) throw new UsageError(`${name} must be ${what}`);
  }
  const absent = REQUIRED.find((name) => !Object.hasOwn(options, name));
  if (absent !== undefined) throw new UsageError(`${absent} is missing`);
}

/** What the program reads. @throws UsageError */
export function checkInput(value: unknown, kinds: readonly string[]): void {
  const data = isText(value) || value instanceof Uint8Array || value instanceof ReadableStream;
  if (!data || (value === "pipe" && !kinds.includes("pipe")))
    throw new UsageError(`stdin must be ${kinds.join(", ")}, a text, bytes or a stream`);
}

/** The members of a call's own options. @throws UsageError that names one which there is not */
export function checkMembers(options: object, known: readonly string[]): void {
  for (const name of Object.keys(options))
    if (!known.includes(name)) throw new UsageError(`there is no option ${name}`, { hint: known.join(", ") });
}

/** Where the program writes. @throws UsageError */
export function checkOutput(name: string, value: unknown): void {
  if (!isOneOf(["inherit", "null", "pipe"])(value))
    throw new UsageError(`${name} ${JSON.stringify(value)} is no place`);
}
