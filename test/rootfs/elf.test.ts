import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { UsageError } from "../../src/errors.ts";
import { formatMachine, parseElf } from "../../src/rootfs/elf.ts";
import { elfBytes, tool } from "./fixtures.ts";

describe("parseElf", () => {
  test.each([
    { class: 64, big: false, machine: 62, name: "x86-64, 64 bit" },
    { class: 32, big: false, machine: 62, name: "x86-64, 32 bit" },
    { class: 32, big: false, machine: 3, name: "i386, 32 bit" },
    { class: 64, big: false, machine: 183, name: "aarch64, 64 bit" },
    { class: 32, big: true, machine: 8, name: "mips, 32 bit, big-endian" },
    { class: 64, big: true, machine: 22, name: "s390, 64 bit, big-endian" },
    { class: 64, big: false, machine: 0x7777, name: "machine 0x7777, 64 bit" },
  ] as const)("$name", ({ name, ...what }) => {
    const elf = parseElf(
      elfBytes({
        ...what,
        interpreter: "/lib/ld.so.1",
        needed: ["libb.so.2", "liba.so.1"],
        runpath: "$ORIGIN/../lib:/opt",
        rpath: "/old",
        soname: "me.so",
        flags1: 0x800,
      }),
    );
    expect(formatMachine(elf)).toBe(name);
    expect(elf).toMatchObject({
      type: "shared",
      interpreter: "/lib/ld.so.1",
      needed: ["libb.so.2", "liba.so.1"],
      runpath: "$ORIGIN/../lib:/opt",
      rpath: "/old",
      soname: "me.so",
      noDefaultLibraries: true,
      dynamic: true,
    });
  });

  test("a system program, as readelf sees it", () => {
    const text = tool("readelf", "-dlW", "/bin/bash");
    const elf = parseElf(readFileSync("/bin/bash"));
    expect(elf.needed.join()).toBe([...text.matchAll(/NEEDED.*\[(.*)\]/g)].map((match) => match[1]).join());
    expect(elf.interpreter).toBe(/interpreter: (.*)\]/.exec(text)?.[1]);
  });

  const good = elfBytes({ interpreter: "/lib/ld.so.1", needed: ["liba.so.1"] });
  const changed = (offset: number, ...values: number[]) => {
    const bytes = good.slice();
    bytes.set(values, offset);
    return bytes;
  };
  test.each([
    ["empty", new Uint8Array(0), "not an ELF file"],
    ["text", Buffer.from("#!/bin/sh\n"), "not an ELF file"],
    ["only the magic", good.slice(0, 4), "unknown class"],
    ["half a header", good.slice(0, 40), "header cut short"],
    ["half of the program headers", good.slice(0, 100), "program headers cut short"],
    ["cut in the dynamic segment", good.slice(0, good.length - 20), "dynamic segment cut short"],
    ["class 3", changed(4, 3), "unknown class"],
    ["65535 program headers", changed(56, 0xff, 0xff), "65535 program headers"],
    ["program headers of 7 bytes", changed(54, 7, 0), "program headers of 7 bytes"],
    ["headers at 2^63", changed(32, 0, 0, 0, 0, 0, 0, 0, 0x80), "beyond 2^53"],
    ["interpreter without NUL", changed(512 + 12, 65), "interpreter without a final NUL"],
  ])("%s: a clear error", (_, bytes, message) => {
    expect(() => parseElf(bytes)).toThrow(message);
    expect(() => parseElf(bytes)).toThrow(UsageError);
  });

  test("mutated programs end in a result or a UsageError, soon", () => {
    const real = readFileSync("/bin/true");
    const dynamic = Number(
      /DYNAMIC +0x([0-9a-f]+)/.exec(tool("readelf", "-lW", "/bin/true"))?.[1]
        ? `0x${/DYNAMIC +0x([0-9a-f]+)/.exec(tool("readelf", "-lW", "/bin/true"))?.[1]}`
        : 0,
    );
    const where = fc.oneof(
      fc.nat(63),
      fc.nat(900),
      fc.nat({ max: 512 }).map((n) => dynamic + n),
      fc.nat(real.length - 1),
    );
    const mutation = fc.record({
      changes: fc.array(fc.tuple(where, fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.nat(255))), {
        maxLength: 12,
      }),
      length: fc.oneof(fc.constant(real.length), fc.nat(real.length)),
    });
    fc.assert(
      fc.property(mutation, ({ changes, length }) => {
        const bytes = new Uint8Array(real);
        for (const [at, value] of changes) bytes[at] = value;
        const start = performance.now();
        try {
          expect(parseElf(bytes.subarray(0, length)).needed).toBeArray();
        } catch (error) {
          if (!(error instanceof UsageError)) throw error;
        }
        expect(performance.now() - start).toBeLessThan(500);
      }),
      { numRuns: 1500 },
    );
  });
});
