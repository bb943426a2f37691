/** Signals to the process group of a launcher that is still at work: each reaches the program, and reaches it once. */

import { describe, expect, test } from "bun:test";
import { chmodSync, closeSync, constants, openSync, readSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { HostFacts } from "../../src/facts.ts";
import { gatherFacts } from "../../src/host.ts";
import { keeperProgram } from "../../src/launch/afterwards.ts";
import * as p from "../../src/launch/program.ts";
import { ARCH } from "../../src/libc/call.ts";
import { plan } from "../../src/plan.ts";
import type { Spec } from "../../src/spec.ts";
import { type Caller, CALLERS, makeFolder, need } from "../kernel/sandbox.ts";
import { scratchMounts, specOf, volume } from "../plans.ts";
import * as faults from "./faults.ts";

/** Realtime signals, of which as many come as are sent: the one that is counted, and the one that ends the count. */
const COUNTED = 40;
const LAST = 41;
/** Descriptors of a launcher: the first of those it needs, and, above all numbers that it gives, those over which it pauses. */
const [FIRST, SAYS, GO] = [3, 12, 13];

const folder = makeFolder();
const probe = join(folder, "probe");
const made = Bun.spawnSync([need("gcc", "gcc"), "-static", "-o", probe, join(import.meta.dir, "../cli/probe.c")]);
if (made.exitCode !== 0) throw new Error(`gcc probe.c: ${made.stderr.toString()}`);

function specs(): Readonly<Record<string, Spec>> {
  const spec = specOf({
    root: { kind: "scratch", readonly: false, from: "scratch" },
    mounts: [...scratchMounts(), volume(probe, "/probe", ["ro"])],
    process: { args: ["/probe", "queued", String(COUNTED), String(LAST)] },
  });
  return { "--init": spec, "--no-init": { ...spec, init: false } };
}

/** The records before which a run with a signal went otherwise than it should, and the number of those that paused. */
async function sweep(
  caller: Caller,
  program: p.Program,
  records: readonly number[],
  descriptors: readonly number[],
): Promise<{ wrong: string[]; before: number }> {
  const wrong: string[] = [];
  let before = 0;
  for (const index of records) {
    const { said, paused } = await runPaused(caller, faults.pausing(program, index, SAYS, GO), descriptors);
    if (paused) before++;
    if (said !== "ready\n1 times\n" && said !== "ready\n0 times\n(not sent)")
      wrong.push(`${index}: ${JSON.stringify(said)}`);
  }
  return { wrong, before };
}

/** As on a terminal: otherwise the program would be in a session, and so in a group, of its own. */
function factsFor(caller: Caller, spec: Spec): HostFacts {
  const facts = { ...gatherFacts(spec), workspace: "/tmp", terminal: true };
  return caller === "nobody" ? { ...facts, uid: 65534, gid: 65534, root: false, ranges: undefined } : facts;
}

/** Pipes of the file system, over which a launcher pauses; the first is read without waiting. */
function makePauses(): { readonly says: number; readonly go: number } & Disposable {
  const names = [join(folder, "says"), join(folder, "go")] as const;
  for (const name of names) {
    Bun.spawnSync(["mkfifo", name]);
    chmodSync(name, 0o666);
  }
  const [says, go] = [
    openSync(names[0], constants.O_RDWR | constants.O_NONBLOCK),
    openSync(names[1], constants.O_RDWR),
  ];
  const close = () => {
    for (const fd of [says, go]) closeSync(fd);
    for (const name of names) rmSync(name);
  };
  return { says, go, [Symbol.dispose]: close };
}

/** Whether somebody has said that it pauses. */
function pauses(says: number): boolean {
  try {
    return readSync(says, new Uint8Array(1)) === 1;
  } catch {
    return false; // EAGAIN
  }
}

/**
 * Run a program; when somebody pauses, send the counted signal to the whole group once. What the program has said, and
 * whether anybody has paused before it was there.
 */
async function runPaused(
  caller: Caller,
  program: p.Program,
  descriptors: readonly number[],
): Promise<{ said: string; paused: boolean }> {
  using fifos = makePauses();
  const path = join(folder, "launcher");
  rmSync(path, { force: true });
  writeFileSync(path, p.encode(program), { mode: 0o755 });
  const user = caller === "nobody" ? ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"] : [];
  const blocked = ["env", `--block-signal=${COUNTED}`, `--block-signal=${LAST}`];
  const unused = Array.from({ length: SAYS - FIRST - descriptors.length }, () => "ignore" as const);
  const child = Bun.spawn([...user, ...blocked, path], {
    stdio: ["ignore", "pipe", "inherit", ...descriptors, ...unused, fifos.says, fifos.go],
    detached: true, // a session, and so a group, of its own
  });
  let said = "";
  const reading = (async () => {
    const decoder = new TextDecoder();
    for await (const part of child.stdout) said += decoder.decode(part, { stream: true });
  })();
  let [paused, sent, asked, over] = [false, false, false, false];
  void child.exited.then(() => (over = true));
  const deadline = Date.now() + 5000;
  try {
    while (!over) {
      if (pauses(fifos.says)) {
        if (!sent) {
          paused ||= said === "";
          process.kill(-child.pid, COUNTED);
          sent = true;
        }
        writeSync(fifos.go, Uint8Array.of(0));
      }
      if (said !== "" && !asked) {
        process.kill(child.pid, LAST);
        asked = true;
      }
      if (Date.now() > deadline) throw new Error(`it goes on for ever, having said ${JSON.stringify(said)}`);
      await Bun.sleep(0.5);
    }
    await reading;
    return { said: sent ? said : `${said}(not sent)`, paused };
  } finally {
    if (!over) process.kill(-child.pid, "SIGKILL");
  }
}

describe.each(CALLERS)("started by %s", (caller) => {
  test.each(Object.keys(specs()))(
    "%s: sent before each record of a launcher",
    async (name) => {
      const spec = specs()[name];
      if (spec === undefined) throw new Error(name);
      const report = openSync(join(folder, "report"), "w+"); // it is FIRST, as the subject has it
      const subject = faults.subject(plan(spec, factsFor(caller, spec)), caller, folder);
      const records = faults.distinct(subject.records).map(({ index }) => index);
      const { wrong, before } = await sweep(caller, subject.program, records, [report]);
      closeSync(report);
      expect(wrong).toEqual([]);
      expect(before).toBeGreaterThan(200);
    },
    60_000,
  );

  test("sent before each record of a keeper", async () => {
    const [image, next, outcome] = [
      openSync(probe, "r"),
      openSync("/bin/true", "r"),
      openSync(join(folder, "outcome"), "w+"),
    ];
    const argv = ["/probe", "queued", String(COUNTED), String(LAST)];
    const [imageFd, executableFd, outcomeFd] = [FIRST, FIRST + 1, FIRST + 2];
    const program = keeperProgram({ imageFd, argv, executableFd, thenArgv: ["true"], thenEnv: [], outcomeFd }, ARCH);
    const records = Array.from({ length: program.words.length / p.RECORD_WORDS }, (_, index) => index);
    const { wrong, before } = await sweep(caller, program, records, [image, next, outcome]);
    for (const fd of [image, next, outcome]) closeSync(fd);
    expect(wrong).toEqual([]);
    expect(before).toBeGreaterThan(20);
  }, 60_000);
});
