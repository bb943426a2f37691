/** A prelinked launcher, filled, is the launcher that would have been assembled; and its failures are told alike. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { parseRun } from "../../src/cli/run-request.ts";
import { runSpec } from "../../src/cli/run-spec.ts";
import type { ShownRoot } from "../../src/cli/shown-root.ts";
import type { HostFacts } from "../../src/facts.ts";
import { explainArguments } from "../../src/launch/become.ts";
import { contextOf } from "../../src/launch/context.ts";
import { decode } from "../../src/launch/program.ts";
import { assemble } from "../../src/launch/supervise.ts";
import { ARCH } from "../../src/libc/call.ts";
import type { Arch } from "../../src/libc/syscalls.ts";
import { plan } from "../../src/plan.ts";
import { plainContext, plainRunOf } from "../../src/prelinked/explain.ts";
import { fill } from "../../src/prelinked/fill.ts";
import { plainFilter, plainPlan } from "../../src/prelinked/plain.ts";
import * as directories from "../../src/prelinked/directories.ts";
import * as images from "../../src/prelinked/images.ts";
import { prelink } from "../../src/prelinked/prelink.ts";
import { DIRECTORY_ROOM, MOST_LAYERS, PLAIN_SELF, type Shape, type Values } from "../../src/prelinked/shape.ts";
import { execCandidates } from "../../src/process/process.ts";
import { host, HOSTS } from "../plans.ts";
import { recordsOf } from "./same-program.ts";

const booleans = [false, true];
const ROOTS = [
  ...[0, 1].map((layers) => ({ image: false, layers })),
  ...Array.from({ length: MOST_LAYERS }, (_, index) => ({ image: true, layers: index + 1 })),
];
const SHAPES: readonly Shape[] = ROOTS.flatMap((kind) =>
  booleans.flatMap((root) =>
    booleans.flatMap((terminal) => booleans.map((scopes) => ({ ...kind, root, terminal, scopes }))),
  ),
);
const ARCHES: readonly Arch[] = ["x64", "arm64"];
const NUMBERS = { reportFd: 5, executableFd: 6, argvBytes: 27, lease: 9 };

const word = fc.string({ unit: "binary", maxLength: 40 }).map((text) => text.replaceAll("\0", "x").toWellFormed());
const id = fc.nat({ max: 0xfffffffe });
const range = fc.record({ start: id, size: fc.integer({ min: 1, max: 65536 }) });
const limit = fc.oneof(fc.nat({ max: 2 ** 30 }), fc.constant(Number.POSITIVE_INFINITY));
const values = (shape: Shape): fc.Arbitrary<Values> =>
  fc
    .record({
      directories: fc.array(
        word.map((name) => `/${name}`),
        { minLength: Math.max(1, shape.layers), maxLength: Math.max(1, shape.layers) },
      ),
      from: word,
      args: fc.array(word, { maxLength: 4 }).map((more) => ["command", ...more]),
      env: fc.array(word, { maxLength: 4 }).map((more) => ["PATH=/usr/bin:/bin/:", ...more]),
      uid: id,
      gid: id,
      ranges: fc.record({ uid: range, gid: range }),
      groups: fc.array(id, { maxLength: 5 }),
      soft: limit,
      hard: limit,
    })
    .map(({ soft, hard, ranges, ...all }) => {
      return {
        ...all,
        landlock: landlockOf(shape)[0] ?? 0,
        nofile: { soft, hard },
        ranges: shape.root ? ranges : undefined,
      };
    });

/** Versions that a shape is for, some of the future among them. */
const landlockOf = ({ scopes }: Shape): readonly number[] => (scopes ? [6, 7, 8, 12] : [2, 3, 4, 5]);

const named = (shape: Shape): string =>
  Object.entries(shape)
    .map(([name, is]) => (typeof is === "number" ? `${is} layers` : is ? name : `not ${name}`))
    .join(", ");

function assembled(shape: Shape, given: Values, filter: Uint8Array, arch: Arch) {
  return assemble(plainPlan(shape, given, filter), arch, {
    reportFd: NUMBERS.reportFd,
    argvBytes: NUMBERS.argvBytes,
    held: shape.image ? [NUMBERS.lease] : [],
    become: {
      executableFd: NUMBERS.executableFd,
      outputFd: undefined,
      argv: (report) => explainArguments(PLAIN_SELF, report, undefined),
    },
  });
}

describe.each(ARCHES)("on %s", (arch) => {
  test.each(SHAPES.map((shape) => [named(shape), shape] as const))("a launcher that is %s", async (_, shape) => {
    const prelinked = await prelink(shape, arch);
    const filter = await plainFilter(arch);
    fc.assert(
      fc.property(values(shape), (given) => {
        const candidates = execCandidates("command", ["/usr/bin", "/bin/", ""]);
        const image = fill(prelinked, given, candidates, NUMBERS);
        if (image === undefined) throw new Error("it does not fit");
        const { program } = assembled(shape, given, filter, arch);
        const filled = decode(image);
        expect(filled.cellBytes).toBe(program.cellBytes);
        expect(recordsOf(filled)).toEqual(recordsOf(program));
      }),
      { numRuns: 5 },
    );
  });
});

