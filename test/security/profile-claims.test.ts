/**
 * What the profiles promise of system calls, claim by claim: by the filter's evaluator for both architectures, and by the
 * kernel, from inside of sandboxes that root and an ordinary user start.
 */

import { describe, expect, test } from "bun:test";
import type { Arch } from "../../src/libc/syscalls.ts";
import { evaluateBpf } from "../../src/process/bpf-evaluate.ts";
import { profileFilter } from "../../src/process/filter.ts";
import { formatAction } from "../../src/process/seccomp-actions.ts";
import { ARCHITECTURES } from "../../src/process/seccomp.ts";
import { syscallNumbers } from "../../src/process/syscall-numbers.ts";
import { expectSuccess } from "../cli/hutch.ts";
import { eachAttacker, results } from "./attackers.ts";

const NATIVE: Arch = process.arch === "arm64" ? "arm64" : "x64";
const ARCHES: readonly Arch[] = ["x64", "arm64"];
const PROFILES = ["default", "strict", "nested"] as const;
type Profile = (typeof PROFILES)[number];

/** A call, its arguments, the error that it gets, and of which profiles; `allow`: the filter lets it pass. */
type Row = readonly [call: string, args: readonly bigint[], answer: string];
interface Claim {
  readonly name: string;
  readonly rows: readonly Row[];
  readonly profiles?: readonly Profile[];
}

const named = (names: string, answer: string): Row[] => names.split(" ").map((name) => [name, [], answer]);
const range = (end: number) => Array.from({ length: end }, (_, number) => BigInt(number));
const NEWUSER = 0x10000000n;
/** Mount, cgroup, uts, ipc, pid, network; time, which clone takes for a signal. */
const OTHERS = [0x20000n, 0x2000000n, 0x4000000n, 0x8000000n, 0x20000000n, 0x40000000n];
const NEWTIME = 0x80n;
const SIGCHLD = 17n;
const HIGH = 1n << 32n;
const NOT_NESTED = ["default", "strict"] as const;

const [UNIX, INET, INET6, NETLINK] = [1n, 2n, 10n, 16n];
/** What the filter says to a family; 45 are known to Linux 6.18. */
const family = (number: bigint): string =>
  [UNIX, INET, INET6].includes(number) ? "allow" : number > NETLINK ? "EAFNOSUPPORT" : "EPERM";

