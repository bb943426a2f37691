/** IPC namespace: no shared memory, semaphores or queues of the host (ipc_namespaces(7)). */

import { describe, expect, test } from "bun:test";
import * as sandbox from "./sandbox.ts";

const TABLES = ["shm", "sem", "msg"] as const;

/** Identifiers in a table of /proc/sysvipc, without its heading. */
const ids = (text: string) =>
  text
    .trim()
    .split("\n")
    .slice(1)
    .map((line) => line.trim().split(/\s+/)[1]);

describe.each(sandbox.CALLERS)("started by %s", (caller) => {
  test("what the host has is not seen inside, what is made inside is not seen outside", async () => {
    const ipcmk = sandbox.need("ipcmk", "util-linux-extra");
    const made = sandbox.output(sandbox.spawnToEnd([ipcmk, "-M", "4096", "-S", "1", "-Q", "-p", "0666"]));
    const [memory = "", queue = "", semaphore = ""] = [...made.matchAll(/: (\d+)/g)].map((match) => match[1] ?? "");
    try {
      const outside = () => TABLES.map((name) => ids(sandbox.procFile("self", `../sysvipc/${name}`)));
      const before = outside();
      expect([before[0]?.includes(memory), before[1]?.includes(semaphore), before[2]?.includes(queue)]).toEqual([
        true,
        true,
        true,
      ]);
      const script = TABLES.map((name) => `cat /proc/sysvipc/${name} | wc -l`).join("; ");
      await using running = await sandbox.start(
        caller,
        ["--read-only"],
        "/",
        `${script}; ipcmk -M 4096 > /dev/null; ${script}`,
      );
      expect(running.printed).toBe("1\n1\n1\n2\n1\n1\n");
      expect(outside()).toEqual(before);
      expect(sandbox.namespaceOf(running.program, "ipc")).not.toBe(sandbox.namespaceOf("self", "ipc"));
    } finally {
      sandbox.output(sandbox.spawnToEnd(["ipcrm", "-m", memory, "-q", queue, "-s", semaphore]));
    }
  });
});
