/** Refused calls in words. */

import { expect, test } from "bun:test";
import { callName, callText, TOLD_ARGUMENTS } from "../../src/process/call-text.ts";
import {
  ALLOWED_UNLESS_STRICT,
  CAPABILITY_GROUPS,
  NAMESPACE_GROUPS,
  REFUSED,
} from "../../src/process/profile-calls.ts";
import { ARCHITECTURES } from "../../src/process/seccomp.ts";
import { syscallNumbers } from "../../src/process/syscall-numbers.ts";

const text = (name: string, ...args: readonly number[]) => {
  const nr = syscallNumbers("x64").get(name);
  if (nr === undefined) throw new Error(`no call ${name}`);
  const six = [...args, 0, 0, 0, 0, 0, 0].slice(0, 6).map((value) => BigInt.asUintN(64, BigInt(value)));
  return callText({ nr, arch: ARCHITECTURES.x64.audit, args: six }, "x64");
};

test.each<readonly [is: string, shouldBe: string]>([
  [text("socket", 17, 3 | 0o2000000, 0x300), "socket(AF_PACKET, SOCK_RAW|SOCK_CLOEXEC, 0x300)"],
  [text("socket", 38, 5 | 0o4000), "socket(AF_ALG, SOCK_SEQPACKET|SOCK_NONBLOCK, 0x0)"],
  [text("socket", 99, 0x77), "socket(0x63, 0x7|0x70, 0x0)"],
  [text("socket", -1, -1, -1), "socket(0xffffffff, 0xf|SOCK_NONBLOCK|SOCK_CLOEXEC|0xfff7f7f0, 0xffffffff)"],
  [text("socketpair", 2, 1, 0, 0x7ffd0000), "socketpair(AF_INET, SOCK_STREAM, 0x0, …)"],
  [text("clone", 0x10000000 | 0x20000 | 17, 0x1234), "clone(SIGCHLD|CLONE_NEWNS|CLONE_NEWUSER, …)"],
  [text("unshare", 0x10000000), "unshare(CLONE_NEWUSER)"],
  [text("unshare", 0x80 | 0x40000000), "unshare(CLONE_NEWNET|CLONE_NEWTIME)"],
  [text("unshare", 0), "unshare(0x0)"],
  [text("setns", 5, 0x40000000), "setns(…, CLONE_NEWNET)"],
  [text("mount", 1, 2, 3, 4096 | 16384, 4), "mount(…, MS_BIND|MS_REC, …)"],
  [text("mount", 1, 2, 3, 0, 4), "mount(…, 0x0, …)"],
  [text("umount2", 1, 2), "umount2(…, MNT_DETACH)"],
  [text("ioctl", 0, 0x5412, 9), "ioctl(…, TIOCSTI, …)"],
  [text("ioctl", 0, 0x541c, 9), "ioctl(…, TIOCLINUX, …)"],
  [text("ioctl", 0, 0x5401, 9), "ioctl(…, 0x5401, …)"],
  [text("prctl", 1, 9), "prctl(PR_SET_PDEATHSIG, …)"],
  [text("prctl", 22, 2), "prctl(PR_SET_SECCOMP, …)"],
  [text("prctl", 38, 1), "prctl(PR_SET_NO_NEW_PRIVS, …)"],
  [text("prctl", 36, 1), "prctl(PR_SET_CHILD_SUBREAPER, …)"],
  [text("prctl", 0x53564d41, 1), "prctl(PR_SET_VMA, …)"],
  [text("prctl", 999, 1), "prctl(0x3e7, …)"],
  [text("personality", 0x40000), "personality(PER_LINUX|ADDR_NO_RANDOMIZE)"],
  [text("personality", 0xffffffff), "personality(0xffffffff)"],
  [text("ptrace", 16, 1), "ptrace(PTRACE_ATTACH, …)"],
  [text("seccomp", 1, 8, 3), "seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, …)"],
  [text("mknod", 1, 0o020666, 3), "mknod(…, S_IFCHR|0666, …)"],
  [text("mknodat", -100, 1, 0o060600, 3), "mknodat(…, S_IFBLK|0600, …)"],
  [text("bpf", 5, 1, 2), "bpf(BPF_PROG_LOAD, …)"],
  [text("keyctl", 1, 1, 2), "keyctl(KEYCTL_JOIN_SESSION_KEYRING, …)"],
  [text("acct", 0x1000, 7), "acct(0x1000)"],
  [text("vhangup", 0x1000, 7), "vhangup()"],
  [text("reboot", -1, 2, 3, 4, 5), "reboot(0xffffffffffffffff, 0x2, 0x3, 0x4)"],
  [text("openat", -100, 2), "openat(0xffffffffffffff9c, 0x2, 0x0, 0x0, 0x0, 0x0)"],
])("%s", (is, shouldBe) => expect(is).toBe(shouldBe));

test("calls without a name here", () => {
  const of = (nr: number, arch: number, machine: "x64" | "arm64" = "x64") =>
    callText({ nr, arch, args: [1n, 2n, 3n, 4n, 5n, 6n] }, machine);
  const { x64, arm64 } = ARCHITECTURES;
  expect(of(900, x64.audit)).toBe("system call 900(…)");
  expect(of(-1, x64.audit)).toBe("system call -1(…)");
  expect(of(0x40000029, x64.audit)).toBe("x32 system call 41(…)");
  expect(of(102, x64.foreign)).toBe("i386 system call 102(…)");
  expect(of(281, arm64.foreign, "arm64")).toBe("arm system call 281(…)");
  expect(of(0x40000029, arm64.audit, "arm64")).toBe("system call 1073741865(…)");
  expect(callName({ nr: 41, arch: x64.foreign }, "x64")).toBeUndefined();
});

test("whatever the arguments, one line of harmless characters", () => {
  for (const name of syscallNumbers("x64").keys()) {
    for (const value of [0, 1, 17, -1, 0x7fffffff, -(2 ** 31), 2 ** 40]) {
      expect(text(name, value, value, value, value, value, value)).toMatch(/^[a-z0-9_]+\([A-Za-z0-9_|, …]*\)$/);
    }
  }
});

test("of every call that hutch's own profiles refuse it is known how many arguments it has", () => {
  const groups = [...ALLOWED_UNLESS_STRICT, ...NAMESPACE_GROUPS, ...CAPABILITY_GROUPS, ...REFUSED];
  const known = groups.flatMap(({ title, names }) =>
    title.startsWith("names that Linux never") || title === "obsolete" ? [] : names.split(" "),
  );
  const six = ["process_vm_readv", "process_vm_writev", "mbind", "move_pages", "splice", "io_pgetevents"];
  const skipped = new Set([...six, "io_uring_enter", "get_kernel_syms", "query_module", "uprobe", "uretprobe"]);
  const shown = known.filter((name) => syscallNumbers("x64").has(name) && !skipped.has(name));
  expect(shown.length).toBeGreaterThan(80);
  expect(shown.filter((name) => text(name, 1, 2, 3, 4, 5, 6).endsWith("0x5, 0x6)"))).toEqual([]);
});

test("no call has more arguments that make its kind than there is room for", () => {
  for (const [name, told] of Object.entries(TOLD_ARGUMENTS)) {
    expect([name, told.length <= 3 && told.every((index) => index < 6)]).toEqual([name, true]);
  }
});
