/** Time namespace: two clocks moved, for those who ask (time_namespaces(7)). */

import { describe, expect, test } from "bun:test";
import * as sandbox from "./sandbox.ts";

const CLOCKS = `
import time
print(json.dumps([time.clock_gettime(time.CLOCK_MONOTONIC), time.clock_gettime(time.CLOCK_BOOTTIME), time.time(), float(open("/proc/uptime").read().split()[0])]))`;

/** The four clocks of this process. */
function clocks(): readonly [monotonic: number, boottime: number, real: number, uptime: number] {
  const result = sandbox.spawnToEnd([sandbox.need("python3", "python3"), "-c", `import json\n${CLOCKS}`]);
  return JSON.parse(sandbox.output(result)) as [number, number, number, number];
}

describe.each(sandbox.CALLERS)("started by %s", (caller) => {
  // Between two looks at the clock outside, whatever this machine's pace.
  test.each<readonly [options: string[], monotonic: number, boottime: number]>([
    [[], 0, 0],
    [["--time-offset", "86400"], 86_400, 86_400],
    [["--time-offset", "monotonic=-1,boottime=1000000"], -1, 1_000_000],
  ])("%j", (options, monotonic, boottime) => {
    const before = clocks();
    const inside = sandbox.python(caller, options, CLOCKS) as number[];
    const after = clocks();
    [monotonic, boottime, 0, boottime].forEach((offset, index) => {
      const seen = (inside[index] ?? Number.NaN) - offset;
      expect(seen).toBeGreaterThanOrEqual((before[index] ?? 0) - 0.02); // uptime has hundredths
      expect(seen).toBeLessThanOrEqual((after[index] ?? 0) + 0.02);
    });
  });

  test("the namespace is new only when asked for, and children are in it too", async () => {
    const root = sandbox.makeRoot();
    await using plain = await sandbox.start(caller, [], root);
    expect(sandbox.namespaceOf(plain.program, "time")).toBe(sandbox.namespaceOf("self", "time"));
    await using moved = await sandbox.start(caller, ["--time-offset", "5"], root);
    expect(sandbox.namespaceOf(moved.program, "time")).not.toBe(sandbox.namespaceOf("self", "time"));
    expect(sandbox.namespaceOf(moved.program, "time_for_children")).toBe(sandbox.namespaceOf(moved.program, "time"));
    const offsets = sandbox.procFile(moved.program, "timens_offsets").trim().split("\n");
    expect(offsets.map((line) => line.split(/\s+/))).toEqual([
      ["monotonic", "5", "0"],
      ["boottime", "5", "0"],
    ]);
  });

  test("with --no-init the program itself is in it", async () => {
    await using moved = await sandbox.start(caller, ["--no-init", "--time-offset", "5"], sandbox.makeRoot());
    expect(sandbox.namespaceOf(moved.program, "time")).not.toBe(sandbox.namespaceOf("self", "time"));
  });
});
