/**
 * Time hutch beside other programs that make the same sandbox, or pull the same image, in turns on the same machine.
 *   npm run build && npm run bench [-- CASE]     CASE: a part of a case's name; TMPDIR: where
 * What counts is the ratio to a neighbour in the same run: times alone say more about the machine than about us.
 */

import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { writeInPieces } from "../scripts/executable.ts";
import { mustRun, ROOT } from "../scripts/run.ts";
import { benchCases, type Case, imageRunCase, type Side } from "./cases.ts";
import { compareCopies, COPY_CASE } from "./copy.ts";
import { comparePulls } from "./pulls.ts";
import { compare, formatRows } from "./ratio.ts";
import { sandboxFaults } from "./sandbox-check.ts";

const ROUNDS = 5;
const RUNS = 20;
const PULL_CASE = "pull an image of 200 MB in 10,000 files";

/** Quote for hyperfine, which splits a command as a POSIX shell does. */
function quote(argv: readonly string[]): string {
  return argv.map((word) => (/^[\w./:=-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`)).join(" ");
}

/** Seconds of each of RUNS runs. Throws when one of them fails. */
async function time(argv: readonly string[], folder: string): Promise<readonly number[]> {
  const report = join(folder, "hyperfine.json");
  await mustRun([
    ...["hyperfine", "-N", "--warmup", "5", "--runs", `${RUNS}`, "--style", "none", "--export-json", report],
    quote(argv),
  ]);
  const { results }: { results: { times: number[] }[] } = await Bun.file(report).json();
  const times = results[0]?.times;
  if (times === undefined) throw new Error(`hyperfine reported nothing about ${quote(argv)}`);
  return times;
}

/** Print one case. Returns false when there was no other side to compare with, or a sandbox is not what it says. */
async function runCase(item: Case, folder: string): Promise<boolean> {
  console.log(item.name);
  const sides: Side[] = [];
  for (const side of item.sides) {
    const faults = sandboxFaults(side);
    for (const fault of faults) console.log(`  ${side.name}: ${fault}`);
    if (faults.length === 0) sides.push(side);
  }
  if (sides[0] !== item.sides[0] || sides.length < 2) return false;
  const rounds: (readonly number[])[][] = sides.map(() => []);
  for (let round = 0; round < ROUNDS; round++) {
    // Each round in the opposite direction, so that nobody always comes first.
    const order = [...sides.entries()];
    for (const [index, side] of round % 2 === 0 ? order : order.toReversed()) {
      rounds[index]?.push(await time([...side.prefix, ...item.program], folder));
    }
  }
  const rows = compare(
    sides.map((side) => side.name),
    rounds,
  );
  console.log(formatRows(rows));
  return sides.length === item.sides.length;
}

/** Pull an image from a registry here, then start it. Returns false when a side could not be compared. */
async function runImageCases(hutch: string, folder: string): Promise<boolean> {
  console.log(PULL_CASE);
  const { rows, image, store, directory } = await comparePulls(hutch, folder, ROUNDS);
  console.log(formatRows(rows));
  return await runCase(imageRunCase(hutch, store, image, directory), folder);
}

const wanted = process.argv[2] ?? "";
const built = join(ROOT, "dist/hutch");
const absent = ["hyperfine", "bwrap", "unshare", "setpriv", "skopeo", "umoci", "docker-registry", "busybox"].filter(
  (name) => Bun.which(name) === null,
);
if (absent.length > 0) throw new Error(`not installed: ${absent.join(" ")} (bun scripts/system-packages.ts)`);
if (!existsSync(built)) throw new Error("no dist/hutch: npm run build");

// A copy, for uid 65534 may not reach this folder.
const folder = mkdtempSync(join(tmpdir(), "hutch-bench-"));
try {
  chmodSync(folder, 0o755);
  const hutch = join(folder, "hutch");
  await writeInPieces(hutch, readFileSync(built), 0o755); // as it lies where the build has written it
  let complete = true;
  for (const item of benchCases(hutch, process.getuid?.() === 0)) {
    if (item.name.includes(wanted)) complete = (await runCase(item, folder)) && complete;
  }
  if (PULL_CASE.includes(wanted)) complete = (await runImageCases(hutch, folder)) && complete;
  if (COPY_CASE.includes(wanted)) {
    console.log(COPY_CASE);
    console.log(formatRows(await compareCopies(folder, ROUNDS)));
  }
  console.log("ratio: ours divided by theirs; median of rounds (lowest to highest)");
  process.exitCode = complete ? 0 : 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
