/** `--security`, `--seccomp`, `--seccomp-fd`: what they mean inside, and what is refused. */

import { describe, expect, test } from "bun:test";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { debianFile, DOCKER_PROFILE } from "../../scripts/debian-files.ts";
import type { Arch } from "../../src/libc/syscalls.ts";
import { evaluateBpf } from "../../src/process/bpf-evaluate.ts";
import { assembleBpf } from "../../src/process/bpf.ts";
import { profileFilter } from "../../src/process/filter.ts";
import { PROFILE_NAMES } from "../../src/process/profiles.ts";
import { formatAction } from "../../src/process/seccomp-actions.ts";
import { ARCHITECTURES, compileSeccomp } from "../../src/process/seccomp.ts";
import { syscallNumbers } from "../../src/process/syscall-numbers.ts";
import { BUSYBOX, expectFailure, expectSuccess } from "../cli/hutch.ts";
import { eachAttacker } from "./attackers.ts";

const NATIVE: Arch = process.arch === "arm64" ? "arm64" : "x64";

describe("B27: families that this kernel may not have, by the filter itself", () => {
  const families = {
    AX25: 3,
    KEY: 15,
    PACKET: 17,
    RDS: 21,
    TIPC: 30,
    BLUETOOTH: 31,
    RXRPC: 33,
    ALG: 38,
    VSOCK: 40,
    XDP: 44,
  };
  for (const arch of ["x64", "arm64"] as const) {
    for (const name of PROFILE_NAMES) {
      test(`${name} on ${arch}`, async () => {
        for (const capabilities of [[], ["CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_NET_RAW"]]) {
          const filter = await profileFilter(name, { pid1: false, arch, capabilities });
          const nr = syscallNumbers(arch).get("socket") ?? -1;
          for (const [family, number] of Object.entries(families)) {
            // The kernel reads an int: what stands above its 32 bits must not help.
            for (const high of [0n, 1n << 32n]) {
              const args = [BigInt(number) + high, 5n, 0n];
              const answer = formatAction(evaluateBpf(filter, { arch: ARCHITECTURES[arch].audit, nr, args }));
              expect({ family, answer }).toEqual({
                family,
                answer: expect.stringMatching(/^errno (EAFNOSUPPORT|EPERM)$/),
              });
            }
          }
        }
      });
    }
  }
});

