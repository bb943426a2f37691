/** What landlock is asked for, by the version that the kernel has (landlock(7), "VERSIONS"). */

import { describe, expect, test } from "bun:test";
import { landlockOf } from "../../src/process/security.ts";
import type { SecurityProfile } from "../../src/spec.ts";
import { HOSTS, inside, specOf, tmpfs } from "../plans.ts";

const VERSIONS = [0, 1, 2, 3, 4, 5, 6, 7, 8];
const OLDEST =
  "execute write-file read-file read-dir remove-dir remove-file make-char make-dir make-reg make-sock make-fifo make-block make-sym";
const NEWER: Readonly<Record<string, number>> = { refer: 2, truncate: 3, "ioctl-dev": 5 };

const domain = (security: SecurityProfile, landlock: number, more: Parameters<typeof specOf>[0] = {}) =>
  landlockOf({ ...specOf(more), security }, { ...HOSTS.user, landlock });

describe.each(VERSIONS)("version %i", (version) => {
  const scopes = version >= 6 ? ["abstract-sockets", "signals"] : [];

  test("default: no mounts and no block devices from 2, scopes from 6, never TCP", () => {
    const found = domain("default", version);
    if (version < 2) expect(found).toBeUndefined();
    else {
      expect(found).toEqual({
        abi: version,
        files: ["make-block", "refer"],
        rules: [{ path: "/", allow: ["refer"] }],
        network: [],
        scopes: [...scopes] as never,
      });
    }
  });

  test("strict: every right on files that it knows, TCP from 4 where there is no network, scopes from 6", () => {
    const found = domain("strict", version);
    if (version < 1) return void expect(found).toBeUndefined(); // and validate.ts refuses to start
    const rights = [...OLDEST.split(" "), ...Object.keys(NEWER).filter((right) => (NEWER[right] ?? 0) <= version)];
    expect(found?.files.toSorted()).toEqual(rights.toSorted() as never);
    expect(found?.network).toEqual(version >= 4 ? ["bind-tcp", "connect-tcp"] : []);
    expect(found?.scopes).toEqual([...scopes] as never);
    for (const { allow } of found?.rules ?? [])
      expect(allow.filter((right) => (NEWER[right] ?? 1) > version)).toEqual([]);
    const hosts = domain("strict", version, { namespaces: ["user", "mount", "pid", "ipc", "uts"] });
    expect(hosts?.network).toEqual([]);
  });

  test("nested: scopes alone, for mounts are meant to be made; none: nothing", () => {
    const found = domain("nested", version);
    if (version < 6) expect(found).toBeUndefined();
    else expect(found).toMatchObject({ files: [], rules: [], network: [], scopes });
    expect(domain("none", version)).toBeUndefined();
  });
});

test("strict: a read-only root leaves reading, and writing where a tmpfs or a volume is writable", () => {
  const root = { kind: "scratch", readonly: true, from: "scratch" } as const;
  const { rules = [] } = domain("strict", 7, { root, mounts: [tmpfs("/tmp")] }) ?? {};
  const of = (path: string) => rules.find((rule) => rule.path === path)?.allow ?? [];
  expect(of("/").toSorted()).toEqual(["execute", "read-dir", "read-file"]);
  expect(of("/tmp")).toContain("write-file");
  expect(of("/tmp")).not.toContain("make-char");
  expect(rules.map(({ path }) => path)).not.toContain(inside("/proc"));
});

test("who keeps CAP_SYS_ADMIN means to mount", () => {
  const found = domain("default", 7, { process: { capabilities: ["CAP_SYS_ADMIN"] } });
  expect(found).toMatchObject({ files: [], rules: [] });
});
