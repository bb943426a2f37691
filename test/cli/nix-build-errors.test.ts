/** nix-build-shell's mistakes: each one clear line, exit 125, nothing left; and what no path may ever change. */

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdirSync, readdirSync, readlinkSync, writeFileSync } from "node:fs";
import { descendants, isAlive, until } from "./host-processes.ts";
import { type Bench, eachCaller, expectFailure, needs } from "./hutch.ts";
import { applet, enter, expectUntouched, failedBuild, fingerprint } from "./nix-builds.ts";

// copies on a busy machine take their time
setDefaultTimeout(30_000);
const build = failedBuild();

/** A kept directory with this env-vars, the caller's. */
function keptWith(bench: Bench, envVars: string | undefined): string {
  return bench.folder(envVars === undefined ? { source: { directory: true } } : { "env-vars": envVars });
}

eachCaller("nix-build-shell", (bench) => {
  const attempt = async (directory: string, ...words: readonly string[]) => {
    const temporary = bench.folder();
    expectFailure(await enter(bench, build, temporary, [directory, "true"]), 125, "nix-build-shell: ", ...words);
    expect(readdirSync(temporary)).toEqual([]);
  };
  const store = () => build.shop().store.root;

  test("BUILD_DIR does not exist", () => attempt("/no/such/directory", "does not exist"));
  test("BUILD_DIR is a file", () => attempt(`${build.kept()}/env-vars`, "is not a directory"));
  test("no env-vars", () => attempt(keptWith(bench, undefined), "no env-vars in ", "--drv"));
  test("no SHELL", () => attempt(keptWith(bench, 'declare -x HOME="/x"\n'), "no SHELL in "));
  test("env-vars is something else", () => attempt(keptWith(bench, "garbage\n"), "env-vars line 1"));
  test("SHELL outside of the store", () =>
    attempt(keptWith(bench, 'declare -x SHELL="/bin/bash"\n'), "is not in the store: /bin/bash"));
  test("SHELL collected as garbage", () => {
    const shell = `/nix/store/${"0".repeat(32)}-bash/bin/bash`;
    return attempt(keptWith(bench, `declare -x SHELL="${shell}"\n`), shell, "is no longer in the store");
  });

  test("no store", async () => {
    const args = [applet(bench), "--store", bench.folder(), build.kept(), "true"];
    expectFailure(await bench.start(args).ended, 125, "no Nix store at ");
  });

  test("an unknown option, and one behind BUILD_DIR is the command's", async () => {
    expectFailure(await enter(bench, build, bench.folder(), ["--nework", "none"]), 125, "did you mean --network?");
    const result = await enter(bench, build, bench.folder(), [build.kept(), "--network"]);
    expect(result.stderr).toContain("exec: --: invalid option");
  });

  // [options and operands, what is said]; {kept} is the kept directory, {file} a file
  test.each([
    ["--log /nope {kept} true", "/nope does not exist (from --log /nope)"],
    ["--log /nope --build nix-build", "/nope does not exist (from --log /nope)"],
    ["--log {file}/below {kept}", "{file}/below does not exist"],
    ["--pick 2 {kept} true", "--pick needs --build (from --pick 2)"],
    ["--no-products {kept} true", "--no-products needs --diff"],
    ["--list x", "--list takes nothing behind it (from x)"],
    ["--list --keep /q", "--list and --keep do not go together (from --keep /q)"],
    ["--list --verify {kept}", "--list and --verify do not go together"],
    ["--list --pick 2 --build nix-build", "--list and --pick do not go together"],
    ["--verify {kept} true", "--verify enters nothing, and takes no COMMAND (from true)"],
    ["--verify --keep /q {kept}", "--verify and --keep do not go together"],
    ["--verify --log {file} {kept}", "--verify and --log do not go together"],
    ["--drv {file} --build nix-build", "--build and --drv do not go together"],
    ["--drv /nope", "/nope does not exist (from --drv /nope)"],
    ["--drv /nope.drv {kept} true", "/nope.drv does not exist (from --drv /nope.drv)"],
    [`--drv /nix/store/${"0".repeat(32)}-x.drv`, `/nix/store/${"0".repeat(32)}-x.drv does not exist`],
    ["--drv {file}", "{file} is not a .drv file"],
    ["--drv {file} --diff", "--diff needs a BUILD_DIR to compare with"],
    ["--drv {file} --export-patch /q -- true", "--export-patch needs a BUILD_DIR to compare with"],
  ])("what would be ignored is refused: %s", async (line, said) => {
    const file = `${bench.folder({ file: "text" })}/file`;
    const fill = (text: string) => text.replaceAll("{kept}", build.kept()).replaceAll("{file}", file);
    const temporary = bench.folder();
    const result = await enter(bench, build, temporary, line.split(" ").map(fill));
    expectFailure(result, 125, `nix-build-shell: ${fill(said)}`);
    expect(result.stdout).toBe("");
    expect(readdirSync(temporary)).toEqual([]);
  });

  test("user namespaces are forbidden", async () => {
    const temporary = bench.folder();
    const script = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"';
    const argv = [
      needs("unshare"),
      "-r",
      "sh",
      "-c",
      script,
      "sh",
      applet(bench),
      "--store",
      store(),
      build.kept(),
      "true",
    ];
    expectFailure(await bench.start(argv, { env: { TMPDIR: temporary } }).ended, 125, "user");
    expect(readdirSync(temporary)).toEqual([]);
  });

  test("the disk is full while copying", async () => {
    const mount = bench.caller.root ? ["-m"] : ["-r", "-m"];
    const script = 'mount -t tmpfs -o size=8k,mode=1777 none "$TMPDIR" || exit; "$@"; echo "$?"; ls -A "$TMPDIR"';
    const command = [applet(bench), "--store", store(), build.kept(), "true"];
    const argv = [needs("unshare"), ...mount, "--propagation", "private", "sh", "-c", script, "sh", ...command];
    const result = await bench.start(argv, { env: { TMPDIR: bench.folder() } }).ended;
    expect([result.stdout, result.code]).toEqual(["125\n", 0]);
    expect(result.stderr).toMatch(/^nix-build-shell: copy .*: disk full; hint: set TMPDIR .*\n$/);
  });

  test("TMPDIR that is not there", async () => {
    const result = await enter(bench, build, "/no/such/place", [build.kept(), "true"]);
    expectFailure(result, 125, "no directory can be made in /no/such/place", "TMPDIR");
  });

  test("a signal while copying: nothing is left", async () => {
    const big = bench.folder();
    cpSync(`${build.kept()}/env-vars`, `${big}/env-vars`);
    for (let i = 0; i < 2000; i++) writeFileSync(`${big}/${i}`, "x");
    const temporary = bench.folder();
    const running = bench.start([applet(bench), "--store", store(), big, "true"], { env: { TMPDIR: temporary } });
    await until(
      "the copy to have begun",
      () => readdirSync(temporary).length > 0 && readdirSync(temporary, { recursive: true }).length > 20,
    );
    running.kill("SIGTERM");
    expect((await running.ended).code).toBe(143);
    expect(readdirSync(temporary)).toEqual([]);
  });

  describe("neither the store nor the kept directory changes", () => {
    const enterAnd = (script: string) => enter(bench, build, bench.folder(), [build.kept(), "bash", "-c", script]);
    test("on success and on failure, whatever the command tries", () =>
      expectUntouched(build, async () => {
        const spoil =
          "for f in /nix/store/* /nix/store/*/bin/* /build/* /build/*/*; do echo > $f; done; chmod -R 777 /nix /build; cp -r /bin /nix/store/; mkdir /nix/x /build/x";
        expect((await enterAnd(`{ ${spoil}; } 2> /dev/null; true`)).code).toBe(0);
        expect((await enterAnd(`{ ${spoil}; } 2> /dev/null; exit 3`)).code).toBe(3);
      }));

    test("when a mount fails", async () => {
      const shell = `/nix/store/${"1".repeat(32)}-busybox/bin/sh`;
      const folder = bench.folder({
        "kept/env-vars": `declare -x SHELL="${shell}"\n`,
        [`store${shell}`]: { executable: "" },
        "store/nix/var/nix/daemon-socket": "a file, on which no directory can be mounted",
        temporary: { directory: true },
      });
      const look = () => [fingerprint(`${folder}/store`), fingerprint(`${folder}/kept`)];
      const before = look();
      const args = [applet(bench), "--store", `${folder}/store`, `${folder}/kept`, "true"];
      const result = await bench.start(args, { env: { TMPDIR: `${folder}/temporary` } }).ended;
      expectFailure(result, 125, "attach", "/nix/var/nix/daemon-socket: move_mount: EINVAL");
      expect(look()).toEqual(before);
      expect(readdirSync(`${folder}/temporary`)).toEqual([]);
    });

    // The processes from the outside in: the keeper (with its remover beside it), the launcher, the command.
    test.each(["keeper", "launcher", "command"] as const)("on SIGKILL of the %s", (which) =>
      expectUntouched(build, async () => {
        const temporary = bench.folder();
        const argv = [applet(bench), "--store", store(), build.kept(), "bash", "-c", "echo up; read -r line"];
        const running = bench.start(argv, { env: { TMPDIR: temporary } });
        await running.says("up");
        const below = descendants(running.pid);
        const executable = (pid: number) => readlinkSync(`/proc/${pid}/exe`);
        const launcher = below.find((pid) => executable(pid).includes("memfd:hutch "));
        const command = below.find((pid) => !executable(pid).includes("memfd:"));
        const victim = { keeper: running.pid, launcher, command }[which];
        if (victim === undefined) throw new Error("no process to kill");
        process.kill(victim, "SIGKILL");
        const { code, signal } = await running.ended;
        if (which === "keeper") expect(signal).toBe("SIGKILL");
        else expect(code).toBe(137);
        await until("the end of all processes", () => below.every((pid) => !isAlive(pid)));
        expect(readdirSync(temporary)).toEqual([]); // a killed keeper's remover is one of those processes
      }),
    );
  });

  test("a running session's directory, and what is not hutch's, is left alone", async () => {
    const temporary = bench.folder({ "hutch-build-1-2-3": "a file", "hutch-build-mine": { directory: true } });
    const other = `${temporary}/hutch-build-999999-1-00000000-1-abcdef`;
    mkdirSync(other);
    const argv = [
      applet(bench),
      "--store",
      store(),
      build.kept(),
      "bash",
      "-c",
      "echo up; read -r line; cat source/sample.c",
    ];
    const running = bench.start(argv, { env: { TMPDIR: temporary } });
    await running.says("up");
    expect((await enter(bench, build, temporary, [build.kept(), "true"])).code).toBe(0);
    running.write("\n");
    running.closeInput();
    expect((await running.ended).code).toBe(0);
    const left = ["hutch-build-1-2-3", "hutch-build-mine"];
    // another user's stays, as far as the caller is not root
    if (!bench.caller.root && process.getuid?.() === 0) left.push("hutch-build-999999-1-00000000-1-abcdef");
    expect(readdirSync(temporary).toSorted()).toEqual(left.toSorted());
  });
});
