import { describe, expect, test } from "bun:test";
import { nixSeccompProfile, parseNixVersion, parseSandboxShell } from "../../src/nix/exact-rules.ts";

test.each([
  ["nix (Nix) 2.8.0\n", [2, 8, 0]],
  ["nix (Nix) 2.35\n", [2, 35, 0]],
  ["nix-store (Nix) 2.18.5pre20240601_abc\n", [2, 18, 5]],
  ["bash 5.2\n", undefined],
  ["", undefined],
] as const)("%j is version %p", (text, version) => {
  expect(parseNixVersion(text)).toEqual(version === undefined ? undefined : [...version]);
});

describe("the filter by version", () => {
  const names = (version: readonly [number, number, number]) =>
    new Set(nixSeccompProfile(version).syscalls.flatMap((rule) => rule.names));
  test("2.8: no fchmodat2, attributes may be read", () => {
    expect([...names([2, 8, 0])].toSorted()).toEqual([
      "chmod",
      "fchmod",
      "fchmodat",
      "fsetxattr",
      "lsetxattr",
      "setxattr",
    ]);
  });
  test("2.22: fchmodat2", () => expect(names([2, 22, 0]).has("fchmodat2")).toBe(true));
  test("2.35: attributes are not there", () => {
    expect(names([2, 34, 9]).has("getxattr")).toBe(false);
    expect(names([2, 35, 0]).has("flistxattr")).toBe(true);
  });
});

test.each([
  ["", undefined],
  [
    "sandbox = true\nsandbox-paths = /bin/sh=/nix/store/x-busybox/bin/busybox /dev/kvm # words\n",
    "/nix/store/x-busybox/bin/busybox",
  ],
  ["sandbox-paths = /bin/sh=/nix/store/a\nextra-sandbox-paths = /x", "/nix/store/a"],
  ["extra-sandbox-paths = /bin/sh=/nix/store/a?\n", "/nix/store/a"],
  ["build-sandbox-paths = /bin/sh=/nix/store/a\nsandbox-paths =\n", undefined],
  ["# sandbox-paths = /bin/sh=/nix/store/a\n", undefined],
])("/bin/sh of %j is %p", (text, shell) => {
  expect(parseSandboxShell(text)).toBe(shell);
});
