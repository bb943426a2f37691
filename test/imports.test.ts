/** The import rules hold for the source as it is, and the checker sees each kind of breach. */

import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { breaches, GENERATED, MOST_LINES, ROOMS, scan } from "./import-rules.ts";

const ROOT = join(import.meta.dir, "..");

async function sources(): Promise<ReadonlyMap<string, string>> {
  const files = new Map<string, string>();
  const glob = new Bun.Glob("{src,test,scripts,bench}/**/*.ts");
  for (const path of [...glob.scanSync(ROOT)].toSorted()) files.set(path, await Bun.file(join(ROOT, path)).text());
  return files;
}

test("the source keeps the rules", async () => {
  const files = await sources();
  expect(files.has("src/errors.ts")).toBe(true);
  expect(breaches(files)).toEqual([]);
});

test("the table names only rooms that are in it", () => {
  const names = ROOMS.map((room) => room.name);
  expect(new Set(names).size).toBe(names.length);
  for (const room of ROOMS) expect(names).toEqual(expect.arrayContaining([...room.rooms]));
});

test("the table has no circle of rooms, so no order of work is needed to keep files free of them", () => {
  const above = (name: string, seen: readonly string[]): void => {
    expect(seen).not.toContain(name);
    for (const next of ROOMS.find((room) => room.name === name)?.rooms ?? []) above(next, [...seen, name]);
  };
  for (const room of ROOMS) above(room.name, []);
});

describe("scan", () => {
  const kinds = (source: string) => scan(source).imports.map((item) => `${item.kind} ${item.path}`);

  test.each([
    ['import { a } from "./a.ts";', ["value ./a.ts"]],
    ['import "./a.ts";', ["value ./a.ts"]],
    ['import { a } from "./a.ts"; // and\nimport b from "b";\na(b);', ["value ./a.ts", "value b"]],
    ['import {\n  a,\n  type B,\n} from "./a.ts";\na();', ["value ./a.ts"]],
    ['export * from "./a.ts";', ["value ./a.ts"]],
    ['export { a } from "./a.ts";', ["value ./a.ts"]],
    ['const a = await import("./a.ts");', ["value ./a.ts"]],
    ['const a = require("./a.ts");', ["value ./a.ts"]],
    ['import type { A } from "./a.ts";', ["type ./a.ts"]],
    ['import type {\n  A,\n  B,\n} from "./a.ts";', ["type ./a.ts"]],
    ['import type A from "./a.ts";', ["type ./a.ts"]],
    ['import type * as A from "./a.ts";', ["type ./a.ts"]],
    ['export type { A } from "./a.ts";', ["type ./a.ts"]],
    ['export type * from "./a.ts";', ["type ./a.ts"]],
    ['import { type A, type B } from "./a.ts";', ["type ./a.ts"]],
    ['export { type A } from "./a.ts";', ["type ./a.ts"]],
    ['type A = import("./a.ts").A;', ["type ./a.ts"]],
    ['export type A = { from: "./a.ts" };', []],
    ['// import { a } from "./a.ts";\nconst b = "import c from c";', []],
  ])("imports of %j", (source, expected) => {
    expect(kinds(source)).toEqual(expected);
  });

  test.each([
    ["Bun.file(x); process.argv;", ["Bun", "process.argv"]],
    ["f(typeof Bun);", ["Bun"]],
    ['process["exit"](1);', ["process.exit"]],
    ["process?.env", ["process.env"]],
    ["const { argv } = process;", ["process"]],
    ["globalThis.process", ["globalThis"]],
    ["console.log(1);", ["console"]],
    ['// Bun.file\nconst a = "process.argv"; const b = /Bun/; spec.process.args', []],
    ["function f(process: Process) { return process.env; }", []],
    ["const { process } = spec; process.args;", []],
  ])("globals of %j", (source, expected) => {
    expect(scan(source).globals).toEqual(expected);
  });
});

