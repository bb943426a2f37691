/** The documents say what the code does: options, defaults, commands. */

import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { COMMANDS } from "../src/cli/commands.ts";
import { NIX_BUILD_OPTIONS } from "../src/cli/nix-build-options.ts";
import { RUN_OPTIONS } from "../src/cli/run-options.ts";
import * as defaults from "../src/defaults.ts";

const ROOT = join(import.meta.dir, "..");
const read = (path: string) => readFileSync(join(ROOT, path), "utf8");

test("every command has a page, and README or another page leads to it", () => {
  for (const [name, { hidden }] of Object.entries(COMMANDS)) {
    if (hidden === true) continue;
    expect(existsSync(join(ROOT, `docs/${name}.md`))).toBe(true);
  }
});

test("every command's page says how it exits when it fails", () => {
  for (const [name, { hidden }] of Object.entries(COMMANDS)) {
    if (hidden === true) continue;
    const page = read(`docs/${name}.md`);
    expect({ name, says: /exit\s+(code|status)/i.test(page) && page.includes("125") }).toEqual({ name, says: true });
  }
});

test("docs/run.md has every option, with its short form", () => {
  const page = read("docs/run.md");
  for (const [name, definition] of Object.entries(RUN_OPTIONS)) {
    if (name === "help" || definition.description.startsWith("not there")) continue;
    const short = "alias" in definition ? definition.alias : undefined;
    const long = page.includes(`--${name}`);
    expect({ name, documented: long || (short !== undefined && page.includes(`\`-${short}\``)) }).toEqual({
      name,
      documented: true,
    });
  }
});

test("docs/nix-build-shell.md has every option", () => {
  const page = read("docs/nix-build-shell.md");
  for (const name of Object.keys(NIX_BUILD_OPTIONS)) {
    if (name !== "help")
      expect({ name, documented: page.includes(`| \`--${name}`) }).toEqual({ name, documented: true });
  }
});

test("docs/run.md has every default", () => {
  const rows = new Map(
    read("docs/run.md")
      .split("\n")
      .filter((line) => line.startsWith("| "))
      .map((line) => line.split("|").map((cell) => cell.trim()))
      .map((cells) => [cells[1] ?? "", cells[2] ?? ""]),
  );
  const row = (name: string) => rows.get(name) ?? "";
  expect(row("namespaces").split(";")[0]?.split(", ")).toEqual([...defaults.DEFAULT_NAMESPACES]);
  expect(row("umask")).toBe(defaults.DEFAULT_UMASK.toString(8).padStart(4, "0"));
  expect(row("environment")).toContain(`PATH=${defaults.DEFAULT_PATH},`);
  expect(row("hostname")).toBe(`${defaults.DEFAULT_HOSTNAME}; domain name ${defaults.DEFAULT_DOMAINNAME}`);
  expect(row("capabilities").split(" ")).toEqual(defaults.DEFAULT_CAPABILITIES.map((name) => name.slice(4)));
  const below = (paths: readonly string[], top = "/proc/") =>
    paths.flatMap((path) => (path.startsWith(top) ? [path.slice(top.length)] : [])).join(" ");
  expect(row("/proc")).toContain(`masked: ${below(defaults.MASKED_PATHS)}`);
  expect(row("/sys")).toContain(`masked: ${below(defaults.MASKED_PATHS, "/sys/")}`);
  expect(read("docs/run.md")).toContain(`read-only: ${below(defaults.READONLY_PATHS)}`);
  for (const name of defaults.DEVICES) expect(row("/dev").split(/[ ,]+/)).toContain(name);
  for (const [name] of defaults.DEVICE_LINKS) expect(row("/dev").split(/[ ,]+/)).toContain(name);
  for (const [path] of defaults.SCRATCH_DIRECTORIES) expect(row("scratch root has").split(/[ ,]+/)).toContain(path);
  for (const [path] of defaults.scratchFiles("x"))
    expect(row("scratch root has")).toContain(path.slice("/etc/".length));
  expect(read("docs/run.md")).toContain(`else ${defaults.FALLBACK_RANGE.start} and up`);
});
