/** `hutch selftest`: attacks against this machine and profile, each tried by a program inside: what was seen, and what should be. */

import { closeSync, openSync } from "node:fs";
import type { ArgsDef } from "citty";
import { decodeBytes } from "../bytes.ts";
import { HutchError, UsageError } from "../errors.ts";
import type { HostFacts } from "../facts.ts";
import { findWorkspace, landlockVersion } from "../host.ts";
import type { Telling } from "../launch/denials.ts";
import { type Running, spawn } from "../launch/spawn.ts";
import { ARCH, rawCall } from "../libc/call.ts";
import { readText } from "../libc/files.ts";
import { plan } from "../plan.ts";
import { type Attack, attackProgram, type Bait, BOUND, outcomeOf } from "../selftest/attempt.ts";
import { FILE_ATTACKS } from "../selftest/attacks-files.ts";
import { KERNEL_ATTACKS } from "../selftest/attacks-kernel.ts";
import type { Mount, SandboxPath, Spec } from "../spec.ts";
import type { Command } from "./command.ts";
import { all, oneOf, parseOptions } from "./options.ts";
import { print } from "./report.ts";
import { factsFor } from "./run.ts";
import { RUN_OPTIONS } from "./run-options.ts";
import { parseRun } from "./run-request.ts";
import { runSpec } from "./run-spec.ts";

