/** `--json`: how a sandbox ended, exactly. */

import { expect, test } from "bun:test";
import { readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BUSYBOX, eachCaller, expectFailure } from "./hutch.ts";

interface Line {
  readonly [field: string]: unknown;
  readonly error?: Readonly<Record<string, unknown>>;
}

eachCaller("outcome", (bench) => {
  const parse = (text: string): Line => {
    expect(text).toMatch(/^\{[^\n]*\}\n$/);
    return JSON.parse(text) as Line;
  };
  const outcome = async (...args: readonly string[]): Promise<Line & { code: number | null }> => {
    const file = join(bench.folder(), "outcome");
    const { code } = await bench.hutch(["run", "--json", file, ...BUSYBOX, ...args]);
    return { ...parse(readFileSync(file, "utf8")), code };
  };

  test.each([
    ["exit 0", { exitCode: 0, signal: null, status: 0, code: 0 }],
    ["exit 137", { exitCode: 137, signal: null, status: 137, code: 137 }],
    ["kill -9 $$", { exitCode: null, signal: "SIGKILL", status: 137, code: 137 }],
    ["kill -ABRT $$", { exitCode: null, signal: "SIGABRT", status: 134, code: 134 }],
    ["kill -40 $$", { exitCode: null, signal: "40", status: 168, code: 168 }],
  ])("%s", async (script, expected) => {
    const line = await outcome("scratch", "/bin/busybox", "sh", "-c", script);
    expect(line).toMatchObject({ schema: "hutch-outcome-1", ...expected });
  });

  test("a program that is PID 1: an exit code is one, and what hutch has done for the kernel is a signal", async () => {
    expect(await outcome("--no-init", "scratch", "/bin/busybox", "sh", "-c", "exit 143")).toMatchObject({
      exitCode: 143,
      signal: null,
    });
    const file = join(bench.folder(), "outcome");
    const argv = [bench.binary, "run", "--no-init", "--json", file, ...BUSYBOX, "scratch"];
    const running = bench.start([...argv, "/bin/busybox", "sh", "-c", "echo ready; sleep 1000 & wait"]);
    await running.says("ready");
    running.kill("SIGTERM");
    expect((await running.ended).code).toBe(143);
    expect(parse(readFileSync(file, "utf8"))).toMatchObject({ exitCode: null, signal: "SIGTERM", status: 143 });
  });

  test("time and memory of the whole tree", async () => {
    const script = "(i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done) & wait; busybox sleep 0.2";
    const line = await outcome("scratch", "/bin/busybox", "sh", "-c", script);
    expect(line["wallSeconds"]).toBeGreaterThan(0.2);
    expect(line["wallSeconds"]).toBeLessThan(20);
    expect(line["userSeconds"]).toBeGreaterThan(0.005);
    const grow = `/bin/busybox awk 'BEGIN { s = "x"; while (length(s) < 30000000) s = s s }'; :`;
    expect((await outcome("scratch", "/bin/busybox", "sh", "-c", grow))["peakMemoryBytes"]).toBeGreaterThan(20_000_000);
    expect(line["peakMemoryBytes"]).toBeLessThan(20_000_000);
  });

  test("pid and namespaces are those of the running sandbox", async () => {
    const file = join(bench.folder(), "outcome");
    const argv = [bench.binary, "run", "--json", file, ...BUSYBOX, "scratch"];
    const list =
      "for n in user mnt pid net ipc uts cgroup; do /bin/busybox readlink /proc/self/ns/$n; done; echo ready; read x";
    const running = bench.start([...argv, "/bin/busybox", "sh", "-c", list]);
    await running.says("ready");
    const inodes = [...running.output().matchAll(/:\[(\d+)\]/g)].map(([, inode]) => Number(inode));
    const [child] = readFileSync(`/proc/${running.pid}/task/${running.pid}/children`, "utf8").trim().split(" ");
    running.closeInput();
    await running.ended;
    const line = parse(readFileSync(file, "utf8"));
    const { user, mount, pid, network, ipc, uts, cgroup, time } = line["namespaces"] as Record<string, number>;
    expect([user, mount, pid, network, ipc, uts, cgroup] as unknown[]).toEqual(inodes);
    expect(time).toBe(Number(/\d+/.exec(readlinkSync("/proc/self/ns/time"))?.[0]));
    expect(line["pid"]).toBe(Number(child));
  });

  test("a descriptor instead of a file, which the program does not have", async () => {
    const script = `"$HUTCH" run --json fd:7 ${BUSYBOX.join(" ")} scratch /bin/busybox ls /proc/self/fd 7>&1 >&2`;
    const { stdout, stderr } = await bench.shell(script);
    expect(parse(stdout)).toMatchObject({ exitCode: 0 });
    expect(stderr.trim().split("\n")).toEqual(["0", "1", "2", "3"]); // 3 is the directory itself
  });

  test("the caller's standard output is not held open by hutch", async () => {
    const script = `"$HUTCH" run --json /dev/null ${BUSYBOX.join(" ")} scratch /bin/busybox sh -c \
      'echo first; exec >&- 2>&-; read x' 2>/dev/null | { cat; echo closed; }`;
    const running = bench.start(["/bin/sh", "-c", script], { env: { HUTCH: bench.binary } });
    await running.says("closed");
    running.closeInput();
    expect((await running.ended).stdout).toBe("first\nclosed\n");
  });

  test("--die-with-parent", async () => {
    const script = `"$HUTCH" run --die-with-parent ${BUSYBOX.join(" ")} scratch /bin/busybox sh -c 'echo ready; sleep 1000' & wait`;
    const running = bench.start(["/bin/sh", "-c", script], { env: { HUTCH: bench.binary } });
    await running.says("ready");
    running.kill("SIGKILL"); // and nothing is left: eachCaller looks
    await running.ended;
  });

  test("what could not be started", async () => {
    expect(await outcome("scratch", "nothing-there")).toMatchObject({
      schema: "hutch-outcome-1",
      error: { message: "nothing-there: command not found", step: "exec nothing-there", code: "ENOENT", errno: 2 },
      code: 127,
    });
    const refused = await outcome("-w", "/proc/nothing", "scratch", "/bin/busybox");
    expect(refused).toMatchObject({ error: { code: "ENOENT", from: "-w /proc/nothing", status: 125 }, code: 125 });
    expect(await outcome("-v", "/nothing-there:/x", "scratch", "/bin/busybox")).toMatchObject({
      error: { message: "/nothing-there does not exist", from: "-v /nothing-there:/x", status: 125 },
      code: 125,
    });
  });

  test.each([
    ["exit 0", 0],
    ["exit 7", 7],
    ["kill -9 $$", 137],
  ])("what cannot be written is said in one line, after %s", async (script, status) => {
    const shell = ["/bin/busybox", "sh", "-c", `echo ran; ${script}`];
    const result = await bench.hutch(["run", "--json", "/dev/full", ...BUSYBOX, "scratch", ...shell]);
    expect(result.stdout).toBe("ran\n");
    expect(result.stderr).toMatch(
      new RegExp(
        `^hutch run: the outcome is not written: write to descriptor \\d+: ENOSPC [^\\n]* \\(from --json\\); hint: the program's exit status was ${status}\\n$`,
      ),
    );
    expect(result.code).toBe(125);
  });

  test("what cannot be written hides no failure, and without standard error the exit code tells", async () => {
    const full = ["run", "--json", "/dev/full", ...BUSYBOX];
    const missing = await bench.hutch([...full, "scratch", "nothing-there"]);
    expect(missing.stderr).toMatch(
      /^hutch run: nothing-there: command not found; and the outcome is not .*ENOSPC.*\n$/,
    );
    expect(missing.code).toBe(127);
    const refused = await bench.hutch([...full, "-v", "/nothing-there:/x", "scratch", "/bin/busybox"]);
    expect(refused.stderr).toMatch(/^hutch run: \/nothing-there does not exist; and the outcome is not .*ENOSPC.*\n$/);
    expect(refused.code).toBe(125);
    const silent = `"$HUTCH" run --json /dev/full ${BUSYBOX.join(" ")} scratch /bin/busybox true 2>&-; echo $?`;
    expect(await bench.shell(silent)).toMatchObject({ stdout: "125\n", stderr: "" });
  });

  test("a mistake in the command line behind it, in place of what an earlier run has left", async () => {
    const file = `${bench.folder({ "out.json": "earlier" })}/out.json`;
    for (const [words, message] of [
      [["--nope", "scratch", "true"], "unknown option --nope"],
      [["--env"], "option --env needs a value"],
      [[], "ROOT is missing"],
      [["scratch"], "COMMAND is missing"],
    ] as const) {
      writeFileSync(file, "earlier");
      expectFailure(await bench.hutch(["run", "--json", file, ...words]), 125, message);
      expect(JSON.parse(readFileSync(file, "utf8"))).toMatchObject({ error: { message, status: 125 } });
    }
    // What stands behind a mistake may be the program's: no file is touched.
    writeFileSync(file, "earlier");
    expectFailure(await bench.hutch(["run", "--nope", "scratch", "x", "--json", file]), 125, "--nope");
    expect(readFileSync(file, "utf8")).toBe("earlier");
  });

  test("a bad word is refused before anything starts", async () => {
    const refused = async (word: string) =>
      (await bench.hutch(["run", "--json", word, ...BUSYBOX, "scratch", "/bin/busybox", "echo", "ran"])).stderr;
    expect(await refused("fd:77")).toContain("descriptor 77 is not open");
    const reading = await bench.shell(`"$HUTCH" run --json fd:0 scratch true < /dev/null`);
    expect(reading.stderr).toContain("descriptor 0 is not for writing");
    const closed = await bench.shell(`"$HUTCH" run --json fd:1 scratch true >&-`);
    expect(closed.stderr).toContain("descriptor 1 is not open");
    expect(await refused("/nothing/there")).toContain("open /nothing/there: ENOENT");
    expect(await refused("")).toContain("--json needs a file or fd:N");
  });
});