test("what is compared is not blind: one other byte of a string, structure, array or filter is seen", async () => {
  const shape: Shape = { root: true, image: false, layers: 0, terminal: false, scopes: true };
  const ids = { start: 100_000, size: 65_536 };
  const given: Values = {
    ...{ directories: ["/srv"], from: "/srv", args: ["true"], env: ["PATH=/bin"], uid: 0, gid: 0, groups: [] },
    ...{ ranges: { uid: ids, gid: ids }, nofile: { soft: 1024, hard: 4096 }, landlock: 6 },
  };
  const filter = await plainFilter("x64");
  const same = recordsOf(assembled(shape, given, filter, "x64").program);
  const changes: readonly Partial<Values>[] = [
    { directories: ["/srw"] },
    { args: ["true", ""] },
    { env: ["PATH=/bin", "A=b"] },
    { ranges: { uid: { ...ids, size: 65_535 }, gid: ids } },
    { nofile: { soft: 1024, hard: 4097 } },
  ];
  for (const change of changes) {
    expect(recordsOf(assembled(shape, { ...given, ...change }, filter, "x64").program)).not.toEqual(same);
  }
  expect(recordsOf(assembled(shape, given, filter.with(0, 7), "x64").program)).not.toEqual(same);
});

describe("the plan of a plain run is that of hutch run", () => {
  test.each(SHAPES.map((shape) => [named(shape), shape] as const))("%s", async (_, shape) => {
    const readonly = !shape.image && shape.layers === 0;
    const layers = ["/srv/root", "/srv/layer", "/data", "/", "/l5", "/l6", "/l7", "/l8"].slice(
      0,
      Math.max(1, shape.layers),
    );
    const image: ShownRoot = {
      root: { kind: "overlay", lower: layers.map(host), readonly: false, from: "alpine" },
      ...{ read: () => "", look: () => ({ kind: "absent" }), config: { Env: ["C=d"], Cmd: ["nothing"] } },
      held: [NUMBERS.lease],
    };
    const words = [...(readonly ? ["--read-only"] : []), "-e", "A=b", shape.image ? "alpine" : "/srv/root"];
    const { spec, held } = await runSpec(parseRun([...words, "cmd", "arg"]), shape.image ? image : undefined);
    expect(held).toEqual(shape.image ? [NUMBERS.lease] : []);
    const machine: HostFacts = {
      ...(shape.root ? HOSTS.root : HOSTS.user),
      kinds: new Map(layers.map((path) => [path, "directory"])),
      terminal: shape.terminal,
    };
    const { uid, gid, ranges, groups, nofile } = machine;
    const { from } = spec.root;
    const { args, env } = spec.process;
    const filter = spec.process.seccomp ?? new Uint8Array();
    const [landlock = 0, ...others] = landlockOf(shape);
    const given: Values = { directories: layers, from, args, env, uid, gid, ranges, groups, nofile, landlock };
    const records = recordsOf(assembled(shape, given, filter, "x64").program);
    for (const version of [landlock, ...others]) {
      const now = { ...given, landlock: version };
      expect(plainPlan(shape, now, filter)).toEqual(plan(spec, { ...machine, landlock: version }));
      expect(recordsOf(assembled(shape, now, filter, "x64").program)).toEqual(records);
    }

    // A report holds the values as JSON, without what may be secret; the context that is made of it is the same.
    const brief = { ...given, args: args.slice(0, 1), env: env.filter((entry) => entry.startsWith("PATH=")) };
    const stored = plainRunOf(JSON.parse(JSON.stringify({ shape, values: brief })));
    if (stored === undefined) throw new Error("not taken for a plain run");
    const { steps } = plan(spec, { ...machine, landlock });
    const context = contextOf({ steps, assembled: assembled(shape, given, filter, "x64") });
    expect(await plainContext(stored, "x64")).toEqual(context);
  });
});

test("the launchers of this build are all there, each in its place", async () => {
  const all = SHAPES.map((shape) => (shape.image ? images : directories).prelinkedFor(shape));
  expect(all.map((one) => one?.image)).not.toContain(undefined);
  expect(new Set(all.map((one) => one?.image)).size).toBe(SHAPES.length);
  const made = await Promise.all(SHAPES.map(async (shape) => prelink(shape, ARCH)));
  expect(all).toEqual(made);
  const many: Shape = { root: true, image: true, layers: MOST_LAYERS + 1, terminal: false, scopes: true };
  expect(images.prelinkedFor(many)).toBeUndefined();
});

test("a directory that is too long for its room is left to the general way", async () => {
  const shape: Shape = { root: false, image: false, layers: 0, terminal: false, scopes: true };
  const prelinked = await prelink(shape, "x64");
  const given = (directory: string): Values => {
    return {
      directories: [directory],
      from: "",
      args: [],
      env: [],
      uid: 0,
      gid: 0,
      groups: [],
      nofile: { soft: 1, hard: 1 },
      landlock: 6,
    };
  };
  const longest = "/".padEnd(DIRECTORY_ROOM - 1, "d");
  expect(fill(prelinked, given(longest), [], NUMBERS)).toBeInstanceOf(Uint8Array);
  expect(fill(prelinked, given(`${longest}d`), [], NUMBERS)).toBeUndefined();
});
