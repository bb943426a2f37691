import { describe, expect, test } from "bun:test";
import {
  nixSeccompProfile,
  parseInstalled,
  parseNixVersion,
  parseSandboxShell,
  versionRules,
} from "../../src/nix/exact-rules.ts";

test.each([
  ["nix (Nix) 2.8.0\n", [2, 8, 0]],
  ["nix (Nix) 2.35\n", [2, 35, 0]],
  ["nix-store (Nix) 2.18.5pre20240601_abc\n", [2, 18, 5]],
  ["bash 5.2\n", undefined],
  ["", undefined],
] as const)("%j is version %p", (text, version) => {
  expect(parseNixVersion(text)).toEqual(version === undefined ? undefined : [...version]);
});

test("Lix is no Nix, and a machine without either has the newest rules", () => {
  expect(parseInstalled("nix (Nix) 2.18.1\n")).toEqual({ version: [2, 18, 1], instead: undefined });
  expect(parseInstalled("nix (Lix, like Nix) 2.93.3\nSystem type: x\n")).toEqual({
    version: [2, 35, 0],
    instead: "Lix 2.93.3 is here, whose own rules hutch does not know",
  });
  expect(parseInstalled(undefined).instead).toBe("there is no nix here to ask");
  expect(parseInstalled("").instead).toBe("nix --version names none");
});

// [version, mode of /etc, open files raised, abstract sockets inside, certificates, fchmodat2 filtered]
test.each([
  [[2, 8, 0], 0o755, false, false, false, false],
  [[2, 12, 0], 0o755, false, false, false, false],
  [[2, 12, 1], 0o555, false, false, false, false],
  [[2, 16, 0], 0o555, false, false, true, false],
  [[2, 18, 3], 0o555, false, false, true, true],
  [[2, 21, 0], 0o555, false, false, true, false],
  [[2, 31, 3], 0o555, false, false, true, true],
  [[2, 31, 4], 0o555, false, true, true, true],
  [[2, 34, 0], 0o555, true, false, true, true],
  [[2, 34, 5], 0o555, true, true, true, true],
  [[2, 35, 0], 0o555, true, true, true, true],
  [[3, 0, 0], 0o555, true, true, true, true],
] as const)("the rules of %p", (version, etcMode, raisesFiles, scopesSockets, certificates, filtered) => {
  expect(versionRules(version)).toEqual({ etcMode, raisesFiles, scopesSockets, certificates });
  const names = nixSeccompProfile(version).syscalls.flatMap((rule) => rule.names);
  expect(names.includes("fchmodat2")).toBe(filtered);
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
