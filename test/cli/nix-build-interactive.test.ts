/** nix-build-shell on a terminal: the shell, its first line, line editing, job control, what it leaves. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { eachCaller } from "./hutch.ts";
import { applet, failedBuild } from "./nix-builds.ts";
import { openTerminal } from "./nix-terminal.ts";

setDefaultTimeout(60_000);
const build = failedBuild();
const PROMPT = "[sample:checkPhase] /build/source$ ";

eachCaller("nix-build-shell on a terminal", (bench) => {
  const open = (temporary: string, options: readonly string[] = []) => {
    const terminal = openTerminal(bench.folder());
    const argv = [...bench.caller.prefix, applet(bench), "--store", build.shop().store.root, ...options, build.kept()];
    terminal.type(`TMPDIR=${temporary} ${argv.join(" ")}`, "Enter");
    return terminal;
  };

  test("the first line, the prompt, line editing, the exit status, and a word about changes", async () => {
    const temporary = bench.folder();
    using terminal = open(temporary);
    const first = await terminal.shows(PROMPT);
    expect(first).toContain(`sample, failed in checkPhase; kept in ${build.kept()}; changes are thrown away`);
    terminal.type("cho edited-$((1+1))", "C-a", "e", "C-e", "x", "BSpace", "Enter");
    await terminal.shows("\nedited-2");
    terminal.type("cat sample.", "Tab", "Enter"); // completed
    await terminal.shows("int main");
    terminal.type("echo more >> sample.c", "Enter", "exit 7", "Enter");
    await terminal.shows("changes are thrown away: source/sample.c (--keep DIR keeps them, --diff shows them)");
    terminal.type("echo status $?", "Enter");
    await terminal.shows("\nstatus 7");
    expect(readdirSync(temporary)).toEqual([]);
  });

  test("a bash with line editing from the store is taken first", async () => {
    const { root } = build.shop().store;
    const named = (name: string) => readdirSync(`${root}/nix/store`).find((base) => base.endsWith(`-${name}`));
    const place = `${root}/nix/store/${"0".repeat(32)}-bash-interactive-9.9`;
    const busybox = `/nix/store/${named("host-tools")}/busybox`;
    // what it is known by, and the bash of the fixture, which has line editing too
    const text = `#!${busybox} sh\n# bind [-lp\nWHOSE=store exec /nix/store/${named("bash-5")}/bin/bash "$@"\n`;
    mkdirSync(`${place}/bin`, { recursive: true });
    try {
      writeFileSync(`${place}/bin/bash`, text, { mode: 0o755 });
      using terminal = open(bench.folder());
      await terminal.shows(PROMPT);
      terminal.type('cho "$WHOSE-bash"', "C-a", "e", "Enter");
      await terminal.shows("\nstore-bash");
      terminal.type("exit", "Enter");
    } finally {
      rmSync(place, { recursive: true });
    }
  });

  test("without any bash that has line editing: the build's own, and a word about it", async () => {
    const folder = bench.folder({ bash: { executable: "#!/bin/sh\n" } });
    using terminal = openTerminal(bench.folder());
    const argv = [...bench.caller.prefix, applet(bench), "--store", build.shop().store.root, build.kept()];
    terminal.type(`TMPDIR=${bench.folder()} PATH=${folder}:$PATH ${argv.join(" ")}`, "Enter");
    const first = await terminal.shows(PROMPT);
    expect(first).toContain("no bash with line editing was found, in the store or on this host: arrow keys and Tab");
    terminal.type("echo plain-$name; exit 3", "Enter");
    await terminal.shows("\nplain-sample");
    terminal.type("echo status $?", "Enter");
    await terminal.shows("\nstatus 3");
  });

  test("^C and ^Z reach the job, and the terminal is the caller's again", async () => {
    using terminal = open(bench.folder());
    await terminal.shows(PROMPT);
    // in a subshell, which has the terminal before it says anything
    terminal.type("(echo one-up; exec cat)", "Enter");
    await terminal.shows("\none-up");
    terminal.type("C-c");
    await terminal.shows(/\^C\s+\[sample:checkPhase\] \S+\$\s*$/);
    terminal.type("echo rc=$?", "Enter");
    await terminal.shows("\nrc=130");
    terminal.type("(echo two-up; exec cat)", "Enter");
    await terminal.shows("\ntwo-up");
    terminal.type("C-z");
    await terminal.shows(/Stopped.*\n\[sample:checkPhase\] \S+\$\s*$/);
    terminal.type('kill -KILL %1; while [ -n "$(jobs -s)" ]; do jobs >/dev/null; done; exit', "Enter");
    await terminal.shows(/bash-[\d.]+[#$]\s*$/);
    terminal.type('echo read-up; read -r line && echo "got $line"', "Enter");
    await terminal.shows("\nread-up");
    terminal.type("text", "Enter");
    await terminal.shows("\ngot text");
  });

  test("--exact COMMAND has no controlling terminal, and ^C ends it all the same", async () => {
    const without =
      '(: </dev/tty) 2>/dev/null; echo "tty=$?"; trap "echo got-INT; exit 9" INT; echo is-up; read -r line';
    const temporary = bench.folder();
    for (const [options, tty] of [
      [["--exact"], 1],
      [[], 0],
    ] as const) {
      using terminal = openTerminal(bench.folder());
      const argv = [
        ...bench.caller.prefix,
        applet(bench),
        "--store",
        build.shop().store.root,
        ...options,
        build.kept(),
      ];
      const script = `${bench.folder()}/enter`;
      writeFileSync(script, `${argv.join(" ")} bash -c '${without}'\n`);
      terminal.type(`TMPDIR=${temporary} bash ${script}; echo "rc=$?"`, "Enter");
      await terminal.shows("\nis-up");
      terminal.type("C-c");
      const last = await terminal.shows("\nrc=9");
      expect(last).toContain(`\ntty=${tty}\n`);
      expect(last.split("got-INT")).toHaveLength(2); // once
    }
    expect(readdirSync(temporary)).toEqual([]);
  });

  test("--exact COMMAND stops at ^Z, and goes on", async () => {
    using terminal = openTerminal(bench.folder());
    const argv = [...bench.caller.prefix, applet(bench), "--store", build.shop().store.root, "--exact", build.kept()];
    const script = `${bench.folder()}/enter`;
    writeFileSync(script, `exec ${argv.join(" ")} bash -c 'echo is-up; read -r line; echo "got $line"'\n`);
    terminal.type(`TMPDIR=${bench.folder()} bash ${script}`, "Enter");
    await terminal.shows("\nis-up");
    terminal.type("C-z");
    await terminal.shows(/Stopped/);
    terminal.type("fg", "Enter");
    await terminal.shows(/\nTMPDIR=\S+ bash \S+\n/); // fg says what goes on
    terminal.type("word", "Enter");
    await terminal.shows("\ngot word");
  });

  test("--build with several failures asks which one to enter", async () => {
    const other = bench.folder({ "env-vars": readFileSync(`${build.kept()}/env-vars`, "utf8") });
    const folder = bench.folder({
      "nix-build": {
        executable: `#!/bin/sh\nprintf "keeping build directory '%s'\\n" ${other} ${build.kept()} >&2; exit 1\n`,
      },
    });
    using terminal = openTerminal(bench.folder());
    const argv = [...bench.caller.prefix, applet(bench), "--store", build.shop().store.root, "--build"];
    terminal.type(`TMPDIR=${bench.folder()} ${argv.join(" ")} ${folder}/nix-build`, "Enter");
    expect(await terminal.shows("\nwhich one? [1-2]")).toContain(`\n1: ${other}\n2: ${build.kept()}\n`);
    terminal.type("3", "Enter");
    await terminal.shows(/which one\? \[1-2\] 3\s+which one\? \[1-2\]/);
    terminal.type("2", "Enter");
    await terminal.shows(`failed in checkPhase; kept in ${build.kept()};`);
    await terminal.shows(PROMPT);
    terminal.type("echo line-$((40+2)); exit 6", "Enter"); // the terminal is the shell's, nothing still reads it
    await terminal.shows("\nline-42");
    terminal.type('echo "rc=$?"', "Enter");
    await terminal.shows("\nrc=6");
  });

  test("--build: the build's standard error is a terminal of the same size, and its bytes pass", async () => {
    const look = "[ -t 2 ] && echo is-terminal >&2; stty size <&2 >&2; printf 'raw\\n\\rbar 1\\rbar 2\\n' >&2";
    const folder = bench.folder({
      "nix-build": {
        executable: `#!/bin/sh\n${look}\necho "note: keeping build directory '${build.kept()}'" >&2; exit 1\n`,
      },
    });
    using terminal = openTerminal(bench.folder());
    const argv = [...bench.caller.prefix, applet(bench), "--store", build.shop().store.root, "--build"];
    terminal.type(`TMPDIR=${bench.folder()} ${argv.join(" ")} ${folder}/nix-build`, "Enter");
    const seen = await terminal.shows(PROMPT);
    expect(seen).toContain("\nis-terminal\n50 200\nraw\nbar 2\n");
    terminal.type("exit 4", "Enter", 'echo "rc=$?"', "Enter");
    await terminal.shows("\nrc=4");
  });

  test("phases are run again, and the prompt follows", async () => {
    using terminal = open(bench.folder());
    await terminal.shows(PROMPT);
    terminal.type("cd /build; phase unpackPhase 2>/dev/null; phase buildPhase; phase checkPhase", "Enter");
    await terminal.shows("1 test failed, mode fast");
    terminal.type("echo > repaired; phase --from checkPhase", "Enter");
    await terminal.shows("[sample:installPhase]");
    terminal.type("exit", "Enter");
    await terminal.shows("changes are thrown away");
  });

  test("--keep: the first line and the last tell where", async () => {
    const place = `${bench.folder()}/mine`;
    using terminal = open(bench.folder(), ["--keep", place]);
    await terminal.shows(`changes are kept in ${place}`);
    terminal.type("exit", "Enter");
    await terminal.shows(`the build directory is kept in ${place}`);
    expect(readdirSync(place).toSorted()).toEqual(["env-vars", "source"]);
  });
});
