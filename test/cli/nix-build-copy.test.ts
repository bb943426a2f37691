/** nix-build-shell and the copy of a large build: the npm package's threads, the progress line, what stays on every way out. */

import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { until } from "./host-processes.ts";
import { type Bench, eachCaller, expectSuccess, needs } from "./hutch.ts";
import { applet, enter, expectUntouched, failedBuild, fingerprint } from "./nix-builds.ts";
import { openTerminal } from "./nix-terminal.ts";

setDefaultTimeout(60_000);
const build = failedBuild();
const FILES = 4000;
let large = "";
/** The npm package as `npm pack` makes it, unpacked into a node_modules of its own. */
let installed = "";

beforeAll(() => {
  const { root } = build.shop();
  large = join(root, "large");
  mkdirSync(large);
  cpSync(join(build.kept(), "env-vars"), join(large, "env-vars"));
  for (let i = 0; i < FILES / 400; i++) {
    mkdirSync(join(large, `d${i}`));
    for (let j = 0; j < 400; j++) writeFileSync(join(large, `d${i}`, `f${j}`), `d${i}/f${j}\n`);
  }
  installed = mkdtempSync(join(root, "package-"));
  const run = (...argv: readonly string[]) => {
    const child = Bun.spawnSync([...argv], { cwd: resolve(import.meta.dir, "../.."), stdin: "ignore" });
    if (child.exitCode !== 0) throw new Error(`${argv.join(" ")}: ${child.stderr.toString()}`);
  };
  run(needs("npm"), "pack", "--ignore-scripts", "--offline", "--pack-destination", installed);
  const [archive = ""] = readdirSync(installed);
  mkdirSync(join(installed, "node_modules/hutch"), { recursive: true });
  run(
    needs("tar"),
    "-xzf",
    join(installed, archive),
    "-C",
    join(installed, "node_modules/hutch"),
    "--strip-components=1",
  );
  mkdirSync(join(installed, "bin"));
  copyFileSync(process.execPath, join(installed, "bin/bun")); // where every user may run it
  run(needs("chmod"), "-R", "a+rX", installed);
});

/** A script that counts the files of the large build that are as they were. */
const COUNT = "n=0; for f in d*/f*; do IFS= read -r l < $f; [ $l = $f ] && n=$((n+1)); done; echo $n";

const begun = (temporary: string) =>
  until("the copy to have begun", () => {
    const [session] = readdirSync(temporary);
    if (session === undefined) return false;
    try {
      return readdirSync(join(temporary, session, "build")).length > 5;
    } catch {
      return false; // not made yet
    }
  });

eachCaller("the copy of a large build", (bench: Bench) => {
  const start = (temporary: string, script: string) =>
    bench.start([applet(bench), "--store", build.shop().store.root, large, "bash", "-c", script], {
      stdin: "",
      env: { TMPDIR: temporary },
    });

  test("by the npm package, whose threads are files of their own", async () => {
    const base = join(installed, "node_modules/hutch/dist");
    const temporary = bench.folder();
    const argv = [join(base, "nix-build-shell.js"), "--store", build.shop().store.root];
    const env = { TMPDIR: temporary, PATH: `${installed}/bin:${process.env["PATH"]}` };
    expectSuccess(await bench.start([...argv, large, "bash", "-c", COUNT], { stdin: "", env }).ended, `${FILES}\n`);
    const failed = await bench.start([...argv, build.kept(), "bash", "-c", "echo $$; exit 7"], { stdin: "", env })
      .ended;
    expect([failed.stdout, failed.stderr, failed.code]).toEqual(["1\n", "", 7]);
    expect(readdirSync(temporary)).toEqual([]);
  });

  test("SIGKILL in the middle: nothing is changed, the next session works, and nothing is left", () =>
    expectUntouched(build, async () => {
      const before = fingerprint(large);
      const temporary = bench.folder();
      const running = start(temporary, "echo never");
      await begun(temporary);
      running.kill("SIGKILL");
      expect((await running.ended).stdout).toBe("");
      expectSuccess(await enter(bench, build, temporary, [build.kept(), "true"]), "");
      await until("all is removed", () => readdirSync(temporary).length === 0);
      expect(fingerprint(large)).toBe(before);
    }));

  test.each([
    ["while copying", "2m", "true", 125, "disk full; hint: set TMPDIR"],
    [
      "while the command runs",
      "400k",
      "while echo more || exit 1; do :; done > /build/more",
      1,
      "No space left on device",
    ],
  ])("a tmpfs that is full %s: nothing is changed, nothing is left", (when, size, command, code, said) =>
    expectUntouched(build, async () => {
      const source = when === "while copying" ? large : build.kept();
      const before = fingerprint(large);
      const mount = bench.caller.root ? ["-m"] : ["-r", "-m"];
      const script = `mount -t tmpfs -o size=${size},mode=1777 none "$TMPDIR" || exit; "$@"; echo "$?"; ls -A "$TMPDIR"`;
      const shell = [applet(bench), "--store", build.shop().store.root, source, "bash", "-c", command];
      const argv = [needs("unshare"), ...mount, "--propagation", "private", "sh", "-c", script, "sh", ...shell];
      const result = await bench.start(argv, { stdin: "", env: { TMPDIR: bench.folder() } }).ended;
      expect(result.stderr).toContain(said);
      expect([result.stdout, result.code]).toEqual([`${code}\n`, 0]);
      expect(fingerprint(large)).toBe(before);
    }),
  );

  test("a line on the terminal tells how far it is, once it takes more than a second", async () => {
    const temporary = bench.folder();
    using terminal = openTerminal(bench.folder());
    const argv = [...bench.caller.prefix, applet(bench), "--store", build.shop().store.root, large, "true"];
    terminal.type(`TMPDIR=${temporary} ${argv.join(" ")} & echo "pid=$!"`, "Enter");
    const pid = Number(/\npid=(\d+)/.exec(await terminal.shows(/\npid=\d+/))?.[1]);
    await begun(temporary);
    process.kill(pid, "SIGSTOP"); // so that it takes a second on any machine
    const stopped = performance.now();
    await until("a second", () => performance.now() - stopped > 1100);
    process.kill(pid, "SIGCONT");
    await terminal.shows(/copying the build directory: \d+ files, \d+ MiB/);
    await until("the line to be cleared", () => !terminal.screen().includes("copying the build directory"));
    terminal.type("wait $!; echo status $?", "Enter");
    await terminal.shows("\nstatus 0");
    expect(readdirSync(temporary)).toEqual([]);
  });
});
