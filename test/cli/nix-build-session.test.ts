/** nix-build-shell without a terminal: commands from standard input, phases, what becomes of changes. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { eachCaller, expectFailure, expectSuccess } from "./hutch.ts";
import { applet, enter, expectUntouched, failedBuild } from "./nix-builds.ts";

setDefaultTimeout(30_000);
const build = failedBuild();

eachCaller("nix-build-shell without a terminal", (bench) => {
  const feed = (script: string, options: readonly string[] = [], temporary = bench.folder()) =>
    enter(bench, build, temporary, [...options, build.kept()], { stdin: script });

  test("commands from standard input, where the build failed, and the last one's status", async () => {
    const result = await feed("pwd; echo $name; [ -t 0 ] || echo no terminal; exit 3");
    expect([result.stdout, result.stderr, result.code]).toEqual(["/build/source\nsample\nno terminal\n", "", 3]);
  });

  test("phases, phase NAME, phase --from NAME", async () => {
    const result = await feed(
      'phases; cd /build; phase unpackPhase; phase buildPhase; phase checkPhase; echo "check $?"; echo > repaired; phase --from checkPhase; echo "from $?"; phase nonsense; echo "none $?"',
    );
    expect(result.stdout).toStartWith("unpackPhase\nbuildPhase\ncheckPhase\ninstallPhase\ninstallCheckPhase\n");
    expect(result.stdout).toContain("compiling sample\n");
    expect(result.stdout).toContain("check 1\n");
    expect(result.stderr).toContain("1 test failed, mode fast");
    expect(result.stderr).toContain("phase: no phase nonsense; see phases");
    expect(result.stdout).toEndWith("none 2\n");
    expect(result.code).toBe(0);
  });

  test("kept-diff inside tells what changed, and the kept directory cannot be written", async () => {
    const result = await feed(
      "echo x > new; echo y >> sample.c; kept-diff; (echo z > /tmp/hutch/kept/z) 2>/dev/null || echo read-only",
    );
    expect(result.stdout).toContain("added    source/new\n");
    expect(result.stdout).toContain("changed  source/sample.c\n");
    expect(result.stdout).toEndWith("read-only\n");
  });

  test("a word about changes, but not about products of the build", async () => {
    expect((await feed("echo > x.o; echo > config.log")).stderr).toBe("");
    expect((await feed("echo > x.c; echo > y.c")).stderr).toBe(
      "nix-build-shell: changes are thrown away: source/x.c and 1 more (--keep DIR keeps them, --diff shows them)\n",
    );
  });

  test("--diff at the end, with and without products", async () => {
    const script = "echo 'int y;' >> sample.c; echo product > x.o";
    const whole = await feed(script, ["--diff"]);
    expect(whole.stdout).toBe("");
    expect(whole.stderr).toContain("--- a/source/sample.c\n+++ b/source/sample.c\n");
    expect(whole.stderr).toContain("+int y;\n");
    expect(whole.stderr).toContain("+++ b/source/x.o\n");
    const sources = await feed(script, ["--diff", "--no-products"]);
    expect(sources.stderr).toContain("+int y;\n");
    expect(sources.stderr).not.toContain("x.o");
  });

  test("--diff for a command, whose output and status are its own", async () => {
    const args = ["--diff", build.kept(), "bash", "-c", "echo out; echo new > new; exit 4"];
    const result = await enter(bench, build, bench.folder(), args);
    expect([result.stdout, result.code]).toEqual(["out\n", 4]);
    expect(result.stderr).toBe("--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+new\n");
  });

  test("--keep: the copy stays, and is the caller's; it can be entered again", async () => {
    const temporary = bench.folder();
    const place = `${temporary}/kept`;
    const result = await feed("echo x > new", ["--keep", place], temporary);
    expect(result.stderr).toBe(`nix-build-shell: the build directory is kept in ${place}\n`);
    expect(readdirSync(temporary)).toEqual(["kept"]);
    expect(readFileSync(`${place}/source/new`, "utf8")).toBe("x\n");
    expect(statSync(place).uid).toBe(bench.caller.uid);
    expectSuccess(await enter(bench, build, temporary, [place, "cat", "source/new"]), "x\n");
    expectFailure(await feed("true", ["--keep", place]), 125, "is already there", "--keep");
  });

  test("the copy goes neither into the kept directory nor into the store", () =>
    expectUntouched(build, async () => {
      const inside = `${build.kept()}/source`;
      expectFailure(await feed("true", ["--keep", `${inside}/copy`]), 125, "never written to");
      expectFailure(await feed("true", [], inside), 125, `TMPDIR=${inside}`, "never written to");
      expectFailure(await feed("true", [], `${build.shop().store.root}/nix/store`), 125, "never written to");
    }));

  test("--log: another file tells the phase, and must be there", async () => {
    const folder = bench.folder({ log: '@nix { "action": "setPhase", "phase": "fooPhase" }\n' });
    const script = "echo $HUTCH_PHASE";
    expectSuccess(await feed(script, ["--log", `${folder}/log`]), "fooPhase\n");
    expectFailure(await feed(script, ["--log", `${folder}/none`]), 125, "does not exist", "--log");
  });

  test("--export-patch: a patch that applies in the source root", async () => {
    const folder = bench.folder();
    const result = await feed("echo 'int y;' >> sample.c; echo > x.o; echo > ../outside", [
      "--export-patch",
      `${folder}/my.patch`,
    ]);
    expect(result.stderr).toBe(`nix-build-shell: changes of the sources are in ${folder}/my.patch\n`);
    const patch = readFileSync(`${folder}/my.patch`, "utf8");
    expect(patch).toStartWith(
      "--- a/sample.c\n+++ b/sample.c\n@@ -1 +1,2 @@\n int main(void) { return 0; }\n+int y;\n",
    );
    expect(patch).not.toContain("outside");
    expectFailure(await feed("true", ["--export-patch", `${build.kept()}/x.patch`]), 125, "never written to");
  });

  test("--list: package, phase, age, size, place", async () => {
    const argv = [applet(bench), "--store", build.shop().store.root, "--list"];
    const { stdout, code } = await bench.start(argv, { env: { TMPDIR: dirname(build.kept()) } }).ended;
    expect(code).toBe(0);
    const [heading, ...rows] = stdout.trimEnd().split("\n");
    expect(heading).toMatch(/^PACKAGE +PHASE +AGE +SIZE +REMOVED +BUILD_DIR$/);
    expect(rows.find((row) => row.endsWith(build.kept()))).toMatch(/^sample +checkPhase +\d min +\d+ KiB +- +\//);
  });

  test("a session that is killed leaves nothing, and says what was lost", async () => {
    const temporary = bench.folder();
    const argv = [applet(bench), "--store", build.shop().store.root, build.kept()];
    const running = bench.start(argv, { env: { TMPDIR: temporary } });
    running.write("echo x > new; echo up; read -r line\n");
    await running.says("up");
    running.kill("SIGTERM");
    expect((await running.ended).code).toBe(143);
    expect(running.errors()).toContain("changes are thrown away: source/new");
    expect(readdirSync(temporary)).toEqual([]);
  });
});
