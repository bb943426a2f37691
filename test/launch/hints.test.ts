/** Every hint can be given: its step is one of real plans, its call one that the step makes, its errno a real one. */

import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { describeStep } from "../../src/explain.ts";
import { encodeContext } from "../../src/launch/context.ts";
import { newTelling } from "../../src/launch/denials.ts";
import { decodeFailure, explainFailure } from "../../src/launch/failure.ts";
import { hintFor } from "../../src/launch/hints.ts";
import * as p from "../../src/launch/program.ts";
import { assemble } from "../../src/launch/supervise.ts";
import { errnoNames } from "../../src/libc/errno.ts";
import { plan } from "../../src/plan.ts";
import type { Plan, Step } from "../../src/step.ts";
import { HOSTS, SPECS, specOf } from "../plans.ts";

const REPORTING = { reportFd: 3, argvBytes: 32, become: undefined, account: true, telling: newTelling(4) };

/** Plans of all Specs on all machines. */
const plans: readonly Plan[] = Object.values(SPECS).flatMap((spec) => [
  plan(spec, HOSTS.user),
  plan(spec, HOSTS.root),
  plan({ ...spec, idMap: "range" }, HOSTS.ranges),
]);

/** One step of each kind and origin, with the names of the calls that it is written as. */
function callsOfSteps(): ReadonlyMap<string, { step: Step; calls: ReadonlySet<string> }> {
  const found = new Map<string, { step: Step; calls: Set<string> }>();
  for (const made of plans) {
    const { program, marks } = assemble(made, "x64", REPORTING);
    for (let record = 0; record * p.RECORD_WORDS < program.words.length; record++) {
      const step = made.steps[marks.findLast(([first]) => first <= record)?.[1] ?? -1];
      if (step === undefined) continue;
      const name = p.operationName(program.words[record * p.RECORD_WORDS] ?? 0, "x64");
      const told = step.op === "seccomp" && step.telling === true ? " and told" : "";
      const kind = `${step.op}${told} by ${step.why}${"make" in step && step.make !== undefined ? ", made" : ""}`;
      const entry = found.get(kind) ?? { step, calls: new Set<string>() };
      entry.calls.add(name);
      found.set(kind, entry);
    }
  }
  return found;
}

/** The texts of the table in hints.ts, and of the rules before it, as they are written there. */
async function writtenHints(): Promise<readonly string[]> {
  const source = await Bun.file(join(import.meta.dir, "../../src/launch/hints.ts")).text();
  const constants = new Map(
    [...source.matchAll(/const ([A-Z_]+) =\s*("(?:[^"\\]|\\.)*");/g)].map(([, name, text]) => [name, text]),
  );
  const texts = [...source.matchAll(/(?:text:|return)\s+("(?:[^"\\]|\\.)*"|[A-Z_]+)/g)].map(
    ([, word = ""]) => constants.get(word) ?? word,
  );
  return [...new Set(texts)].filter((text) => text !== "HINTS").map((text) => JSON.parse(text) as string);
}

test("every hint is one that some failing call of some plan gets", async () => {
  const reachable = new Set<string | undefined>();
  for (const { step, calls } of callsOfSteps().values())
    for (const call of calls) for (const errno of errnoNames()) reachable.add(hintFor(step, call, errno));
  const written = await writtenHints();
  expect(written.length).toBeGreaterThan(20);
  expect(written.filter((text) => !reachable.has(text))).toEqual([]);
});

test("hints are one line, without a full stop", async () => {
  for (const text of await writtenHints()) expect(text).toMatch(/^[^\n]+[^.\n]$/);
});

describe("a report", () => {
  const made = plan(SPECS["volumes"] ?? specOf(), HOSTS.user);
  const assembled = assemble(made, "x64", REPORTING);
  const context = encodeContext({ steps: made.steps, assembled });
  const count = assembled.program.words.length / p.RECORD_WORDS;

  /** The bytes that a launcher leaves: {record address, -errno} before the context. */
  const report = (address: number, errno: number): Uint8Array => {
    const bytes = context.slice();
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, BigInt(address), true);
    view.setBigInt64(8, BigInt(-errno), true);
    return bytes;
  };
  const stepOf = (record: number) => made.steps[assembled.marks.findLast(([first]) => first <= record)?.[1] ?? -1];

  test("of each record names its step, call, errno and the user's words", () => {
    for (let record = 0; record < count; record++) {
      const step = stepOf(record);
      const { message, from, exitCode } = decodeFailure(report(p.recordAddress(record), 13));
      if (step?.op === "exec") {
        expect([message, exitCode]).toEqual(["true: cannot be executed: EACCES permission denied", 126]);
        continue;
      }
      const call = p.operationName(assembled.program.words[record * p.RECORD_WORDS] ?? 0, "x64");
      expect(exitCode).toBe(125);
      expect(message).toEndWith(`${step === undefined ? `${call} (launcher)` : call}: EACCES permission denied`);
      if (step === undefined) continue;
      expect(from).toBe(step.why);
      if (step.op !== "seccomp") expect(message).toStartWith(`${describeStep(step)}: `);
    }
  });

  test("of a command that is not there is 127", () => {
    const last = count - 1;
    const exec =
      Array.from({ length: count }, (_, record) => record).find((record) => stepOf(record)?.op === "exec") ?? last;
    for (const errno of [2, 20]) {
      const failure = decodeFailure(report(p.recordAddress(exec), errno));
      expect(failure).toMatchObject({ message: "true: command not found", exitCode: 127 });
      expect(failure.hint).toContain("PATH");
    }
    const hints = [8, 13].map((errno) => decodeFailure(report(p.recordAddress(exec), errno)).hint);
    expect(hints).toEqual([expect.stringContaining("#!"), expect.stringContaining("noexec")]);
  });

  test("holds nothing of the program's arguments, environment and files", () => {
    const secret = specOf({ process: { args: ["true", "hunter2"], env: ["TOKEN=hunter2"] } });
    const steps = plan(secret, HOSTS.user).steps;
    const bytes = encodeContext({ steps, assembled: assemble({ steps, init: true }, "x64", REPORTING) });
    expect(new TextDecoder().decode(bytes)).not.toContain("hunter2");
  });

  test.each<readonly [what: string, bytes: Uint8Array, message: string]>([
    ["nothing", new Uint8Array(0), "the launcher's report cannot be read"],
    ["a broken context", context.slice(0, context.length - 1), "the launcher's report cannot be read"],
    ["no record", report(0, 0), "the launcher failed before its first step"],
    ["a record behind the last", report(p.recordAddress(count), 1), "the launcher failed before its first step"],
    ["an address within a record", report(p.recordAddress(0) + 4, 1), "the launcher failed before its first step"],
  ])("of %s is answered too", (_, bytes, message) => {
    expect(decodeFailure(bytes).message).toBe(message);
  });
});

test("a holder that somebody has killed is told of as such", () => {
  const clone: Step = { op: "clone", namespaces: ["mount"], by: "launcher", why: "default" };
  expect(explainFailure(clone, "close", 9).message).toBe(
    "clone mount: somebody has killed the process that holds the id maps",
  );
  expect(explainFailure(clone, "clone", 28).message).toStartWith("clone mount: clone: ENOSPC");
});

test("an unknown errno is told by number", () => {
  expect(explainFailure(undefined, "clone", 4000).message).toBe("clone (launcher): errno 4000 unknown error");
});
