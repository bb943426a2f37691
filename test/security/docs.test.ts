/** docs/security.md says what the code does. */

import { expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { DEFAULT_CAPABILITIES } from "../../src/defaults.ts";
import { refusalTable } from "../../src/process/profile-table.ts";
import { SECURITY_PROFILES } from "../../src/process/security.ts";
import { FILE_ATTACKS } from "../../src/selftest/attacks-files.ts";
import { KERNEL_ATTACKS } from "../../src/selftest/attacks-kernel.ts";

const ROOT = join(import.meta.dir, "../..");
const page = readFileSync(join(ROOT, "docs/security.md"), "utf8");

/** Rows of a Markdown table as cells, without the widths that a formatter gives them. */
function cells(table: string): readonly (readonly string[])[] {
  const rows = table.split("\n").filter((line) => line.startsWith("|"));
  return rows
    .map((line) => line.split(/(?<!\\)\|/).map((cell) => cell.trim()))
    .filter((row) => !row.every((cell) => /^-*$/.test(cell)));
}

test("the table of refused calls is the profiles' own", () => {
  const [, shown = ""] = /<!-- table: refusals -->([^]*?)<!-- end -->/.exec(page) ?? [];
  expect(cells(shown)).toEqual(cells(refusalTable()));
});

test("the table of profiles has all, and the default's capabilities", () => {
  const header = cells(page).find((row) => row.includes("strict") && row.includes("nested"));
  expect(header?.slice(2, -1)).toEqual([...SECURITY_PROFILES]);
  const row = cells(page).find(([, first]) => first?.startsWith("capabilities") === true);
  expect(row?.[2]).toBe(String(DEFAULT_CAPABILITIES.length));
});

test("every class names code that is there, and attacks that tests try", () => {
  const files = readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" });
  const tests = readdirSync(import.meta.dir)
    .map((name) => readFileSync(join(import.meta.dir, name), "utf8"))
    .join("\n");
  const tried = new Set([...FILE_ATTACKS, ...KERNEL_ATTACKS].map(({ number }) => number));
  const classes = page.slice(page.indexOf("| class "), page.indexOf("## Profiles"));
  for (const row of cells(classes).slice(1)) {
    for (const [, file = "", word = ""] of (row[4] ?? "").matchAll(/`([^`]+\.ts)`(?: ([A-Za-z-]+))?/g)) {
      const path = files.find((one) => one === file || one.endsWith(`/${file}`));
      const text = path === undefined ? "" : readFileSync(join(ROOT, "src", path), "utf8");
      expect({ file, word, found: text !== "" && text.includes(word) }).toEqual({ file, word, found: true });
    }
    for (const [path] of (row[5] ?? "").matchAll(/test\/[\w./-]+/g))
      expect({ path, found: existsSync(join(ROOT, path)) }).toEqual({ path, found: true });
    for (const [, name] of (row[5] ?? "").matchAll(/\b(soak|fuzz)\b/g))
      expect(existsSync(join(import.meta.dir, `${name}.test.ts`))).toBe(true);
    for (const [number] of (row[5] ?? "").matchAll(/\b[ABD]\d+\b/g)) {
      const found =
        tried.has(number) || new RegExp(`"(?:[^"]*, )?${number}\\b`).test(tests) || tests.includes(`\`${number}:`);
      expect({ number, found }).toEqual({ number, found: true });
    }
  }
});

test("every attack of the list is tried under its number", () => {
  const list = page.slice(page.indexOf("## Attacks"), page.indexOf("## Found and counted"));
  const files = ["test/security", "test/cli", "test/image"].flatMap((folder) =>
    readdirSync(join(ROOT, folder))
      .filter((name) => name.endsWith(".test.ts"))
      .map((name) => readFileSync(join(ROOT, folder, name), "utf8")),
  );
  const tests = files.join("\n");
  const tried = new Set([...FILE_ATTACKS, ...KERNEL_ATTACKS].map(({ number }) => Number(number.slice(1))));
  const numbers = [...Array.from({ length: 36 }, (_, index) => index + 1), 53, 54, 55, 56, 57];
  for (const number of numbers) {
    expect({ number, listed: new RegExp(`[ ;(,]${number}\\b`).test(list) }).toEqual({ number, listed: true });
    const named = new RegExp(`test[^\n]*[("\`]([ABD]\\d+, )*[ABD]${number}[:,]|^ *\`?"?[ABD]${number}:`, "m").test(
      tests,
    );
    expect({ number, tried: tried.has(number) || named }).toEqual({ number, tried: true });
  }
});

test("SECURITY.md and docs/selftest.md are there", () => {
  for (const path of ["SECURITY.md", "docs/selftest.md"]) expect(existsSync(join(ROOT, path))).toBe(true);
});
