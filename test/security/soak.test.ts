/** Many sandboxes leave nothing; scripts/soak.ts runs ten thousand. */

import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { formatSoak, type Leftovers, leftovers, soak, type Soak } from "../../scripts/soak.ts";
import { adoptOrphans } from "../cli/host-processes.ts";
import { eachCaller } from "../cli/hutch.ts";

const [IN_A_ROW, AT_ONCE] = [200, 20];
/** What other programs on this machine may do to the kernel's memory meanwhile. */
const MOST_KILOBYTES = 65_536;

/** Fewer is fine: this process closes pipes when it gets round to it. */
function expectNoMore(after: Leftovers, before: Leftovers): void {
  for (const key of ["descriptors", "mounts", "children", "files", "sharedMemory"] as const) {
    const left = Math.max(0, after[key] - before[key]);
    expect({ key, left }).toEqual({ key, left: 0 });
  }
}

eachCaller("soak", (bench) => {
  const holds = ({ before, after, failures, ...rest }: Soak) => {
    expect(failures).toEqual([]);
    expectNoMore(after, before);
    expect(formatSoak({ before, after, failures, ...rest })).toContain("0 failed");
    expect(after.kernelKilobytes - before.kernelKilobytes).toBeLessThan(MOST_KILOBYTES);
  };
  const argv = (...options: readonly string[]) => [...bench.caller.prefix, bench.binary, "run", ...options];
  // A folder of their own for whatever sandboxes might leave: the machine's is everybody's.
  const inFolder = async (command: readonly string[], runs: number, atOnce: number) => {
    const folder = mkdtempSync(join(tmpdir(), "hutch-soak-"));
    try {
      holds(await soak(["env", `TMPDIR=${folder}`, ...command], { runs, atOnce, folders: [folder, "/dev/shm"] }));
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  };

  test(`${IN_A_ROW} in a row`, () => inFolder(argv("--read-only", "/", "true"), IN_A_ROW, 1));
  test(`${AT_ONCE} at once, of each kind of root`, async () => {
    await inFolder(argv("--read-only", "/", "true"), AT_ONCE, AT_ONCE);
    await inFolder(argv("--add", "true", "scratch", "true"), AT_ONCE, AT_ONCE);
    await inFolder(argv("--add", "true", bench.folder(), "true"), AT_ONCE, AT_ONCE);
  });
  test("runs that fail leave nothing either", async () => {
    const folder = bench.folder();
    const command = argv("-w", "/proc/self/fd/1", "scratch", "true");
    const { before, after, failures } = await soak(command, { runs: 20, atOnce: 4, folders: [folder, "/dev/shm"] });
    expect(failures.length).toBe(21);
    expectNoMore(after, before);
  });
});

test("the count sees what is left", () => {
  const folder = mkdtempSync(join(tmpdir(), "hutch-soak-"));
  const before = leftovers([folder]);
  const child = Bun.spawn(["sleep", "100"], { stdio: ["pipe", "ignore", "ignore"] });
  mkdtempSync(join(folder, "left-"));
  const after = leftovers([folder]);
  expect(after.children).toBe(before.children + 1);
  expect(after.files).toBe(before.files + 1);
  expect(after.descriptors).toBeGreaterThan(before.descriptors);
  child.kill();
  rmSync(folder, { recursive: true, force: true });
});

test("a process that outlives what started it is counted", async () => {
  const command = ["sh", "-c", "sleep 100 <&- >&- 2>&- & echo $! >> $0"];
  const folder = mkdtempSync(join(tmpdir(), "hutch-soak-"));
  const pids = join(folder, "pids");
  try {
    const { before, after, failures } = await soak([...command, pids], { runs: 3, atOnce: 1, folders: [] });
    expect(failures).toEqual([]);
    expect(after.children - before.children).toBe(3);
  } finally {
    adoptOrphans(false);
    for (const pid of readFileSync(pids, "utf8").trim().split("\n")) process.kill(Number(pid), "SIGKILL");
    rmSync(folder, { recursive: true });
  }
});
