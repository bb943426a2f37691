import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { precompiledText } from "../../scripts/generate-seccomp.ts";
import type { Arch } from "../../src/libc/syscalls.ts";
import { SYSCALLS } from "../../src/libc/syscalls.ts";
import { validateBpf } from "../../src/process/bpf.ts";
import { evaluateBpf } from "../../src/process/bpf-evaluate.ts";
import {
  ALLOWED,
  ALLOWED_UNLESS_STRICT,
  CAPABILITY_GROUPS,
  NAMESPACE_GROUPS,
  REFUSED,
} from "../../src/process/profile-calls.ts";
import { hutchProfile, PROFILE_NAMES, profileRefusals, type ProfileName } from "../../src/process/profiles.ts";
import { ARCHITECTURES, compileSeccomp } from "../../src/process/seccomp.ts";
import { formatAction } from "../../src/process/seccomp-actions.ts";
import { precompiledSeccomp } from "../../src/process/seccomp-default.ts";
import { PRECOMPILED } from "../../src/process/seccomp-precompiled.ts";
import { syscallNumbers } from "../../src/process/syscall-numbers.ts";

const ARCHES: Arch[] = ["x64", "arm64"];
const kernel = [6, 1] as const;
const ALL_CAPS = ["ADMIN", "BOOT", "CHROOT", "MODULE", "PACCT", "PTRACE", "RAWIO", "TIME", "TTY_CONFIG", "NICE"]
  .map((name) => `CAP_SYS_${name}`)
  .concat(
    "CAP_SYSLOG",
    "CAP_BPF",
    "CAP_PERFMON",
    "CAP_DAC_READ_SEARCH",
    "CAP_NET_RAW",
    "CAP_NET_ADMIN",
    "CAP_AUDIT_WRITE",
  );

type Where = { name?: ProfileName; arch?: Arch; caps?: readonly string[]; pid1?: boolean };
const compiled = new Map<string, ReturnType<typeof validateBpf>>();

function program({ name = "default", arch = "x64", caps = [], pid1 = false }: Where) {
  const key = JSON.stringify([name, arch, caps, pid1]);
  const made =
    compiled.get(key) ??
    validateBpf(compileSeccomp(hutchProfile(name, { pid1 }), { arch, capabilities: caps, kernel }));
  compiled.set(key, made);
  return made;
}

function answer(call: string | number, args: bigint[] = [], where: Where = {}): string {
  const arch = where.arch ?? "x64";
  const nr = typeof call === "number" ? call : syscallNumbers(arch).get(call);
  if (nr === undefined) throw new Error(`${arch} has no ${call}`);
  return formatAction(evaluateBpf(program(where), { arch: ARCHITECTURES[arch].audit, nr, args }));
}

test("every known call stands in exactly one list, and nothing unknown in any", () => {
  const conditional = "arch_prctl clone ioctl mknod mknodat personality prctl setns socket socketpair unshare";
  const listed = [...ALLOWED, ...ALLOWED_UNLESS_STRICT, ...NAMESPACE_GROUPS, ...CAPABILITY_GROUPS, ...REFUSED]
    .map(({ names }) => names)
    .concat(conditional)
    .flatMap((names) => names.split(" "));
  const known = new Set(ARCHES.flatMap((arch) => [...syscallNumbers(arch).keys()]));
  expect(listed.filter((name, i) => listed.indexOf(name) !== i)).toEqual([]);
  expect([...known].filter((name) => !listed.includes(name))).toEqual([]);
  expect(listed.filter((name) => !known.has(name))).toEqual([]);
});

test("the launcher's own table has the same numbers", () => {
  for (const [name, numbers] of Object.entries(SYSCALLS)) {
    for (const arch of ARCHES) expect([name, syscallNumbers(arch).get(name)]).toEqual([name, numbers[arch]]);
  }
});

describe("what the launcher does after the filter is on passes", () => {
  const calls: [string, bigint[]][] = [
    ["close_range", [3n, 0xffffffffn, 4n]],
    ["rt_sigprocmask", [2n]],
    ["execve", []],
    ["execveat", []],
    ["write", []],
    ["pwrite64", []],
    ["exit_group", [125n]],
    ["prctl", [4n, 1n]],
    ["prctl", [15n]],
    ["faccessat2", []],
  ];
  const cases = calls.flatMap(([call, args]) => PROFILE_NAMES.map((name) => [call, name, args] as const));
  test.each(cases)("%s in %s", (call, name, args) => {
    for (const arch of ARCHES) expect(answer(call, args, { name, arch, pid1: true })).toBe("allow");
  });
});

