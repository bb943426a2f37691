import { describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseJUnit } from "../../scripts/junit.ts";

/** Let the real `bun test` run one file and report on it. */
async function reportOf(source: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "hutch-junit-"));
  try {
    await Bun.write(join(folder, "a.test.ts"), `import { describe, expect, test } from "bun:test";\n${source}`);
    const child = Bun.spawn([process.execPath, "test", "--reporter=junit", "--reporter-outfile=report.xml"], {
      cwd: folder,
      stdio: ["ignore", "ignore", "ignore"],
    });
    await child.exited;
    return await Bun.file(join(folder, "report.xml")).text();
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

describe("parseJUnit", () => {
  test.each([
    ["what passes", "test('a', () => {});", { passed: 1, failed: 0, skipped: [] }],
    ["what fails", "test('a', () => expect(1).toBe(2)); test('b', () => {});", { passed: 1, failed: 1, skipped: [] }],
    ["a timeout", "test('a', () => new Promise(() => {}), 20);", { passed: 0, failed: 1, skipped: [] }],
    [
      "what is skipped, by name",
      "describe('g <&>', () => { test.skipIf(true)('\"a\"', () => {}); });",
      { passed: 0, failed: 0, skipped: ['a.test.ts: g <&> > "a"'] },
    ],
    [
      "words of the format inside messages",
      "test('a', () => { throw new Error('</testcase><skipped/>'); }); test('<skipped />', () => {});",
      { passed: 1, failed: 1, skipped: [] },
    ],
  ])("counts %s", async (_, source, expected) => {
    expect(parseJUnit(await reportOf(source))).toEqual(expected);
  });

  test.each([
    ["no report", "", "no <testsuites>"],
    ["a report that was cut off", '<testsuites tests="2"><testcase name="a" />', "says 2 tests and has 1"],
  ])("refuses %s", (_, xml, message) => {
    expect(() => parseJUnit(xml)).toThrow(message);
  });
});
