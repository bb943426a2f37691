/** Builds whose env-vars is absent, unreadable or of another place; derivations that have not failed yet; --build. */

import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { eachCaller, expectFailure, expectSuccess, needs } from "./hutch.ts";
import { applet, enter, failedBuild } from "./nix-builds.ts";

setDefaultTimeout(60_000);
const build = failedBuild();
const kept = { absent: "", secret: "", structured: "", asFile: "" };
beforeAll(() => {
  const fail = (name: string, ...args: readonly string[]) =>
    build.shop().fail("package.nix", ["--argstr", "name", name, ...args]).kept;
  kept.absent = fail("absent", "--argstr", "noDump", "1");
  kept.secret = fail("secret", "--argstr", "umask", "0077");
  kept.structured = fail("structured", "--argstr", "noDump", "1", "--arg", "structured", "true");
  kept.asFile = build.shop().fail("passed-as-file.nix").kept;
  rmSync(`${kept.asFile}/env-vars`);
});

/** The derivation's host path, by its name. */
function derivation(name: string): string {
  const store = `${build.shop().store.root}/nix/store`;
  const found = readdirSync(store).find((base) => base.slice(33) === `${name}.drv`);
  if (found === undefined) throw new Error(`no ${name}.drv in ${store}`);
  return `${store}/${found}`;
}

/** What a build of the fixture knows, however its environment was found. */
const FACTS =
  'echo "$name|$NIX_BUILD_TOP|$HOME|${notes%% *}|$(type -P cat | while IFS=/ read -r a b c d e; do echo ${d#*-}/$e; done)"';
const KNOWN = (name: string) => `${name}|/build|/homeless-shelter|a|coreutils-9/bin/cat\n`;

