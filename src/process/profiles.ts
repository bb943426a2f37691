/**
 * hutch's own seccomp profiles, in the shape of OCI's. The lists of names are in profile-calls.ts; here stand the calls
 * whose arguments decide, and how the three profiles are put together.
 *
 * - default: what programs use, without what has opened kernels. Capabilities widen it, as docker's.
 * - strict: for judges. Capabilities do not widen it.
 * - nested: default, with namespaces and mounts, for whoever runs a sandbox inside.
 *
 * The default action is EPERM without a number, so that calls newer than the lists get ENOSYS (see seccomp.ts). Rules of
 * different actions overlap in `ioctl` and `prctl`: hutch applies the refusal, libseccomp would not. Do not hand these
 * profiles to another runtime.
 */

import {
  ALLOWED,
  ALLOWED_UNLESS_STRICT,
  CAPABILITY_GROUPS,
  NAMESPACE_GROUPS,
  REFUSED,
  type RefusedGroup,
} from "./profile-calls.ts";
import type { ProfileArgument, ProfileRule, SeccompProfile } from "./seccomp-profile.ts";

export type ProfileName = "default" | "strict" | "nested";

export const PROFILE_NAMES: readonly ProfileName[] = ["default", "strict", "nested"];

/** `pid1`: the program is PID 1, so its parent-death signal is what ties it to the launcher, and must stay. */
export type ProfileOptions = { readonly pid1: boolean };

const ERRNO = { EPERM: 1, EINVAL: 22, ENOSYS: 38, EPROTONOSUPPORT: 93, EAFNOSUPPORT: 97 } as const;
const LOW_WORD = 0xffffffff;

// linux/sched.h; CLONE_NEWTIME (0x80) is a signal number to clone and a flag to unshare and setns only
const NEWUSER = 0x10000000;
const NEW_OTHERS = [0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x20000000, 0x40000000];
const NEWTIME = 0x80;
const CLONE_MASK = 0x7e020000;

const AF = { unix: 1, inet: 2, inet6: 10, netlink: 16 } as const;
const NETLINK_ROUTE = 0;

const TIOCSTI = 0x5412;
const TIOCLINUX = 0x541c;
const TIOCCONS = 0x541d;
const TIOCSETD = 0x5423;
const PR_SET_PDEATHSIG = 1;
const PR_SET_SECCOMP = 22;

/** PER_LINUX, PER_LINUX32, UNAME26 with either, and the question what it is: docker's list. */
const PERSONALITIES = [0, 8, 0x20000, 0x20008, 0xffffffff];

function equal(index: number, value: number): ProfileArgument {
  return { index, value, op: "SCMP_CMP_EQ" };
}

/** `(argument & mask) == value`. For an int argument the kernel reads the low 32 bits only, and so must a refusal. */
function masked(index: number, mask: number, value: number): ProfileArgument {
  return { index, value: mask, valueTwo: value, op: "SCMP_CMP_MASKED_EQ" };
}

function allow(names: string, args: readonly ProfileArgument[] = [], caps: readonly string[] = []): ProfileRule {
  return { names: names.split(" "), action: "SCMP_ACT_ALLOW", args, includes: { caps } };
}

function refuse(
  names: string,
  answer: keyof typeof ERRNO,
  args: readonly ProfileArgument[] = [],
  unless: readonly string[] = [],
): ProfileRule {
  return {
    names: names.split(" "),
    action: "SCMP_ACT_ERRNO",
    errnoRet: ERRNO[answer],
    args,
    excludes: { caps: unless },
  };
}

function groupRules({ names, answer, unless = [] }: RefusedGroup): ProfileRule[] {
  return [refuse(names, answer, [], unless), ...unless.map((cap) => allow(names, [], [cap]))];
}

const SOCKETS: readonly ProfileRule[] = [
  ...[AF.unix, AF.inet, AF.inet6].map((family) => allow("socket", [equal(0, family)])),
  // PAM and shadow take this answer for "no audit here", and EPERM for a failure. AF_PACKET, ALG, VSOCK, RXRPC, XDP are above 16.
  refuse("socket", "EAFNOSUPPORT", [{ index: 0, value: AF.netlink, op: "SCMP_CMP_GT" }]),
  allow("socketpair", [equal(0, AF.unix)]),
];

const NETLINK: readonly ProfileRule[] = [
  allow("socket", [equal(0, AF.netlink), equal(2, NETLINK_ROUTE)]),
  refuse("socket", "EPROTONOSUPPORT", [equal(0, AF.netlink), { index: 2, value: NETLINK_ROUTE, op: "SCMP_CMP_NE" }]),
];

/** Terminals: no typing for others. What is refused is compared by its low word: the high one is not the kernel's. */
function ioctl(refused: readonly number[]): ProfileRule[] {
  return [allow("ioctl"), ...refused.map((request) => refuse("ioctl", "EPERM", [masked(1, LOW_WORD, request)]))];
}

function prctl(refused: readonly number[]): ProfileRule[] {
  return [allow("prctl"), ...refused.map((option) => refuse("prctl", "EPERM", [masked(0, LOW_WORD, option)]))];
}

function personality(values: readonly number[]): ProfileRule[] {
  return values.map((value) => allow("personality", [masked(0, LOW_WORD, value)]));
}

/** No new namespaces; with CAP_SYS_ADMIN all kinds but user namespaces. */
const NAMESPACES: readonly ProfileRule[] = [
  allow("clone", [masked(0, CLONE_MASK, 0)]),
  allow("clone", [masked(0, NEWUSER, 0)], ["CAP_SYS_ADMIN"]),
  allow("unshare", [masked(0, CLONE_MASK | NEWTIME, 0)]),
  allow("unshare", [masked(0, NEWUSER, 0)], ["CAP_SYS_ADMIN"]),
  ...[...NEW_OTHERS, NEWTIME].map((flag) => allow("setns", [masked(1, LOW_WORD, flag)], ["CAP_SYS_ADMIN"])),
];

