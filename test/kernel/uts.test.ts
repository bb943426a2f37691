/** UTS namespace: names of its own (uts_namespaces(7)). */

import { describe, expect, test } from "bun:test";
import { hostname } from "node:os";
import * as sandbox from "./sandbox.ts";

const NAMES = "cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname";

describe.each(sandbox.CALLERS)("started by %s", (caller) => {
  const root = sandbox.makeRoot();

  test("the names are hutch and (none), whatever the host's are", async () => {
    const before = [hostname(), sandbox.procFile("self", "../sys/kernel/domainname")];
    await using running = await sandbox.start(caller, [], root, `${NAMES}; hostname`);
    expect(running.printed).toBe("hutch\n(none)\nhutch\n");
    expect(sandbox.namespaceOf(running.program, "uts")).not.toBe(sandbox.namespaceOf("self", "uts"));
    expect(sandbox.namespaceOf(running.program, "uts")).toBe(sandbox.namespaceOf(running.init, "uts"));
    expect([hostname(), sandbox.procFile("self", "../sys/kernel/domainname")]).toEqual(before);
  });

  test("--hostname and --domainname", () => {
    const long = `${"a".repeat(63)}b`;
    const result = sandbox.run(
      caller,
      "--hostname",
      long,
      "--domainname",
      "example.org",
      root,
      "sh",
      "-c",
      `${NAMES}; echo $HOSTNAME`,
    );
    expect(sandbox.output(result)).toBe(`${long}\nexample.org\n${long}\n`);
  });

  test("the program cannot change them", () => {
    const seen = sandbox.run(
      caller,
      root,
      "sh",
      "-c",
      "hostname other; echo other > /proc/sys/kernel/hostname; hostname",
    );
    expect(seen.stdout).toBe("hutch\n");
  });
});
