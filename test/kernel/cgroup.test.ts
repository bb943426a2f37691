/** Cgroup namespace: the sandbox sees its own cgroup as the root (cgroup_namespaces(7)). */

import { describe, expect, test } from "bun:test";
import * as sandbox from "./sandbox.ts";

describe.each(sandbox.CALLERS)("started by %s", (caller) => {
  const root = sandbox.makeRoot();

  test("every path of /proc/self/cgroup is /", async () => {
    await using running = await sandbox.start(caller, [], root, "cat /proc/self/cgroup");
    const inside = running.printed.trim().split("\n");
    const outside = sandbox.procFile(running.program, "cgroup").trim().split("\n");
    expect(inside.length).toBe(outside.length);
    for (const line of inside) expect(line).toMatch(/^\d+:[^:]*:\/$/);
    expect(sandbox.namespaceOf(running.program, "cgroup")).not.toBe(sandbox.namespaceOf("self", "cgroup"));
  });

  test("the sandbox stays in the caller's cgroups", async () => {
    await using running = await sandbox.start(caller, [], root);
    expect(sandbox.procFile(running.program, "cgroup")).toBe(sandbox.procFile(running.launcher, "cgroup"));
    expect(sandbox.procFile(running.launcher, "cgroup")).toBe(sandbox.procFile("self", "cgroup"));
  });
});
