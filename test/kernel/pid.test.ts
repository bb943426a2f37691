/** PID namespace: a process tree of its own, which ends with its PID 1 and with the launcher (pid_namespaces(7)). */

import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readlinkSync } from "node:fs";
import * as sandbox from "./sandbox.ts";

/** Wait until a process is gone; a zombie that nobody has to wait for yet counts as gone. */
const gone = (pid: number): Promise<void> =>
  sandbox.until(`process ${pid} ends`, () => {
    try {
      return !existsSync(`/proc/${pid}`) || /^State:\s+[ZX]/m.test(sandbox.procFile(pid, "status"));
    } catch {
      return true; // it went between the two looks
    }
  });

describe.each(sandbox.CALLERS)("started by %s", (caller) => {
  const root = sandbox.makeRoot();

  test("PID 1 is hutch-init, the program its child, and nobody else is there", async () => {
    await using running = await sandbox.start(caller, [], root, "cat /proc/1/comm; echo $$ $PPID; echo /proc/[0-9]*");
    expect(running.printed).toBe("hutch-init\n2 1\n/proc/1 /proc/2\n");
    const inside = (pid: number) => sandbox.status(pid, "NSpid").split(" ").at(-1);
    expect([inside(running.init), inside(running.program)]).toEqual(["1", "2"]);
    expect(sandbox.childrenOf(running.launcher)).toEqual([running.init]);
    expect(sandbox.childrenOf(running.init)).toEqual([running.program]);
    expect(sandbox.status(running.launcher, "Name")).toBe("hutch");
    expect(sandbox.namespaceOf(running.program, "pid")).not.toBe(sandbox.namespaceOf("self", "pid"));
  });

  test("with --no-init the program is PID 1", async () => {
    await using running = await sandbox.start(caller, ["--no-init"], root, "echo $$ $PPID; echo /proc/[0-9]*");
    expect(running.printed).toBe("1 0\n/proc/1\n");
    expect(running.program).toBe(running.init);
    expect(sandbox.status(running.program, "NSpid").split(" ").at(-1)).toBe("1");
    expect(sandbox.status(running.program, "Name")).toBe("sh");
  });

  test("PID 1 shows nothing of the caller: no command line, no environment, no descriptors, no executable", async () => {
    const code = `
def look(what):
    try:
        return what()
    except OSError as error:
        return errno.errorcode[error.errno]
print(json.dumps({
    "cmdline": open("/proc/1/cmdline", "rb").read().decode("latin-1").rstrip("\\0"),
    "environ": look(lambda: open("/proc/1/environ").read()),
    "fd": look(lambda: os.listdir("/proc/1/fd")),
    "exe": look(lambda: os.readlink("/proc/1/exe")),
    "cwd": look(lambda: os.readlink("/proc/1/cwd")),
    "mem": look(lambda: open("/proc/1/mem", "rb").name),
    "maps": look(lambda: open("/proc/1/maps").read()),
}))`;
    const seen = sandbox.python(caller, ["--cap-add", "SYS_PTRACE"], code) as Record<string, unknown>;
    expect(seen["cmdline"]).toBe("hutch-init");
    for (const name of ["environ", "fd", "exe", "cwd", "mem", "maps"]) {
      expect([name, ["EACCES", "EPERM", ""].includes(String(seen[name]))]).toEqual([name, true]);
    }
  });

  test("seen from outside, PID 1 and the launcher hold nothing but the pipe between them, and are small", async () => {
    await using running = await sandbox.start(caller, [], root);
    if (caller !== "user") {
      // They close all others when the program has started, which may already have printed something.
      const held = (pid: number) => readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
      for (const pid of [running.init, running.launcher])
        await sandbox.until(`process ${pid} closes all`, () => readdirSync(`/proc/${pid}/fd`).length === 1);
      const pipes = [running.init, running.launcher, running.program].map(held);
      expect(pipes[0]?.[0]).toStartWith("pipe:");
      expect(pipes[1]).toEqual(pipes[0] ?? []);
      expect(pipes[2]).not.toContain(pipes[0]?.[0]);
    }
    expect(sandbox.procFile(running.init, "cmdline").replaceAll("\0", "")).toBe("hutch-init");
    for (const pid of [running.launcher, running.init]) {
      expect(Number.parseInt(sandbox.status(pid, "VmRSS"), 10)).toBeLessThan(256); // kB
    }
  });

  test("the program has the three descriptors of its caller and no other", async () => {
    await using running = await sandbox.start(caller, [], root);
    if (caller !== "user" || sandbox.outsideIds(caller).size === 1) {
      expect(readdirSync(`/proc/${running.program}/fd`).toSorted()).toEqual(["0", "1", "2"]);
    }
  });

  test("orphans are reaped by PID 1", async () => {
    // Each inner shell ends and leaves a child behind, which ends soon after.
    const script = "for i in 1 2 3; do sh -c '(cat /proc/stat; :) > /dev/null & :'; done";
    await using running = await sandbox.start(caller, [], root, script);
    await sandbox.until("the orphans are reaped", () => sandbox.childrenOf(running.init).length === 1);
    expect(sandbox.childrenOf(running.init)).toEqual([running.program]);
  });

  test.each([[[]], [["--no-init"]]])(
    "a child that outlives the program dies with it, with %j",
    async (options: string[]) => {
      const running = await sandbox.start(caller, options, root, "(trap '' HUP TERM INT; sleep 1000) & :");
      const children = sandbox.childrenOf(running.program);
      expect(children.length).toBeGreaterThan(0);
      const sleepers = children.flatMap((pid) => [pid, ...sandbox.childrenOf(pid)]);
      const { exitCode } = await running.end(); // reads stdout to its end: nobody else holds it open
      expect(exitCode).toBe(0);
      for (const pid of [...sleepers, running.init]) await gone(pid);
    },
  );

  test.each([[[]], [["--no-init"]]])(
    "SIGKILL of hutch ends every process of the sandbox, with %j",
    async (options: string[]) => {
      const running = await sandbox.start(caller, options, root, "(trap '' HUP TERM INT; sleep 1000) & :");
      const inside = [running.init, running.program, ...sandbox.childrenOf(running.program)];
      process.kill(running.launcher, "SIGKILL");
      for (const pid of inside) await gone(pid);
    },
  );

  test("the host's processes cannot be seen or signalled", () => {
    const script = `ls -d /proc/${process.pid} 2>&1; kill -0 ${process.pid} 2>&1; kill -9 -1; echo still here`;
    const seen = sandbox.run(caller, root, "sh", "-c", script);
    expect(seen.stdout).toContain("No such file or directory");
    expect(seen.stdout).toContain("No such process");
    expect(seen.stdout).toEndWith("still here\n");
  });
});
