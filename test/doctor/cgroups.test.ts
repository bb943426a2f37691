/** Where a process is in each hierarchy, from the two files of /proc. */

import { describe, expect, test } from "bun:test";
import { judgeCgroups, parseMemberships } from "../../src/doctor/cgroups.ts";

const MOUNT = (root: string, point: string, type: string, options: string) =>
  `30 23 0:26 ${root} ${point} rw,nosuid shared:9 - ${type} ${type} ${options}`;

describe("parseMemberships", () => {
  test("version 1, version 2, and both", () => {
    const cgroups = "5:cpu,cpuacct:/user\n4:memory:/\n1:name=systemd:/init.scope\n0::/user.slice/me\n";
    const mountinfo = [
      "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw",
      MOUNT("/", "/sys/fs/cgroup/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct"),
      MOUNT("/", "/sys/fs/cgroup/unified", "cgroup2", "rw,nsdelegate"),
      MOUNT("/", "/sys/fs/cgroup/systemd", "cgroup", "rw,xattr,name=systemd"),
    ].join("\n");
    expect(parseMemberships(cgroups, mountinfo)).toEqual([
      {
        version: 1,
        controllers: ["cpu", "cpuacct"],
        directory: "/sys/fs/cgroup/cpu,cpuacct/user",
      },
      { version: 1, controllers: ["memory"], directory: undefined },
      {
        version: 1,
        controllers: ["name=systemd"],
        directory: "/sys/fs/cgroup/systemd/init.scope",
      },
      {
        version: 2,
        controllers: [],
        directory: "/sys/fs/cgroup/unified/user.slice/me",
      },
    ]);
  });

  test.each([
    ["the mounted part itself", "/docker/abc", "/docker/abc", "/cg"],
    ["below the mounted part", "/docker/abc", "/docker/abc/x/y", "/cg/x/y"],
    ["beside the mounted part", "/docker/abc", "/docker/abcd", "/cg"],
    ["above it, as a cgroup namespace tells", "/..", "/", "/cg"],
    ["the root", "/", "/", "/cg"],
    ["a colon in the name", "/", "/a:b", "/cg/a:b"],
  ])("%s", (_, root, path, directory) => {
    const found = parseMemberships(`0::${path}\n`, MOUNT(root, "/cg", "cgroup2", "rw"));
    expect(found).toEqual([{ version: 2, controllers: [], directory }]);
  });

  test("escaped mount points, and no cgroups at all", () => {
    const found = parseMemberships("0::/\n", MOUNT("/", "/a\\040b", "cgroup2", "rw"));
    expect(found[0]?.directory).toBe("/a b");
    expect(parseMemberships("", "")).toEqual([]);
    expect(parseMemberships("0::/\n", "")).toEqual([{ version: 2, controllers: [], directory: undefined }]);
  });
});

describe("judgeCgroups", () => {
  const TWO = MOUNT("/", "/cg", "cgroup2", "rw");
  const judge = (files: Readonly<Record<string, string>>, refused: Readonly<Record<string, number>> = {}) =>
    Object.fromEntries(
      judgeCgroups({ read: (path) => files[path], writable: (path) => refused[path] ?? 0 }).map((finding) => [
        finding.id,
        finding,
      ]),
    );
  const unified = (controllers: string) => ({
    "/proc/self/cgroup": "0::/me\n",
    "/proc/self/mountinfo": TWO,
    "/cg/me/cgroup.controllers": controllers,
  });

  test("version 2, delegated in part", () => {
    expect(judge(unified("memory pids\n"))).toMatchObject({
      "cgroup-memory": { status: "yes", detail: "version 2, /cg/me" },
      "cgroup-pids": { status: "yes" },
      "cgroup-cpu": { status: "unneeded", detail: "version 2, not among the controllers of /cg/me" },
    });
  });

  test.each(["/cg/me", "/cg/me/cgroup.procs", "/cg/me/cgroup.subtree_control"])("version 2, %s not ours", (path) => {
    const found = judge(unified("cpu cpuset io memory pids"), { [path]: -13 });
    for (const finding of Object.values(found)) {
      expect(finding).toMatchObject({ status: "unneeded", detail: `version 2, ${path}: EACCES permission denied` });
    }
  });

  test("hybrid: a controller is of the version that has it", () => {
    const found = judge({
      "/proc/self/cgroup": "3:memory:/\n2:blkio:/x\n0::/me\n",
      "/proc/self/mountinfo": [MOUNT("/", "/v1/memory", "cgroup", "rw,memory"), TWO].join("\n"),
      "/cg/me/cgroup.controllers": "pids",
    });
    expect(found).toMatchObject({
      "cgroup-memory": { status: "yes", detail: "version 1, /v1/memory" },
      "cgroup-io": { status: "unneeded", detail: "version 1, not mounted" },
      "cgroup-pids": { status: "yes", detail: "version 2, /cg/me" },
      "cgroup-cpu": { status: "unneeded" },
    });
  });

  test("none at all, or out of reach: nothing is advised, for nothing of hutch's needs them", () => {
    for (const found of [judge({}), judge(unified("cpu cpuset io memory pids"), { "/cg/me": -30 })]) {
      expect(Object.values(found)).toHaveLength(5);
      for (const finding of Object.values(found)) {
        expect(finding.status).toBe("unneeded");
        expect(finding).not.toHaveProperty("mend");
      }
    }
  });
});
