/** Every rule of a Spec, broken in turn: the error quotes the user's own word, and comes before anything is started. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { UsageError } from "../src/errors.ts";
import type { HostFacts } from "../src/facts.ts";
import type { Mount, Root, Spec } from "../src/spec.ts";
import { validate } from "../src/validate.ts";
import { host, HOSTS, inside, SPECS, specOf, tmpfs, volume } from "./plans.ts";

/** What `validate` says: message, the user's words, and whether there is a hint. */
function complaint(spec: Spec, machine: HostFacts): { message: string; from: string | undefined; hint: boolean } {
  try {
    validate(spec, machine);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return { message: error.message, from: error.from, hint: error.hint !== undefined };
  }
  throw new Error("the rule was not broken");
}

const overlay = (path: string): Root => ({ kind: "overlay", lower: [host(path)], from: path });
const named = (hostname: string): Spec => specOf({ hostname, words: { hostname: `--hostname ${hostname}` } });
const domain = (domainname: string): Spec =>
  specOf({ domainname, words: { domainname: `--domainname ${domainname}` } });
const as = (uid: number, gid: number, additionalGids: readonly number[] = []): Spec =>
  specOf({ process: { uid, gid, additionalGids }, words: { user: `-u ${uid}:${gid}` } });
const withMounts = (...mounts: Mount[]): Spec => specOf({ mounts });
const withProc = (...mounts: Mount[]): Spec =>
  withMounts({ type: "proc", destination: inside("/proc"), from: "default" }, ...mounts);
const inProc = (target: string): string =>
  `target ${JSON.stringify(target)} is in the sandbox's own /proc, which stays as it is`;
const { user, ranges, root } = HOSTS;

