/** nix-build-shell --add: programs of the host for looking at a build, at the end of PATH. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { eachCaller, expectFailure, needs } from "./hutch.ts";
import { enter, failedBuild } from "./nix-builds.ts";

setDefaultTimeout(60_000);
const build = failedBuild();
const PLACE = "/tmp/hutch/add/bin";

eachCaller("nix-build-shell --add", (bench) => {
  const run = (options: readonly string[], command: readonly string[], stdin = "") =>
    enter(bench, build, bench.folder(), [...options, build.kept(), ...command], { stdin });

  test("a command finds it at the end of PATH, and nothing else has changed", async () => {
    needs("strace");
    const look = `echo "\${PATH##*:}"; type -P strace; ls -A / /bin /usr 2>&1; strace -e trace=exit_group true`;
    const { stdout, stderr, code } = await run(["--add", "strace"], ["bash", "-c", look]);
    expect(stdout).toStartWith(`${PLACE}\n${PLACE}/strace\n`);
    expect(stdout).toContain("/:\nbin\nbuild\ndev\netc\nnix\nproc\ntmp\n\n/bin:\nsh\n");
    expect(stderr).toContain(`nix-build-shell: ${PLACE}, at the end of PATH, has strace\n`);
    expect(stderr).toMatch(/^exit_group\(0\)/m);
    expect(code).toBe(0);
    expect((await run([], ["bash", "-c", "type -P strace; ls /tmp"])).stdout).toBe("");
  });

  test("with --exact, and in the shell also after a phase, whose own PATH it is not in", async () => {
    const exact = await run(["--exact", "--add", "strace"], ["bash", "-c", "strace -e trace=exit_group true"]);
    expect(exact.stderr).toMatch(/^exit_group\(0\)/m);
    const script =
      'cd /build; buildPhase="type -P strace || echo none"; export buildPhase; phase buildPhase; type -P strace';
    expect((await run(["--add", "strace"], [], script)).stdout).toBe(
      `Running phase: buildPhase\nnone\n${PLACE}/strace\n`,
    );
  });

  test("gdb with its Python, and nothing of it in the program that it runs", async () => {
    needs("gdb");
    const programs = '-ex "python import json; print(json.dumps([41 + 1]))" -ex run';
    const look = `gdb -nx -batch ${programs} --args /nix/store/*-host-tools/busybox sh -c "env; exit 3"`;
    const { stdout } = await run(["--add", "gdb"], ["bash", "-c", look]);
    expect(stdout).toContain("[42]\n");
    expect(stdout).toContain("NIX_BUILD_TOP=/build\n");
    expect(stdout).not.toContain("PYTHONHOME");
    expect(stdout).toContain("exited with code 03]");
  });

  test("vim with what it is run from", async () => {
    needs("vim");
    const edit = "vim -es -u NONE -c 'set runtimepath?' -c 'runtime! syntax/c.vim' -c '%s/x/y/e' -c wq source/sample.c";
    const look = `${edit}; while read -r l; do echo "$l"; done < source/sample.c`;
    const { stdout, code } = await run(["--add", "vim"], ["bash", "-c", look]);
    expect(stdout).toContain("/tmp/hutch/add/root/usr/share/vim");
    expect(stdout).toContain("int main(void) { return 0; }\n");
    expect(code).toBe(0);
  });

  test("mistakes", async () => {
    expectFailure(await run(["--add", "no-such-program"], ["true"]), 125, "no-such-program", "--add no-such-program");
    expectFailure(await run(["--add", "strace", "--add", "/usr/bin/strace"], ["true"]), 125, "strace is added twice");
    const folder = bench.folder({ script: { executable: "#!/bin/sh\n" } });
    expectFailure(await run(["--add", `${folder}/script`], ["true"]), 125, "is a script", "--add");
    expectFailure(await run(["--list", "--add", "strace"], []), 125, "--list and --add do not go together");
  });
});