const { security, seccomp, network, userns, "cap-add": capAdd, "cap-drop": capDrop, "no-init": noInit } = RUN_OPTIONS;
const { "explain-denials": explainDenials } = RUN_OPTIONS;
/** Options of run that change what a program can do; each is passed on. */
const PASSED = {
  ...{ security, seccomp, network, userns, "cap-add": capAdd, "cap-drop": capDrop, "no-init": noInit },
  "explain-denials": explainDenials,
};
const OPTIONS = {
  ...PASSED,
  format: { type: "string", valueHint: "text|json", description: "for people, or for programs [text]" },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;

const AT_ONCE = 4;
const BAIT_DESCRIPTOR = 9;
const DENIALS_DESCRIPTOR = 4;
/** An attack that has not failed by then waits for somebody: it got through. */
const PATIENCE_MS = 10_000;

interface Finding {
  readonly number: string;
  readonly name: string;
  readonly expected: readonly string[];
  /** How it went; `skipped: …` where it is known that this machine cannot hold it. */
  readonly seen: string;
  readonly held: boolean;
}

export const selftest: Command = {
  main: async (argv) => {
    const parsed = parseOptions(OPTIONS, argv);
    if (parsed.options.has("help")) {
      const { commandUsage } = await import("./usage.ts");
      print(await commandUsage("hutch selftest", "Try attacks from inside a sandbox", "[NUMBER…]", OPTIONS));
      return 0;
    }
    const attacks = chooseAttacks(parsed.operands);
    const format = oneOf(parsed, "format", ["text", "json"], "text");
    const passed = Object.keys(PASSED).flatMap((name) =>
      all(parsed, name).flatMap(({ value }) => (value === "" ? [`--${name}`] : [`--${name}`, value])),
    );
    const findings = await tryAll(attacks, passed);
    const machine = {
      kernel: (readText("/proc/sys/kernel/osrelease") ?? "").trim(),
      arch: ARCH,
      uid: rawCall("geteuid"),
      landlock: landlockVersion(),
      options: passed,
    };
    const failed = findings.filter(({ held }) => !held).length;
    if (format === "json") print(`${JSON.stringify({ ...machine, attacks: findings, failed }, null, 2)}\n`);
    else print(formatFindings(machine, findings));
    return failed === 0 ? 0 : 1;
  },
};

/** The attacks of these numbers, or all. @throws UsageError for one that there is not */
function chooseAttacks(numbers: readonly string[]): readonly Attack[] {
  const known = [...FILE_ATTACKS, ...KERNEL_ATTACKS];
  for (const wanted of numbers) {
    if (!known.some(({ number }) => number === wanted))
      throw new UsageError(`there is no attack ${JSON.stringify(wanted)}`, {
        hint: "hutch selftest lists their numbers",
      });
  }
  return known.filter(
    ({ arch, number }) => (arch === undefined || arch === ARCH) && (numbers.length === 0 || numbers.includes(number)),
  );
}

function formatFindings(
  machine: { kernel: string; arch: string; uid: number; landlock: number; options: readonly string[] },
  findings: readonly Finding[],
): string {
  const { kernel, arch, uid, landlock, options } = machine;
  const lines = findings.map(({ number, name, expected, seen, held }) => {
    const note = held ? seen : `${seen}, expected ${expected.join(" or ")}`;
    return `${held ? "held  " : "FAILED"} ${number.padEnd(4)} ${name.padEnd(60)} ${note}`;
  });
  const failed = findings.filter(({ held }) => !held).length;
  const succeeded = findings.filter(({ seen }) => seen === "succeeded").length;
  return [
    `Linux ${kernel} ${arch}, uid ${uid}, landlock ${landlock}, options: ${options.join(" ") || "none"}`,
    ...lines,
    `${findings.length} attacks, ${findings.length - failed} held, ${failed} failed (${succeeded} succeeded)`,
    "",
  ].join("\n");
}

/**
 * Plant the bait, run these attacks, each in a sandbox of its own, take everything away again: what `hutch run` with these
 * options would do, without a file or a process that is still there when this one is killed.
 */
async function tryAll(waiting: readonly Attack[], options: readonly string[]): Promise<readonly Finding[]> {
  const bound = `type=bind,source=${findWorkspace()},target=${BOUND},readonly`;
  const { spec } = await runSpec(parseRun([...options, "--mount", bound, "scratch", "--", ATTACK]));
  const host = factsFor(spec);
  using planted = new DisposableStack(); // what listens would keep an error from ending this process
  const baitFile = openSync("/", "r");
  planted.defer(() => closeSync(baitFile));
  const abstractName = `hutch-selftest-${process.pid}`;
  const socket = { data: () => {} };
  const abstract = Bun.listen({ unix: `\0${abstractName}`, socket });
  planted.defer(() => abstract.stop(true));
  const tcp = Bun.listen({ hostname: "127.0.0.1", port: 0, socket });
  planted.defer(() => tcp.stop(true));
  const bait: Bait = { descriptor: BAIT_DESCRIPTOR, abstractName, port: tcp.port };
  const landlock = landlockVersion();
  const findings: Finding[] = [];
  let failed = false;
  const next = async (): Promise<void> => {
    while (!failed) {
      const index = waiting.length - 1 < findings.length ? -1 : findings.push(PENDING) - 1;
      const attack = waiting[index];
      if (attack === undefined) return;
      try {
        findings[index] = await tryOne(attack, { spec, host, bait, baitFile, landlock });
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  // Those that run beside one that cannot be tried are waited for, so that nobody is left to be.
  const ended = await Promise.allSettled(Array.from({ length: AT_ONCE }, next));
  for (const result of ended) if (result.status === "rejected") throw result.reason;
  return findings;
}

const PENDING: Finding = { number: "", name: "", expected: [], seen: "", held: false };

interface Surroundings {
  /** Of a sandbox around {@link ATTACK}, which is not in it yet. */
  readonly spec: Spec;
  readonly host: HostFacts;
  readonly bait: Bait;
  /** What the launcher is given as the bait's descriptor. */
  readonly baitFile: number;
  readonly landlock: number;
}

const ATTACK = "/attack" as SandboxPath;

async function tryOne(attack: Attack, { spec, host, bait, baitFile, landlock }: Surroundings): Promise<Finding> {
  const { number, name, expected } = attack;
  if (attack.landlock !== undefined && landlock < attack.landlock) {
    return { number, name, expected, seen: `skipped: needs landlock ${attack.landlock}`, held: true };
  }
  const content = decodeBytes(attackProgram(attack, ARCH, bait));
  const file: Mount = { type: "file", destination: ATTACK, content, mode: 0o755, from: name };
  const made = plan({ ...spec, mounts: [...spec.mounts, file] }, host);
  const output = { stdin: { kind: "null" }, stdout: "null", stderr: "null" } as const;
  using noted = new DisposableStack();
  const told = spec.process.explainDenials === true ? await openDenials(noted) : undefined;
  const more: [number, number][] = told === undefined ? [] : [[DENIALS_DESCRIPTOR, told.file]];
  more.push([BAIT_DESCRIPTOR, baitFile]);
  const seen = await endOf(spawn(made, { ...output, more, telling: told?.telling }), name);
  return { number, name, expected, seen, held: expected.includes(seen) };
}

/** With `--explain-denials`, which changes the filter, what is noted is not looked at. */
async function openDenials(until: DisposableStack): Promise<{ file: number; telling: Telling }> {
  const { denialsFile, newTelling } = await import("../launch/denials.ts");
  const file = denialsFile();
  until.defer(() => closeSync(file));
  return { file, telling: newTelling(DENIALS_DESCRIPTOR) };
}

/** How an attack has ended, in words. */
async function endOf({ outcome, kill }: Running, name: string): Promise<string> {
  let waits = false;
  const timer = setTimeout(() => {
    waits = true;
    kill("SIGKILL");
  }, PATIENCE_MS);
  try {
    return outcomeOf((await outcome).status);
  } catch (error) {
    if (waits) return "waits";
    const why = error instanceof Error ? error.message : String(error);
    throw new HutchError(`the sandbox for "${name}" did not start: ${why}`, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}