describe("a breach is found:", () => {
  const table: readonly [string, Readonly<Record<string, string>>, readonly string[]][] = [
    ["nothing, where there is none", { "src/main.ts": 'await import("./cli/run.ts");', "src/cli/run.ts": "" }, []],
    [
      "bun:ffi outside libc",
      { "src/launch/a.ts": 'import { dlopen } from "bun:ffi";\ndlopen;' },
      ["src/launch/a.ts: imports bun:ffi, which launch may not"],
    ],
    [
      "a node module in a pure room",
      { "src/plan.ts": 'import { join } from "node:path";\njoin;' },
      ["src/plan.ts: imports node:path, which plan may not"],
    ],
    [
      "libc in a pure room, even as a type",
      { "src/namespaces/user.ts": 'import type { A } from "../libc/call.ts";', "src/libc/call.ts": "" },
      ["src/namespaces/user.ts: imports src/libc/call.ts, but namespaces may not import libc"],
    ],
    [
      "Bun in a pure room",
      { "src/process/exec.ts": "Bun.version;" },
      ["src/process/exec.ts: uses Bun, which process may not"],
    ],
    [
      "the process in a pure room",
      { "src/cgroups/resources.ts": "process.pid;" },
      ["src/cgroups/resources.ts: uses process.pid, which resources may not"],
    ],
    [
      "an import by errors",
      { "src/errors.ts": 'import "./bytes.ts";', "src/bytes.ts": "" },
      ["src/errors.ts: imports src/bytes.ts, but errors may not import bytes"],
    ],
    [
      "a room above",
      { "src/launch/a.ts": 'import "../cli/run.ts";', "src/cli/run.ts": "" },
      ["src/launch/a.ts: imports src/cli/run.ts, but launch may not import cli"],
    ],
    [
      "consola outside cli",
      { "src/image/a.ts": 'const { consola } = await import("consola");' },
      ["src/image/a.ts: imports consola, which image may not"],
    ],
    [
      "an unknown package",
      { "src/cli/a.ts": 'import "left-pad";' },
      ["src/cli/a.ts: imports left-pad, which cli may not"],
    ],
    [
      "argv, exit and printing outside cli",
      { "src/nix/a.ts": "console.log(process.argv); process.exit(process.pid);" },
      [
        "src/nix/a.ts: uses console, which nix may not",
        "src/nix/a.ts: uses process.argv, which nix may not",
        "src/nix/a.ts: uses process.exit, which nix may not",
      ],
    ],
    [
      "the whole process taken",
      { "src/nix/a.ts": "const { argv } = process;" },
      ["src/nix/a.ts: uses process, which nix may not"],
    ],
    ["a file without a room", { "src/helpers.ts": "" }, ["src/helpers.ts: belongs to no room"]],
    [
      "an import without its ending",
      { "src/cli/a.ts": 'import "./b";', "src/cli/b.ts": "" },
      ["src/cli/a.ts: imports ./b, which is no file of a room"],
    ],
    [
      "a missing file",
      { "src/cli/a.ts": 'import "./b.ts";' },
      ["src/cli/a.ts: imports ./b.ts, which is no file of a room"],
    ],
    [
      "a file outside src",
      { "src/cli/a.ts": 'import "../../scripts/b.ts";', "scripts/b.ts": "" },
      ["src/cli/a.ts: imports ../../scripts/b.ts, which is no file of a room"],
    ],
    ["a barrel by name", { "src/image/index.ts": "" }, ["src/image/index.ts: a barrel"]],
    [
      "a barrel by what it does",
      { "src/image/all.ts": 'export { a } from "./a.ts";', "src/image/a.ts": "" },
      ["src/image/all.ts: a barrel"],
    ],
    [
      "a circle, even of types",
      {
        "src/nix/a.ts": 'import "./b.ts";',
        "src/nix/b.ts": 'import "./c.ts";',
        "src/nix/c.ts": 'import type { A } from "./a.ts";',
      },
      ["src/nix/a.ts: a circle: src/nix/a.ts → src/nix/b.ts → src/nix/c.ts → src/nix/a.ts"],
    ],
    [
      "a file that imports itself",
      { "src/nix/a.ts": 'import "./a.ts";' },
      ["src/nix/a.ts: a circle: src/nix/a.ts → src/nix/a.ts"],
    ],
    [
      "a long file",
      { "test/a.test.ts": "\n".repeat(MOST_LINES + 1) },
      [`test/a.test.ts: ${MOST_LINES + 1} lines, more than ${MOST_LINES}`],
    ],
    ["nothing in the longest file", { "test/a.test.ts": "\n".repeat(MOST_LINES) }, []],
    ["nothing in a generated table", { [GENERATED[0] ?? ""]: "\n".repeat(MOST_LINES + 1) }, []],
  ];
  test.each(table)("%s", (_, files, expected) => {
    expect(breaches(new Map(Object.entries(files)))).toEqual(expected);
  });
});
