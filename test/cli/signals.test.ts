/** Signals sent to hutch reach the program, once. */

import { constants } from "node:os";
import { expect, test } from "bun:test";
import { findDescendant, stateOf, until } from "./host-processes.ts";
import { BUSYBOX, eachCaller, type Running, withProbe } from "./hutch.ts";

const PASSED_ON = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGCONT"] as const;
const { SIGCONT, SIGTSTP, SIGUSR1, SIGWINCH } = constants.signals;

/** Let the probe end and say how often it has seen each signal, by number; those never seen are left out. */
async function counts(running: Running): Promise<Readonly<Record<number, number>>> {
  running.write("q");
  const { stdout } = await running.ended;
  const line = stdout.trimEnd().split("\n").at(-1) ?? "";
  expect(line).toEndWith("end");
  return Object.fromEntries(
    [...line.matchAll(/(\d+)=(\d+)/g)]
      .map(([, signal, times]) => [Number(signal), Number(times)])
      .filter(([, n]) => n !== 0),
  ) as Record<number, number>;
}

eachCaller("signals", (bench) => {
  const start = (options: readonly string[], ...program: readonly string[]) =>
    bench.start([bench.binary, "run", ...BUSYBOX, ...withProbe(bench), ...options, "scratch", ...program]);

  test.each(["--init", "--no-init", "--json=/dev/null"])("a caller that ignores SIGCHLD, %s", async (word) => {
    const args = ["run", word, ...BUSYBOX, "scratch", "/bin/busybox", "sh", "-c", "echo in; exit 3"];
    // By env(1): dash takes the signal back, so that its `trap "" CHLD` reaches no program.
    const ignoring = (words: readonly string[]) => bench.shell(`exec env --ignore-signal=CHLD "$HUTCH" "$@"`, words);
    const result = await ignoring(args);
    expect(result).toMatchObject({ stdout: "in\n", stderr: "", code: 3 });
    // By the short way too, whose launcher was linked when hutch was built.
    const short = ["run", "--read-only", "/", "sh", "-c", "exit 4"];
    expect(await ignoring(short)).toMatchObject({ stderr: "", code: 4 });
  });

  test.each(["--init", "--no-init"])("each one exactly once, %s", async (init) => {
    const running = start([init], "/probe", "signals");
    await running.says("ready");
    for (const name of PASSED_ON) {
      running.kill(name);
      await running.says(`[${constants.signals[name]}:1]`);
    }
    // Later than anything that could still be on its way.
    running.kill("SIGWINCH");
    await running.says(`[${SIGWINCH}:2]`);
    const once = Object.fromEntries(PASSED_ON.map((name) => [constants.signals[name], 1]));
    expect(await counts(running)).toEqual({ ...once, [SIGWINCH]: 2 });
  });

  test.each(["--init", "--no-init"])("a program that is another user than PID 1 gets them, %s", async (init) => {
    const running = start([init, "-u", "1000:1000"], "/probe", "signals");
    await running.says("ready");
    for (const name of ["SIGTERM", "SIGHUP", "SIGUSR1"] as const) {
      running.kill(name);
      await running.says(`[${constants.signals[name]}:1]`);
    }
    await counts(running);
  });

  if (bench.caller.root)
    test("and one that becomes another user by itself", async () => {
      const words = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "/probe", "signals"];
      const running = start(["--add", "setpriv"], ...words);
      await running.says("ready");
      running.kill("SIGTERM");
      await running.says("[15:1]");
      await counts(running);
    });

  test.each(["--init", "--no-init"])("SIGTSTP to a program that catches it, and SIGCONT after it, %s", async (init) => {
    const running = start([init], "/probe", "signals");
    await running.says("ready");
    running.kill("SIGTSTP");
    await running.says(`[${SIGTSTP}:1]`);
    // A program that is PID 1 cannot stop itself: for that one hutch does what it was told.
    if (init === "--no-init") await until("hutch to stop as well", () => stateOf(running.pid) === "T");
    running.kill("SIGCONT");
    await running.says(`[${SIGCONT}:1]`);
    running.kill("SIGUSR1");
    await running.says(`[${SIGUSR1}:1]`);
    expect(await counts(running)).toEqual({ [SIGTSTP]: 1, [SIGCONT]: 1, [SIGUSR1]: 1 });
  });

  test.each(["--init", "--no-init"])(
    "SIGTSTP stops a program that does not catch it, and SIGCONT goes on, %s",
    async (init) => {
      const running = start([init], "busybox", "cat");
      running.write("one\n");
      await running.says("one\n");
      const program = await findDescendant(running.pid, "busybox cat");
      running.kill("SIGTSTP");
      await until("both to stop", () => stateOf(running.pid) === "T" && stateOf(program) === "T");
      running.write("two\n");
      running.kill("SIGCONT");
      await running.says("two\n");
      running.closeInput();
      expect(await running.ended).toMatchObject({ stdout: "one\ntwo\n", stderr: "", code: 0 });
    },
  );

  test.each(["--init", "--no-init"])(
    "the default action ends the program, and hutch with 128 + N, %s",
    async (init) => {
      for (const name of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"] as const) {
        const running = start([init], "busybox", "cat");
        running.write("up");
        await running.says("up");
        running.kill(name);
        const { code, stderr } = await running.ended;
        expect([name, code, stderr]).toEqual([name, 128 + constants.signals[name], ""]);
      }
    },
  );

  test.each(["--init", "--no-init"])("a signal that the program ignores changes nothing, %s", async (init) => {
    const running = start(
      [init],
      "busybox",
      "sh",
      "-c",
      "trap '' INT TERM HUP USR1; echo up; read line; echo $line; exit 5",
    );
    await running.says("up");
    for (const name of ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGWINCH"] as const) running.kill(name);
    running.write("still here\n");
    expect(await running.ended).toMatchObject({ stdout: "up\nstill here\n", stderr: "", code: 5 });
  });

  test("a trap's exit code is the exit code", async () => {
    const running = start(
      [],
      "busybox",
      "sh",
      "-c",
      "trap 'exit 42' TERM; echo up; while :; do busybox sleep 0.01; done",
    );
    await running.says("up");
    running.kill("SIGTERM");
    expect((await running.ended).code).toBe(42);
  });

  test("a signal inside the sandbox stays inside", async () => {
    const script = "trap 'echo got' USR1; kill -USR1 1; kill -USR1 -1 2>/dev/null; kill -TERM 1; echo alive; exit 6";
    const result = await bench.hutch(["run", ...BUSYBOX, "scratch", "busybox", "sh", "-c", script]);
    expect(result.stdout).toContain("alive");
    expect(result.code).toBe(6);
  });

  test("signals to the whole group of hutch arrive once as well", async () => {
    // A group of its own, as timeout(1) and service managers make one.
    const argv = [bench.binary, "run", ...withProbe(bench), "scratch", "/probe", "signals"];
    const running = bench.start(["setsid", ...argv]);
    await running.says("ready");
    for (const name of ["SIGUSR1", "SIGTERM", "SIGINT"] as const) {
      process.kill(-running.pid, name);
      await running.says(`[${constants.signals[name]}:1]`);
    }
    running.kill("SIGWINCH");
    await running.says(`[${SIGWINCH}:1]`);
    const { SIGINT, SIGTERM } = constants.signals;
    expect(await counts(running)).toEqual({ [SIGUSR1]: 1, [SIGTERM]: 1, [SIGINT]: 1, [SIGWINCH]: 1 });
  });
});
