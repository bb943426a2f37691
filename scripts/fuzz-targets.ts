/**
 * What is fed with hostile input: parsers of files, of command lines, of what comes back from a sandbox. Each must end
 * soon, in a result or in an error that is meant for users; a crash, a hang or any other error is a bug.
 */

import { readFileSync } from "node:fs";
import fc from "fast-check";
import { decodeBytes, encodeBytes } from "../src/bytes.ts";
import { parseRun } from "../src/cli/run-request.ts";

import { mergeEnvironment, parseEnvFile } from "../src/cli/environment.ts";
import { RUN_OPTIONS } from "../src/cli/run-options.ts";
import * as values from "../src/cli/values.ts";
import { HutchError } from "../src/errors.ts";
import { parseSubordinate } from "../src/host.ts";
import { decodeFailure } from "../src/launch/failure.ts";
import { decode } from "../src/launch/program.ts";
import { decompressBzip2 } from "../src/nix/bzip2.ts";
import { parseDerivation } from "../src/nix/derivation.ts";
import { buildFacts, parseEnvVars } from "../src/nix/env-vars.ts";
import { parseJson } from "../src/nix/json.ts";
import { evaluateBpf } from "../src/process/bpf-evaluate.ts";
import { validateBpf } from "../src/process/bpf.ts";
import { hutchProfile } from "../src/process/profiles.ts";
import { compileSeccomp } from "../src/process/seccomp.ts";
import { parseSeccompJson } from "../src/process/seccomp-profile.ts";
import { resolveUser } from "../src/process/user.ts";
import { parseElf } from "../src/rootfs/elf.ts";
import { ldCacheEntries, parseLdCache } from "../src/rootfs/ld-cache.ts";
import { parseShebang } from "../src/rootfs/program.ts";
import { imageTargets } from "./fuzz-images.ts";
import { type FuzzTarget, mutated, pieced, target } from "./fuzz-target.ts";

const isRangeError = (error: unknown) => error instanceof RangeError;

const bytesOf = (path: string) => new Uint8Array(readFileSync(path));

/** Profiles that are nearly right: one of hutch's with parts replaced by anything. */
const profile: fc.Arbitrary<unknown> = fc
  .record({
    key: fc.constantFrom("defaultAction", "defaultErrnoRet", "architectures", "archMap", "flags", "syscalls", "other"),
    value: fc.oneof(
      fc.jsonValue({ maxDepth: 4 }),
      fc.array(
        fc.record(
          {
            names: fc.oneof(fc.array(fc.constantFrom("read", "openat", "clone3", "nope", "")), fc.jsonValue()),
            action: fc.constantFrom("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_TRACE", "SCMP_ACT_KILL", "no"),
            errnoRet: fc.oneof(fc.integer(), fc.double(), fc.constant(null)),
            args: fc.oneof(
              fc.array(
                fc.record({
                  index: fc.integer({ min: -1, max: 7 }),
                  value: fc.oneof(fc.maxSafeNat(), fc.bigInt(), fc.integer()),
                  valueTwo: fc.oneof(fc.maxSafeNat(), fc.constant(undefined)),
                  op: fc.constantFrom("SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_LT", "SCMP_CMP_GE", "x"),
                }),
                { maxLength: 7 },
              ),
              fc.jsonValue(),
            ),
            includes: fc.oneof(fc.record({ minKernel: fc.string(), caps: fc.array(fc.string()) }), fc.jsonValue()),
          },
          { requiredKeys: ["names", "action"] },
        ),
        { maxLength: 6 },
      ),
    ),
  })
  .map(({ key, value }) => ({ ...hutchProfile("default", { pid1: false }), [key]: value }));

const words = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom(...Object.keys(RUN_OPTIONS).map((name) => `--${name}`)) },
    {
      weight: 2,
      arbitrary: fc.constantFrom("-e", "-v", "-w", "-u", "-it", "-h", "--", "-", "scratch", "/", "", "A=B"),
    },
    { weight: 1, arbitrary: fc.string({ unit: "binary" }) },
  ),
  { maxLength: 12 },
);

const occurrence = pieced(
  "/a",
  "/",
  ":",
  ",",
  "=",
  "ro",
  "rw",
  "type=bind",
  "type=tmpfs",
  "source=",
  "target=",
  "size=",
  "64m",
  "..",
  "nofile",
  "unlimited",
  "-1",
  "9",
  "monotonic",
  "\n",
).map((value) => ({ value, words: `-x ${value}` }));

/** Run all parsers of options on a word; each takes or refuses it for itself. */
function feedValues(word: { readonly value: string; readonly words: string }): void {
  for (const parse of [
    () => values.parseVolume(word, "/"),
    () => values.parseMount(word, "/"),
    () => values.parseTmpfs(word),
    () => values.parseUlimit(word),
    () => values.parseTimeOffset(word),
    () => parseEnvFile(word.value, "f"),
    () => mergeEnvironment([], [word], []),
  ]) {
    try {
      parse();
    } catch (error) {
      if (!(error instanceof HutchError)) throw error;
    }
  }
}

