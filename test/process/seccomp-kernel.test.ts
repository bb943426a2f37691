/** The evaluator, the validator and the profiles against the running kernel. */

import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Arch } from "../../src/libc/syscalls.ts";
import { assembleBpf, type Instruction, validateBpf } from "../../src/process/bpf.ts";
import { evaluateBpf } from "../../src/process/bpf-evaluate.ts";
import { hutchProfile } from "../../src/process/profiles.ts";
import { ARCHITECTURES, compileSeccomp } from "../../src/process/seccomp.ts";
import { formatAction } from "../../src/process/seccomp-actions.ts";
import { syscallNumbers } from "../../src/process/syscall-numbers.ts";
import { buildC, run } from "./libseccomp.ts";

const ALLOW = 0x7fff0000;
const kernel = [6, 1] as const;
const here: Arch = process.arch === "arm64" ? "arm64" : "x64";

describe("the kernel itself", () => {
  // Harmless when allowed: questions, and calls that fail on arguments (descriptor -1, signal 0 and the like).
  const CALLS: [name: string, nr: string | number, ...args: bigint[]][] = [
    ["getpid", "getpid"],
    ["socket UNIX", "socket", 1n, 1n, 0n],
    ["socket INET", "socket", 2n, 1n, 0n],
    ["socket NETLINK ROUTE", "socket", 16n, 3n, 0n],
    ["socket NETLINK AUDIT", "socket", 16n, 3n, 9n],
    ["socket VSOCK", "socket", 40n, 1n, 0n],
    ["socket ALG", "socket", 38n, 5n, 0n],
    ["ioctl TIOCSTI", "ioctl", 0xffffffffn, 0x5412n, 0n],
    ["ioctl TIOCSTI, high bit", "ioctl", 0xffffffffn, 0x1_0000_5412n, 0n],
    ["ioctl other", "ioctl", 0xffffffffn, 0x5413n, 0n],
    ["unshare user", "unshare", 0x10000000n],
    ["unshare nothing", "unshare", 0n],
    ["personality query", "personality", 0xffffffffn],
    ["personality READ_IMPLIES_EXEC", "personality", 0x400000n],
    ["clone3", "clone3", 0n, 0n, 0n],
    ["io_uring_setup", "io_uring_setup", 0n, 0n, 0n],
    ["keyctl", "keyctl", 0xffffn, 0n, 0n],
    ["bpf", "bpf", 0xffffn, 0n, 0n],
    ["prctl PDEATHSIG", "prctl", 1n, 0n, 0n],
    ["a newer call", 5000],
    ["x32 getpid", 0x40000000 + 39],
  ];

  test.each(["default", "strict"] as const)("does as the evaluator says with %s", (name) => {
    using program = buildC("seccomp-kernel.c");
    const profile = hutchProfile(name, { pid1: true });
    // getpid traps, so that a fatal answer is seen too.
    const trapping = {
      ...profile,
      syscalls: [...(profile.syscalls ?? []), { names: ["getpid"], action: "SCMP_ACT_TRAP" as const }],
    };
    const filter = compileSeccomp(trapping, { arch: here, capabilities: [], kernel });
    writeFileSync(`${program.path}.bpf`, filter);
    const numbered = CALLS.map(([, nr, ...args]) => ({
      nr: typeof nr === "number" ? nr : (syscallNumbers(here).get(nr) ?? 0),
      args,
    }));
    const lines = numbered.map(({ nr, args }) => [nr, ...args, 0, 0, 0].slice(0, 4).join(" "));
    const seen = new TextDecoder()
      .decode(run([program.path, `${program.path}.bpf`], `${lines.join("\n")}\n`))
      .trim()
      .split("\n");
    expect(seen).toHaveLength(CALLS.length);
    const fatal = new Set(["trap", "kill process"]);
    seen.forEach((got, i) => {
      const { nr = 0, args = [] } = numbered[i] ?? {};
      const said = evaluateBpf(filter, { arch: ARCHITECTURES[here].audit, nr, args });
      const what = `${CALLS[i]?.[0]}: ${formatAction(said)}`;
      if (fatal.has(formatAction(said))) expect([what, got]).toEqual([what, "signal 31"]);
      else if (said === ALLOW) expect([what, got]).not.toEqual([what, "signal 31"]);
      else expect([what, got]).toEqual([what, `errno ${said & 0xffff}`]);
    });
    expect(seen.filter((line) => line === "ok").length).toBeGreaterThan(1);
    expect(seen.filter((line) => line === "signal 31")).toHaveLength(here === "x64" ? 2 : 1);
  });

  test.skipIf(process.arch !== "x64")("kills a call through the i386 door (which only x86-64 has)", () => {
    using program = buildC("seccomp-kernel.c");
    const filter = compileSeccomp(hutchProfile("default", { pid1: false }), { arch: "x64", capabilities: [], kernel });
    writeFileSync(`${program.path}.bpf`, filter);
    expect(new TextDecoder().decode(run([program.path, `${program.path}.bpf`], "-1 0 0 0\n"))).toBe("signal 31\n");
  });

  test("takes what validateBpf takes, refuses what it refuses", () => {
    using program = buildC("seccomp-kernel.c");
    const ret = { code: 0x06, jt: 0, jf: 0, k: ALLOW };
    const op = (code: number, k = 0, jt = 0, jf = 0): Instruction => ({ code, jt, jf, k });
    const programs: Instruction[][] = [
      [ret],
      [op(0x60, 1), ret],
      [op(0x02, 1), op(0x60, 1), ret],
      [op(0x34, 0), ret],
      [op(0x64, 32), ret],
      [op(0x64, 31), ret],
      [op(0x94, 3), ret],
      [op(0x20, 64), ret],
      [op(0x20, 2), ret],
      [op(0x20, 60), ret],
      [op(0x30, 0), ret],
      [op(0x15, 0, 0, 1), ret],
      [op(0x15, 0, 0, 0), ret],
      [op(0x05, 1), ret],
      [op(0x84), op(0x07), op(0x87), op(0x80), op(0x81), op(0xa4, 1), op(0xac), op(0x3c), op(0x7c), ret],
      [op(0x0d), ret],
      [ret, op(0x84)],
      [op(0x15, 0, 0, 2), op(0x02, 1), op(0x05, 1), op(0x03, 1), op(0x60, 1), ret],
      [op(0x15, 0, 0, 1), op(0x02, 1), op(0x60, 1), ret],
    ];
    for (const instructions of programs) {
      writeFileSync(`${program.path}.bpf`, assembleBpf(instructions));
      const got = new TextDecoder().decode(run([program.path, `${program.path}.bpf`], "39 0 0 0\n")).trim();
      let ours = "taken";
      try {
        validateBpf(assembleBpf(instructions));
      } catch {
        ours = "refused";
      }
      expect([instructions, got === "errno 251" ? "refused" : "taken"]).toEqual([instructions, ours]);
    }
  });
});

