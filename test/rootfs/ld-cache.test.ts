import { describe, expect, test } from "bun:test";
import { copyFileSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { encodeBytes } from "../../src/bytes.ts";
import { UsageError } from "../../src/errors.ts";
import { compareLibraries, ldCacheEntries, lookupLdCache, parseLdCache } from "../../src/rootfs/ld-cache.ts";
import { temporary, tool } from "./fixtures.ts";

const here = { class: 64, machine: process.arch === "arm64" ? "aarch64" : "x86-64" } as const;

/** A cache that the machine's ldconfig makes of a tree with one library, plain and for x86-64-v3. */
function made(format: "new" | "compat"): Uint8Array {
  using folder = temporary();
  const level = join(folder.path, "lib/glibc-hwcaps/x86-64-v3");
  mkdirSync(level, { recursive: true });
  mkdirSync(join(folder.path, "etc"));
  const source = folder.write("x.c", "int x(void) { return 1; }\n");
  for (const name of ["liba.so.1", "liba.so.9", "liba.so.10", "libz.so.2"]) {
    tool("gcc", "-shared", "-nostdlib", `-Wl,-soname,${name}`, "-o", join(folder.path, "lib", name), source);
  }
  copyFileSync(join(folder.path, "lib/libz.so.2"), join(level, "libz.so.2"));
  tool("/sbin/ldconfig", "-r", folder.path, "-c", format, "-C", "/etc/ld.so.cache", "-X");
  return readFileSync(join(folder.path, "etc/ld.so.cache"));
}

describe("parseLdCache", () => {
  test("this machine's cache, as ldconfig -p prints it", () => {
    const cache = parseLdCache(readFileSync("/etc/ld.so.cache"));
    const printed = tool("/sbin/ldconfig", "-p").split("\n").slice(1);
    const lines = printed.flatMap((line) => {
      const match = /^\t(\S+) \(.*\) => (.*)$/.exec(line);
      return match === null ? [] : [`${match[1]} ${match[2]}`];
    });
    const entries = ldCacheEntries(cache);
    expect(entries.length).toBeGreaterThan(10);
    expect(entries.map(({ name, path }) => `${name} ${path}`)).toEqual(lines);
  });

  test("the search by halves finds what a search of all entries finds", () => {
    const cache = parseLdCache(readFileSync("/etc/ld.so.cache"));
    const entries = ldCacheEntries(cache);
    for (const { name } of entries) {
      const all = entries.filter((entry) => entry.name === name && [1, 0x0303, 0x0a03].includes(entry.flags));
      expect(lookupLdCache(cache, name, here)).toEqual(all);
    }
    expect(lookupLdCache(cache, "libnothing.so.1", here)).toEqual([]);
    expect(lookupLdCache(cache, "libc.so.6", { class: 32, machine: "m68k" })).toEqual([]);
  });

  test.each(["new", "compat"] as const)("%s format, hwcaps subdirectories, numbers by value", (format) => {
    const bytes = made(format);
    const cache = parseLdCache(bytes);
    expect(cache.base > 0).toBe(format === "compat");
    expect(lookupLdCache(cache, "libz.so.2", here).map(({ path, hwcaps }) => [path, hwcaps])).toEqual([
      ["/lib/glibc-hwcaps/x86-64-v3/libz.so.2", "x86-64-v3"],
      ["/lib/libz.so.2", undefined],
    ]);
    for (const name of ["liba.so.1", "liba.so.9", "liba.so.10"]) {
      expect(lookupLdCache(cache, name, here).map(({ path }) => path)).toEqual([`/lib/${name}`]);
    }
  });

  test("broken ones end in a result or a UsageError", () => {
    const real = made("new");
    const change = fc.tuple(fc.oneof(fc.nat(120), fc.nat(real.length - 1)), fc.nat(255));
    fc.assert(
      fc.property(fc.array(change, { maxLength: 8 }), fc.nat(real.length), fc.boolean(), (changes, cut, whole) => {
        const bytes = new Uint8Array(real);
        for (const [at, value] of changes) bytes[at] = value;
        try {
          const cache = parseLdCache(whole ? bytes : bytes.subarray(0, cut));
          expect(lookupLdCache(cache, "liba.so.9", here)).toBeArray();
          expect(ldCacheEntries(cache)).toBeArray();
        } catch (error) {
          if (!(error instanceof UsageError)) throw error;
        }
      }),
      { numRuns: 500 },
    );
    expect(() => parseLdCache(encodeBytes("ld.so-1.7.0\0\0\0\0\0"))).toThrow("before glibc 2.2");
    expect(() => parseLdCache(new Uint8Array(0))).toThrow("unknown format");
  });
});

test.each([
  ["libc.so.6", "libc.so.6", 0],
  ["libc.so.6", "libc.so.10", -1],
  ["libc.so.06", "libc.so.6", 0],
  ["liba.so", "libb.so", -1],
  ["lib1", "liba", 1],
  ["lib", "liba", -1],
])("compareLibraries %s %s", (a, b, sign) => {
  expect(Math.sign(compareLibraries(encodeBytes(a), 0, encodeBytes(b), 0))).toBe(sign);
  expect(Math.sign(compareLibraries(encodeBytes(b), 0, encodeBytes(a), 0)) + sign).toBe(0);
});