const CLAIMS: readonly Claim[] = [
  {
    name: "sockets only of UNIX, INET and INET6",
    rows: [0n, HIGH].flatMap((high) =>
      range(64)
        .filter((number) => number !== NETLINK)
        .map((number): Row => {
          const answer = high === 0n || number > NETLINK ? family(number) : "EAFNOSUPPORT";
          return ["socket", [number + high, 1n, 0n], answer];
        }),
    ),
  },
  {
    name: "NETLINK only with ROUTE",
    profiles: ["default", "nested"],
    rows: range(32).map((protocol): Row => {
      return ["socket", [NETLINK, 3n, protocol], protocol === 0n ? "allow" : "EPROTONOSUPPORT"];
    }),
  },
  {
    name: "no NETLINK for strict",
    profiles: ["strict"],
    rows: range(32).map((protocol): Row => ["socket", [NETLINK, 3n, protocol], "EAFNOSUPPORT"]),
  },
  {
    name: "socket pairs only of UNIX",
    rows: range(64).map((number): Row => {
      return ["socketpair", [number, 1n, 0n, 0n], number === UNIX ? "allow" : "EPERM"];
    }),
  },
  { name: "no io_uring", rows: named("io_uring_setup io_uring_enter io_uring_register", "ENOSYS") },
  { name: "no bpf", rows: [0n, 5n, 36n].map((command): Row => ["bpf", [command], "EPERM"]) },
  { name: "no perf", rows: named("perf_event_open lookup_dcookie", "EPERM") },
  { name: "no userfaultfd", rows: [0n, 1n].map((flags): Row => ["userfaultfd", [flags], "EPERM"]) },
  { name: "no keyrings", rows: named("keyctl add_key request_key", "ENOSYS") },
  { name: "no other kernel", rows: named("kexec_load kexec_file_load", "EPERM") },
  {
    name: "no modules",
    rows: named("init_module finit_module delete_module create_module query_module get_kernel_syms", "EPERM"),
  },
  {
    name: "no mounts: the old calls and the new",
    profiles: NOT_NESTED,
    rows: named(
      "mount umount2 pivot_root open_tree open_tree_attr move_mount fsopen fsconfig fsmount fspick mount_setattr",
      "EPERM",
    ),
  },
  { name: "no files by handle", rows: named("open_by_handle_at name_to_handle_at", "EPERM") },
  { name: "no clone3", profiles: NOT_NESTED, rows: [["clone3", [0n, 0n], "ENOSYS"]] },
  {
    name: "no new user namespaces",
    profiles: NOT_NESTED,
    rows: [
      ...[NEWUSER, NEWUSER | 0x20000n, NEWUSER | HIGH].flatMap((flags): Row[] => [
        ["clone", [flags | SIGCHLD], "EPERM"],
        ["unshare", [flags], "EPERM"],
        ["setns", [0n, flags], "EPERM"],
      ]),
      ["setns", [0n, 0n], "EPERM"],
    ],
  },
  {
    name: "no other new namespaces",
    profiles: NOT_NESTED,
    rows: [
      ...OTHERS.flatMap((flags): Row[] => [
        ["clone", [flags | SIGCHLD], "EPERM"],
        ["unshare", [flags], "EPERM"],
        ["setns", [0n, flags], "EPERM"],
      ]),
      ["unshare", [NEWTIME], "EPERM"],
      ["setns", [0n, NEWTIME], "EPERM"],
    ],
  },
  {
    name: "no typing into terminals: TIOCSTI and TIOCLINUX by their low 32 bits",
    rows: [0x5412n, 0x541cn].flatMap((request) =>
      [0n, HIGH, 0xffffffffn << 32n, 1n << 63n].map((high): Row => ["ioctl", [0n, request + high, 0n], "EPERM"]),
    ),
  },
  {
    name: "strict: no consoles or line disciplines either",
    profiles: ["strict"],
    rows: [0x541dn, 0x5423n].flatMap((request) =>
      [0n, HIGH].map((high): Row => ["ioctl", [0n, request + high, 0n], "EPERM"]),
    ),
  },
  {
    name: "strict: no further filters, queues, tracing",
    profiles: ["strict"],
    rows: [
      ...named("seccomp ptrace msgget semget shmget mq_open mbind sync modify_ldt process_mrelease", "EPERM"),
      ...named("io_setup io_submit", "ENOSYS"),
      ...named("splice tee", "EINVAL"),
      ["prctl", [22n, 2n], "EPERM"],
      ["prctl", [22n + HIGH, 2n], "EPERM"],
      ["personality", [8n], "EPERM"],
      ["unshare", [0n], "EPERM"],
    ],
  },
];

/** Foreign calls kill: i386's by int 0x80, x32's by their bit. */
const FOREIGN = ["-1", `${0x40000000 + 39}`, "1073741824"];

describe("by the evaluator", () => {
  for (const { name, rows, profiles = PROFILES } of CLAIMS) {
    test.each(profiles.flatMap((profile) => ARCHES.map((arch) => [profile, arch] as const)))(
      `${name}: %s on %s`,
      async (profile, arch) => {
        const filter = await profileFilter(profile, { pid1: false, arch, capabilities: [] });
        const numbers = syscallNumbers(arch);
        const tried = rows.filter(([call]) => numbers.has(call));
        expect(tried).not.toBeEmpty();
        for (const [call, args, answer] of tried) {
          const data = { arch: ARCHITECTURES[arch].audit, nr: numbers.get(call) ?? -1, args };
          const said = formatAction(evaluateBpf(filter, data));
          expect([call, args, said]).toEqual([call, args, answer === "allow" ? answer : `errno ${answer}`]);
        }
      },
    );
  }

  test.each(PROFILES)("foreign calls: %s", async (profile) => {
    for (const arch of ARCHES) {
      const filter = await profileFilter(profile, { pid1: false, arch, capabilities: [] });
      const { audit, foreign } = ARCHITECTURES[arch];
      const calls = [{ arch: foreign, nr: 20 }, ...(arch === "x64" ? [{ arch: audit, nr: 0x40000000 + 39 }] : [])];
      for (const call of calls) expect(formatAction(evaluateBpf(filter, call))).toBe("kill process");
    }
  });
});

