/**
 * A run that asks for a directory and a command only takes a shorter way (src/prelinked/). Whatever it prints, shows
 * inside and answers is what the long way does: the same words with an option that changes nothing take that one.
 */

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "bun:test";
import { type Bench, eachCaller, type Options, type Result } from "./hutch.ts";

const LONG_WAY = ["--hostname", "hutch"];

/** The same run in both ways. */
async function both(bench: Bench, args: readonly string[], options?: Options): Promise<Result> {
  const [short, long] = await Promise.all([
    bench.hutch(["run", ...args], options),
    bench.hutch(["run", ...LONG_WAY, ...args], options),
  ]);
  expect(short).toEqual(long);
  return short;
}

/** What a program can see of its sandbox and of itself, without what is new in each. */
const LOOK = [
  "cat /proc/self/status | grep -vE '^(voluntary|nonvoluntary|Vm|Rss|HugetlbPages|Mems|Cpus)'",
  "cut -d' ' -f5- /proc/self/mountinfo | sed 's/shared:[0-9]*//'",
  "cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups /proc/self/limits",
  "env; pwd; hostname; umask; ls -ln /dev; ls -l /proc/self/fd | wc -l; tr -d '\\0' </proc/1/cmdline; cat /proc/1/comm",
  "touch /file; echo $?",
].join("; ");

eachCaller("a plain run", (bench) => {
  test("shows a program the same sandbox", async () => {
    const shown = await both(bench, ["--read-only", "/", "sh", "-c", LOOK]);
    expect([shown.code, shown.stderr]).toEqual([0, "touch: cannot touch '/file': Read-only file system\n"]);
    expect(shown.stdout).toContain("Seccomp:\t2");
    expect(shown.stdout).toContain("NoNewPrivs:\t1");
    const root = bench.folder({ "bin/x": "" });
    const writable = await both(bench, ["-e", "A=b", "--rm", "-i", root, "/bin/sh", "-c", LOOK]);
    expect(writable.code).toBe(127); // nothing is in it
  });

  test("passes arguments, variables and input on byte for byte", async () => {
    const script = 'printf "%s|" "$0" "$@" "$A" "$PATH"; cat';
    const words = [
      "--read-only",
      "-e",
      "A= x\n",
      "-e",
      "B",
      "-e",
      "PATH=/bin:/usr/bin",
      "/",
      "sh",
      "-c",
      script,
      "",
      "é\u0001",
      "--",
    ];
    const result = await both(bench, words, { stdin: "in", env: { B: "b" } });
    expect(result).toEqual({ stdout: "|é\u0001|--| x\n|/bin:/usr/bin|in", stderr: "", code: 0, signal: null });
    expect((await both(bench, ["--read-only", "/", "sh", "-c", "kill -9 $$"])).code).toBe(137);
  });

  test("says the same of what goes wrong", async () => {
    const noise = { executable: "neither ELF nor script\n" };
    const root = bench.folder({ plain: "text\n", noise, file: "" });
    mkdirSync(join(root, "proc"));
    const cases: readonly (readonly [args: readonly string[], code: number, message: string])[] = [
      [["--read-only", "/", "nosuch"], 127, "nosuch: command not found"],
      [["--read-only", "/", "/etc/passwd"], 126, "EACCES"],
      [["--read-only", root, "/plain"], 125, "attach mount1 → /dev"],
      [[root, "/noise"], 126, "ENOEXEC"],
      [[root, "./plain"], 126, "EACCES"],
      [[join(root, "nowhere"), "x"], 125, "does not exist"],
      [[join(root, "file"), "x"], 125, "is not a directory"],
      [["/", "true"], 125, "--read-only"],
      [["--read-only", root], 125, "COMMAND is missing"],
      [["--read-only", "--writable", root, "x"], 125, "contradict"],
      [[root, ""], 125, "COMMAND is empty"],
    ];
    for (const [args, code, message] of cases) {
      const result = await both(bench, args); // oxlint-disable-line no-await-in-loop -- one at a time is told apart
      expect([args, result.code, result.stdout]).toEqual([args, code, ""]);
      expect(result.stderr).toContain(message);
      expect(result.stderr.split("\n")).toHaveLength(2);
    }
  });
});
