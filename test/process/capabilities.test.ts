/** Capabilities by name and number, and what --cap-add and --cap-drop make of the defaults. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { readFileSync } from "node:fs";
import { UsageError } from "../../src/errors.ts";
import { CAPABILITIES, capabilityWords, chooseCapabilities, parseCapability } from "../../src/process/capabilities.ts";

const DEFAULTS = ["CAP_CHOWN", "CAP_KILL"];

test("names and numbers are those of the kernel's header", () => {
  const header = readFileSync("/usr/include/linux/capability.h", "utf8"); // Debian: linux-libc-dev, by libc6-dev
  const defined = [...header.matchAll(/^#define (CAP_[A-Z_]+)\s+(\d+)$/gm)].map(([, name, number]) => [name, number]);
  expect(defined.length).toBeGreaterThan(37);
  for (const [name, number] of defined)
    expect([name, CAPABILITIES.indexOf(name ?? "")]).toEqual([name, Number(number)]);
});

test.each([
  ["CAP_KILL", "CAP_KILL"],
  ["KILL", "CAP_KILL"],
  ["kill", "CAP_KILL"],
  ["cap_Net_Raw", "CAP_NET_RAW"],
])("%s is %s", (word, name) => {
  expect(parseCapability(word, "f")).toBe(name);
});

test.each(["", "CAP_", "CAP", "NOPE", "CAP_CAP_KILL", "KILL ", "ALL"])("%j is no capability", (word) => {
  expect(() => parseCapability(word, "--cap-add it")).toThrow(
    expect.objectContaining({ message: `unknown capability ${JSON.stringify(word)}`, from: "--cap-add it" }),
  );
});

describe("chosen", () => {
  const but = (...names: string[]) => CAPABILITIES.filter((name) => !names.includes(name));
  test.each<readonly [add: string[], drop: string[], chosen: readonly string[]]>([
    [[], [], DEFAULTS],
    [["SYS_PTRACE"], [], ["CAP_CHOWN", "CAP_KILL", "CAP_SYS_PTRACE"]],
    [["kill"], [], DEFAULTS],
    [[], ["CAP_KILL"], ["CAP_CHOWN"]],
    [[], ["SYS_PTRACE"], DEFAULTS],
    [[], ["ALL"], []],
    [[], ["all", "KILL"], []],
    [["KILL"], ["ALL"], ["CAP_KILL"]],
    [["ALL"], [], CAPABILITIES],
    [["ALL"], ["SYS_ADMIN", "bpf"], but("CAP_SYS_ADMIN", "CAP_BPF")],
  ])("add %j, drop %j", (add, drop, chosen) => {
    expect(chooseCapabilities(DEFAULTS, add, drop)).toEqual(chosen);
  });

  test.each<readonly [add: string[], drop: string[], message: string]>([
    [["KILL"], ["cap_kill"], "CAP_KILL is both added and dropped"],
    [["NOPE"], [], 'unknown capability "NOPE"'],
    [[], ["NOPE"], 'unknown capability "NOPE"'],
  ])("add %j, drop %j is refused", (add, drop, message) => {
    expect(() => chooseCapabilities(DEFAULTS, add, drop)).toThrow(new UsageError(message));
  });
});

test("the words of capset have exactly the bits of the names", () => {
  fc.assert(
    fc.property(fc.subarray([...CAPABILITIES]), (names) => {
      const [low, high] = capabilityWords(names);
      const bits = (BigInt(high) << 32n) | BigInt(low);
      expect(low).toBeGreaterThanOrEqual(0);
      expect(CAPABILITIES.filter((_, number) => (bits >> BigInt(number)) & 1n)).toEqual(names);
      expect(bits >> BigInt(CAPABILITIES.length)).toBe(0n);
    }),
  );
});
