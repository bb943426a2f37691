/** Where a process is in each hierarchy, from the two files of /proc. */

import { describe, expect, test } from "bun:test";
import { parseMemberships } from "../../src/doctor/cgroups.ts";

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
        mounted: "/sys/fs/cgroup/cpu,cpuacct",
      },
      { version: 1, controllers: ["memory"], directory: undefined, mounted: undefined },
      {
        version: 1,
        controllers: ["name=systemd"],
        directory: "/sys/fs/cgroup/systemd/init.scope",
        mounted: "/sys/fs/cgroup/systemd",
      },
      {
        version: 2,
        controllers: [],
        directory: "/sys/fs/cgroup/unified/user.slice/me",
        mounted: "/sys/fs/cgroup/unified",
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
    expect(found).toEqual([{ version: 2, controllers: [], directory, mounted: "/cg" }]);
  });

  test("escaped mount points, and no cgroups at all", () => {
    const found = parseMemberships("0::/\n", MOUNT("/", "/a\\040b", "cgroup2", "rw"));
    expect(found[0]?.directory).toBe("/a b");
    expect(parseMemberships("", "")).toEqual([]);
    expect(parseMemberships("0::/\n", "")).toEqual([
      { version: 2, controllers: [], directory: undefined, mounted: undefined },
    ]);
  });
});
