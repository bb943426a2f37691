/**
 * Every record of real plans made to fail in turn, and everybody killed after every record: the right step is named,
 * and nothing stays behind.
 */

import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { chownSync, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { HostFacts } from "../../src/facts.ts";
import { gatherFacts } from "../../src/host.ts";
import { plan } from "../../src/plan.ts";
import type { Mount, Spec } from "../../src/spec.ts";
import { type Caller, CALLERS, makeFolder, makeRoot, procFile } from "../kernel/sandbox.ts";
import { host, inside, scratchMounts, specOf, tmpfs, volume } from "../plans.ts";
import * as faults from "./faults.ts";

/** What the sandboxed program shows of its sandbox. */
const SHOWN = [
  "/proc/self/mountinfo",
  "/proc/self/status",
  "/proc/self/uid_map",
  "/proc/sys/kernel/hostname",
  "/proc/self/limits",
  "/data/file",
];

/** The lines of it that are the same each time. */
function lasting(text: string): string {
  const kept = text.split("\n").flatMap((line) => {
    if (/^\d+ \d+ \d+:\d+ /.test(line)) return [line.split(" ").slice(3, 6).join(" ")]; // root, mount point, options
    return /^(Name|Umask|PPid|Uid|Gid|Groups|Sig|Cap|NoNewPrivs|Seccomp|Max open files|\s+\d|[a-z-]+$)/.test(line)
      ? [line]
      : [];
  });
  return kept.join("\n");
}

/** Lines of one text that the other does not have, and the other way round. */
function difference(is: string, shouldBe: string): string {
  const [has, wants] = [is.split("\n"), shouldBe.split("\n")];
  const more = has.filter((line) => !wants.includes(line)).map((line) => `+${line}`);
  return [...more, ...wants.filter((line) => !has.includes(line)).map((line) => `-${line}`)].join("; ");
}

function fingerprint(tree: string): string {
  const hash = createHash("sha256");
  const visit = (path: string): void => {
    const found = lstatSync(path, { bigint: true });
    hash.update(`${path} ${found.mode} ${found.uid}:${found.gid} ${found.nlink} ${found.mtimeNs} ${found.ctimeNs}\n`);
    if (found.isSymbolicLink()) hash.update(readlinkSync(path));
    else if (found.isDirectory()) for (const name of readdirSync(path).toSorted()) visit(join(path, name));
    else hash.update(readFileSync(path));
  };
  visit(tree);
  return hash.digest("hex");
}

/** The one that is started as on a terminal: the program stays in the caller's process group, so there is a witness. */
const SHARED_GROUP = "a scratch root, with a reaper, in the caller's process group";

/** The one whose writes are on disk, where they stay, as `hutch run --persist` has it. */
const KEPT = "an overlay that is kept, with a reaper";

/** A Spec with a step of nearly every kind, on a root and volumes of the test's own. */
function specs(root: string, data: string, open: string): Readonly<Record<string, Spec>> {
  const volumes: readonly Mount[] = [volume(data, "/data", ["ro"]), volume(open, "/data/open"), tmpfs("/tmp")];
  const made: readonly Mount[] = [
    { type: "directory", destination: inside("/made"), mode: 0o700, from: "d" },
    { type: "file", destination: inside("/made/file"), content: "text", mode: 0o600, from: "f" },
    { type: "symlink", destination: inside("/made/link"), target: "file", from: "l" },
  ];
  const its = { args: ["/bin/busybox", "cat", ...SHOWN], cwd: inside("/made") };
  const words = { hostname: "--hostname box" };
  const base = specOf();
  const overlay = specOf({
    root: { kind: "overlay", lower: [host(root)], from: root },
    mounts: [...base.mounts, ...volumes, ...made],
    process: { ...its, rlimits: [{ type: "RLIMIT_CORE", soft: 0, hard: 0 }] },
    hostname: "box",
    words,
  });
  return {
    "an overlay, with a reaper": overlay,
    [KEPT]: overlay,
    "a read-only scratch root, the program PID 1, with time": specOf({
      root: { kind: "scratch", readonly: true, from: "scratch" },
      mounts: [...scratchMounts(), ...volumes, ...made, volume(join(root, "bin/busybox"), "/bin/busybox", ["ro"])],
      namespaces: [...base.namespaces, "time"],
      timeOffsets: { monotonic: 5, boottime: 5 },
      process: its,
      hostname: "box",
      init: false,
      words,
    }),
    [SHARED_GROUP]: specOf({
      root: { kind: "scratch", readonly: false, from: "scratch" },
      mounts: [...scratchMounts(), ...volumes, ...made, volume(join(root, "bin/busybox"), "/bin/busybox", ["ro"])],
      process: its,
      words,
    }),
  };
}

const looksAfter = ({ step, operation }: faults.RecordInfo): boolean =>
  operation === "exit_group" || (faults.LOOKING_AFTER.has(operation) && (step === undefined || step.op === "clone"));

/**
 * Calls whose failure is ignored and shows: what is then different, as a pattern of lines. umask(2) cannot fail;
 * PR_CAPBSET_DROP says EINVAL of what the kernel does not know.
 */
const SHOWS: Readonly<Record<string, RegExp>> = {
  "umask: umask": /^\+Umask:\t0000; -Umask:\t0022$/,
  "bounding-set: prctl": /^\+CapBnd:\t[0-9a-f]+; -CapBnd:\t[0-9a-f]+$/,
};

function factsFor(caller: Caller, spec: Spec, workspace: string, title: string): HostFacts {
  const facts = { ...gatherFacts(spec), workspace, terminal: title === SHARED_GROUP };
  const own = caller === "nobody" ? { ...facts, uid: 65534, gid: 65534, root: false, ranges: undefined } : facts;
  return title === KEPT ? { ...own, disk: diskOf(caller, own), kept: true } : own;
}

/** A directory for an overlay's writes, of the sandbox's root. */
function diskOf(caller: Caller, { root, ranges }: HostFacts): string {
  const disk = makeFolder();
  for (const name of ["upper", "work"]) mkdirSync(join(disk, name));
  faults.giveTo(caller, disk);
  if (root && ranges !== undefined)
    for (const path of ["", "upper", "work"]) chownSync(join(disk, path), ranges.uid.start, ranges.gid.start);
  return disk;
}

describe.each(CALLERS)("started by %s", (caller) => {
  const folder = makeFolder();
  const root = makeRoot();
  const data = makeFolder();
  const workspace = makeFolder();
  mkdirSync(join(data, "open"));
  writeFileSync(join(data, "file"), "content\n");
  const open = join(data, "open");
  for (const tree of [root, data]) faults.giveTo(caller, tree);

  describe.each(Object.entries(specs(root, data, open)))("%s", (title, spec) => {
    const facts = factsFor(caller, spec, workspace, title);
    const subject = faults.subject(plan(spec, facts), caller, folder);
    const calls = faults.distinct(subject.records).filter(({ operation }) => !/^(sub|and|load64)$/.test(operation));
    const before = { mounts: procFile("self", "mountinfo"), trees: [root, data].map(fingerprint) };
    const nothingLeft = () => {
      expect(procFile("self", "mountinfo")).toBe(before.mounts);
      expect(readdirSync(workspace)).toEqual([]);
    };
    let whole: faults.Ended;

    test("as it is, it runs", async () => {
      whole = await faults.runProgram(subject, subject.program);
      expect(whole).toMatchObject({ exitCode: 0, failure: undefined, endless: false });
      expect(whole.stdout).toContain("content");
      expect(lasting(whole.stdout).split("\n").length).toBeGreaterThan(20);
      nothingLeft();
    });

    test("a call that fails is reported as its own step's, or is one that is not needed", async () => {
      const wrong: string[] = [];
      const forgiven = new Set<string>();
      let reported = 0;
      for (const record of calls.filter((item) => !looksAfter(item))) {
        const ended = await faults.runProgram(subject, faults.failing(subject, record.index));
        nothingLeft();
        const name = faults.nameOf(record);
        const { failure, exitCode, stdout } = ended;
        const endless = ended.endless || ended.left > 0;
        const seen = difference(lasting(stdout), lasting(whole.stdout));
        if (failure !== undefined) {
          reported += 1;
          // A descriptor that stays open may be in the way of a later step.
          const right = faults.names(failure, record) || record.operation === "close";
          if (exitCode !== 125 || endless || !right)
            wrong.push(`${record.index} ${name}: ${exitCode}${endless ? " endless" : ""} ${failure.message}`);
        } else if (exitCode !== 0 || endless || (seen !== "" && SHOWS[name]?.test(seen) !== true)) {
          wrong.push(`${record.index} ${name}: ${exitCode}${endless ? " endless" : ""} ${seen}`);
        } else if (seen === "") forgiven.add(name);
      }
      expect(wrong).toEqual([]);
      expect(
        [...forgiven].filter((name) => !faults.FORGIVEN.has(name) && !name.endsWith(": close")).toSorted(),
      ).toEqual([]);
      expect(reported).toBeGreaterThan(100);
    }, 120_000);

    test("whoever dies after whichever call, nothing stays behind", async () => {
      const wrong: string[] = [];
      let died = 0;
      for (const record of calls) {
        const ended = await faults.runProgram(subject, faults.dying(subject, record.index));
        const { exitCode, failure, stdout } = ended;
        const endless = ended.endless || ended.left > 0;
        nothingLeft();
        const seen = difference(lasting(stdout), lasting(whole.stdout));
        if (exitCode !== 0) died += 1;
        const right =
          exitCode === 137 || (exitCode === 125 && failure !== undefined) || (exitCode === 0 && seen === "");
        if (!right || endless)
          wrong.push(
            `${record.index} ${faults.nameOf(record)}: ${exitCode}${endless ? " endless" : ""} ${failure?.message ?? seen}`,
          );
      }
      expect(wrong).toEqual([]);
      expect(died).toBeGreaterThan(120);
    }, 120_000);

    test("the sources are as they were, bit for bit", () => {
      expect([root, data].map(fingerprint)).toEqual(before.trees);
    });
  });
});