describe("what must be refused, with every capability and none", () => {
  const EPERM = "errno EPERM";
  const ENOSYS = "errno ENOSYS";
  const table: [string, bigint[], string][] = [
    ["ioctl", [0n, 0x5412n], EPERM], // TIOCSTI
    ["ioctl", [0n, 0x1_0000_5412n], EPERM],
    ["ioctl", [0n, 0xffffffff_00005412n], EPERM],
    ["ioctl", [0n, 0x541cn], EPERM], // TIOCLINUX
    ["ioctl", [0n, 0x8000_0000_0000_541cn], EPERM],
    ["clone", [0x10000000n], EPERM], // CLONE_NEWUSER
    ["clone", [0x1_1000_0011n], EPERM],
    ["unshare", [0x10000000n], EPERM],
    ["unshare", [0x10020000n], EPERM],
    ["setns", [3n, 0n], EPERM],
    ["setns", [3n, 0x10000000n], EPERM],
    ["clone3", [], ENOSYS],
    ["socket", [38n, 5n, 0n], "errno EAFNOSUPPORT"], // AF_ALG
    ["socket", [40n, 1n, 0n], "errno EAFNOSUPPORT"], // AF_VSOCK
    ["socket", [33n, 2n, 2n], "errno EAFNOSUPPORT"], // AF_RXRPC
    ["socket", [17n, 3n, 768n], "errno EAFNOSUPPORT"], // AF_PACKET
    ["socket", [31n, 3n, 1n], "errno EAFNOSUPPORT"], // AF_BLUETOOTH
    ["socket", [44n, 3n, 0n], "errno EAFNOSUPPORT"], // AF_XDP
    ["socket", [0x1_0000_0026n, 5n, 0n], "errno EAFNOSUPPORT"],
    ["socket", [9n, 5n, 0n], EPERM], // AF_X25
    ["socket", [16n, 3n, 6n], "errno EPROTONOSUPPORT"], // NETLINK_XFRM
    ["socket", [16n, 3n, 0x1_0000_0006n], "errno EPROTONOSUPPORT"],
    ["socket", [16n, 3n, 12n], "errno EPROTONOSUPPORT"], // NETLINK_NETFILTER
    ["socket", [16n, 3n, 9n], "errno EPROTONOSUPPORT"], // NETLINK_AUDIT
    ["socketpair", [40n], EPERM],
    ["personality", [0x0400000n], EPERM], // READ_IMPLIES_EXEC
    ["personality", [0x0040000n], EPERM], // ADDR_NO_RANDOMIZE
    ["io_uring_setup", [], ENOSYS],
    ["io_uring_enter", [], ENOSYS],
    ["io_uring_register", [], ENOSYS],
    ["keyctl", [], ENOSYS],
    ["add_key", [], ENOSYS],
    ["request_key", [], ENOSYS],
    ...[
      "bpf perf_event_open userfaultfd kexec_load kexec_file_load init_module finit_module delete_module",
      "open_by_handle_at name_to_handle_at lookup_dcookie swapon swapoff vmsplice",
    ].flatMap((names) => names.split(" ").map((name): [string, bigint[], string] => [name, [], EPERM])),
  ];
  test.each(table)("%s(%p) in default and strict", (call, args, expected) => {
    for (const arch of ARCHES) {
      for (const caps of [[], ALL_CAPS]) {
        expect(answer(call, args, { arch, caps })).toBe(expected);
        const strict = answer(call, args, { name: "strict", arch, caps });
        expect(strict).toStartWith("errno ");
      }
    }
  });
  test.each(table.filter(([call]) => !["clone", "unshare", "setns", "clone3"].includes(call)))(
    "%s(%p) in nested",
    (call, args, expected) => {
      for (const arch of ARCHES) expect(answer(call, args, { name: "nested", arch, caps: ALL_CAPS })).toBe(expected);
    },
  );
  test("ports, on x86-64 only", () => {
    for (const call of ["iopl", "ioperm", "uselib", "_sysctl"])
      expect(answer(call, [], { caps: ALL_CAPS })).toBe(EPERM);
  });
  test("foreign calls kill, newer ones do not exist", () => {
    for (const name of PROFILE_NAMES) {
      expect(answer(0x40000000 + 39, [], { name })).toBe("kill process");
      expect(formatAction(evaluateBpf(program({ name }), { arch: 0x40000003, nr: 20 }))).toBe("kill process");
      for (const nr of [470, 600, 0x3fffffff]) expect(answer(nr, [], { name })).toBe("errno ENOSYS");
    }
  });
});

