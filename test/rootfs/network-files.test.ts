/** Which files of the host's network configuration go where. */

import { describe, expect, test } from "bun:test";
import { mkdirSync, symlinkSync } from "node:fs";
import fc from "fast-check";
import { directoryView } from "../../src/rootfs/directory-view.ts";
import { linkEnd, networkMounts } from "../../src/rootfs/network-files.ts";
import { temporary } from "./fixtures.ts";

const links = (table: Readonly<Record<string, string>>) => (path: string) => table[path] ?? -22;

describe("linkEnd", () => {
  test.each([
    [{}, "/etc/resolv.conf"],
    [{ "/etc/resolv.conf": "../run/systemd/resolve/stub-resolv.conf" }, "/run/systemd/resolve/stub-resolv.conf"],
    [{ "/etc/resolv.conf": "/run/a", "/run/a": "b" }, "/run/b"],
    [{ "/etc/resolv.conf": "../../../../x" }, "/x"],
    [{ "/etc/resolv.conf": "resolv.conf" }, "/etc/resolv.conf"],
  ])("%j → %s", (table, end) => {
    expect(linkEnd("/etc/resolv.conf", links(table))).toBe(end);
  });

  test("is always an absolute path without ..", () => {
    const path = fc.array(fc.constantFrom("..", ".", "", "a", "etc"), { maxLength: 8 }).map((names) => names.join("/"));
    fc.assert(
      fc.property(path, path, (first, second) => {
        const end = linkEnd("/etc/x", links({ "/etc/x": first, "/a": second, "/etc/a": second }));
        expect(end).toMatch(/^\//);
        expect(end.split("/")).not.toContain("..");
      }),
    );
  });
});

test("only what the host has, read-only, where a link of the root leads", () => {
  using root = temporary();
  mkdirSync(`${root.path}/etc`);
  symlinkSync("../run/resolv.conf", `${root.path}/etc/resolv.conf`);
  const mounts = networkMounts(directoryView(root.path), "--network host");
  expect(mounts.map(({ destination }) => destination as string)).toContain("/run/resolv.conf");
  expect(mounts.map(({ destination }) => destination as string)).toContain("/etc/hosts");
  for (const mount of mounts) expect(mount).toMatchObject({ type: "bind", from: "--network host", optional: true });
});
