/** `hutch seccomp check`: decisions are those that the kernel makes with the same profile. */

import { expect, test } from "bun:test";
import { join } from "node:path";
import { BUSYBOX, eachCaller, expectFailure, expectSuccess } from "./hutch.ts";

const PROFILE = {
  defaultAction: "SCMP_ACT_ALLOW",
  syscalls: [
    { names: ["acct", "no_such_call"], action: "SCMP_ACT_ERRNO", errnoRet: 38 },
    { names: ["socket"], action: "SCMP_ACT_ERRNO", args: [{ index: 0, value: 17, op: "SCMP_CMP_EQ" }] },
    { names: ["personality"], action: "SCMP_ACT_ERRNO", args: [{ index: 0, value: 0x1_0000_0000, op: "SCMP_CMP_GE" }] },
    { names: ["syslog"], action: "SCMP_ACT_ERRNO", includes: { caps: ["CAP_SYSLOG"] } },
  ],
};

eachCaller("hutch seccomp check", (bench) => {
  const profile = () => join(bench.folder({ "profile.json": JSON.stringify(PROFILE) }), "profile.json");

  test("says what is skipped, what is not in force, and how calls are decided", async () => {
    const file = profile();
    const calls = ["acct", "socket", "socket(17, 3)", "socket(0x100000011)", "personality(0x100000000)", "syslog(3)"];
    const { stdout, ...rest } = await bench.hutch(["seccomp", "check", file, ...calls]);
    const [first, ...lines] = stdout.trimEnd().split("\n");
    expect(first).toMatch(/: \d+ instructions, default allow$/);
    expect(lines).toEqual([
      "skipped, unknown here: no_such_call",
      "rules not in force with hutch's capabilities, here: syslog",
      "acct: errno ENOSYS",
      "socket: allow (depends on the arguments)",
      "socket(17, 3): errno EPERM (depends on the arguments)",
      "socket(0x100000011): allow (depends on the arguments)",
      "personality(0x100000000): errno EPERM (depends on the arguments)",
      "syslog(3): allow",
    ]);
    expect(rest).toMatchObject({ stderr: "", code: 0 });
  });

  test("is JSON on request", async () => {
    const { stdout, stderr } = await bench.hutch(["seccomp", "check", "--format", "json", profile(), "acct"]);
    expect(stderr).toBe("");
    expect(JSON.parse(stdout)).toMatchObject({
      defaultAction: "allow",
      unknown: ["no_such_call"],
      notInForce: ["syslog"],
      decisions: [{ call: "acct", action: "errno ENOSYS", byArguments: false }],
    });
  });

  test("the kernel decides the same", async () => {
    const rule = { names: ["mkdir", "mkdirat"], action: "SCMP_ACT_ERRNO", errnoRet: 28 };
    const text = JSON.stringify({ defaultAction: "SCMP_ACT_ALLOW", syscalls: [rule] });
    const file = join(bench.folder({ "profile.json": text }), "profile.json");
    expectSuccess(await bench.hutch(["seccomp", "check", file, "mkdirat"]), /\nmkdirat: errno ENOSPC\n$/);
    const ran = await bench.hutch([
      "run",
      "--seccomp",
      file,
      ...BUSYBOX,
      "scratch",
      "/bin/busybox",
      "mkdir",
      "/tmp/new",
    ]);
    expect(ran.stderr).toContain("No space left");
    expect(ran.code).toBe(1);
  });

  test("refuses what is no profile, no call, no file", async () => {
    const listener = { names: ["mkdir"], action: "SCMP_ACT_NOTIFY" };
    const bad = bench.folder({
      "word.json": '{"defaultAction":"SCMP_ACT_PERHAPS"}',
      "text.json": "{",
      "start.json": JSON.stringify({
        defaultAction: "SCMP_ACT_ERRNO",
        syscalls: [{ ...listener, action: "SCMP_ACT_ALLOW" }],
      }),
      "listener.json": JSON.stringify({ defaultAction: "SCMP_ACT_ALLOW", syscalls: [listener] }),
    });
    for (const [name, said] of [
      ["word.json", "SCMP_ACT_PERHAPS"],
      ["text.json", "not JSON"],
      ["start.json", "the filter answers rt_sigprocmask with errno EPERM"],
      ["listener.json", "listener"], // as hutch run refuses it
    ] as const) {
      const path = join(bad, name);
      expectFailure(await bench.hutch(["seccomp", "check", path, "mkdir"]), 125, said, `from ${path}`);
    }
    expectFailure(await bench.hutch(["seccomp", "check", profile(), "nothing"]), 125, "no system call nothing");
    expectFailure(await bench.hutch(["seccomp", "check", profile(), "socket(x)"]), 125, "is no system call");
    expectFailure(await bench.hutch(["seccomp", "check", "/nowhere.json"]), 125, "/nowhere.json", "ENOENT");
    expectFailure(await bench.hutch(["seccomp", "look"]), 125, "check");
  });
});