describe("what a capability opens in default, and never in strict", () => {
  const table: [string, bigint[], string][] = [
    ["chroot", [], "CAP_SYS_CHROOT"],
    ["mount", [], "CAP_SYS_ADMIN"],
    ["mount_setattr", [], "CAP_SYS_ADMIN"],
    ["open_tree", [], "CAP_SYS_ADMIN"],
    ["open_tree_attr", [], "CAP_SYS_ADMIN"],
    ["fsopen", [], "CAP_SYS_ADMIN"],
    ["move_mount", [], "CAP_SYS_ADMIN"],
    ["pivot_root", [], "CAP_SYS_ADMIN"],
    ["umount2", [], "CAP_SYS_ADMIN"],
    ["clone", [0x20000011n], "CAP_SYS_ADMIN"],
    ["unshare", [0x20000n], "CAP_SYS_ADMIN"],
    ["unshare", [0x80n], "CAP_SYS_ADMIN"],
    ["setns", [3n, 0x40000000n], "CAP_SYS_ADMIN"],
    ["sethostname", [], "CAP_SYS_ADMIN"],
    ["quotactl", [], "CAP_SYS_ADMIN"],
    ["acct", [], "CAP_SYS_PACCT"],
    ["syslog", [], "CAP_SYSLOG"],
    ["syslog", [], "CAP_SYS_ADMIN"],
    ["reboot", [], "CAP_SYS_BOOT"],
    ["settimeofday", [], "CAP_SYS_TIME"],
    ["vhangup", [], "CAP_SYS_TTY_CONFIG"],
    ["kcmp", [], "CAP_SYS_PTRACE"],
    ["pidfd_getfd", [], "CAP_SYS_PTRACE"],
    ["process_vm_readv", [], "CAP_SYS_PTRACE"],
    ["process_vm_writev", [], "CAP_SYS_PTRACE"],
  ];
  test.each(table)("%s(%p) by %s", (call, args, cap) => {
    for (const arch of ARCHES) {
      expect(
        answer(call, args, {
          arch,
          caps: ALL_CAPS.filter((other) => other !== cap && !["CAP_SYS_ADMIN", "CAP_SYSLOG"].includes(other)),
        }),
      ).toBe("errno EPERM");
      expect(answer(call, args, { arch, caps: [cap] })).toBe("allow");
      expect(answer(call, args, { name: "strict", arch, caps: ALL_CAPS })).toBe("errno EPERM");
    }
  });
});

describe("what programs need", () => {
  const table: [string, bigint[]][] = [
    ["clone", [0x11n]], // fork
    ["clone", [0x3d0f00n]], // pthread_create
    ["unshare", [0x400n]],
    ["socket", [1n, 1n, 0n]],
    ["socket", [2n, 1n, 6n]],
    ["socket", [10n, 2n, 0n]],
    ["socketpair", [1n, 1n, 0n]],
    ["ioctl", [0n, 0x5401n]],
    ["prctl", [1n, 9n]],
    ["personality", [0xffffffffn]],
    ["futex_waitv", []],
    ["rseq", []],
    ["memfd_create", []],
    ["restart_syscall", []],
    ["mknodat", [0n, 0n, 0o010644n]],
  ];
  test.each(table)("%s(%p)", (call, args) => {
    for (const arch of ARCHES) {
      for (const name of PROFILE_NAMES) {
        const expected = name === "strict" && call === "unshare" ? "errno EPERM" : "allow";
        expect(answer(call, args, { name, arch })).toBe(expected);
      }
    }
  });

  test("default also ptrace on kernels from 4.8, NETLINK_ROUTE, docker's personalities, device files by the kernel's leave", () => {
    expect(answer("ptrace")).toBe("allow");
    const old = compileSeccomp(hutchProfile("default", { pid1: false }), {
      arch: "x64",
      capabilities: [],
      kernel: [4, 7],
    });
    expect(formatAction(evaluateBpf(old, { arch: ARCHITECTURES.x64.audit, nr: 101 }))).toBe("errno EPERM");
    expect(answer("socket", [16n, 3n, 0n])).toBe("allow");
    for (const value of [0n, 8n, 0x20000n, 0x20008n]) expect(answer("personality", [value])).toBe("allow");
    expect(answer("mknod", [0n, 0o060600n])).toBe("allow");
    expect(answer("arch_prctl")).toBe("allow");
  });

  test("nested also namespaces and mounts, without a capability", () => {
    for (const call of ["mount", "unshare", "clone", "setns"]) {
      expect(answer(call, [0x7e020000n, 0x10000000n], { name: "nested" })).toBe("allow");
    }
    for (const call of ["clone3", "pivot_root", "chroot", "sethostname", "open_tree_attr"]) {
      expect(answer(call, [], { name: "nested" })).toBe("allow");
    }
  });
});

