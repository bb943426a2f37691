/** A session of nix-build-shell whose hutch is killed by SIGKILL: what is left, and what is the user's and stays. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { until } from "./host-processes.ts";
import { eachCaller, expectSuccess, needs } from "./hutch.ts";
import { applet, enter, failedBuild } from "./nix-builds.ts";

setDefaultTimeout(30_000);
const build = failedBuild();

/** Pids of removers that guard something below a directory: its path is in their memory alone, so their owner's pid tells. */
function removers(): readonly number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/comm`, "latin1") === "hutch-remover\n";
      } catch {
        return false; // it has ended meanwhile
      }
    });
}

eachCaller("nix-build-shell, killed", (bench) => {
  const session = (
    temporary: string,
    script: string,
    options: readonly string[] = [],
    before: readonly string[] = [],
  ) => {
    const words = [applet(bench), "--store", build.shop().store.root, ...options, build.kept(), "bash", "-c", script];
    return bench.start([...before, ...words], { env: { TMPDIR: temporary } });
  };
  const empty = (folder: string) => async () => readdirSync(folder).length === 0;

  test("in the middle, while the program writes: nothing is left", async () => {
    const temporary = bench.folder();
    const running = session(temporary, "echo up; for ((i = 0; ; i++)); do echo x > /build/f$i; done");
    await running.says("up\n");
    expect(readdirSync(temporary)).toHaveLength(1);
    running.kill("SIGKILL");
    await running.ended;
    await until("the copy is gone", empty(temporary));
  });

  test("with --keep the copy is the user's as soon as the session begins", async () => {
    const [temporary, place] = [bench.folder(), bench.folder()];
    const running = session(temporary, "echo mine > /build/work; echo up; read -r line", ["--keep", `${place}/kept`]);
    await running.says("up\n");
    expect(readdirSync(place)).toEqual(["kept"]);
    running.kill("SIGKILL");
    await running.ended;
    await until("the session's directory is gone", empty(temporary));
    expect(readdirSync(place)).toEqual(["kept"]);
    expect(readFileSync(`${place}/kept/work`, "utf8")).toBe("mine\n");
    expect(existsSync(`${place}/kept/source/sample.c`)).toBe(true);
  });

  // strace holds hutch up before its execve, by which it becomes the keeper: all is copied, nothing is started.
  const held = (log: string) =>
    [needs("strace"), "-qq", "-o", log, "-e", "trace=execve"].concat("-e", "inject=execve:delay_enter=2000000:when=1");

  test("before the session begins, --keep makes nothing", async () => {
    const [temporary, place, log] = [bench.folder(), bench.folder(), `${bench.folder()}/trace`];
    const killing = held(log).map((word) => word.replace("delay_enter=2000000", "signal=KILL"));
    const running = session(temporary, "echo ran", ["--keep", `${place}/kept`], killing);
    expect(await running.ended).toMatchObject({ stdout: "" });
    await until("everything is gone", async () => readdirSync(temporary).length + readdirSync(place).length === 0);
  });

  test("what has come to --keep's place meanwhile stays, and the session does not begin", async () => {
    const [temporary, place, log] = [bench.folder(), bench.folder(), `${bench.folder()}/trace`];
    const running = session(temporary, "echo ran", ["--keep", `${place}/kept`], held(log));
    await until("the copy is there", () =>
      readdirSync(place).some((name) => existsSync(`${place}/${name}/source/sample.c`)),
    );
    mkdirSync(`${place}/kept`);
    writeFileSync(`${place}/kept/another's`, "precious");
    const result = await running.ended;
    expect(result.stdout).toBe("");
    expect(result.stderr).toBe(
      `nix-build-shell: make ${place}/kept: ENOTEMPTY directory not empty (from --keep ${place}/kept)\n`,
    );
    expect(result.code).toBe(125);
    expect(readdirSync(place)).toEqual(["kept"]);
    expect(readdirSync(`${place}/kept`)).toEqual(["another's"]);
    expect(readdirSync(temporary)).toEqual([]);
  });

  test("together with its remover: the next session removes what is left", async () => {
    const temporary = bench.folder();
    const others = removers();
    const running = session(temporary, "echo up; read -r line");
    await running.says("up\n");
    const own = removers().filter((pid) => !others.includes(pid));
    expect(own).not.toBeEmpty();
    // Others work on this machine too: ours waits for this process.
    const guards = own.filter((pid) =>
      readFileSync(`/proc/${pid}/fdinfo/3`, "latin1").includes(`\nPid:\t${running.pid}\n`),
    );
    expect(guards).toHaveLength(1);
    process.kill(guards[0] ?? 0, "SIGTERM"); // which it does not heed
    process.kill(guards[0] ?? 0, "SIGKILL");
    running.kill("SIGKILL");
    await running.ended;
    expect(readdirSync(temporary)).toHaveLength(1);
    await until("the next one removes it", async () => {
      expectSuccess(await enter(bench, build, temporary, [build.kept(), "bash", "-c", "true"]), "");
      return readdirSync(temporary).length === 0;
    });
  });

  if (bench.caller.root) {
    test("removal stops at a mount", async () => {
      const [temporary, precious] = [bench.folder(), bench.folder({ "a/b": "precious" })];
      const script = `"$@" & pid=$!
        until [ -e "$0"/hutch-build-*/build/below ]; do sleep 0.05; done
        mount --bind ${precious} "$0"/hutch-build-*/build/below || kill $pid
        guards() { grep -ls "^Pid:.$pid\\$" /proc/[0-9]*/fdinfo/3 2>/dev/null; }
        [ -n "$(guards)" ] && echo guarded
        kill -9 $pid; wait $pid
        while [ -n "$(guards)" ]; do sleep 0.05; done
        find ${precious} -name b; cd "$0"/hutch-build-*/build/below && find . -name b`;
      const command = [build.kept(), "bash", "-c", "cd /build; mkdir below; while :; do cat env-vars >/dev/null; done"];
      const words = [applet(bench), "--store", build.shop().store.root, ...command];
      const unshare = [needs("unshare"), "-m", "--propagation", "private", "bash", "-c", script, temporary];
      const result = await bench.start([...unshare, ...words], { env: { TMPDIR: temporary } }).ended;
      expect(result.stdout).toBe(`guarded\n${precious}/a/b\n./a/b\n`);
      expect(readFileSync(`${precious}/a/b`, "utf8")).toBe("precious");
    });
  }
});
