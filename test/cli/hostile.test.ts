/** Files in the caller's folder and variables of its environment must not run code outside of the sandbox. */

import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { type Bench, BUSYBOX, eachCaller, expectFailure, expectSuccess } from "./hutch.ts";

/** A folder full of what runtimes read by themselves. Any of it that runs makes the file `ran`. */
function trap(bench: Bench): { readonly folder: string; readonly ran: () => boolean } {
  const marker = 'require("node:fs").writeFileSync(__dirname + "/ran", "");\n';
  const folder = bench.folder({
    ".env": "FROM_DOTENV=1\nBUN_OPTIONS=--preload ./evil.js\nNODE_OPTIONS=--require ./evil.js\nPATH=/from-dotenv\n",
    ".env.local": "FROM_DOTENV=2\n",
    ".env.production": "FROM_DOTENV=3\n",
    ".npmrc": "node-options=--require ./evil.js\n",
    "bunfig.toml": 'preload = ["./evil.js"]\n[run]\nbun = true\n[test]\npreload = ["./evil.js"]\n',
    "evil.js": marker,
    "index.ts": marker,
    "package.json": '{"main": "evil.js", "imports": {"#x": "./evil.js"}, "scripts": {"run": "touch ran"}}',
    "tsconfig.json": '{"compilerOptions": {"paths": {"*": ["./evil.js"]}, "jsxImportSource": "./evil"}}',
    "node_modules/consola/index.js": marker,
    "node_modules/consola/package.json": '{"name": "consola", "main": "index.js"}',
    "node_modules/citty/index.js": marker,
    "run/index.js": marker,
  });
  return { folder, ran: () => existsSync(`${folder}/ran`) };
}

eachCaller("a hostile folder or environment", (bench) => {
  const { folder, ran } = trap(bench);
  const names = ["FROM_DOTENV", "BUN_OPTIONS", "NODE_OPTIONS"].flatMap((name) => ["-e", name]);
  const run = ["run", ...BUSYBOX, ...names, "scratch", "busybox", "env"];

  test(".env and bunfig.toml are not read: on success, on failure, for help", async () => {
    const result = await bench.hutch(run, { cwd: folder });
    expectSuccess(result, /^PATH=/m);
    expect(result.stdout).not.toMatch(/DOTENV|OPTIONS|from-dotenv/);
    expectFailure(await bench.hutch(["run", "scratch", "nosuch"], { cwd: folder }), 127, "nosuch");
    expectFailure(await bench.hutch(["run", "--bogus", "scratch", "x"], { cwd: folder }), 125, "--bogus");
    expectSuccess(await bench.hutch(["run", "--help"], { cwd: folder }), /ROOT/);
    expectSuccess(await bench.hutch(["plan", "scratch", "x"], { cwd: folder }), /pivot_root/);
    expect((await bench.start([bench.mydocker, "run", "x", "/bin/true"], { stdin: "", cwd: folder }).ended).code).toBe(
      0,
    );
    expect(ran()).toBe(false);
  });

  test.each([
    ["NODE_OPTIONS", "--require ./evil.js", true],
    ["NODE_PATH", ".", true],
    ["BUN_INSPECT_PRELOAD", "./evil.js", false],
    ["BUN_OPTIONS", "--preload ./evil.js", false],
    ["BUN_OPTIONS", "--preload=./evil.js --smol", false],
    ["BUN_OPTIONS", "--require ./evil.js", false],
    ["BUN_OPTIONS", "--import ./evil.js", false],
    ["BUN_OPTIONS", "--config=bunfig.toml", false],
    ["BUN_OPTIONS", "--cwd=.", false],
    ["BUN_OPTIONS", "--env-file=.env", false],
    ["BUN_OPTIONS", "-e require('./evil.js')", false],
  ] as const)("%s=%s of the caller runs nothing", async (name, value, works) => {
    const result = await bench.hutch(run, { cwd: folder, env: { [name]: value } });
    expect(ran()).toBe(false);
    if (works) expect(result).toMatchObject({ stderr: "", code: 0 });
    // Otherwise it may be refused, but never with the program started and something else besides.
    expect(result.stdout).not.toContain("FROM_DOTENV");
    if (result.code === 0) expect(result.stderr).toBe("");
  });

  test("variables for the program do not reach hutch's own second stage", async () => {
    const evil = [
      ...["-e", "BUN_OPTIONS=--preload ./evil.js", "-e", "BUN_BE_BUN=1", "-e", "NODE_OPTIONS=--require ./evil.js"],
      ...["-e", "LD_PRELOAD=/no/such/library.so", "-e", `BUN_INSPECT_PRELOAD=${folder}/evil.js`],
    ];
    const failing = await bench.hutch(["run", ...evil, "scratch", "/no/such"], { cwd: folder });
    expectFailure(failing, 127, "/no/such");
    const working = await bench.hutch(["run", ...evil, ...BUSYBOX, "scratch", "busybox", "env"], { cwd: folder });
    expect(working.stdout).toContain("BUN_BE_BUN=1\n"); // it is the program's, as asked for
    expect(ran()).toBe(false);
  });

  test("variables of the caller do not reach the second stage either", async () => {
    const env = { BUN_CONFIG_VERBOSE_FETCH: "1", DEBUG: "*", CONSOLA_LEVEL: "5", NO_COLOR: "1", FORCE_COLOR: "3" };
    expectFailure(await bench.hutch(["run", "scratch", "/no/such"], { cwd: folder, env }), 127, "/no/such");
    expect(ran()).toBe(false);
  });
});