type Row = readonly [what: string, spec: Spec, machine: HostFacts, message: string, from: string | undefined];
const BROKEN: readonly Row[] = [
  ["an argument with NUL", specOf({ process: { args: ["a\0b"] } }), user, '"a\\u0000b" contains a NUL byte', undefined],
  ["a variable with NUL", specOf({ process: { env: ["A=\0"] } }), user, '"A=\\u0000" contains a NUL byte', undefined],
  [
    "a directory with NUL",
    specOf({ process: { cwd: inside("/\0") } }),
    user,
    '"/\\u0000" contains a NUL byte',
    undefined,
  ],
  ["a target with NUL", withMounts(tmpfs("/a\0")), user, '"/a\\u0000" contains a NUL byte', undefined],

  ["an empty host name", named(""), user, 'hostname "" has 0 characters', "--hostname "],
  ["a long host name", named("x".repeat(65)), user, /^hostname "x{65}" has 65/.source, `--hostname ${"x".repeat(65)}`],
  ["a newline in a host name", named("a\nb"), user, 'hostname "a\\nb" is not a host name', "--hostname a\nb"],
  ["a slash in a host name", named("a/b"), user, 'hostname "a/b" is not a host name', "--hostname a/b"],
  ["a hyphen at the end", named("a-"), user, 'hostname "a-" is not a host name', "--hostname a-"],
  ["(none) as a host name", named("(none)"), user, 'hostname "(none)" is not a host name', "--hostname (none)"],
  ["a space in a domain name", domain("a b"), user, 'domainname "a b" is not a host name', "--domainname a b"],

  ["a root that is absent", specOf({ root: overlay("/absent") }), user, "root /absent does not exist", "/absent"],
  [
    "a root that is a file",
    specOf({ root: overlay("/data/file") }),
    user,
    "root /data/file is not a directory",
    "/data/file",
  ],
  [
    "one layer of two that is absent",
    specOf({ root: { kind: "overlay", lower: [host("/srv/root"), host("/gone")], from: "image" } }),
    user,
    "root /gone does not exist",
    "image",
  ],
  [
    "a bound root that is absent",
    specOf({ root: { kind: "bind", path: host("/absent"), readonly: true, from: "--read-only /absent" } }),
    user,
    "root /absent does not exist",
    "--read-only /absent",
  ],
  [
    "an overlay over a mount",
    specOf(),
    { ...user, mountsBelow: new Map([["/srv/root", ["/srv/root/proc"]]]) },
    "/srv/root has file systems mounted below it, which an overlay cannot show: /srv/root/proc",
    "/srv/root",
  ],
  [
    "an overlay over three mounts",
    specOf(),
    { ...user, mountsBelow: new Map([["/srv/root", ["/srv/root/a", "/srv/root/b", "/srv/root/c"]]]) },
    "/srv/root has file systems mounted below it, which an overlay cannot show: /srv/root/a and 2 more",
    "/srv/root",
  ],

  ["a relative target", withMounts(tmpfs("a/b")), user, 'target "a/b" is not an absolute path', "--tmpfs a/b"],
  ["the root as target", withMounts(tmpfs("/")), user, "the root itself cannot be a mount target", "--tmpfs /"],
  [
    "the root spelled otherwise",
    withMounts(tmpfs("//./")),
    user,
    "the root itself cannot be a mount target",
    "--tmpfs //./",
  ],
  ["a target with ..", withMounts(tmpfs("/a/../b")), user, 'target "/a/../b" contains ..', "--tmpfs /a/../b"],
  ...["/proc", "/proc/", "//proc/./sys", "/proc/sys/kernel", "/proc/1", "/proc/cpuinfo/x", "/proc/keys"].flatMap(
    (target): Row[] => [
      [`a tmpfs at ${target}`, withProc(tmpfs(target)), user, inProc(target), `--tmpfs ${target}`],
      [`a volume at ${target}`, withProc(volume("/data", target)), root, inProc(target), `-v /data:${target}`],
    ],
  ),
  ...(
    [
      ["size", "0"],
      ["size", "0k"],
      ["size", "00%"],
      ["nr_inodes", "0"],
    ] as const
  ).map(([name, value]): Row => {
    const from = `--tmpfs /t:${name}=${value}`;
    const options = { mode: "1777", [name]: value };
    const mount = { type: "tmpfs", destination: inside("/t"), attributes: [], options, from } as const;
    return [from, withMounts(mount), user, `${name}=${value} is no limit to the kernel (tmpfs(5))`, from];
  }),
  ["a source that is absent", withMounts(volume("/absent", "/x")), user, "/absent does not exist", "-v /absent:/x"],

  [
    "a writable root of the machine's root",
    SPECS["writable"] ?? specOf(),
    root,
    "/srv/root belongs to uid 0, which the sandbox does not have",
    "--writable /srv/root",
  ],
  [
    "a writable root below the range",
    SPECS["writable"] ?? specOf(),
    { ...root, owners: new Map([["/srv/root", 524_287]]) },
    "/srv/root belongs to uid 524287, which the sandbox does not have",
    "--writable /srv/root",
  ],
  [
    "a writable root above the range",
    SPECS["writable"] ?? specOf(),
    { ...root, owners: new Map([["/srv/root", 524_288 + 65_536]]) },
    "/srv/root belongs to uid 589824, which the sandbox does not have",
    "--writable /srv/root",
  ],

  ["a uid outside of the range", as(65_536, 0), root, "uid 65536 is outside of the sandbox's ids", "-u 65536:0"],
  ["a gid outside of the range", as(0, 65_536), root, "gid 65536 is outside of the sandbox's ids", "-u 0:65536"],
  ["a group outside of the range", as(0, 0, [1, 70_000]), root, "gid 70000 is outside of the sandbox's ids", "-u 0:0"],
  [
    "an id that explicit maps lack",
    specOf({
      process: { uid: 7 },
      idMap: {
        uidMappings: [{ containerID: 0, hostID: 1000, size: 7 }],
        gidMappings: [{ containerID: 0, hostID: 1000, size: 1 }],
      },
      words: { user: "-u 7" },
    }),
    user,
    "uid 7 is outside of the sandbox's ids",
    "-u 7",
  ],

  [
    "a soft limit above the hard one",
    specOf({
      process: { rlimits: [{ type: "RLIMIT_NOFILE", soft: 10, hard: 9 }] },
      words: { RLIMIT_NOFILE: "--ulimit nofile=10:9" },
    }),
    user,
    "RLIMIT_NOFILE: soft limit 10 is above the hard limit 9",
    "--ulimit nofile=10:9",
  ],
  [
    "denials told where a signal could repeat a call",
    specOf({ process: { explainDenials: true }, words: { explainDenials: "--explain-denials" } }),
    { ...user, kernel: 5_018 },
    "denials cannot be told exactly before Linux 5.19",
    "--explain-denials",
  ],
  [
    "a relative working directory",
    specOf({ process: { cwd: inside("work") }, words: { cwd: "-w work" } }),
    user,
    'working directory "work" is not an absolute path',
    "-w work",
  ],
];

