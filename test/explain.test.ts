/** Plans as text and as JSON. */

import { describe, expect, test } from "bun:test";
import { describeStep, formatPlan, planToJson } from "../src/explain.ts";
import { plan } from "../src/plan.ts";
import type { Action } from "../src/step.ts";
import { ALLOW_ALL, HOSTS, SPECS, specOf } from "./plans.ts";

const map = (hostID: number, size = 1) => [{ containerID: 0, hostID, size }];

/** One of each kind. `satisfies` sees to it that no kind is forgotten. */
const ACTIONS = {
  "hold-ids": [
    { op: "hold-ids", uidMappings: map(5, 9), gidMappings: map(6), through: "newuidmap" },
    "map ids in a namespace of their own by newuidmap: uid 0 → 5 (9); gid 0 → 6",
  ],
  "leave-mounts": [{ op: "leave-mounts" }, "unshare mount, private"],
  "enter-ids": [{ op: "enter-ids" }, "enter the user namespace"],
  clone: [{ op: "clone", namespaces: ["user", "pid"] }, "clone user, pid"],
  join: [{ op: "join", namespaces: [{ name: "user", fd: 5 }] }, "enter user"],
  "map-ids": [
    { op: "map-ids", uidMappings: map(1000), gidMappings: map(1001) },
    "map ids: uid 0 → 1000; gid 0 → 1001; setgroups denied",
  ],
  "set-ids": [{ op: "set-ids", uid: 1, gid: 2, groups: [3, 4] }, "become uid 1, gid 2, groups [3 4]"],
  "time-offsets": [
    { op: "time-offsets", offsets: { monotonic: -1, boottime: 2 } },
    "unshare time: monotonic -1 s, boottime 2 s",
  ],
  "private-mounts": [{ op: "private-mounts" }, "make all mounts private"],
  "open-tree": [
    { op: "open-tree", tree: "t", source: "/s", recursive: true, attributes: ["ro", "nosuid"], idmapped: true },
    "clone mount /s as t (recursive,idmapped,ro,nosuid)",
  ],
  "open-directory": [{ op: "open-directory", tree: "t", source: "/s" }, "open /s as t"],
  stage: [
    {
      op: "stage",
      directory: "/tmp",
      trees: [
        { tree: "a", kind: "file" },
        { tree: "b", kind: "directory" },
      ],
    },
    "hand over below /tmp: a b",
  ],
  "new-filesystem": [
    {
      op: "new-filesystem",
      tree: "t",
      type: "devpts",
      options: [
        ["newinstance", ""],
        ["mode", "0620"],
      ],
      attributes: ["noexec"],
    },
    "new devpts as t (newinstance,mode=0620,noexec)",
  ],
  "open-terminal": [
    { op: "open-terminal", devpts: "devpts", tree: "console", uid: 0 },
    "new pseudo-terminal of devpts as console",
  ],
  "controlling-terminal": [
    { op: "controlling-terminal" },
    "new session on the pseudo-terminal; it becomes descriptors 0, 1, 2",
  ],
  workspace: [{ op: "workspace", directory: "/tmp" }, "mount tmpfs → /tmp"],
  overlay: [
    { op: "overlay", tree: "t", lower: ["a", "b"], workspace: "/tmp" },
    "new overlay of a:b as t (userxattr,volatile)",
  ],
  "attach-root": [{ op: "attach-root", tree: "t", directory: "/tmp" }, "attach t → /tmp as the new root"],
  attach: [
    { op: "attach", tree: "t", target: "/x", kind: "file", make: undefined, follow: false },
    "attach t → /x (nosymfollow)",
  ],
  directory: [{ op: "directory", path: "/d", mode: 0o1777, make: { tree: "t", at: "/" } }, "mkdir /d 1777"],
  file: [{ op: "file", path: "/f", mode: 0o44, content: "x", make: { tree: "t", at: "/" } }, "write /f 0044"],
  symlink: [{ op: "symlink", path: "/l", to: "../t", make: { tree: "t", at: "/" } }, "link /l → ../t"],
  mask: [{ op: "mask", paths: ["/proc/keys", "/proc/scsi"] }, "cover /proc/keys /proc/scsi"],
  "read-only": [{ op: "read-only", paths: ["/proc/sys", "/proc/irq"] }, "remount /proc/sys /proc/irq (ro)"],
  "seal-root": [{ op: "seal-root" }, "remount / (ro)"],
  write: [{ op: "write", tree: "mount0", path: "sys/f", text: "a\nb" }, 'write "a\\nb" > /proc/sys/f'],
  pivot: [{ op: "pivot" }, "pivot_root, detach the old root"],
  hostname: [{ op: "hostname", name: "h" }, "hostname h"],
  domainname: [{ op: "domainname", name: "d" }, "domainname d"],
  loopback: [{ op: "loopback" }, "bring lo up"],
  "death-signal": [{ op: "death-signal" }, "die with the launcher (PR_SET_PDEATHSIG)"],
  session: [{ op: "session" }, "new session"],
  "process-group": [{ op: "process-group" }, "new process group"],
  umask: [{ op: "umask", mask: 0o22 }, "umask 0022"],
  rlimit: [{ op: "rlimit", type: "RLIMIT_CPU", soft: 1, hard: Number.POSITIVE_INFINITY }, "RLIMIT_CPU 1:unlimited"],
  chdir: [{ op: "chdir", path: "/w" }, "chdir /w"],
  "bounding-set": [{ op: "bounding-set", keep: [] }, "bounding set: empty"],
  capabilities: [{ op: "capabilities", hold: ["CAP_KILL"] }, "capabilities: CAP_KILL"],
  "open-null": [{ op: "open-null" }, "open /dev/null, which must be the device 1:3"],
  "drop-groups": [{ op: "drop-groups" }, "drop the caller's groups"],
  "check-groups": [{ op: "check-groups", count: 0 }, "supplementary groups must be none"],
  "not-dumpable": [{ op: "not-dumpable" }, "not dumpable until execve"],
  securebits: [{ op: "securebits" }, "securebits: uid 0 is nobody special, locked"],
  landlock: [
    {
      op: "landlock",
      abi: 7,
      files: ["execute", "refer"],
      rules: [{ path: "/", allow: ["refer"] }],
      network: ["bind-tcp"],
      scopes: ["signals"],
    },
    "landlock (version 7): takes execute,refer; gives / refer; no bind-tcp; signals of its own only",
  ],
  "no-new-privileges": [{ op: "no-new-privileges" }, "no_new_privs"],
  seccomp: [{ op: "seccomp", filter: ALLOW_ALL }, "seccomp filter, 1 instructions"],
  become: [{ op: "become", uid: 999, gid: 994 }, "become uid 999, gid 994 outside, without groups"],
  personality: [{ op: "personality", flags: 0x40000 }, "personality 0x40000"],
  "open-inside": [
    { op: "open-inside", tree: "ptmx", path: "/dev/pts/ptmx" },
    "clone mount /dev/pts/ptmx of the new root as ptmx",
  ],
  "close-descriptors": [{ op: "close-descriptors", from: 3 }, "close descriptors from 3"],
  exec: [{ op: "exec", command: "x", candidates: ["/a/x", "/b/x"], args: ["x"], env: [] }, "exec x"],
} as const satisfies { readonly [Op in Action["op"]]: readonly [Action & { readonly op: Op }, string] };