describe("real programs run", () => {
  const PROGRAMS: [string, ...string[]][] = [
    [
      "sh",
      "-c",
      "echo a | cat | (read x; test $x = a) && mkdir -p d/e && touch d/e/f && cp -a d g && rm -r d g && mkfifo p && rm p",
    ],
    ["gcc", "-pipe", "-pthread", "-x", "c", "-o", "threads", "threads.c"],
    ["./threads"],
    [
      process.execPath,
      "-e",
      "const w = await new Response(Bun.spawn(['echo', 'x']).stdout).text(); if (w !== 'x\\n') process.exit(9)",
    ],
  ];
  const THREADS = `#include <pthread.h>
#include <string.h>
static void *f(void *p) { return memset(p, 1, 4096); }
int main(void) { pthread_t t[8]; static char b[8][4096];
  for (int i = 0; i < 8; i++) if (pthread_create(t + i, 0, f, b[i])) return 1;
  for (int i = 0; i < 8; i++) if (pthread_join(t[i], 0) || b[i][9] != 1) return 2;
  return 0; }`;

  test.each(["default", "strict", "nested"] as const)("under %s", (name) => {
    using program = buildC("seccomp-kernel.c");
    const cwd = dirname(program.path);
    writeFileSync(
      `${program.path}.bpf`,
      compileSeccomp(hutchProfile(name, { pid1: true }), { arch: here, capabilities: [], kernel }),
    );
    writeFileSync(join(cwd, "threads.c"), THREADS);
    for (const command of PROGRAMS) {
      const done = Bun.spawnSync([program.path, `${program.path}.bpf`, ...command], { cwd });
      expect([command[0], done.stderr.toString(), done.exitCode, done.signalCode ?? null]).toEqual([
        command[0],
        "",
        0,
        null,
      ]);
    }
  });
});
