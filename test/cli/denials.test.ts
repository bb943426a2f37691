/** `--explain-denials`: what is told, and that the program notices nothing. */

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { DEFAULT_CAPABILITIES } from "../../src/defaults.ts";
import { ARCH } from "../../src/libc/call.ts";
import { callText } from "../../src/process/call-text.ts";
import { evaluateBpf } from "../../src/process/bpf-evaluate.ts";
import { refusalErrno } from "../../src/process/notify.ts";
import { hutchProfile } from "../../src/process/profiles.ts";
import { ARCHITECTURES, compileSeccomp } from "../../src/process/seccomp.ts";
import { syscallNumbers } from "../../src/process/syscall-numbers.ts";
import { descendants, isAlive, remains, until } from "./host-processes.ts";
import { BUSYBOX, eachCaller, expectFailure, needs } from "./hutch.ts";
import { openTerminal } from "./terminal.ts";

const { audit } = ARCHITECTURES[ARCH];

/** Calls that the kernel makes for its probes; no filter is asked (since Linux 6.14, kernel/seccomp.c). */
const UNFILTERED = new Set([number("uretprobe"), number("uprobe")]);

/** Numbers and errors of all calls that a profile refuses whatever their arguments, so that they can be tried. */
function refusals(profile: unknown, capabilities: readonly string[]): ReadonlyMap<number, number> {
  const filter = compileSeccomp(profile, { arch: ARCH, capabilities, kernel: [5, 12] });
  const found = new Map<number, number>();
  for (const nr of [...syscallNumbers(ARCH).values(), 480, 600, 100_000]) {
    if (UNFILTERED.has(nr)) continue;
    const errno = refusalErrno(evaluateBpf(filter, { arch: audit, nr }));
    if (errno !== undefined) found.set(nr, errno);
  }
  return found;
}

const zeros = [0n, 0n, 0n, 0n, 0n, 0n];

function number(name: string): number {
  return syscallNumbers(ARCH).get(name) ?? -1;
}

/** A profile that answers with odd numbers, some by arguments that are not told. */
const ODD = {
  defaultAction: "SCMP_ACT_ALLOW",
  syscalls: [
    { names: ["acct"], action: "SCMP_ACT_ERRNO", errnoRet: 0 },
    { names: ["swapon"], action: "SCMP_ACT_ERRNO", errnoRet: 4095 },
    { names: ["swapoff"], action: "SCMP_ACT_ERRNO", errnoRet: 28 },
    ...[61, 62, 63].map((value) => ({
      names: ["getpriority"],
      action: "SCMP_ACT_ERRNO",
      errnoRet: value,
      args: [{ index: 1, value, op: "SCMP_CMP_EQ" }],
    })),
    { names: ["sched_yield", "write", "close"], action: "SCMP_ACT_ERRNO", errnoRet: 9, args: HIGH() },
    { names: ["sendmsg", "futex", "exit", "nanosleep"], action: "SCMP_ACT_ERRNO", errnoRet: 77 },
  ],
};

function HIGH(): readonly unknown[] {
  return [{ index: 5, value: 0x7_0000_0007, op: "SCMP_CMP_EQ" }];
}

