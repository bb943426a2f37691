/** `hutch selftest`: attacks against this machine and profile, each tried by a program inside: what was seen, and what should be. */

import { closeSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { makeSessionDirectory, removeOldSessions } from "../sessions/session-directory.ts";
import { join } from "node:path";
import type { ArgsDef } from "citty";
import { HutchError, UsageError } from "../errors.ts";
import type { Self } from "../launch/become.ts";
import { ARCH, rawCall } from "../libc/call.ts";
import { LANDLOCK_CREATE_RULESET_VERSION } from "../libc/constants.ts";
import { readText } from "../libc/files.ts";
import { type Attack, attackProgram, type Bait, outcomeOf } from "../selftest/attempt.ts";
import { FILE_ATTACKS } from "../selftest/attacks-files.ts";
import { KERNEL_ATTACKS } from "../selftest/attacks-kernel.ts";
import type { Command } from "./command.ts";
import { all, oneOf, parseOptions } from "./options.ts";
import { print } from "./report.ts";
import { RUN_OPTIONS } from "./run-options.ts";

const { security, seccomp, network, userns, "cap-add": capAdd, "cap-drop": capDrop, "no-init": noInit } = RUN_OPTIONS;
/** Options of run that change what a program can do; each is passed on. */
const PASSED = { security, seccomp, network, userns, "cap-add": capAdd, "cap-drop": capDrop, "no-init": noInit };
const OPTIONS = {
  ...PASSED,
  format: { type: "string", valueHint: "text|json", description: "for people, or for programs [text]" },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;

const AT_ONCE = 4;
const BAIT_DESCRIPTOR = 9;
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
  main: async (argv, self) => {
    const parsed = parseOptions(OPTIONS, argv);
    if (parsed.options.has("help")) {
      const { commandUsage } = await import("./usage.ts");
      print(await commandUsage("hutch selftest", "Try attacks from inside a sandbox", "", OPTIONS));
      return 0;
    }
    if (parsed.operands[0] !== undefined) throw new UsageError(`unexpected ${JSON.stringify(parsed.operands[0])}`);
    const format = oneOf(parsed, "format", ["text", "json"], "text");
    const passed = Object.keys(PASSED).flatMap((name) =>
      all(parsed, name).flatMap(({ value }) => (value === "" ? [`--${name}`] : [`--${name}`, value])),
    );
    const findings = await tryAll(self, passed);
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

const landlockVersion = () => Math.max(0, rawCall("landlock_create_ruleset", null, 0, LANDLOCK_CREATE_RULESET_VERSION));

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

/** Plant the bait, run every attack in a sandbox of its own, take everything away again. */
async function tryAll(self: Self, options: readonly string[]): Promise<readonly Finding[]> {
  removeOldSessions(tmpdir());
  const folder = makeSessionDirectory(tmpdir());
  const abstractName = `hutch-selftest-${process.pid}`;
  const socket = { data: () => {} };
  const abstract = Bun.listen({ unix: `\0${abstractName}`, socket });
  const tcp = Bun.listen({ hostname: "127.0.0.1", port: 0, socket });
  const baitFile = openSync("/", "r");
  try {
    const bait: Bait = { descriptor: BAIT_DESCRIPTOR, abstractName, port: tcp.port };
    const landlock = landlockVersion();
    const waiting = [...FILE_ATTACKS, ...KERNEL_ATTACKS].filter(({ arch }) => arch === undefined || arch === ARCH);
    const findings: Finding[] = [];
    const next = async (): Promise<void> => {
      for (;;) {
        const index = waiting.length - 1 < findings.length ? -1 : findings.push(PENDING) - 1;
        const attack = waiting[index];
        if (attack === undefined) return;
        findings[index] = await tryOne(attack, { self, options, folder, index, bait, baitFile, landlock });
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, next));
    return findings;
  } finally {
    closeSync(baitFile);
    abstract.stop(true);
    tcp.stop(true);
    rmSync(folder, { recursive: true, force: true }); // files of our own, nothing is ever mounted here
  }
}

const PENDING: Finding = { number: "", name: "", expected: [], seen: "", held: false };

interface Surroundings {
  readonly self: Self;
  readonly options: readonly string[];
  readonly folder: string;
  readonly index: number;
  readonly bait: Bait;
  /** What hutch is given as the bait's descriptor. */
  readonly baitFile: number;
  readonly landlock: number;
}

/** Descriptors between the standard ones and the bait. */
const CLOSED = Array.from({ length: BAIT_DESCRIPTOR - 3 }, () => "ignore" as const);

async function tryOne(
  attack: Attack,
  { self, options, folder, index, bait, baitFile, landlock }: Surroundings,
): Promise<Finding> {
  const { number, name, expected } = attack;
  if (attack.landlock !== undefined && landlock < attack.landlock) {
    return { number, name, expected, seen: `skipped: needs landlock ${attack.landlock}`, held: true };
  }
  const file = join(folder, `attack-${index}`);
  writeFileSync(file, attackProgram(attack, ARCH, bait), { mode: 0o755 });
  const mount = `type=bind,source=${file},target=/attack,readonly`;
  const child = Bun.spawn(
    [process.execPath, ...self.argv.slice(1), "run", ...options, "--mount", mount, "scratch", "--", "/attack"],
    {
      stdio: ["ignore", "ignore", "pipe", ...CLOSED, baitFile],
      env: { PATH: "/usr/bin:/bin" },
      timeout: PATIENCE_MS,
      killSignal: "SIGKILL",
    },
  );
  const [code, errors] = await Promise.all([child.exited, new Response(child.stderr).text()]);
  if (child.signalCode !== null) return { number, name, expected, seen: "waits", held: false };
  if (errors !== "") throw new HutchError(`the sandbox for "${name}" did not start: ${errors.trim()}`);
  const seen = outcomeOf(code);
  return { number, name, expected, seen, held: expected.includes(seen) };
}