test("PR_SET_PDEATHSIG is refused only to PID 1, by its low 32 bits", () => {
  for (const name of PROFILE_NAMES) {
    expect(answer("prctl", [1n], { name, pid1: true })).toBe("errno EPERM");
    expect(answer("prctl", [0xdead_0000_0001n], { name, pid1: true })).toBe("errno EPERM");
    expect(answer("prctl", [2n], { name, pid1: true })).toBe("allow");
    expect(answer("prctl", [1n], { name, pid1: false })).toBe("allow");
  }
});

test("strict is no wider than default anywhere, default no wider than nested", () => {
  const vectors = [0n, 1n, 2n, 16n, 22n, 0x80n, 0x20000n, 0x400000n, 0x10000000n, 0o060600n, 0xffffffffn].flatMap(
    (value) => [0, 1, 2].map((place) => [0n, 0n, 0n].with(place, value)),
  );
  for (const arch of ARCHES) {
    for (const [call] of syscallNumbers(arch)) {
      for (const args of vectors) {
        const answers = PROFILE_NAMES.map((name) => answer(call, args, { name, arch }) === "allow");
        const [normal, strict, nested] = answers;
        expect([call, args, strict && !normal, normal && !nested]).toEqual([call, args, false, false]);
      }
    }
  }
});

describe("precompiled", () => {
  test("the file is what the generator writes (else: bun scripts/generate-seccomp.ts, then bun fmt)", () => {
    const file = readFileSync(new URL("../../src/process/seccomp-precompiled.ts", import.meta.url), "utf8");
    const strip = (text: string) => text.replaceAll(/\s+/g, "");
    expect(strip(file)).toBe(strip(precompiledText()));
  });

  const sets = [[], ["CAP_SYS_CHROOT"], ["CAP_CHOWN", "CAP_NET_RAW", "CAP_SYS_CHROOT"], ["CAP_SYS_ADMIN"], ALL_CAPS];
  test.each(sets.map((caps) => [caps] as const))("is what the compiler makes for %p", (caps) => {
    for (const name of PROFILE_NAMES) {
      for (const arch of ARCHES) {
        for (const pid1 of [false, true]) {
          const target = { arch, capabilities: caps, kernel };
          const ready = precompiledSeccomp(name, { pid1 }, target);
          const isUsual = name === "strict" || !caps.includes("CAP_SYS_ADMIN");
          expect([name, arch, pid1, ready !== undefined]).toEqual([name, arch, pid1, isUsual]);
          if (ready !== undefined) expect(ready).toEqual(compileSeccomp(hutchProfile(name, { pid1 }), target));
        }
      }
    }
  });

  test("is not for kernels before 4.8, and every entry is reached", () => {
    expect(
      precompiledSeccomp("default", { pid1: false }, { arch: "x64", capabilities: [], kernel: [4, 7] }),
    ).toBeUndefined();
    expect(
      precompiledSeccomp("default", { pid1: false }, { arch: "x64", capabilities: [], kernel: [5, 0] }),
    ).toBeDefined();
    expect(Object.keys(PRECOMPILED)).toHaveLength(16);
  });
});

describe("profileRefusals", () => {
  test.each(PROFILE_NAMES.map((name) => [name] as const))("says of %s what the filter does", (name) => {
    const lines = profileRefusals(name, { pid1: true });
    const byArguments = new Set([
      "socket",
      "socketpair",
      "clone",
      "unshare",
      "setns",
      "mknod",
      "mknodat",
      "ioctl",
      "prctl",
      "personality",
      "every",
    ]);
    const refused = new Set(lines.flatMap(({ calls }) => calls));
    for (const arch of ARCHES) {
      for (const [call] of syscallNumbers(arch)) {
        if (byArguments.has(call) || call === "arch_prctl") continue;
        const line = lines.find(({ calls }) => calls.includes(call));
        expect([call, answer(call, [], { name, arch })]).toEqual([
          call,
          line === undefined ? "allow" : `errno ${line.answer}`,
        ]);
        for (const cap of line?.unless ?? [])
          expect([call, answer(call, [], { name, arch, caps: [cap] })]).toEqual([call, "allow"]);
      }
    }
    expect(refused.has("io_uring_setup")).toBe(true);
  });
});