eachCaller("--explain-denials", (bench) => {
  const folder = bench.folder();
  const program = join(folder, "denials");
  const source = join(import.meta.dir, "denials.c");
  const made = Bun.spawnSync([needs("gcc"), "-static", "-O1", "-Wall", "-Werror", "-o", program, source]);
  if (made.exitCode !== 0) throw new Error(`gcc denials.c: ${made.stderr.toString()}`);
  const IT = ["-v", `${program}:/denials:ro`];
  const run = (options: readonly string[], ...words: readonly string[]) =>
    bench.hutch(["run", ...options, ...IT, "scratch", "/denials", ...words]);
  const EXPLAIN = "--explain-denials";

  test.each([
    ["default", []],
    ["default", ["--no-init"]],
    ["default", ["--cap-drop", "ALL"]],
    ["strict", ["--security", "strict"]],
    ["strict", ["--security", "strict", "--no-init"]],
    ["nested", ["--security", "nested"]],
  ] as const)(
    "every refused call of the profile %s is answered as without it, and told, with %s",
    async (name, options) => {
      const pid1 = options.includes("--no-init" as never);
      const capabilities = name === "strict" || options.includes("--cap-drop" as never) ? [] : DEFAULT_CAPABILITIES;
      const refused = refusals(hutchProfile(name, { pid1 }), capabilities);
      expect(refused.size).toBeGreaterThan(60);
      const words = [...refused.keys()].map(String);
      const plain = await run(options, "calls", ...words);
      const told = await run([EXPLAIN, ...options], "calls", ...words);
      expect(plain).toMatchObject({ stderr: "", code: 0 });
      expect(plain.stdout).toBe([...refused].map(([nr, errno]) => `${nr} ${-errno}\n`).join(""));
      expect(told).toMatchObject({ stdout: plain.stdout, code: 0 });
      const why = name === "default" ? "not in the default profile" : `refused by --security ${name}`;
      const lines = told.stderr.trimEnd().split("\n");
      const all = [...refused.keys()].map(
        (nr) => `hutch: blocked: ${callText({ nr, arch: audit, args: zeros }, ARCH)} = `,
      );
      const listed = Math.min(all.length, 128);
      for (const [index, start] of all.slice(0, listed).entries()) {
        expect(lines[index]).toStartWith(start);
        expect(lines[index]).toEndWith(`, once: ${why}`);
      }
      const rest = all.length - listed;
      expect(lines.slice(listed)).toEqual(
        rest === 0 ? [] : [`hutch: blocked: calls of more kinds than are listed, ${rest} times: ${why}`],
      );
    },
  );

  test("a profile of one's own: error numbers that depend on arguments, 0, and calls by which hutch works", async () => {
    const file = join(bench.folder({ "odd\nprofile.json": JSON.stringify(ODD) }), "odd\nprofile.json");
    const words = ["acct", "swapon", "swapoff", "sendmsg", "nanosleep"].map((name) => String(number(name)));
    const priority = [61, 62, 63, 62, 60].map((value) => `${number("getpriority")}:0:${value}`);
    const yields = [`${number("sched_yield")}:1:2:3:4:5:0x700000007`, `${number("sched_yield")}:1:2:3:4:5:7`];
    const plain = await run(["--seccomp", file], "calls", ...words, ...priority, ...yields);
    const told = await run([EXPLAIN, "--seccomp", file], "calls", ...words, ...priority, ...yields);
    expect(plain).toMatchObject({ stderr: "" });
    expect(told).toMatchObject({ stdout: plain.stdout, code: plain.code });
    expect(plain.stdout).toContain(`${number("swapon")} -4095\n`);
    expect(plain.stdout).toContain(`${number("acct")} 0\n`);
    const lines = told.stderr.trimEnd().split("\n");
    const end = (text: string) => expect.stringContaining(text);
    expect(lines).toEqual([
      end("acct(0x0) = 0, once"),
      end("swapon(0x0, 0x0) = errno 4095, once"),
      end("swapoff(0x0) = ENOSPC, once"),
      end("sendmsg(0x0, 0x0, 0x0, 0x0, 0x0, 0x0) = EBADFD, once"),
      end("nanosleep(0x0, 0x0, 0x0, 0x0, 0x0, 0x0) = EBADFD, once"),
      end("getpriority(0x0, 0x3d, 0x0, 0x0, 0x0, 0x0) = ENODATA, once"),
      end("getpriority(0x0, 0x3e, 0x0, 0x0, 0x0, 0x0) = ETIME, 2 times"),
      end("getpriority(0x0, 0x3f, 0x0, 0x0, 0x0, 0x0) = ENOSR, once"),
      end("sched_yield(0x1, 0x2, 0x3, 0x4, 0x5, 0x700000007) = EBADF, once"),
    ]);
    for (const line of lines) expect(line).toMatch(/: refused by --seccomp \S+odd\\nprofile\.json$|odd.profile\.json$/);
  });

  test("arguments are decoded, and the exit status is the program's", async () => {
    const calls = [
      "socket:17:0x80003:0x300",
      "unshare:0x10020000",
      "ioctl:0:0x5412:0",
      "personality:0x40000",
      "bpf:5",
      "bpf:5",
    ];
    const words = calls.map((call) => call.replace(/^\w+/, (name) => String(number(name))));
    const { stderr, code } = await run([EXPLAIN, "--no-init"], "calls", ...words);
    expect(stderr.trimEnd().split("\n")).toEqual([
      "hutch: blocked: socket(AF_PACKET, SOCK_RAW|SOCK_CLOEXEC, 0x300) = EAFNOSUPPORT, once: not in the default profile",
      "hutch: blocked: unshare(CLONE_NEWNS|CLONE_NEWUSER) = EPERM, once: not in the default profile",
      "hutch: blocked: ioctl(…, TIOCSTI, …) = EPERM, once: not in the default profile",
      "hutch: blocked: personality(PER_LINUX|ADDR_NO_RANDOMIZE) = EPERM, once: not in the default profile",
      "hutch: blocked: bpf(BPF_PROG_LOAD, …) = EPERM, 2 times: not in the default profile",
    ]);
    expect(code).toBe(0);
    const shell = (script: string) =>
      bench.hutch(["run", EXPLAIN, ...BUSYBOX, "scratch", "/bin/busybox", "sh", "-c", script]);
    expect(await shell("exit 7")).toMatchObject({ stderr: "", code: 7 });
    expect(await shell("kill -9 $$")).toMatchObject({ stderr: "", code: 137 });
    expect(await run([EXPLAIN])).toMatchObject({ stderr: "", code: 3 });
    expectFailure(await bench.hutch(["run", EXPLAIN, "scratch", "/nosuch"]), 127, "command not found");
  });

  test("counts of many processes and threads are exact, and every answer is the right one", async () => {
    const { stdout, stderr, code } = await run([EXPLAIN], "storm", "3", "4", "1500");
    expect(stdout).toBe("as it should be\n");
    const [threads, ...others] = stderr.trimEnd().split("\n"); // libc asks for clone3 first
    expect(threads).toMatch(/clone3\(0x[0-9a-f]+, 0x[0-9a-f]+\) = ENOSYS, 12 times:/);
    expect(others).toEqual(["hutch: blocked: bpf(BPF_PROG_LOAD, …) = EPERM, 18000 times: not in the default profile"]);
    expect(code).toBe(0);
  });

  test("more kinds than there is room for are counted", async () => {
    const { stderr, code } = await run([EXPLAIN], "kinds", "3000");
    const lines = stderr.trimEnd().split("\n");
    expect(lines.length).toBe(129);
    expect(lines[0]).toContain("socket(AF_PACKET, SOCK_RAW, 0x0) = EAFNOSUPPORT, 2 times");
    expect(lines[128]).toContain(`calls of more kinds than are listed, ${3000 - 128} times`);
    expect(code).toBe(0);
  });

  test("signals whose handlers restart calls change no answer and no count", async () => {
    const { stdout, stderr } = await run([EXPLAIN], "alarms", "20000");
    expect(stdout).toBe("0 other answers\n");
    expect(stderr).toContain("= EPERM, 20000 times:");
  });

  test("filters of the program's own work, but for listeners", async () => {
    const plain = await run([], "filters");
    const { stdout, stderr } = await run([EXPLAIN], "filters");
    expect(plain.stdout).toMatch(/^listener \d+\nfilter 0\nits own 99\nours 1\na child's 0\n$/);
    expect(stdout).toBe("listener -16\nfilter 0\nits own 99\nours 1\na child's 0\n");
    expect(stderr).toContain("bpf(BPF_PROG_LOAD, …) = EPERM, 2 times");
    expect(stderr).not.toContain("acct");
  });

  test("as JSON, beside how it ended", async () => {
    const file = join(bench.folder(), "out.json");
    const words = [`${number("socket")}:17:3:0`, String(number("bpf")), String(number("bpf"))];
    const { stderr } = await run(["--json", file, EXPLAIN, "--security", "strict"], "calls", ...words);
    expect(stderr.split("\n").length).toBe(3);
    const told = JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>;
    expect(told).toMatchObject({
      schema: "hutch-outcome-1",
      exitCode: 0,
      otherDenials: 0,
      filter: "--security strict",
    });
    expect(told["denials"]).toEqual([
      {
        call: "socket(AF_PACKET, SOCK_RAW, 0x0)",
        syscall: "socket",
        number: number("socket"),
        arch: `0x${audit.toString(16)}`,
        args: ["0x11", "0x3", "0x0", "0x0", "0x0", "0x0"],
        errno: 97,
        code: "EAFNOSUPPORT",
        count: 1,
      },
      expect.objectContaining({ syscall: "bpf", errno: 1, code: "EPERM", count: 2 }),
    ]);
    await run(["--json", file], "calls", ...words);
    expect(Object.keys(JSON.parse(readFileSync(file, "utf8")) as object)).not.toContain("denials");
    await run(["--json", file, EXPLAIN], "calls");
    expect(JSON.parse(readFileSync(file, "utf8"))).toMatchObject({ denials: [], otherDenials: 0, filter: "default" });
    await bench.hutch(["run", "--json", file, EXPLAIN, "scratch", "/nosuch"]);
    expect(JSON.parse(readFileSync(file, "utf8"))).toMatchObject({ error: { status: 127 } });
  });

  test("what cannot be explained is refused", async () => {
    const kill = { defaultAction: "SCMP_ACT_ALLOW", syscalls: [{ names: ["acct"], action: "SCMP_ACT_KILL" }] };
    const file = join(bench.folder({ "kill.json": JSON.stringify(kill) }), "kill.json");
    const none = await run([EXPLAIN, "--security", "none"], "calls");
    expectFailure(none, 125, "there is no filter", "from --explain-denials --security none");
    expectFailure(await run([EXPLAIN, "--seccomp", "none"], "calls"), 125, "there is no filter", "--seccomp none");
    expectFailure(await run([EXPLAIN, "--seccomp", file], "calls"), 125, "refuses no call", `--seccomp ${file}`);
    const compiled = await bench.shell(`exec 3</dev/zero; "$HUTCH" run ${EXPLAIN} --seccomp-fd 3 scratch /denials`);
    expect(compiled.stderr).toContain("hutch run:");
    expect(compiled.code).toBe(125);
    // A filter around hutch would answer first, with numbers of its own.
    const libraries = ["--add-path", "/lib64", "--add-path", "/lib", "-v", `${bench.binary}:/hutch:ro`];
    for (const options of [[], [EXPLAIN]]) {
      const around = ["run", ...options, "--security", "nested", ...libraries, ...IT, "scratch", "/hutch", "run"];
      const within = ["-v", "/denials:/denials:ro", "scratch", "/denials", "calls"];
      const refused = await bench.hutch([...around, EXPLAIN, ...within]);
      expectFailure(refused, 125, "hutch itself is under a seccomp filter", "from --explain-denials");
      expect(await bench.hutch([...around, ...within])).toMatchObject({ stderr: "", code: 0 });
    }
  });

  test("closed descriptors, descriptors that are passed on, and a terminal less stderr", async () => {
    const call = `/denials calls ${number("bpf")}`;
    const it = `"$HUTCH" run ${EXPLAIN} -v "$1:/denials:ro"`;
    expect(await bench.shell(`${it} scratch ${call} 2>&-; echo $?`, [program])).toMatchObject({
      stdout: `${number("bpf")} -1\n0\n`,
      stderr: "",
    });
    const closed = await bench.shell(`${it} scratch ${call} <&- >&-; echo $?`, [program]);
    expect(closed.stdout).toBe("0\n");
    expect(closed.stderr).toContain("= EPERM, once");
    const passed = await bench.shell(
      `exec 3</etc/passwd 4</etc/group; ${it} -v /bin/busybox:/bin/busybox --preserve-fds 2 scratch /bin/busybox ls /proc/self/fd`,
      [program],
    );
    expect(passed.stdout.trim().split(/\s+/)).toEqual(["0", "1", "2", "3", "4", "5"]); // the last is the directory
  });

  const startWatching = async (...options: readonly string[]) => {
    const running = bench.start([bench.binary, "run", ...options, ...IT, "scratch", "/denials", "watch"]);
    await running.says("watching");
    const comm = (pid: number) => {
      try {
        return readFileSync(`/proc/${pid}/comm`, "latin1").trim();
      } catch {
        return "";
      }
    };
    const teller = await until("the teller", () =>
      descendants(running.pid).find((pid) => comm(pid) === "hutch-teller"),
    );
    return { running, teller };
  };

  test.each([["--init"], ["--no-init"]])(
    "when the teller is killed the sandbox ends, and no call gets another answer, %s",
    async (init) => {
      const { running, teller } = await startWatching(EXPLAIN, init);
      process.kill(teller, "SIGKILL");
      const { stdout, stderr, code } = await running.ended;
      expect(stdout).toBe("watching\n");
      expect(stderr).toMatch(
        /^hutch: blocked: bpf\(BPF_PROG_LOAD, …\) = EPERM, (once|\d+ times): not in the default profile\n/,
      );
      expect(stderr).toContain(
        "hutch run: the process that answers refused calls has ended, and the sandbox was ended with it",
      );
      expect(code).toBe(125);
    },
  );

  test("when hutch is killed all of it ends, and when the program is, it is told so", async () => {
    const { running, teller } = await startWatching(EXPLAIN);
    process.kill(running.pid, "SIGKILL");
    const { stdout, stderr } = await running.ended;
    expect([stdout, stderr]).toEqual(["watching\n", ""]);
    await until("the end of the teller", () => !isAlive(teller));
    const other = await startWatching(EXPLAIN);
    process.kill(other.running.pid, "SIGTERM");
    const ended = await other.running.ended;
    expect(ended.stderr).toContain("bpf(BPF_PROG_LOAD, …) = EPERM");
    expect(ended.code).toBe(143);
  });

  test("a storm does not make the teller grow", async () => {
    const { running, teller } = await startWatching(EXPLAIN);
    const resident = () => Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${teller}/status`, "utf8"))?.[1]);
    const switches = () =>
      Number(/\nvoluntary_ctxt_switches:\s+(\d+)/.exec(readFileSync(`/proc/${teller}/status`, "utf8"))?.[1]);
    await until("the first calls", () => switches() > 200);
    const before = resident();
    await until("twenty thousand calls more", () => switches() > 20_000, 30);
    expect(resident()).toBeLessThanOrEqual(before + 64); // the kernel counts a few pages late
    expect(before).toBeLessThan(1000);
    running.kill("SIGKILL");
    await running.ended;
  });

  test("a process that joins by exec is under the plain filter, and nothing of it is told", async () => {
    const name = `denials-${bench.caller.uid}`;
    const env = { XDG_RUNTIME_DIR: bench.folder() };
    const running = bench.start(
      [
        bench.binary,
        "run",
        EXPLAIN,
        "--name",
        name,
        ...BUSYBOX,
        ...IT,
        "scratch",
        "/bin/busybox",
        "sh",
        "-c",
        "echo there; read x",
      ],
      { env },
    );
    await running.says("there");
    const joined = await bench.hutch(["exec", name, "/denials", "calls", String(number("bpf"))], { env });
    expect(joined).toMatchObject({ stdout: `${number("bpf")} -1\n`, stderr: "", code: 0 });
    running.closeInput();
    expect(await running.ended).toMatchObject({ stderr: "" });
  });

  test("on a terminal the lines come when it is the caller's again", async () => {
    const terminal = await openTerminal(bench);
    terminal.type(
      `stty -a | md5sum; "$HUTCH" run -t ${EXPLAIN} -v ${program}:/denials:ro scratch /denials calls ${number("bpf")}; echo $?; stty -a | md5sum\r`,
    );
    const before = await terminal.shows(/[0-9a-f]{32} /);
    await terminal.shows(`${number("bpf")} -1\r\n`);
    await terminal.shows("hutch: blocked: bpf(BPF_MAP_CREATE, …) = EPERM, once: not in the default profile\r\n0\r\n");
    expect(await terminal.shows(/[0-9a-f]{32} /)).toBe(before);
    terminal.type("exit\r");
    await terminal.ended;
  });

  test("nobody is left whom somebody else would have to wait for", async () => {
    const known = new Set(descendants(process.pid));
    for (const init of ["--init", "--no-init"]) {
      await run([EXPLAIN, init], "calls", String(number("bpf")));
      expect(remains(known)).toEqual([]);
    }
    await bench.hutch(["run", EXPLAIN, "scratch", "/nosuch"]);
    expect(remains(known)).toEqual([]);
  });

  test("hutch plan shows it", async () => {
    const { stdout } = await bench.hutch(["plan", EXPLAIN, "scratch", "/denials"]);
    expect(stdout).toMatch(/seccomp filter, \d+ instructions, denials are told +# default/);
  });
});
