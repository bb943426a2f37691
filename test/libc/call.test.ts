/** System calls from TypeScript: numbers, errors, and what bun:ffi alone would let through. */

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { HutchError, SystemError } from "../../src/errors.ts";
import { call, cString, rawCall } from "../../src/libc/call.ts";
import * as c from "../../src/libc/constants.ts";
import { errnoNumber, errnoText } from "../../src/libc/errno.ts";
import { SYSCALLS, type SyscallName } from "../../src/libc/syscalls.ts";
import { syscallNumbers } from "../../src/process/syscall-numbers.ts";

describe("numbers", () => {
  test.each(["x64", "arm64"] as const)("of %s are those of the kernel's tables", (arch) => {
    const known = syscallNumbers(arch);
    for (const name of Object.keys(SYSCALLS) as SyscallName[]) {
      const number: number = SYSCALLS[name][arch];
      expect([name, number]).toEqual([name, known.get(name) ?? -1]);
    }
  });

  test("of errors are the C library's", () => {
    const headers = ["/usr/include/asm-generic/errno-base.h", "/usr/include/asm-generic/errno.h"];
    const text = headers.map((path) => readFileSync(path, "utf8")).join("\n"); // Debian: libc6-dev
    const defined = [...text.matchAll(/^#define\s+(E[A-Z0-9]+)\s+(\d+)\b/gm)];
    expect(defined.length).toBeGreaterThan(125);
    for (const [, name, number] of defined) {
      const known = errnoText(Number(number)).name;
      const alias: Record<string, string> = { EDEADLK: "EDEADLOCK", EOPNOTSUPP: "ENOTSUP" };
      expect(known).toBe(alias[name ?? ""] ?? name ?? "");
      expect(errnoNumber(known)).toBe(Number(number));
    }
  });
});

describe("a call", () => {
  test("gives the kernel's answer", () => {
    expect(call("getpid")).toBe(process.pid);
    expect(call("getuid")).toBe(process.getuid?.() ?? -1);
  });

  test("gives the error number, negative, or throws it by name", () => {
    expect(rawCall("close", -1)).toBe(-9);
    expect(rawCall("openat", c.AT_FDCWD, "/no/such/file", 0)).toBe(-2);
    expect(() => call("openat", c.AT_FDCWD, "/no/such/file", 0)).toThrow(
      expect.objectContaining({ message: "openat /no/such/file: ENOENT no such file or directory", errno: 2 }),
    );
    expect(() => call("close", -1)).toThrow(SystemError);
  });

  test("the error is this call's own, however many others there were", () => {
    for (let i = 0; i < 2000; i++) {
      expect(rawCall("close", -1)).toBe(-9);
      expect(rawCall("openat", c.AT_FDCWD, "/no/such/file", 0)).toBe(-2);
      expect(rawCall("getpid")).toBe(process.pid);
    }
  });

  test("passes 64 bits, and buffers both ways", () => {
    const file = call("memfd_create", "hutch-test", c.MFD_CLOEXEC);
    const far = 2 ** 40 + 5;
    call("ftruncate", file, far);
    expect(call("lseek", file, 0, 2)).toBe(far);
    call("pwrite64", file, Uint8Array.of(7, 8, 9), 3, far - 3);
    const buffer = new Uint8Array(8);
    expect(call("pread64", file, buffer, 8, far - 3)).toBe(3);
    expect([...buffer]).toEqual([7, 8, 9, 0, 0, 0, 0, 0]);
    call("close", file);
  });

  test("passes names that are not UTF-8 as their bytes", () => {
    expect(rawCall("openat", c.AT_FDCWD, "/no/\udcff", 0)).toBe(-2);
    expect([...cString("ä\udcff")]).toEqual([0xc3, 0xa4, 0xff, 0]);
  });

  test("refuses a NUL, where the name would silently end", () => {
    expect(() => rawCall("openat", c.AT_FDCWD, "/etc/passwd\0.txt", 0)).toThrow(HutchError);
    expect(() => cString("\0")).toThrow('"\\u0000" contains a NUL byte');
  });
});