eachAttacker("by the kernel", ({ hutch, withAttacker }) => {
  const text = ([call, args]: Row) => [syscallNumbers(NATIVE).get(call) ?? -1, ...args].join(",");
  const native = (rows: readonly Row[]) => rows.filter(([call]) => syscallNumbers(NATIVE).has(call));
  const tries = async (options: readonly string[], calls: readonly string[]) =>
    results((await hutch(["run", ...options, ...withAttacker, "scratch", "/attacker", "calls", ...calls])).stdout);

  for (const { name, rows, profiles = PROFILES } of CLAIMS) {
    test.each(profiles)(`${name}: %s`, async (profile) => {
      const tried = native(rows);
      const seen = await tries(["--security", profile], tried.map(text));
      for (const row of tried) {
        const [call, args, answer] = row;
        const got = seen[text(row)] ?? "nothing said";
        // What passes the filter is the kernel's to answer.
        const wanted = answer === "allow" ? expect.not.stringMatching(/^(SIG|nothing)/) : answer;
        expect([call, args, got]).toEqual([call, args, wanted]);
      }
    });
  }

  test("it is the filter that refuses: without one most of these calls get another answer", async () => {
    const refused = CLAIMS.flatMap(({ rows, profiles = PROFILES }) => (profiles.includes("default") ? rows : []));
    const tried = native(refused.filter(([, , answer]) => answer !== "allow"));
    const seen = await tries(["--security", "none"], tried.map(text));
    const other = tried.filter((row) => seen[text(row)] !== row[2]);
    expect(other.length).toBeGreaterThan(tried.length / 2);
  });

  test.skipIf(NATIVE !== "x64")("foreign calls kill (which only x86-64 has)", async () => {
    for (const profile of PROFILES) {
      const seen = await tries(["--security", profile], FOREIGN);
      expect([profile, seen]).toEqual([profile, Object.fromEntries(FOREIGN.map((call) => [call, "SIGSYS"]))]);
    }
  });

  test("PR_SET_PDEATHSIG is refused to a program that is PID 1, by its low 32 bits, and to no other", async () => {
    const calls = [1n, 1n + HIGH].map((option) => `${syscallNumbers(NATIVE).get("prctl")},${option},0`);
    for (const profile of PROFILES) {
      const first = await tries(["--security", profile, "--no-init"], calls);
      expect([profile, ...Object.values(first)]).toEqual([profile, "EPERM", "EPERM"]);
      const other = await tries(["--security", profile], calls);
      expect([profile, ...Object.values(other)]).toEqual([profile, "succeeded", "succeeded"]);
    }
  });

  test("user namespaces are forbidden by the count too, where the filter is away", async () => {
    const unshare = `${syscallNumbers(NATIVE).get("unshare")},${NEWUSER}`;
    expect(await tries(["--seccomp", "none"], [unshare])).toEqual({ [unshare]: "ENOSPC" });
    expect(await tries(["--security", "strict", "--seccomp", "none"], [unshare])).toEqual({ [unshare]: "ENOSPC" });
    expect(await tries(["--security", "nested"], [unshare])).toEqual({ [unshare]: "succeeded" });
    const limit = ["--read-only", "/", "cat", "/proc/sys/user/max_user_namespaces"];
    expectSuccess(await hutch(["run", ...limit]), "0\n");
  });
});
