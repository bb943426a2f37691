/** The program's life: what it is connected to, who ends whom, and what stays around it. */

import { expect, test } from "bun:test";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { descendants, findDescendant, isAlive, until } from "./host-processes.ts";
import { type Bench, BUSYBOX, eachCaller, expectFailure, expectSuccess, withProbe } from "./hutch.ts";

/** `"$HUTCH" run` with the probe as /probe, for scripts whose $1 is the probe. */
const RUN = '"$HUTCH" run -v "$1:/probe:ro"';

eachCaller("life", (bench: Bench) => {
  const shell = (script: string, stdin: string | Uint8Array = "") => bench.shell(script, [bench.probe], { stdin });
  const start = (options: readonly string[], ...program: readonly string[]) =>
    bench.start([bench.binary, "run", ...BUSYBOX, ...withProbe(bench), ...options, "scratch", ...program]);

  test("closed descriptors stay closed, and further ones are not passed on", async () => {
    const twice = `${RUN} scratch /probe descriptors`;
    expectSuccess(await shell(`exec 5</etc/passwd 7</etc; ${twice}`), "0 1 2 \n");
    expectSuccess(await shell(`${twice} <&-`), "1 2 \n");
    expect(await shell(`${twice} 2>&-`)).toMatchObject({ stdout: "0 1 \n", code: 0 });
    expect(await shell(`${RUN} scratch /probe exit 4 <&- >&- 2>&-; echo $?`)).toMatchObject({ stdout: "4\n" });
    expect(await shell(`${RUN} --no-init scratch /probe exit 4 <&- >&- 2>&-; echo $?`)).toMatchObject({
      stdout: "4\n",
    });
    expect(await shell(`${RUN} scratch /nosuch <&- >&- 2>&-; echo $?`)).toMatchObject({ stdout: "127\n" });
    expect(await shell(`"$HUTCH" run --bogus <&- >&- 2>&-; echo $?`)).toMatchObject({ stdout: "125\n" });
  });

  test("standard input from a pipe and a file, of which hutch reads nothing", async () => {
    const data = bench.folder({ "in.txt": "0123456789" });
    const busybox = '"$HUTCH" run -v /bin/busybox:/bin/busybox:ro scratch busybox';
    expectSuccess(await shell(`echo piped | ${busybox} cat`), "piped\n");
    expectSuccess(
      await shell(`{ ${busybox} dd bs=3 count=1 2>/dev/null; echo; cat; } < ${data}/in.txt`),
      "012\n3456789",
    );
    expectSuccess(await shell(`${busybox} cat > ${data}/out.txt; cat ${data}/out.txt`, "to a file"), "to a file");
    expectSuccess(await shell(`${busybox} sh -c 'echo a; echo b >&2' > ${data}/both 2>&1; cat ${data}/both`), "a\nb\n");
  });

  test("1 GiB through a pipe", async () => {
    const bytes = 2 ** 30;
    const began = performance.now();
    expectSuccess(await shell(`${RUN} scratch /probe zeros ${bytes} | wc -c`), `${bytes}\n`);
    expect(performance.now() - began).toBeLessThan(15_000);
  });

  test("a reader that goes early ends the program by SIGPIPE", async () => {
    const result = await shell(
      `{ ${RUN} scratch /probe zeros 1000000000; echo "code $?" >&2; } | head -c 1 > /dev/null`,
    );
    expect(result.stderr).toBe("code 141\n");
    const busybox = await shell(
      `{ "$HUTCH" run -v /bin/busybox:/bin/busybox:ro scratch busybox yes; echo "code $?" >&2; } | head -n 1`,
    );
    expect(busybox).toMatchObject({ stdout: "y\n", stderr: "code 141\n" });
  });

  test.each(["--init", "--no-init"])(
    "a grandchild dies with the program and holds no output open, %s",
    async (init) => {
      const result = await bench.hutch(["run", init, ...withProbe(bench), "scratch", "/probe", "grandchild"]);
      expect(result).toEqual({ stdout: "parent ends\n", stderr: "", code: 7, signal: null });
      const script = "busybox sleep 1000 & busybox setsid busybox sleep 1000 & exit 3";
      const background = await bench.hutch(["run", init, ...BUSYBOX, "scratch", "busybox", "sh", "-c", script]);
      expect(background).toMatchObject({ stdout: "", code: 3 });
    },
  );

  test.each(["--init", "--no-init"])("SIGKILL of hutch ends every process of the sandbox, %s", async (init) => {
    const script =
      "trap '' INT TERM HUP; (busybox setsid busybox sleep 1001 &); busybox sleep 1002 & kill -STOP $!; /probe grandchild; echo up; exec busybox cat";
    const running = start([init], "busybox", "sh", "-c", script);
    await running.says("up");
    await findDescendant(running.pid, "busybox cat");
    await findDescendant(running.pid, "busybox sleep 1001");
    const all = descendants(running.pid);
    expect(all.length).toBeGreaterThanOrEqual(init === "--init" ? 5 : 4);
    running.kill("SIGKILL");
    expect((await running.ended).signal).toBe("SIGKILL"); // and stdout has been closed
    await until("the end of all", () => all.every((pid) => !isAlive(pid)));
  });

  test("SIGKILL of hutch while all of it is stopped", async () => {
    const running = start([], "busybox", "sh", "-c", "echo up; exec busybox cat");
    await running.says("up");
    const all = descendants(running.pid);
    expect(all.length).toBe(2);
    for (const pid of [running.pid, ...all]) process.kill(pid, "SIGSTOP");
    running.kill("SIGKILL");
    await running.ended;
    await until("the end of all", () => all.every((pid) => !isAlive(pid)));
  });

  test("SIGKILL of a process inside, from outside, is reported like any other end", async () => {
    for (const which of ["program", "init"] as const) {
      const running = start([], "busybox", "sh", "-c", "echo up; exec busybox cat");
      await running.says("up");
      const program = await findDescendant(running.pid, "busybox cat");
      const init = descendants(running.pid).find((pid) => pid !== program);
      process.kill(which === "program" ? program : (init ?? 0), "SIGKILL");
      expect(await running.ended).toMatchObject({ code: 137, stderr: "" });
    }
  });

  test.each([
    ["--init", 2],
    ["--no-init", 1],
  ] as const)("nothing of a runtime stays: %s", async (init, processes) => {
    const running = start([init], "busybox", "sh", "-c", "echo up; exec busybox cat");
    await running.says("up");
    const program = await findDescendant(running.pid, "busybox cat");
    const below = descendants(running.pid);
    expect(below.length).toBe(processes);
    for (const pid of [running.pid, ...below].filter((one) => one !== program)) {
      expect(readlinkSync(`/proc/${pid}/exe`)).toContain("memfd:hutch");
      const resident = Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
      expect(resident).toBeLessThan(1024);
    }
    // Not even the pipes of the caller, which would stay open with it; closed once the program has started.
    const open = (pid: number) =>
      readdirSync(`/proc/${pid}/fd`).map((descriptor) => readlinkSync(`/proc/${pid}/fd/${descriptor}`));
    const callers = open(program).filter((what) => /^(pipe|socket):/.test(what));
    expect(callers.length).toBeGreaterThan(0);
    await until("the launcher to let go of the caller's pipes", () => {
      try {
        return open(running.pid).every((what) => !callers.includes(what));
      } catch {
        return false; // one was closed while they were looked at
      }
    });
    running.closeInput();
    expect((await running.ended).code).toBe(0);
  });

  test("when the program closes its output, the reader sees the end of it", async () => {
    const script = `{ "$HUTCH" run -v /bin/busybox:/bin/busybox:ro scratch busybox sh -c 'echo out; exec >&- 2>&-; read line'; } | { cat; echo eof; }`;
    const running = bench.start(["/bin/sh", "-c", script], { env: { HUTCH: bench.binary } });
    await running.says("out\neof\n");
    running.closeInput();
    expect((await running.ended).stdout).toBe("out\neof\n");
  });

  test("signal dispositions: the caller's ignored ones stay so, and Bun's do not arrive", async () => {
    expectSuccess(await shell(`${RUN} scratch /probe dispositions`), "ignored: blocked:\n");
    expectSuccess(await shell(`trap '' HUP USR1; ${RUN} scratch /probe dispositions`), "ignored: 1 10 blocked:\n");
    expectSuccess(
      await shell(`trap '' HUP; exec ${RUN} --no-init scratch /probe dispositions`),
      "ignored: 1 blocked:\n",
    );
  });

  test("PID 1 reaps orphans", async () => {
    // The shell is the only child of PID 1 that is left, zombies counted.
    const script = `for i in 1 2 3 4 5; do (busybox true & busybox true &); done
      children() { grep -l '^PPid:.1$' /proc/[0-9]*/status 2>/dev/null | wc -l; }
      n=0; while [ $(children) != 1 ] && [ $n -lt 500 ]; do n=$((n+1)); done
      children; cat /proc/1/comm; echo $$`;
    const result = await bench.hutch(["run", ...BUSYBOX, "scratch", "busybox", "sh", "-c", script]);
    expectSuccess(result, "1\nhutch-init\n2\n");
  });

  test("several at once do not disturb each other", async () => {
    const root = bench.folder({ file: "x" });
    const runs = Array.from({ length: 6 }, (_, index) => {
      const script = `echo ${index} > /file; cat /file; hostname; exit ${index}`;
      return bench.hutch(["run", ...BUSYBOX, "--hostname", `h${index}`, root, "/bin/busybox", "sh", "-c", script]);
    });
    for (const [index, result] of (await Promise.all(runs)).entries()) {
      expect(result).toEqual({ stdout: `${index}\nh${index}\n`, stderr: "", code: index, signal: null });
    }
  });

  test("hutch says nothing once the program has started, whatever becomes of it", async () => {
    for (const words of [["abort"], ["raise", "9"], ["exit", "127"], ["exit", "125"], ["grandchild"]]) {
      const result = await bench.hutch(["run", ...withProbe(bench), "scratch", "/probe", ...words]);
      expect(result.stderr).toBe("");
    }
    expectFailure(await bench.hutch(["run", "scratch", "/probe"]), 127, "/probe");
  });
});
