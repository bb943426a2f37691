/** `hutch selftest`: what it tries is held, and it can fail. */

import { describe, expect, test } from "bun:test";
import type { Arch } from "../../src/libc/syscalls.ts";
import { type Attack, attackProgram, outcomeOf } from "../../src/selftest/attempt.ts";
import { FILE_ATTACKS } from "../../src/selftest/attacks-files.ts";
import { KERNEL_ATTACKS } from "../../src/selftest/attacks-kernel.ts";
import { eachCaller, expectFailure } from "../cli/hutch.ts";

interface Report {
  readonly attacks: readonly { number: string; name: string; expected: string[]; seen: string; held: boolean }[];
  readonly failed: number;
}

const ALL: readonly Attack[] = [...FILE_ATTACKS, ...KERNEL_ATTACKS];

describe("attacks", () => {
  test("each has a name of its own and an expectation", () => {
    expect(new Set(ALL.map(({ name }) => name)).size).toBe(ALL.length);
    for (const { number, expected } of ALL) {
      expect(number).toMatch(/^[ABD]\d+$/);
      expect(expected).not.toBeEmpty();
      expect(expected).not.toContain("succeeded");
    }
  });

  test.each(["x64", "arm64"] as const satisfies Arch[])("are programs on %s", (arch) => {
    const bait = { descriptor: 9, abstractName: "x", port: 1 };
    for (const attack of ALL) {
      if (attack.arch !== undefined && attack.arch !== arch) continue;
      const image = attackProgram(attack, arch, bait);
      expect([...image.subarray(0, 4)]).toEqual([0x7f, 0x45, 0x4c, 0x46]);
      expect(new DataView(image.buffer).getUint16(18, true)).toBe(arch === "x64" ? 62 : 183);
    }
  });

  test("exit codes in words", () => {
    expect([0, 1, 38, 97, 159, 139, 250].map(outcomeOf)).toEqual([
      ...["succeeded", "EPERM", "ENOSYS", "EAFNOSUPPORT", "killed", "signal 11", "nothing"],
    ]);
  });
});

eachCaller("hutch selftest", ({ hutch, caller }) => {
  const report = async (...options: readonly string[]) => {
    const { stdout, stderr, code } = await hutch(["selftest", "--format", "json", ...options]);
    expect(stderr).toBe("");
    return { ...(JSON.parse(stdout) as Report), code };
  };
  const failures = ({ attacks }: Report) => attacks.filter(({ held }) => !held);

  test.each(["default", "strict"])("%s holds everything", async (profile) => {
    const found = await report("--security", profile);
    expect(failures(found)).toEqual([]);
    expect(found.attacks.length).toBe(ALL.filter(({ arch }) => arch === undefined || arch === process.arch).length);
    expect(found.code).toBe(0);
  });

  test.each(["", "--no-init", "--security strict", "--security nested"])(
    "it is all the same with --explain-denials: %s",
    async (words) => {
      const options = words.split(" ").filter((word) => word !== "");
      const plain = await report(...options);
      const told = await report("--explain-denials", ...options);
      expect(told.attacks).toEqual([...plain.attacks]);
    },
  );

  test("nested opens namespaces, and the two things that come with them", async () => {
    const found = await report("--security", "nested");
    expect(failures(found).map(({ name }) => name)).toEqual([
      "read /proc/sys/kernel/random/boot_id",
      "unshare a user namespace",
      "clone with a user namespace",
      "clone3, whose flags no filter can see",
    ]);
    expect(found.code).toBe(1);
  });

  test("it can fail: without a filter and without a profile", async () => {
    const found = await report("--security", "none", "--seccomp", "none");
    const succeeded = failures(found).filter(({ seen }) => seen === "succeeded");
    const names = succeeded.map(({ name }) => name);
    for (const name of [
      ...["type into a terminal (TIOCSTI)", "mount a tmpfs", "unshare a user namespace", "set up io_uring"],
      ...["add a key", "open a socket of NETLINK_XFRM", "make data executable (READ_IMPLIES_EXEC)"],
    ]) {
      expect(names).toContain(name);
    }
    // The namespaces alone still hold these.
    for (const name of ["use a descriptor that the caller had open", "signal everybody", "open /dev/mem"]) {
      expect(names).not.toContain(name);
    }
    if (!caller.root) expect(names).toContain("make a read-only mount writable (mount_setattr)");
    else expect(names).not.toContain("make a read-only mount writable (mount_setattr)"); // locked
    expect(found.code).toBe(1);
  });

  test("the host's network lets TCP out, and nothing else", async () => {
    const found = await report("--network", "host");
    const names = failures(found).map(({ name }) => name);
    expect(names).toContain("connect to a TCP service of the host");
    expect(names.filter((name) => !/TCP service|metadata/.test(name))).toEqual([]);
  });

  test("some of them alone", async () => {
    const { attacks, code } = await report("B33", "B12");
    expect(attacks.map(({ number, held }) => [number, held])).toEqual([
      ["B12", true],
      ["B33", true],
      ["B33", true],
      ["B33", true],
    ]);
    expect(code).toBe(0);
  });

  test("text for people: a line for each, and the sum last", async () => {
    const { stdout, code } = await hutch(["selftest", "--security", "strict"]);
    expect(stdout).toMatch(/^Linux \S+ \S+, uid \d+, landlock \d+, options: --security strict\n/);
    expect(stdout).toMatch(/\nheld {3}B14 {2}type into a terminal \(TIOCSTI\) +EPERM\n/);
    expect(stdout).toMatch(/\n(\d+) attacks, \1 held, 0 failed \(0 succeeded\)\n$/);
    expect(code).toBe(0);
  });

  test.each([
    [["scratch"], 'there is no attack "scratch"'],
    [["B12", "B1"], 'there is no attack "B1"'],
    [["--format", "xml"], "--format must be text or json"],
    [["--volume", "/:/"], "unknown option --volume"],
  ])("%j is refused", async (options, message) => {
    expectFailure(await hutch(["selftest", ...options]), 125, message);
  });
});
