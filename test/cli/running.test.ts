/** `hutch run --name`, `ps`, `exec`, `kill`: named sandboxes are found again, and nothing else is taken for them. */

import { expect, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { rawCall } from "../../src/libc/call.ts";
import { P_PID, WEXITED, WNOHANG } from "../../src/libc/constants.ts";
import { descendants, stateOf, until } from "./host-processes.ts";
import { BUSYBOX, eachCaller, expectFailure, type Running } from "./hutch.ts";

eachCaller("running sandboxes", (bench) => {
  /** A fresh list of sandboxes, and a way to start one in it. */
  const place = () => {
    const runtime = bench.folder();
    const env = { XDG_RUNTIME_DIR: runtime };
    const list = join(runtime, "hutch");
    return {
      env,
      list,
      hutch: async (...args: readonly string[]) => bench.hutch(args, { env }),
      start: async (name: string, script: string, ...options: readonly string[]): Promise<Running> => {
        // Not read-only: who keeps CAP_SYS_ADMIN is refused that.
        const busybox = options.includes("none") ? ["-v", "/bin/busybox:/bin/busybox"] : BUSYBOX;
        const words = ["run", "--name", name, ...options, ...busybox, "scratch", "/bin/busybox", "sh", "-c", script];
        const running = bench.start([bench.binary, ...words], { env });
        await running.says("ready");
        return running;
      },
    };
  };
  const finish = async (running: Running) => {
    running.closeInput();
    return running.ended;
  };

  test("ps lists what runs, and nothing afterwards", async () => {
    const { hutch, start, list } = place();
    expect((await hutch("ps")).stdout).toBe("NAME  PID  STARTED  COMMAND\n");
    expect(existsSync(list)).toBe(false);
    const running = await start("one", "echo ready; read x");
    const other = await start("two.2", "echo ready; read x", "--no-init");
    expect((await hutch("ps")).stdout).toMatch(
      /^NAME +PID +STARTED +COMMAND\none +\d+ +\d{4}-.* \/bin\/busybox sh -c echo ready; read x\ntwo\.2 +\d+ .*\n$/,
    );
    const [first] = JSON.parse((await hutch("ps", "--format", "json")).stdout) as Record<string, unknown>[];
    expect(first).toMatchObject({
      name: "one",
      pid: running.pid,
      command: ["/bin/busybox", "sh", "-c", "echo ready; read x"],
    });
    await finish(running);
    await finish(other);
    expect(readdirSync(list)).toEqual([]);
    expect((await hutch("ps", "--format", "json")).stdout).toBe("[]\n");
  });

  test.each(["", "--no-init", "--time-offset=1000", "--network=host", "-u 7:8"])(
    "exec with %p sees the same sandbox, with the same rights",
    async (options) => {
      const { hutch, start } = place();
      const rights = "busybox grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp)' /proc/self/status";
      const show = `for n in user mnt pid net ipc uts cgroup time; do busybox readlink /proc/self/ns/$n; done; pwd; ulimit -n; umask; busybox env | busybox sort | busybox grep -v -e _= -e SHLVL -e PWD; ${rights}; busybox cut -d. -f1 /proc/uptime | busybox cut -c1-3; busybox ls /proc/self/fd`;
      const words = options === "" ? [] : options.split(" ");
      const running = await start(
        "box",
        `cd /; busybox touch /tmp/here; echo begin; ${show}; echo ready; read x; busybox ls /tmp`,
        "-e",
        "A=b c",
        ...words,
      );
      const inside = /begin\n([^]*)ready\n/.exec(running.output())?.[1] ?? "";
      expect(inside).toContain("A=b c");
      const { stdout, stderr, code } = await hutch("exec", "box", "/bin/busybox", "sh", "-c", show);
      expect(stderr).toBe("");
      expect(stdout).toBe(inside);
      expect(code).toBe(0);
      expect(
        await hutch(
          "exec",
          "-e",
          "B=1",
          "-w",
          "/tmp",
          "box",
          "busybox",
          "sh",
          "-c",
          "echo $B; pwd; busybox touch more; exit 9",
        ),
      ).toEqual({ stdout: "1\n/tmp\n", stderr: "", code: 9, signal: null });
      expect((await finish(running)).stdout).toEndWith("here\nmore\n");
    },
  );

  test("a joining program can be seen and ends with the sandbox; signals reach it", async () => {
    const { hutch, start, env } = place();
    const running = await start("box", "echo ready; read x; busybox ps");
    const guest = bench.start(
      [bench.binary, "exec", "box", "/bin/busybox", "sh", "-c", "echo ready; exec busybox sleep 1234"],
      { env },
    );
    await guest.says("ready");
    expect((await hutch("exec", "box", "/bin/busybox", "ps")).stdout).toContain("sleep 1234");
    guest.kill("SIGTERM");
    expect((await guest.ended).code).toBe(143);
    const second = bench.start(
      [bench.binary, "exec", "box", "/bin/busybox", "sh", "-c", "echo ready; exec busybox sleep 1234"],
      { env },
    );
    await second.says("ready");
    await finish(running);
    expect((await second.ended).code).toBe(137);
    const third = await start("box", "echo ready; read x");
    const fourth = bench.start(
      [bench.binary, "exec", "box", "/bin/busybox", "sh", "-c", "echo ready; exec busybox sleep 1234"],
      { env },
    );
    await fourth.says("ready");
    fourth.kill("SIGKILL");
    await fourth.ended;
    await until(
      "the end of the guest",
      async () => !(await hutch("exec", "box", "/bin/busybox", "ps")).stdout.includes("sleep 1234"),
    );
    // The kernel keeps a PID 1 until all of its namespace have been waited for, and the guest is ours now.
    for (const pid of descendants(process.pid))
      if (stateOf(pid) === "Z") rawCall("waitid", P_PID, pid, null, WEXITED | WNOHANG, null);
    await finish(third);
  });

  test("kill passes a signal on", async () => {
    const { hutch, start, list } = place();
    const running = await start(
      "box",
      "trap 'echo caught; exit 5' USR1; echo ready; while :; do busybox sleep 0.1; done",
    );
    expect(await hutch("kill", "--signal", "usr1", "box")).toMatchObject({ stdout: "", stderr: "", code: 0 });
    expect(await running.ended).toMatchObject({ stdout: "ready\ncaught\n", code: 5 });
    const other = await start("box", "echo ready; exec busybox sleep 1000");
    await hutch("kill", "box");
    expect((await other.ended).code).toBe(143);
    for (const [word, code] of [
      ["-15", 143],
      ["-INT", 130],
      ["-SIGHUP", 129],
    ] as const) {
      const one = await start("box", "echo ready; exec busybox sleep 1000");
      expect(await hutch("kill", word, "box")).toMatchObject({ stdout: "", stderr: "", code: 0 });
      expect((await one.ended).code).toBe(code);
    }
    expectFailure(await hutch("kill", "-NOTHING", "box"), 125, 'unknown signal "NOTHING" (from -NOTHING)');
    const third = await start("box", "echo ready; exec busybox sleep 1000");
    for (const none of [["-s", "0"], ["-0"]])
      expect(await hutch("kill", ...none, "box")).toMatchObject({ stdout: "", stderr: "", code: 0 });
    await hutch("kill", "-s", "KILL", "box");
    expect((await third.ended).signal).toBe("SIGKILL");
    await until("the name is gone", async () => readdirSync(list).length === 0);
    expectFailure(await hutch("kill", "box"), 125, "there is no sandbox box");
    expectFailure(await hutch("kill", "-s", "0", "box"), 125, "there is no sandbox box");
    expectFailure(await hutch("kill", "--signal", "NOTHING", "box"), 125, "unknown signal");
  });

  test("a name is taken once, and free again after a SIGKILL", async () => {
    const { hutch, start } = place();
    const running = await start("box", "echo ready; read x");
    expectFailure(
      await hutch("run", "--name", "box", ...BUSYBOX, "scratch", "/bin/busybox", "true"),
      125,
      "there is a sandbox of the name box",
      "--name box",
    );
    running.kill("SIGKILL");
    await running.ended;
    expect((await hutch("run", "--name", "box", ...BUSYBOX, "scratch", "/bin/busybox", "true")).code).toBe(0);
    for (const name of ["", ".x", "-x", "a/b", "a b", "x".repeat(65)])
      expect((await hutch("run", `--name=${name}`, "scratch", "true")).stderr).toContain("is not a name");
  });

  test("a program that could not be started leaves no entry", async () => {
    const { hutch, list } = place();
    expect((await hutch("run", "--name", "box", "scratch", "nothing-there")).code).toBe(127);
    expect(readdirSync(list)).toEqual([]);
  });

  test("a false entry is nothing: without a lock, or of another process's start time", async () => {
    const { hutch, start, list } = place();
    const running = await start("box", "echo ready; read x");
    const bytes = readFileSync(join(list, "box"));
    writeFileSync(join(list, "copy"), bytes);
    expectFailure(await hutch("exec", "copy", "/bin/busybox", "true"), 125, "there is no sandbox copy");
    expect(readdirSync(list)).toEqual(["box"]);
    const text = bytes.toString("latin1").replace('"startTime":"', '"startTime":"1');
    writeFileSync(join(list, "box"), Buffer.from(text, "latin1"));
    expectFailure(await hutch("exec", "box", "/bin/busybox", "true"), 125, "has ended");
    expectFailure(await hutch("kill", "box"), 125, "has ended");
    await finish(running);
  });

  test("a list that cannot be made, and an entry that cannot be written, by name", async () => {
    const run = ["run", "--name", "box", ...BUSYBOX, "scratch", "/bin/busybox", "true"];
    const nowhere = await bench.hutch(run, { env: { XDG_RUNTIME_DIR: "/proc/nowhere" } });
    expectFailure(nowhere, 125, "mkdir /proc/nowhere/hutch: ENOENT", "set XDG_RUNTIME_DIR");
    expectFailure(
      await bench.hutch(["ps"], { env: { XDG_RUNTIME_DIR: "/dev/null" } }),
      125,
      "ENOTDIR",
      "XDG_RUNTIME_DIR",
    );
    const { list, env } = place();
    const runtime = dirname(list);
    const unshare = bench.caller.root ? "unshare -m" : "unshare -rm";
    const full = await bench.shell(
      `${unshare} sh -c 'mount -t tmpfs -o size=4k,mode=700 none "$0" && { "$HUTCH" "$@"; echo $? $(ls "$0/hutch"); }' "$@"`,
      [runtime, ...run],
      { env },
    );
    expect(full.stderr).toContain(`write to ${list}/box: ENOSPC`);
    expect(full.stdout).toBe("125\n");
  });

  test("a list that others can read is refused", async () => {
    const { hutch, list } = place();
    mkdirSync(list);
    chmodSync(list, 0o755);
    const refused = await hutch("run", "--name", "box", ...BUSYBOX, "scratch", "/bin/busybox", "true");
    expectFailure(refused, 125, "is not the caller's alone");
  });

  test("B36: a program that has left its namespaces, or stands on another /proc, is not followed", async () => {
    const { hutch, start } = place();
    const rights = ["--security", "none"];
    const moved = await start("moved", "exec busybox unshare -n busybox sh -c 'echo ready; read x'", ...rights);
    expectFailure(
      await hutch("exec", "moved", "/bin/busybox", "true"),
      125,
      "has left the sandbox's network namespace",
    );
    await finish(moved);
    const covered = await start("covered", "busybox mount -t tmpfs none /proc; echo ready; read x", ...rights);
    expectFailure(await hutch("exec", "covered", "/bin/busybox", "true"), 125, "/proc of covered is no longer");
    await finish(covered);
  });
});