test.each(BROKEN)("%s is refused", (_, spec, machine, message, from) => {
  const said = complaint(spec, machine);
  if (message.startsWith("^")) expect(said.message).toMatch(new RegExp(message));
  else expect(said.message).toBe(message);
  expect(said.from).toBe(from);
});

describe("is not refused:", () => {
  test.each([
    ...Object.entries(SPECS).flatMap(([name, spec]) =>
      name === "writable" ? [] : Object.entries(HOSTS).map(([by, facts]) => [`${name} by ${by}`, spec, facts] as const),
    ),
    ["writable by an ordinary user", SPECS["writable"] ?? specOf(), user],
    ["denials told from Linux 5.19", specOf({ process: { explainDenials: true } }), { ...user, kernel: 5_019 }],
    ["an older kernel without denials", specOf(), { ...user, kernel: 5_018 }],
    [
      "a writable root at the end of the range",
      SPECS["writable"] ?? specOf(),
      { ...root, owners: new Map([["/srv/root", 589_823]]) },
    ],
    ["any uid alone", as(12_345, 54_321), user],
    ["groups of the user where only one id is mapped: they are left out", as(0, 0, [5]), user],
    ["the last uid of a range", as(65_535, 65_535, [65_535]), root],
    ["a user's own id and the whole range behind it", as(65_536, 65_536), { ...ranges, ranges: ranges.ranges }],
    [
      "a bounding set with CAP_SYS_ADMIN, of which a user without privileges gets nothing",
      specOf({
        process: { uid: 5, gid: 5, capabilities: ["CAP_SYS_ADMIN"] },
        mounts: [volume("/data", "/data", ["ro"])],
      }),
      user,
    ],
    ["a file of /proc that lxcfs has its own of", withProc(volume("/data/file", "/proc/meminfo")), user],
    ["a name that begins with proc", withProc(tmpfs("/process"), tmpfs("/x/proc")), user],
    ["/proc where there is none of the sandbox's own", withMounts(tmpfs("/proc")), user],
    ["a name of 64 characters", named("x".repeat(64)), user],
    ["a name with dots and hyphens", named("a-b.c_d.E0"), user],
    ["a name of one character", named("a"), user],
    ["equal limits", specOf({ process: { rlimits: [{ type: "RLIMIT_CPU", soft: 1, hard: 1 }] } }), user],
    [
      "unlimited limits",
      specOf({ process: { rlimits: [{ type: "RLIMIT_CPU", soft: Infinity, hard: Infinity }] } }),
      user,
    ],
  ] as const)("%s", (_, spec, machine) => {
    const wanted = machine.ranges === undefined ? spec : { ...spec, idMap: "range" as const };
    expect(() => validate(wanted, machine)).not.toThrow();
  });
});

test("whatever a name holds, what is let through is a name on one line", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 70 }), (hostname) => {
      try {
        validate(named(hostname), user);
      } catch (error) {
        expect(error).toBeInstanceOf(UsageError);
        return;
      }
      expect(hostname).toMatch(/^[\w.-]{1,64}$/);
    }),
  );
});
