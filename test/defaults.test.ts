/** The defaults are words that the rest of hutch knows, and what the specifications say. */

import { describe, expect, test } from "bun:test";
import * as defaults from "../src/defaults.ts";
import { CLONE_FLAGS } from "../src/libc/constants.ts";
import { CAPABILITIES } from "../src/process/capabilities.ts";
import { parseGroup, parsePasswd } from "../src/process/user.ts";

test("namespaces: all but time, each known", () => {
  expect([...defaults.DEFAULT_NAMESPACES, "time"].toSorted()).toEqual(Object.keys(CLONE_FLAGS).toSorted());
});

test("capabilities: docker's less three", () => {
  const docker =
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE";
  const left = docker.split(" ").filter((name) => !/^(NET_RAW|MKNOD|AUDIT_WRITE)$/.test(name));
  expect(defaults.DEFAULT_CAPABILITIES.toSorted()).toEqual(left.map((name) => `CAP_${name}`).toSorted());
  for (const name of defaults.DEFAULT_CAPABILITIES) expect(CAPABILITIES).toContain(name);
});

describe("paths of /proc and /sys", () => {
  const { MASKED_PATHS, READONLY_PATHS } = defaults;
  test("are below these, tidy, and in one list only", () => {
    const paths = [...MASKED_PATHS, ...READONLY_PATHS];
    expect(new Set(paths).size).toBe(paths.length);
    for (const path of paths) expect(path).toMatch(/^(\/[a-z-]+(_[a-z]+)?)+$/);
    for (const path of paths) expect(path).toMatch(/^\/(proc|sys)\//);
  });

  // What is made read-only later takes the covers below it along.
  test("none lies below a covered one, which would hide it", () => {
    for (const outer of MASKED_PATHS)
      for (const inner of [...MASKED_PATHS, ...READONLY_PATHS]) expect(inner.startsWith(`${outer}/`)).toBe(false);
  });

  // runc's spec.go ("runc spec"), which runtime-spec's examples follow.
  test("have all of OCI's", () => {
    const masked = "acpi asound kcore keys latency_stats timer_list timer_stats sched_debug scsi".split(" ");
    const readonly = "bus fs irq sys sysrq-trigger".split(" ");
    expect(MASKED_PATHS).toEqual(expect.arrayContaining(masked.map((name) => `/proc/${name}`)));
    // docker's, and podman's more
    const sys = "firmware devices/virtual/powercap fs/selinux dev/block".split(" ");
    expect(MASKED_PATHS).toEqual(expect.arrayContaining(sys.map((name) => `/sys/${name}`)));
    expect(READONLY_PATHS).toEqual(expect.arrayContaining(readonly.map((name) => `/proc/${name}`)));
  });
});

test("/dev: OCI's nodes and links", () => {
  expect(defaults.DEVICES.toSorted()).toEqual(["full", "null", "random", "tty", "urandom", "zero"]);
  expect(Object.fromEntries(defaults.DEVICE_LINKS)).toEqual({
    fd: "/proc/self/fd",
    stdin: "/proc/self/fd/0",
    stdout: "/proc/self/fd/1",
    stderr: "/proc/self/fd/2",
    ptmx: "pts/ptmx",
  });
});

describe("a scratch root", () => {
  const files = new Map(defaults.scratchFiles("box"));

  test("has its directories, a parent before its child", () => {
    const seen = new Set([""]);
    for (const [path] of defaults.SCRATCH_DIRECTORIES) {
      expect(seen).toContain(path.slice(0, path.lastIndexOf("/")));
      seen.add(path);
    }
    const modes = Object.fromEntries(defaults.SCRATCH_DIRECTORIES);
    expect(modes).toMatchObject({ "/tmp": 0o1777, "/var/tmp": 0o1777, "/run": 0o755, "/root": 0o700, "/home": 0o755 });
    for (const path of files.keys()) expect(seen).toContain(path.slice(0, path.lastIndexOf("/")));
  });

  test("knows root and nobody by name, with their groups", () => {
    const passwd = parsePasswd(files.get("/etc/passwd") ?? "");
    expect(passwd).toEqual([
      { name: "root", uid: 0, gid: 0, home: "/root" },
      { name: "nobody", uid: 65534, gid: 65534, home: "/" },
    ]);
    expect(parseGroup(files.get("/etc/group") ?? "").map(({ name, gid }) => [name, gid])).toEqual([
      ["root", 0],
      ["nogroup", 65534],
    ]);
  });

  test("knows its own name", () => {
    expect(files.get("/etc/hostname")).toBe("box\n");
    expect(files.get("/etc/hosts")).toMatch(/^127\.0\.0\.1\tbox$/m);
    expect(files.get("/etc/hosts")).toMatch(/^::1\tlocalhost\b/m);
    expect(files.get("/etc/nsswitch.conf")).toMatch(/^passwd: files$/m);
  });
});

test("the range of last resort lies above systemd's containers and below the end of 31 bits", () => {
  const { start, size } = defaults.FALLBACK_RANGE;
  expect(start).toBeGreaterThan(0x6fffffff);
  expect(start + size).toBeLessThan(0x7fffffff);
  expect(size).toBe(65536);
});