const PTRACE: ProfileRule = {
  names: ["ptrace"],
  action: "SCMP_ACT_ALLOW",
  includes: { minKernel: "4.8" }, // before, a tracer could change a call after its filter had passed it
};

/** Files, pipes and sockets, no devices: S_IFMT of the mode. */
function plainFiles(name: string, index: number): ProfileRule[] {
  return [0, 0o100000, 0o010000, 0o140000].map((kind) => allow(name, [masked(index, 0o170000, kind)]));
}

function rules(name: ProfileName, { pid1 }: ProfileOptions): ProfileRule[] {
  const death = pid1 ? [PR_SET_PDEATHSIG] : [];
  const always = [
    ...ALLOWED.map(({ names }) => allow(names)),
    ...REFUSED.flatMap(groupRules),
    { ...allow("arch_prctl"), includes: { arches: ["amd64"] } },
    ...SOCKETS,
  ];
  if (name === "strict") {
    const never = [...ALLOWED_UNLESS_STRICT, ...NAMESPACE_GROUPS, ...CAPABILITY_GROUPS];
    return [
      ...always,
      ...never.map(({ names, answer }) => refuse(names, answer)),
      refuse("setns unshare", "EPERM"),
      allow("clone", [masked(0, CLONE_MASK, 0)]),
      refuse("socket", "EAFNOSUPPORT", [equal(0, AF.netlink)]),
      ...ioctl([TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD]),
      ...prctl([...death, PR_SET_SECCOMP]),
      ...personality([0, 0xffffffff]),
      ...plainFiles("mknod", 1),
      ...plainFiles("mknodat", 2),
    ];
  }
  return [
    ...always,
    ...ALLOWED_UNLESS_STRICT.map(({ names }) => allow(without(names, ["ptrace"]))).filter(hasNames),
    PTRACE,
    ...CAPABILITY_GROUPS.flatMap(groupRules),
    ...(name === "nested"
      ? [...NAMESPACE_GROUPS.map(({ names }) => allow(names)), allow("clone setns unshare")]
      : [...NAMESPACE_GROUPS.flatMap(groupRules), ...NAMESPACES]),
    ...NETLINK,
    ...ioctl([TIOCSTI, TIOCLINUX]),
    ...prctl(death),
    ...personality(PERSONALITIES),
    allow("mknod mknodat"),
  ];
}

function without(names: string, removed: readonly string[]): string {
  return names
    .split(" ")
    .filter((name) => !removed.includes(name))
    .join(" ");
}

function hasNames(rule: ProfileRule): boolean {
  return (rule.names?.[0] ?? "") !== "";
}

/** One of hutch's profiles as an OCI object, for compileSeccomp. Pure data: the same for both architectures. */
export function hutchProfile(name: ProfileName, options: ProfileOptions): SeccompProfile {
  return { defaultAction: "SCMP_ACT_ERRNO", syscalls: rules(name, options) };
}

/** A line of the table of what a profile refuses: `unless` names capabilities that open it. */
export type RefusalLine = {
  readonly title: string;
  readonly calls: readonly string[];
  readonly answer: string;
  readonly unless: readonly string[];
};

/** What a profile refuses, grouped, for `hutch plan` and the docs. Made of the same lists as the profile itself. */
export function profileRefusals(name: ProfileName, { pid1 }: ProfileOptions): RefusalLine[] {
  const strict = name === "strict";
  const groups = [
    ...REFUSED,
    ...(strict ? ALLOWED_UNLESS_STRICT : []),
    ...(name === "nested" ? [] : NAMESPACE_GROUPS),
    ...CAPABILITY_GROUPS,
  ];
  const line = (title: string, calls: string, answer: string, unless: readonly string[] = []): RefusalLine => ({
    title,
    calls: calls.split(" "),
    answer,
    unless: strict ? [] : unless,
  });
  const families = strict ? "UNIX, INET and INET6" : "UNIX, INET, INET6 and NETLINK with ROUTE";
  return [
    ...groups.map(({ title, names, answer, unless }) => line(title, names, answer, unless)),
    line(`sockets other than ${families}`, "socket", "EAFNOSUPPORT, EPROTONOSUPPORT or EPERM"),
    line("socket pairs other than UNIX", "socketpair", "EPERM"),
    ...(name === "nested"
      ? []
      : [
          line("new user namespaces", "clone unshare", "EPERM"),
          line("other new namespaces", "clone unshare", "EPERM", ["CAP_SYS_ADMIN"]),
        ]),
    ...(name === "nested" ? [] : [line("other processes' namespaces", "setns", "EPERM", ["CAP_SYS_ADMIN"])]),
    ...(strict ? [line("unsharing anything", "unshare", "EPERM"), line("device files", "mknod mknodat", "EPERM")] : []),
    line(`terminal injection (TIOCSTI, TIOCLINUX${strict ? ", TIOCCONS, TIOCSETD" : ""})`, "ioctl", "EPERM"),
    ...(pid1 ? [line("the parent-death signal of PID 1 (PR_SET_PDEATHSIG)", "prctl", "EPERM")] : []),
    ...(strict ? [line("filters by prctl (PR_SET_SECCOMP)", "prctl", "EPERM")] : []),
    line(
      strict ? "every personality but the plain one" : "personalities that weaken memory protection",
      "personality",
      "EPERM",
    ),
    line("calls of i386, x32 and 32-bit arm", "every", "the process is killed"),
    line("calls newer than Linux 6.18", "every", "ENOSYS"),
  ];
}
