/**
 * hutch's own file operations made to fail, and hutch killed before them: a part of what scripts/faults.ts does to all.
 * Either nothing changes, the isolation included, or one line says what failed; nothing is left behind.
 */

import { afterAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { faultCases } from "../../scripts/fault-cases.ts";
import { sweep } from "../../scripts/faults.ts";
import { need } from "../kernel/sandbox.ts";

need("strace", "strace");
const place = faultCases(true);
afterAll(() => place[Symbol.dispose]());

/** Calls whose failures have been taken for something else, or have left something; and every twentieth. */
const ALWAYS =
  /uid_map|proc\/acpi|landlock|flock|linkat|"hutch-report"|lseek|TCGETS|TCSBRK|kept\.patch|dev\/kvm|getcwd|execve|mkdir|rename|rmdir/;
const CASES = [
  ...["name", "json", "not-found", "disk", "terminal", "ranges", "nix-keep", "nix-patch", "nix-exact"],
  ...["doctor", "selftest-some", "persist-new", "rm"],
];

describe.each(place.callers)("a fault, as $name", ({ by, folder, cases }) => {
  test.each(cases.filter(({ name }) => CASES.includes(name)))("$name", async (one) => {
    const found = await sweep(one, by, join(folder, "trace"), (index, line) => index % 20 === 0 || ALWAYS.test(line));
    expect(found.wrong).toEqual([]);
    expect(found.failed).toBeGreaterThan(5);
    expect(found.killed).toBeGreaterThan(5);
  });
});