const DERIVATION =
  'Derive([("out","/nix/store/x-y","","")],[],["/nix/store/z"],"x86_64-linux","/bin/sh",["-c","a\\nb"],[("out","/o")])';
const ENV_VARS =
  'declare -x A="b\\"c"\ndeclare -x D=$\'\\n\\001\'\ndeclare -x NIX_STORE="/nix/store"\ndeclare -ax L=([0]="1")\n';
/** `printf 'hutch hutch hutch' | bzip2`. */
const BZIP2 = Uint8Array.fromBase64("QlpoOTFBWSZTWUxHKdsAAAQRgEAACEAGACAAMM0A2ptTWIlZ5TC7kinChIJiOU7Y");

/** Everything that reads what somebody else has written. */
export function fuzzTargets(): readonly FuzzTarget[] {
  const compileFor = { arch: "x64", capabilities: ["CAP_SYS_ADMIN"], kernel: [6, 1] } as const;
  return [
    ...imageTargets(),
    target("bytes", fc.uint8Array(), (bytes) => {
      if (Buffer.compare(encodeBytes(decodeBytes(bytes)), bytes) !== 0) throw new Error("lost something");
    }),
    target("ELF", mutated(bytesOf("/bin/true")), (bytes) => parseElf(bytes)),
    target("ld.so.cache", mutated(bytesOf("/etc/ld.so.cache").slice(0, 4096)), (bytes) =>
      ldCacheEntries(parseLdCache(bytes)),
    ),
    target("#!", fc.oneof(fc.uint8Array(), pieced("#!", " ", "/bin/sh", "\n", "\0").map(encodeBytes)), (bytes) =>
      parseShebang(bytes),
    ),
    target(
      "seccomp JSON, text",
      pieced(
        "{",
        "}",
        "[",
        "]",
        '"defaultAction"',
        ":",
        '"SCMP_ACT_ERRNO"',
        ",",
        '"syscalls"',
        "1e999",
        "18446744073709551616",
      ),
      (text) => compileSeccomp(parseSeccompJson(text), compileFor),
    ),
    target("seccomp JSON, profiles", profile, (value) => validateBpf(compileSeccomp(value, compileFor))),
    target(
      "compiled filters",
      fc.array(
        fc.tuple(
          fc.constantFrom(0x20, 0x15, 0x35, 0x45, 0x05, 0x06, 0x54, 0x60, 0x02, 0x16, 0x34, 0x3c),
          fc.nat(9),
          fc.nat(9),
          fc.nat(80),
        ),
        { maxLength: 30 },
      ),
      (list) => {
        const bytes = new Uint8Array(list.flatMap(([code, jt, jf, k]) => [code, 0, jt, jf, k, 0, 0, 0]));
        // What has passed the check must end: the evaluator is not to throw for it.
        const program = validateBpf(bytes);
        evaluateBpf(program, { arch: 0xc000003e, nr: 1, args: [1n, 2n] });
      },
    ),
    target("command line", words, (argv) => parseRun(argv)),
    target("values of options", occurrence, feedValues),
    target(
      "passwd and group",
      fc.tuple(
        pieced("root", ":", "x", "0", "\n", "1000", "/home"),
        pieced("adm", ":", "4", ",", "\n"),
        pieced("root", ":", "7"),
      ),
      ([passwd, group, word]) => resolveUser(word, passwd, group, "-u"),
    ),
    target("subuid", pieced("root", ":", "100000", "65536", "\n", "-1", "0"), (text) =>
      parseSubordinate(text, ["root", "0"]),
    ),
    target(
      "failure reports",
      fc.oneof(
        fc.uint8Array(),
        fc
          .tuple(fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.jsonValue())
          .map(([head, json]) => Buffer.concat([head, Buffer.from(JSON.stringify(json))])),
      ),
      (bytes) => decodeFailure(bytes),
    ),
    target("launchers", fc.uint8Array({ maxLength: 2048 }), (bytes) => decode(bytes), isRangeError),
    target(
      "derivations",
      fc.oneof(
        mutated(encodeBytes(DERIVATION)).map(decodeBytes),
        pieced("Derive(", "[", "]", "(", ")", ",", '"', "\\n", "a"),
      ),
      (text) => parseDerivation(text),
    ),
    target(
      "env-vars",
      fc.oneof(
        mutated(encodeBytes(ENV_VARS)).map(decodeBytes),
        pieced("declare -x ", "A", "=", '"', "$'", "'", "\\", "\n", "\\001", "(", ")"),
      ),
      (text) => buildFacts(parseEnvVars(text)),
    ),
    target("bzip2", mutated(BZIP2), (bytes) => {
      for (const piece of decompressBzip2(bytes))
        if (piece.length > 1 << 22) throw new Error("a piece of more than 4 MiB");
    }),
    target(
      "JSON of derivations",
      fc.oneof(fc.json(), pieced("{", "}", "[", "]", '"', ":", ",", "1e5", "-", "\\u00", "null")),
      (text) => parseJson(text),
    ),
  ];
}
