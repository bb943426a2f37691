/** Trying in a process of its own: the step that fails is told with its call and errno, and the report shows it. */

import { describe, expect, test } from "bun:test";
import { attempt, fileExecutor, formatRefusal, memoryExecutor } from "../../src/doctor/attempt.ts";
import { type Finding, formatReport, reportJson } from "../../src/doctor/finding.ts";
import { AT_FDCWD, SIGNALS } from "../../src/libc/constants.ts";

describe.each([
  ["memory", memoryExecutor],
  ["a file", fileExecutor],
])("from %s", (_, executor) => {
  test("nothing, and what works", async () => {
    expect(await attempt(executor, [])).toBeUndefined();
    expect(await attempt(executor, [["open", (asm) => asm.call("openat", [AT_FDCWD, "/", 0])]])).toBeUndefined();
  });

  test("the first step that fails", async () => {
    const refusal = await attempt(executor, [
      ["open", (asm) => asm.call("openat", [AT_FDCWD, "/", 0])],
      ["look further", (asm) => asm.call("openat", [AT_FDCWD, "/no/such/file", 0])],
      ["close", (asm) => asm.call("close", [-1])],
    ]);
    expect(refusal).toEqual({
      step: "look further",
      call: "openat",
      errno: "ENOENT",
      meaning: "no such file or directory",
    });
    expect(refusal && formatRefusal(refusal)).toBe("look further: openat: ENOENT no such file or directory");
  });

  test("a process that is killed, as by a filter", async () => {
    const refusal = await attempt(executor, [
      [
        "die",
        (asm) => {
          const self = asm.cell();
          asm.call("getpid", [], { result: self });
          asm.call("kill", [0, 0]); // harmless: asks whether the group can be signalled
          asm.call("prctl", [22, 1, 0, 0, 0]); // PR_SET_SECCOMP, strict: all but four calls kill
          asm.call("getppid", []);
        },
      ],
    ]);
    expect(refusal).toMatchObject({ call: "process", errno: "SIGKILL" });
    expect(SIGNALS.SIGKILL).toBe(9);
  });
});

describe("the report", () => {
  const findings: readonly Finding[] = [
    { id: "a", name: "short", status: "yes", detail: "" },
    { id: "b", name: "a longer name", status: "no", detail: "clone: EPERM", mend: "sysctl -w a=1" },
    { id: "c", name: "other", status: "no", detail: "0", mend: "sysctl -w a=1" },
    { id: "d", name: "terminal", status: "unneeded", detail: "none here" },
  ];
  const report = { works: false, kernel: "6.1.0", arch: "x64", uid: 7, findings };

  test("as text: aligned, a mending once", () => {
    expect(formatReport(report)).toBe(
      [
        "Linux 6.1.0, x64, uid 7",
        "",
        "yes  short",
        "NO   a longer name  clone: EPERM",
        "                    → sysctl -w a=1",
        "NO   other          0",
        "-    terminal       none here",
        "",
        "hutch run does not work here",
        "",
      ].join("\n"),
    );
    expect(formatReport({ ...report, works: true })).toContain("\nhutch run works here\n");
  });

  test("as JSON: all of it", () => {
    expect(JSON.parse(reportJson(report))).toEqual({ schema: 1, ...report });
  });
});
