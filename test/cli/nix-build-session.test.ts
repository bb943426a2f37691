/** nix-build-shell without a terminal: commands from standard input, phases, what becomes of changes. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, linkSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { eachCaller, expectFailure, expectSuccess, needs } from "./hutch.ts";
import { applet, enter, expectUntouched, failedBuild, fingerprint } from "./nix-builds.ts";

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
    const sources = await feed("echo x > x.o; echo x > new; kept-diff --no-products");
    expect(sources.stdout).toBe("added    source/new\n");
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

  test("a build directory of many files, copied by several threads, is all there", async () => {
    const kept = bench.folder();
    cpSync(`${build.kept()}/env-vars`, `${kept}/env-vars`);
    for (let i = 0; i < 30; i++) {
      mkdirSync(`${kept}/d${i}`);
      for (let j = 0; j < 50; j++) writeFileSync(`${kept}/d${i}/f${j}`, `d${i}/f${j}\n`);
    }
    linkSync(`${kept}/d1/f1`, `${kept}/d29/link`);
    const before = fingerprint(kept);
    const script =
      "set -- d*/f*; echo $#; for f; do read -r l < $f; [ $l = $f ] || echo $f $l; done; [ d1/f1 -ef d29/link ] && echo one file";
    const result = await enter(bench, build, bench.folder(), [kept, "bash", "-c", script]);
    expect([result.stdout, result.stderr, result.code]).toEqual(["1500\none file\n", "", 0]);
    expect(fingerprint(kept)).toBe(before);
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
    const nowhere = `${temporary}/none/kept`;
    expectFailure(await feed("true", ["--keep", nowhere]), 125, `make ${nowhere}: ENOENT`, `(from --keep ${nowhere})`);
    expect(readdirSync(temporary)).toEqual(["kept"]);
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

  test("--export-patch: a FILE that cannot be made is said before the session", async () => {
    const folder = bench.folder({ old: "precious" });
    const attempt = async (file: string, word: string) => {
      const result = await feed("echo ran", ["--export-patch", file]);
      expectFailure(result, 125, word, `--export-patch ${file}`);
      expect(result.stdout).toBe("");
    };
    await attempt(`${folder}/none/x.patch`, "no such file or directory");
    await attempt(`${folder}/old`, "is already there");
    await attempt("/dev/full", "is already there");
    if (!bench.caller.root) await attempt("/x.patch", "permission denied");
    expect(readFileSync(`${folder}/old`, "utf8")).toBe("precious");
    expect(readdirSync(folder)).toEqual(["old"]);
  });

  test.each(["--diff", "--exact"])(
    "--export-patch with %s: what goes wrong at the end loses nothing",
    async (option) => {
      const temporary = bench.folder();
      const file = `${bench.folder()}/x.patch`;
      const argv = [applet(bench), "--store", build.shop().store.root, option, "--export-patch", file, build.kept()];
      const running = bench.start(argv, { env: { TMPDIR: temporary } });
      running.write("echo 'int y;' >> sample.c; echo up; read -r line\n");
      await running.says("up");
      writeFileSync(file, "another's");
      running.closeInput();
      const { code, stderr } = await running.ended;
      const [rescued = ""] = readdirSync(temporary);
      expect(rescued).toStartWith("hutch-rescued-");
      expectSuccess(await feed("true", [], temporary), ""); // which removes what old sessions have left
      expect(readdirSync(temporary)).toEqual([rescued]);
      expect(readdirSync(`${temporary}/${rescued}`)).toEqual(["build"]);
      expect(readFileSync(`${temporary}/${rescued}/build/source/sample.c`, "utf8")).toEndWith("int y;\n");
      expect(readFileSync(file, "utf8")).toBe("another's");
      expect(stderr).toBe(
        `nix-build-shell: the patch is not written: make ${file}: EEXIST file exists; hint: your changes are in ${temporary}/${rescued}/build\n`,
      );
      expect(code).toBe(125);
    },
  );

  test("--export-patch: a full disk leaves no half patch, and the copy where --keep says", async () => {
    const mount = bench.caller.root ? ["-m"] : ["-r", "-m"];
    const folder = bench.folder({ full: { directory: true } });
    const script = 'cd "$1"; shift; mount -t tmpfs -o size=4k none full || exit; "$@"; echo "$?"; ls -A full';
    const edit = "for ((i = 0; i < 2000; i++)); do echo 'int many;'; done >> source/sample.c";
    const options = ["--keep", `${folder}/kept`, "--export-patch", `${folder}/full/x.patch`];
    const command = [applet(bench), "--store", build.shop().store.root, ...options, build.kept(), "bash", "-c", edit];
    const unshare = [needs("unshare"), ...mount, "--propagation", "private"];
    const argv = [...unshare, "sh", "-c", script, "sh", folder, ...command];
    const temporary = bench.folder();
    const result = await bench.start(argv, { env: { TMPDIR: temporary } }).ended;
    expect(result.stdout).toBe("125\n");
    expect(result.stderr).toContain(`ENOSPC`);
    expect(result.stderr).toEndWith(`hint: your changes are in ${folder}/kept\n`);
    expect(readFileSync(`${folder}/kept/source/sample.c`, "utf8")).toEndWith("int many;\n");
    expect(readdirSync(temporary)).toEqual([]);
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