eachAttacker("security options", (field) => {
  const { hutch, folder, script, withAttacker } = field;
  const file = (content: unknown) => {
    const path = join(folder(), "profile.json");
    writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content), { mode: 0o644 });
    return path;
  };
  const status = (field_: string) => `busybox grep -E '^(${field_}):' /proc/self/status | busybox tr -s '\\t' ' '`;
  const sh = (options: readonly string[], command: string) =>
    hutch(["run", ...options, ...BUSYBOX, "scratch", "busybox", "sh", "-c", command]);
  const noMkdir = {
    defaultAction: "SCMP_ACT_ALLOW",
    syscalls: [{ names: ["mkdir", "mkdirat"], action: "SCMP_ACT_ERRNO", errnoRet: 28 }],
  };

  test("each profile's rights", async () => {
    const rights = status("CapPrm|CapBnd|NoNewPrivs|Seccomp");
    const lines = (capabilities: string, filter: number) =>
      `CapPrm: ${capabilities}\nCapBnd: ${capabilities}\nNoNewPrivs: 1\nSeccomp: ${filter}\n`;
    expectSuccess(await sh([], rights), lines("00000000800405fb", 2));
    expectSuccess(await sh(["--security", "nested"], rights), lines("00000000800405fb", 2));
    expectSuccess(await sh(["--security", "strict"], rights), lines("0000000000000000", 2));
    expectSuccess(
      await sh(["--security", "none"], rights),
      /^CapPrm: 0+1f+\nCapBnd: 0+1f+\nNoNewPrivs: 1\nSeccomp: 0\n$/,
    );
  });

  test("strict: a read-only root leaves tmpfs and writable volumes, and no TCP", async () => {
    const volume = folder({ "file.txt": "old\n" });
    chmodSync(volume, 0o777); // started by root, ids inside are others
    chmodSync(join(volume, "file.txt"), 0o666);
    const options = ["--security", "strict", "--read-only", "--tmpfs", "/tmp", "-v", `${volume}:/srv`];
    const tries = ["/etc/x", "/tmp/x", "/srv/x", "/srv/file.txt", "/dev/shm/x", "/dev/null", "/proc/self/comm"];
    const { stdout } = await hutch([
      ...["run", ...options, "/", "sh", "-c"],
      tries.map((path) => `(echo x > ${path}) 2>/dev/null && echo ${path}`).join("; "),
    ]);
    expect(stdout.split("\n").filter((line) => line !== "")).toEqual([
      "/tmp/x",
      "/srv/x",
      "/srv/file.txt",
      "/dev/shm/x",
      "/dev/null",
    ]);
    expect((await sh(["--security", "strict"], "busybox nc -l -p 99 -w 1 2>&1")).stdout).toContain("Permission denied");
    expectSuccess(
      await sh(["--security", "strict"], "mkdir -p /a /b; echo x > /a/f; busybox mv /a/f /b/g; busybox cat /b/g"),
      "x\n",
    );
  });

  test("nested: a sandbox inside; default: none", async () => {
    const inner = ["scratch", field.binary, "run", "--add", "/bin/busybox", "scratch", "/bin/busybox", "echo", "inner"];
    const outer = ["--add", field.binary, "--add", "/bin/busybox"];
    expectSuccess(await hutch(["run", "--security", "nested", ...outer, ...inner]), "inner\n");
    expectFailure(await hutch(["run", ...outer, ...inner]), 125, "clone", "EPERM", "user namespaces are forbidden");
  });

  test("--seccomp FILE decides instead of the profile, --seccomp none leaves nothing", async () => {
    const made = "busybox mkdir /tmp/made 2>&1; " + status("Seccomp");
    expect((await sh(["--seccomp", file(noMkdir)], made)).stdout).toContain("No space left on device");
    expectSuccess(await sh(["--seccomp", "none"], made), "Seccomp: 0\n");
    const logged = { ...noMkdir, flags: ["SECCOMP_FILTER_FLAG_LOG"] };
    expect((await sh(["--seccomp", file(logged)], made)).stdout).toContain("Seccomp: 2");
  });

  test.each(["podman", "docker"] as const)("--seccomp: %s's published profile, as it is", async (whose) => {
    const text = readFileSync(whose === "docker" ? debianFile(DOCKER_PROFILE) : "/usr/share/containers/seccomp.json");
    const copy = file(text.toString());
    const commands = `${status("Seccomp")}; busybox hostname x 2>&1; busybox echo works`;
    const { stdout, stderr } = await sh(["--seccomp", copy], commands);
    expect(stderr).toBe("");
    expect(stdout).toStartWith("Seccomp: 2\n");
    expect(stdout).toMatch(/sethostname: Operation not permitted\nworks\n$/);
  });

  test.each([
    [{ action: "SCMP_ACT_KILL_PROCESS" }, 128 + 31, ""],
    [{ action: "SCMP_ACT_KILL_THREAD" }, 128 + 31, ""],
    [{ action: "SCMP_ACT_KILL" }, 128 + 31, ""],
    [{ action: "SCMP_ACT_TRAP" }, 128 + 31, ""],
    [{ action: "SCMP_ACT_ERRNO" }, 1, "Operation not permitted"],
    [{ action: "SCMP_ACT_ERRNO", errnoRet: 28 }, 1, "No space left on device"],
    [{ action: "SCMP_ACT_ERRNO", errno: "EDQUOT" }, 1, "Disk quota exceeded"],
    [{ action: "SCMP_ACT_TRACE", errnoRet: 7 }, 1, "Function not implemented"], // nobody traces
    [{ action: "SCMP_ACT_LOG" }, 0, ""],
    [{ action: "SCMP_ACT_ALLOW" }, 0, ""],
  ])("--seccomp: the kernel does %j", async (rule, code, said) => {
    const more = { names: ["acct"], action: "SCMP_ACT_ERRNO" };
    const profile = { defaultAction: "SCMP_ACT_ALLOW", syscalls: [{ names: ["mkdir", "mkdirat"], ...rule }, more] };
    const command = ["scratch", "busybox", "mkdir", "/tmp/made"];
    const result = await hutch(["run", "--seccomp", file(profile), ...BUSYBOX, ...command]);
    expect(result.stderr).toContain(said);
    expect(result.code).toBe(code);
  });

  test.each([
    ["SCMP_ACT_ERRNO", "errno EPERM"],
    ["SCMP_ACT_KILL_PROCESS", "kill process"],
    ["SCMP_ACT_TRACE", "trace 1"],
  ])(
    "--seccomp, --seccomp-fd: a filter (%s) that stops the start itself is told before",
    async (defaultAction, said) => {
      const profile = (...names: readonly string[]) => ({
        defaultAction,
        syscalls: [{ names, action: "SCMP_ACT_ALLOW" }],
      });
      for (const [call, names] of [
        ["rt_sigprocmask", ["execve", "exit_group"]],
        ["execve", ["rt_sigprocmask", "exit_group"]],
      ] as const) {
        const message = `the filter answers ${call} with ${said}`;
        const path = file(profile(...names));
        expectFailure(
          await hutch(["run", "--seccomp", path, "scratch", "true"]),
          125,
          message,
          `from --seccomp ${path}`,
        );
        const compiled = join(folder(), "filter.bpf");
        writeFileSync(compiled, compileSeccomp(profile(...names), { arch: NATIVE, capabilities: [], kernel: [6, 1] }));
        const run = 'exec 5<"$1"; shift; exec $AS "$HUTCH" "$@"';
        const result = await script(run, [compiled, "run", "--seccomp-fd", "5", "scratch", "true"]);
        expectFailure(result, 125, message, "from --seccomp-fd 5");
      }
    },
  );

  test("--seccomp-fd: a compiled filter", async () => {
    const path = join(folder(), "filter.bpf");
    writeFileSync(path, compileSeccomp(noMkdir, { arch: NATIVE, capabilities: [], kernel: [6, 1] }));
    const run = 'exec 5<"$1"; shift; exec $AS "$HUTCH" "$@"';
    const args = ["run", "--seccomp-fd", "5", ...BUSYBOX, ...withAttacker, "scratch"];
    const { stdout } = await script(run, [
      path,
      ...args,
      "busybox",
      "sh",
      "-c",
      "busybox mkdir /tmp/made 2>&1; /attacker fds",
    ]);
    expect(stdout).toContain("No space left on device");
    expect(stdout).toEndWith("0 1 2 \n"); // and it is not passed on
  });

  test.each([
    ["no JSON", "{", "not JSON"],
    ["empty", "", "not JSON"],
    ["an empty object", {}, "defaultAction: missing"],
    ["all allowed", { defaultAction: "SCMP_ACT_ALLOW" }, "allows everything"],
    [
      "only unknown calls",
      { defaultAction: "SCMP_ACT_ALLOW", syscalls: [{ names: ["no_such_call"], action: "SCMP_ACT_ERRNO" }] },
      "allows everything",
    ],
    ["a misspelt key", { defaultAction: "SCMP_ACT_ERRNO", syscals: [] }, "syscals"],
    [
      "a listener",
      { defaultAction: "SCMP_ACT_ALLOW", syscalls: [{ names: ["mkdir"], action: "SCMP_ACT_NOTIFY" }] },
      "listener",
    ],
  ])("--seccomp: %s is refused", async (_, content, message) => {
    const path = file(content);
    expectFailure(await hutch(["run", "--seccomp", path, "scratch", "true"]), 125, message, `from --seccomp ${path}`);
  });

  test("--seccomp-fd: what is no filter is refused", async () => {
    const jump = assembleBpf([
      { code: 0x15, jt: 9, jf: 0, k: 0 },
      { code: 6, jt: 0, jf: 0, k: 0x7fff0000 },
    ]);
    const bytes = [new Uint8Array(0), new Uint8Array(7), jump, new Uint8Array(8 * 5000).fill(6)];
    for (const content of bytes) {
      const path = join(folder(), "filter.bpf");
      writeFileSync(path, content);
      const run = 'exec 5<"$1"; shift; exec $AS "$HUTCH" "$@"';
      expectFailure(
        await script(run, [path, "run", "--seccomp-fd", "5", "scratch", "true"]),
        125,
        "filter",
        "from --seccomp-fd 5",
      );
    }
  });

  test.each([
    [["--security", "lax"], "--security must be default or strict or nested or none"],
    [["--security", "strict", "--cap-add", "CHOWN"], "strict keeps no capability"],
    [["--seccomp", "/absent.json"], "ENOENT"],
    [["--seccomp", "none", "--seccomp-fd", "3"], "two filters"],
    [["--seccomp-fd", "77"], "descriptor 77 is not open"],
    [["--seccomp-fd", "x"], "--seccomp-fd needs a number"],
  ])("%j is refused", async (options, message) => {
    expectFailure(await hutch(["run", ...options, "scratch", "true"]), 125, message);
  });

  test("plan shows the profile, and what its filter refuses", async () => {
    const plan = async (...options: readonly string[]) => (await hutch(["plan", ...options, "scratch", "true"])).stdout;
    expect(await plan()).toMatch(/refused by the filter of default\n {2}io_uring/);
    const strict = await plan("--security", "strict");
    expect(strict).toMatch(/\n {2}securebits: .* # --security strict\n/);
    expect(strict).toMatch(/\n {2}landlock \(version \d+\): takes execute,.* # --security strict\n/);
    expect(strict).toContain("refused by the filter of strict");
    expect(await plan("--security", "nested")).not.toContain("max_user_namespaces");
    const none = await plan("--security", "none");
    expect(none).not.toMatch(/seccomp|landlock|cover|refused/);
  });
});