test.each(Object.entries(ACTIONS))("%s as text", (_, [action, text]) => {
  expect(describeStep(action)).toBe(text);
});

test.each<readonly [string, Action, string]>([
  ["no groups to be set", { op: "set-ids", uid: 1, gid: 2, groups: undefined }, "become uid 1, gid 2"],
  ["no groups left", { op: "set-ids", uid: 1, gid: 2, groups: [] }, "become uid 1, gid 2, groups []"],
  [
    "maps by root",
    { op: "hold-ids", uidMappings: map(5), gidMappings: map(6), through: "launcher" },
    "map ids in a namespace of their own: uid 0 → 5; gid 0 → 6",
  ],
  [
    "a mount without attributes",
    { op: "open-tree", tree: "t", source: "/s", recursive: false, attributes: [], idmapped: false },
    "clone mount /s as t",
  ],
  [
    "a target through links",
    { op: "attach", tree: "t", target: "/x", kind: "file", make: undefined, follow: true },
    "attach t → /x",
  ],
  ["one candidate", { op: "exec", command: "/x", candidates: ["/x"], args: ["a"], env: [] }, "exec /x"],
  ["no capability", { op: "capabilities", hold: [] }, "capabilities: none"],
])("%s as text", (_, action, text) => {
  expect(describeStep(action)).toBe(text);
});

describe("a whole plan as text", () => {
  test("has one line for each step, under a heading for each actor, with the reasons aligned", () => {
    for (const spec of Object.values(SPECS)) {
      const made = plan(spec, HOSTS.root);
      const lines = formatPlan(made).trimEnd().split("\n");
      expect(lines.filter((line) => !line.startsWith(" ") && line !== "")).toEqual(["launcher", "sandbox", "program"]);
      const rows = lines.filter((line) => line.startsWith("  "));
      expect(rows.length).toBe(made.steps.length);
      const columns = new Set(rows.filter((row) => row.indexOf("  # ") <= 74).map((row) => row.lastIndexOf("  # ")));
      expect(columns.size).toBe(1);
      rows.forEach((row, index) => expect(row.endsWith(`  # ${made.steps[index]?.why}`)).toBe(true));
    }
  });

  test("ends with a newline and shows no argument or variable of the program", () => {
    const secret = specOf({ process: { args: ["x", "--password=hunter2"], env: ["TOKEN=hunter2"] } });
    expect(formatPlan(plan(secret, HOSTS.user))).toEndWith("\n");
    expect(formatPlan(plan(secret, HOSTS.user))).not.toContain("hunter2");
  });
});

describe("a plan as JSON", () => {
  const spec = SPECS["all of a process"] ?? specOf();
  const made = plan(spec, HOSTS.user);
  const json = JSON.parse(planToJson(made)) as { init: boolean; steps: Record<string, unknown>[] };

  test("is the plan", () => {
    expect(json.init).toBe(made.init);
    expect(json.steps.map(({ op, by, why }) => ({ op, by, why }))).toEqual(
      made.steps.map(({ op, by, why }) => ({ op, by, why })),
    );
  });

  test("writes a filter in hexadecimal and no limit as unlimited", () => {
    expect(json.steps.find(({ op }) => op === "seccomp")).toMatchObject({ filter: "060000000000ff7f" });
    expect(json.steps.filter(({ op }) => op === "rlimit")).toMatchObject([
      { type: "RLIMIT_NOFILE", soft: 64, hard: 128 },
      { type: "RLIMIT_CORE", soft: 0, hard: "unlimited" },
    ]);
  });

  test("has the arguments and variables that the text leaves out", () => {
    expect(json.steps.at(-1)).toMatchObject({ op: "exec", args: ["app", "--flag", "two words"], env: ["A=1"] });
  });

  test("is the same each time", () => {
    expect(planToJson(plan(spec, HOSTS.user))).toBe(planToJson(made));
    expect(planToJson(made)).toMatchSnapshot();
  });
});