eachCaller("nix-build-shell without a plain env-vars", (bench) => {
  const run = (args: readonly string[], stdin = "") => enter(bench, build, bench.folder(), args, { stdin });

  test("absent: the variables are rebuilt from the derivation that the directory's name tells", async () => {
    const result = await run([kept.absent, "bash", "-c", FACTS]);
    expect(result.stdout).toBe(KNOWN("absent"));
    expect(result.stderr).toMatch(
      /^nix-build-shell: .*env-vars is not there: its variables are those that \/nix\/store\/.*-absent\.drv says\n$/,
    );
    expect(result.code).toBe(0);
  });

  test("absent, and --drv", async () => {
    const copy = `${bench.folder()}/copy`;
    cpSync(kept.absent, copy, { recursive: true });
    expectFailure(await run([copy, "true"]), 125, "no env-vars in", "--drv FILE.drv");
    const result = await run(["--drv", derivation("absent"), copy, "bash", "-c", FACTS]);
    expect([result.stdout, result.code]).toEqual([KNOWN("absent"), 0]);
  });

  // [name of the copy]: as in the store, and one that is no store path
  test.each([(path: string) => path.split("/").at(-1) ?? "", () => "mine.drv"])(
    "--drv of a file outside of the store: the variables, the store of --exact and the log are its build's",
    async (nameOf) => {
      const folder = bench.folder();
      const copy = `${folder}/${nameOf(derivation("absent"))}`;
      cpSync(derivation("absent"), copy);
      for (const options of [
        ["--drv", copy],
        ["--exact", "--drv", copy],
      ])
        expectSuccess(await run([...options, "--", "bash", "-c", FACTS]), KNOWN("absent"));
      const phase = await run(["--exact", "--drv", copy, kept.absent], "echo $HUTCH_PHASE; ls /nix");
      expect([phase.stdout, phase.code]).toEqual(["checkPhase\nstore\n", 0]);
      expect(phase.stderr).toContain(`its variables are those that ${copy} says`);
      const argv = [applet(bench), "--store", build.shop().store.root, "--exact", "--drv"];
      const near = await bench.start([...argv, `./${nameOf(derivation("absent"))}`, "--", "bash", "-c", FACTS], {
        cwd: folder,
        env: { TMPDIR: bench.folder() },
      }).ended;
      expectSuccess(near, KNOWN("absent"));
    },
  );

  test("--drv of another build: a word", async () => {
    const result = await run(["--drv", derivation("absent"), build.kept(), "bash", "-c", "echo $name"]);
    expect([result.stdout, result.code]).toEqual(["sample\n", 0]);
    expect(result.stderr).toMatch(
      /^nix-build-shell: \/nix\/store\/\S+-absent\.drv makes \/nix\/store\/\S+-absent, and this build made \/nix\/store\/\S+-sample: is it the right derivation\?\n$/,
    );
    expectSuccess(await run(["--drv", derivation("sample"), build.kept(), "true"]), "");
  });

  test("its owner's alone", async () => {
    const result = await run([kept.secret, "bash", "-c", FACTS]);
    expect([result.stdout, result.code]).toEqual([KNOWN("secret"), 0]);
    if (bench.caller.root) expect(result.stderr).toBe("");
    else expect(result.stderr).toContain("env-vars may not be read: its variables are those that");
  });

  test("its owner's alone, and no derivation: what to run is said", async () => {
    const folder = bench.folder();
    cpSync(kept.secret, `${folder}/copy`, { recursive: true });
    const result = await run([`${folder}/copy`, "true"]);
    if (bench.caller.root) expectSuccess(result, "");
    else
      expectFailure(result, 125, "may only be read by its owner (uid 0)", `run: sudo nix-build-shell ${folder}/copy`);
  });

  test("structured attributes: phases run with them", async () => {
    const result = await run([kept.structured], "phase unpackPhase; phase buildPhase; ls -A /build; exit");
    expect(result.stdout).toContain("compiling structured\n");
    expect(result.stdout).toContain(".attrs.json\n.attrs.sh\nenv-vars\nsource\n");
  });

  test("attributes as files, and a reference graph", async () => {
    const result = await run([kept.asFile, "/nix/store/nothing"]);
    expect(result.code).toBe(127);
    // Of paths, sorted by hashes that differ from machine to machine.
    const script = 'printf "%s" "$(< $largePath)"; echo; while IFS= read -r line; do echo "${line#*-}"; done < graph';
    const shell = await run([kept.asFile], script);
    expect(shell.stdout).toStartWith("large text\nwith lines\n");
    expect(shell.stdout).toMatch(/^coreutils-9$/m);
    expect(shell.stdout).toMatch(/^host-tools$/m);
  });

  test("an unsandboxed build: the host's directory is /build", async () => {
    const folder = bench.folder();
    cpSync(build.kept(), `${folder}/kept`, { recursive: true });
    const text = readFileSync(`${folder}/kept/env-vars`, "utf8").replaceAll('"/build', `"${folder}/kept`);
    writeFileSync(`${folder}/kept/env-vars`, text);
    const args = [
      `${folder}/kept`,
      "bash",
      "-c",
      'echo $NIX_BUILD_TOP $TMPDIR $PWD; while read -r l; do case $l in *"$1"*) echo "left: $l";; esac; done < env-vars',
      "x",
      folder,
    ];
    expectSuccess(await run(args), "/build /build /build\n");
    expectSuccess(await run([`${folder}/kept`], "pwd"), "/build/source\n");
    expect(readFileSync(`${folder}/kept/env-vars`, "utf8")).toBe(text);
  });

  test("--drv alone: a fresh sandbox of a build that has not failed yet", async () => {
    const args = ["--drv", derivation("structured")];
    const result = await run(args, "ls -A; phase unpackPhase; phase buildPhase; ls");
    expect([result.stdout, result.code]).toEqual([
      ".attrs.json\n.attrs.sh\nenv-vars\nRunning phase: unpackPhase\nRunning phase: buildPhase\ncompiling structured\nsample\nsample.c\n",
      0,
    ]);
    expectSuccess(await run(["--drv", derivation("absent"), "--", "bash", "-c", FACTS]), KNOWN("absent"));
    expectFailure(await run(["--drv", "/etc/passwd"]), 125, "is not a .drv file");
  });

  test("what may not be read is left out, and that is said", async () => {
    const folder = bench.folder({
      "kept/env-vars": readFileSync(`${build.kept()}/env-vars`, "utf8"),
      "kept/open": "yes\n",
    });
    mkdirSync(`${folder}/kept/closed`, { mode: 0o700 });
    writeFileSync(`${folder}/kept/closed/file`, "");
    const result = await run([`${folder}/kept`, "cat", "open"]);
    expect(result.stdout).toBe("yes\n");
    if (!bench.caller.root) expect(result.stderr).toContain(`${folder}/kept/closed may not be read, and is left out`);
  });
});

