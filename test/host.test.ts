/** Facts about the machine: what can be compared with other sources of the same. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gatherFacts, parseRelease, parseSubordinate } from "../src/host.ts";
import { host, specOf, volume } from "./plans.ts";

test.each([
  ["6.1.0-18-amd64\n", 6_001],
  ["6.18.44-fc", 6_018],
  ["5.15-rc1", 5_015],
  ["7.0", 7_000],
  ["Linux", Number.MAX_SAFE_INTEGER],
  ["", Number.MAX_SAFE_INTEGER],
])("release %j", (release, number) => {
  expect(parseRelease(release)).toBe(number);
});

describe("subuid", () => {
  const text =
    "# comment\nalice:100000:65536\nbob:165536:65536\nalice:300000:10\n1000:400000:65536\nbad:x:5\nzero:0:5\nnone:5:0\n";
  test.each<readonly [names: string[], range: { start: number; size: number } | undefined]>([
    [["alice"], { start: 100_000, size: 65_536 }],
    [["bob", "alice"], { start: 100_000, size: 65_536 }], // the file's order, not the names'
    [["1000"], { start: 400_000, size: 65_536 }],
    [["carol"], undefined],
    [["bad"], undefined],
    [["zero"], undefined], // a range that began with the machine's root would be no range
    [["none"], undefined],
    [["ali"], undefined],
    [[], undefined],
  ])("of %j", (names, range) => {
    expect(parseSubordinate(text, names)).toEqual(range);
  });

  test("never a range that has root in it, whatever the file holds", () => {
    const field = fc.oneof(
      fc.string({ maxLength: 4 }),
      fc.constantFrom("me", "0", "-1", "1e9", "65536", " ", "4294967296"),
    );
    fc.assert(
      fc.property(fc.array(fc.tuple(field, field, field).map((fields) => fields.join(":"))), (lines) => {
        const range = parseSubordinate(lines.join("\n"), ["me"]);
        if (range === undefined) return;
        expect(Number.isSafeInteger(range.start) && range.start > 0).toBe(true);
        expect(Number.isSafeInteger(range.size) && range.size > 0).toBe(true);
      }),
    );
  });
});

describe("this machine", () => {
  test("the caller", () => {
    const facts = gatherFacts(specOf());
    expect([facts.uid, facts.gid]).toEqual([process.geteuid?.() ?? -1, process.getegid?.() ?? -1]);
    const initial = /^\s*0\s+0\s+4294967295\s*$/.test(readFileSync("/proc/self/uid_map", "utf8"));
    expect(facts.root).toBe(facts.uid === 0 && initial);
    expect(facts.ranges === undefined).toBe(!facts.root);
    expect(statSync(facts.workspace).isDirectory()).toBe(true);
  });

  test("limits are those of /proc/PARENT/limits", () => {
    const { nofile } = gatherFacts(specOf());
    const row = /^Max open files\s+(\d+|unlimited)\s+(\d+|unlimited)/m;
    const soft = row.exec(readFileSync(`/proc/${process.ppid}/limits`, "utf8"))?.[1];
    const hard = row.exec(readFileSync("/proc/self/limits", "utf8"))?.[2];
    const number = (word: string | undefined) => (word === "unlimited" ? Number.POSITIVE_INFINITY : Number(word));
    expect(nofile).toEqual({ soft: Math.min(number(soft), number(hard)), hard: number(hard) });
  });

  test("what the sources are, and that an absent one is left out", () => {
    const folder = mkdtempSync(join(tmpdir(), "hutch-host-"));
    try {
      writeFileSync(join(folder, "file"), "");
      const spec = specOf({
        root: { kind: "overlay", lower: [host(folder)], from: folder },
        mounts: [volume(join(folder, "file"), "/f"), volume(join(folder, "absent"), "/a"), volume("/dev/null", "/n")],
      });
      const { kinds, owners, mountsBelow } = gatherFacts(spec);
      expect([kinds.get(folder), kinds.get(join(folder, "file"))]).toEqual(["directory", "file"]);
      expect([kinds.get("/dev/null"), kinds.has(join(folder, "absent"))]).toEqual(["file", false]);
      expect(owners.get(folder)).toBe(process.geteuid?.());
      expect(mountsBelow.get(folder)).toEqual([]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("what is mounted below a root, strictly below", () => {
    const below = (path: string) =>
      gatherFacts(specOf({ root: { kind: "overlay", lower: [host(path)], from: path } })).mountsBelow.get(path) ?? [];
    expect(below("/")).toContain("/proc");
    expect(below("/")).not.toContain("/");
    expect(below("/proc")).not.toContain("/proc");
    expect(below("/pro")).toEqual([]);
  });
});
