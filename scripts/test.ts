/**
 * Everything that must hold before a commit: each gate in turn, then every test.
 *   npm test                    all
 *   npm test -- PATTERN...      builds, then only the tests that `bun test PATTERN...` would run
 * No gate stops the next. The last line is `N passed, N failed`, gates counted with the tests; a failure makes the exit
 * code 1. With HUTCH_MUST_WORK=1 a skipped test is a failure.
 */

import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Counts, parseJUnit } from "./junit.ts";
import { ROOT, run } from "./run.ts";
import { ensureSystemPackages } from "./system-packages.ts";

/** For one test. Those that build with Nix or pull images take longest. */
const TEST_TIMEOUT_MS = 120_000;

const FOLDERS = ["src", "test", "scripts", "bench"].filter((name) => existsSync(join(ROOT, name)));

interface Gate {
  readonly name: string;
  readonly argv: readonly string[];
}

const BUILD: Gate = { name: "build", argv: [process.execPath, "--no-env-file", "scripts/build.ts"] };
const GATES: readonly Gate[] = [
  { name: "check", argv: [process.execPath, "check", "--no-script"] },
  { name: "fmt", argv: [process.execPath, "fmt", "--no-script", "--check"] },
  { name: "lint", argv: ["node_modules/.bin/oxlint", "--type-aware", "--deny-warnings", ...FOLDERS] },
  { name: "knip", argv: [process.execPath, "node_modules/knip/bin/knip.js", "--no-progress"] },
  BUILD,
];

function report(name: string, good: boolean, milliseconds: number): void {
  console.log(`${good ? "ok    " : "FAILED"} ${name.padEnd(6)} ${(milliseconds / 1000).toFixed(1)} s`);
}

async function runGate(gate: Gate): Promise<boolean> {
  const { exitCode, output, milliseconds } = await run(gate.argv);
  report(gate.name, exitCode === 0, milliseconds);
  if (exitCode !== 0) console.log(output.trimEnd());
  return exitCode === 0;
}

/** Run bun's tests, their output straight to ours. A run that leaves no report, as by a crash, is one failure. */
async function runTests(patterns: readonly string[]): Promise<Counts> {
  const folder = await mkdtemp(join(tmpdir(), "hutch-test-"));
  const outfile = join(folder, "junit.xml");
  try {
    const { exitCode, milliseconds } = await run(
      [
        ...[process.execPath, "--no-env-file", "test", `--timeout=${TEST_TIMEOUT_MS}`],
        ...["--reporter=junit", `--reporter-outfile=${outfile}`, ...patterns],
      ],
      { show: true },
    );
    const counts = existsSync(outfile) ? parseJUnit(await Bun.file(outfile).text()) : undefined;
    report("tests", exitCode === 0, milliseconds);
    if (counts === undefined) return { passed: 0, failed: 1, skipped: [] };
    // An error outside any test (a file that does not load) is in the exit code only.
    return exitCode !== 0 && counts.failed === 0 ? { ...counts, failed: 1 } : counts;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const patterns = process.argv.slice(2);
const mustWork = process.env["HUTCH_MUST_WORK"] === "1";
await ensureSystemPackages();
let [passed, failed] = [0, 0];
for (const gate of patterns.length === 0 ? GATES : [BUILD]) {
  if (await runGate(gate)) passed += 1;
  else failed += 1;
}
const tests = await runTests(patterns);
passed += tests.passed;
failed += tests.failed + (mustWork ? tests.skipped.length : 0);
if (tests.skipped.length > 0) {
  console.log(`${tests.skipped.length} skipped${mustWork ? ", which HUTCH_MUST_WORK makes failures" : ""}:`);
  for (const name of tests.skipped) console.log(`  ${name}`);
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