eachCaller("nix-build-shell --build", (bench) => {
  // A nix-build that is as the test says: the real one has no way to build offline as this caller.
  const fake = (script: string) =>
    bench.folder({ "nix-build": { executable: `#!/bin/sh\n${script}` }, nix: { executable: `#!/bin/sh\n${script}` } });
  const run = (folder: string, command: readonly string[], stdin = "", options: readonly string[] = []) => {
    const [program = "", ...args] = command;
    const argv = [
      applet(bench),
      "--store",
      build.shop().store.root,
      ...options,
      "--build",
      `${folder}/${program}`,
      ...args,
    ];
    return bench.start(argv, { stdin, env: { TMPDIR: bench.folder(), KEPT: build.kept() } }).ended;
  };

  test("success: its output and nothing else", async () => {
    const folder = fake('echo "$@"; echo said >&2');
    const result = await run(folder, ["nix-build", "-A", "x"]);
    expect([result.stdout, result.stderr, result.code]).toEqual(["--keep-failed -A x\n", "said\n", 0]);
    expect((await run(folder, ["nix", "--offline", "build", ".#x"])).stdout).toBe(
      "--offline build --keep-failed .#x\n",
    );
  });

  test.each(["'", '"'])("failure: the shell, with the directory in %s quotes", async (mark) => {
    const quote = mark === '"' ? '\\"' : mark; // for the script's own double quotes
    const folder = fake(`echo "note: keeping build directory ${quote}$KEPT${quote}" >&2; exit 1`);
    const result = await run(folder, ["nix-build"], "echo $name; exit 5");
    expect([result.stdout, result.code]).toEqual(["sample\n", 5]);
  });

  test("failure, and no commands for the shell: the build's own status; commands see it in $?", async () => {
    const folder = fake(`echo "note: keeping build directory '$KEPT'" >&2; exit 102`);
    expect((await run(folder, ["nix-build"])).code).toBe(102);
    expect(await run(folder, ["nix-build"], "echo $?")).toMatchObject({ stdout: "102\n", code: 0 });
  });

  test("failure without a directory: the build's own status", async () => {
    const result = await run(fake("echo broken >&2; exit 102"), ["nix-build"]);
    expect([result.stdout, result.stderr, result.code]).toEqual(["", "broken\n", 102]);
  });

  test("several: a choice", async () => {
    const other = bench.folder({ "env-vars": readFileSync(`${build.kept()}/env-vars`, "utf8") });
    const folder = fake(`printf "keeping build directory '%s'\\n" ${other} "$KEPT" >&2; exit 1`);
    const none = await run(folder, ["nix-build"], "ls");
    expect(none.code).toBe(125);
    expect(none.stderr).toContain(`2 builds were kept: 1: ${other}, 2: ${build.kept()}; hint: --pick 1 to --pick 2`);
    expectFailure(await run(fake("exit 1"), ["nix-build"], "", ["--pick", "0"]), 125, "--pick needs a number");
    expect((await run(folder, ["nix-build"], "ls /build", ["--pick", "2"])).stdout).toBe("env-vars\nsource\n");
    expect((await run(folder, ["nix-build"], "ls /build", ["--pick", "1"])).stdout).toBe("env-vars\n");
  });

  test("what does not build, or is not there", async () => {
    expectFailure(await run(fake(""), ["nix", "run"]), 125, "--build needs a command that builds");
    expectFailure(await run("/nowhere", ["nix-build"]), 127, "command not found");
  });
});

if (process.getuid?.() === 0) {
  test("--build with the real nix-build, by root", async () => {
    const shop = build.shop();
    const fixture = `${import.meta.dir}/../nix/fixture/package.nix`;
    const settings = [
      "--builders",
      "",
      "--option",
      "substituters",
      "",
      "--option",
      "sandbox",
      "true",
      "--option",
      "sandbox-fallback",
      "false",
      "--option",
      "build-users-group",
      "",
    ];
    const command = [
      needs("nix-build"),
      "--store",
      shop.store.root,
      "--no-out-link",
      ...settings,
      fixture,
      "--arg",
      "raw",
      `${shop.root}/raw`,
      "--argstr",
      "name",
      "really",
    ];
    const child = Bun.spawn([`${import.meta.dir}/../../dist/nix-build-shell`, "--build", ...command], {
      stdin: Buffer.from("echo $name $HUTCH_PHASE; exit 9"),
      env: { PATH: process.env["PATH"] ?? "", HOME: `${shop.root}/home`, TMPDIR: `${shop.root}/kept` },
      stdout: "pipe",
      stderr: "pipe",
    });
    const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
    expect([stdout, code]).toEqual(["really checkPhase\n", 9]);
    expect(stderr).toContain("1 test failed, mode fast");
  });
}
