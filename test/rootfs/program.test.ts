import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { UsageError } from "../../src/errors.ts";
import { envProgram, findProgram, parseShebang, ProgramError } from "../../src/rootfs/program.ts";
import { createWalker } from "../../src/rootfs/walk.ts";
import { tableHost } from "./fixtures.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

describe("parseShebang", () => {
  test.each([
    ["#!/bin/sh\necho", "/bin/sh", undefined],
    ["#! \t/bin/sh\t-e  -u \nx", "/bin/sh", "-e  -u"],
    ["#!/bin/sh", "/bin/sh", undefined],
    ["#!/usr/bin/env python3\n", "/usr/bin/env", "python3"],
    [`#!/bin/sh ${"x".repeat(300)}\n`, "/bin/sh", "x".repeat(245)],
  ])("%j", (text, interpreter, argument) => {
    expect(parseShebang(bytes(text))).toEqual({ interpreter, argument });
  });

  test("what is no script", () => {
    expect(parseShebang(bytes("\x7fELF"))).toBeUndefined();
    expect(parseShebang(bytes("# !/bin/sh"))).toBeUndefined();
    expect(parseShebang(bytes(""))).toBeUndefined();
  });

  test.each([["#!\n"], ["#!   \n/bin/sh"], [`#!/${"d".repeat(254)}\n`]])("refused by the kernel: %j", (text) => {
    expect(() => parseShebang(bytes(text))).toThrow(UsageError);
  });

  test("any bytes end in a result or a UsageError", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (tail) => {
        try {
          const parsed = parseShebang(new Uint8Array([0x23, 0x21, ...tail]));
          expect(parsed?.interpreter).toMatch(/^[^ \t\n\0]+$/);
        } catch (error) {
          if (!(error instanceof UsageError)) throw error;
        }
      }),
    );
  });
});

test.each([
  ["/usr/bin/env", "python3", "python3"],
  ["/usr/bin/env", "-S python3 -u", "python3"],
  ["/usr/bin/env", "-S -i A=1 -u B perl -w", "perl"],
  ["/usr/bin/env", "-vS node", "node"],
  ["/usr/bin/env", "--split-string=ruby -w", "ruby"],
  ["/usr/bin/env", "-i", undefined],
  ["/usr/bin/env", undefined, undefined],
  ["/bin/sh", "python3", undefined],
])("envProgram %s %j", (interpreter, argument, program) => {
  expect(envProgram({ interpreter, argument })).toBe(program);
});

describe("findProgram", () => {
  const host = tableHost(
    {
      "/usr/bin/ls": bytes("x"),
      "/usr/bin/data": { mode: 0o644, bytes: bytes("x") },
      "/usr/bin/twice": { mode: 0o644, bytes: bytes("x") },
      "/bin": { link: "usr/bin" },
      "/opt/twice": bytes("x"),
      "/home/me/run": bytes("x"),
      "/usr/bin/secret": bytes("x"),
    },
    ["/usr/bin/secret", "/closed/ls", "/closed/nothing"],
  );
  const search = { path: "/none:/usr/bin:/opt", cwd: "/home/me" };
  test.each([
    ["ls", "/usr/bin/ls"],
    ["/bin/ls", "/bin/ls"],
    ["./run", "/home/me/run"],
    ["../me//run", "/home/me/../me/run"],
    ["twice", "/opt/twice"],
  ])("%s is %s", (name, path) => {
    expect(findProgram(host, name, search)).toBe(path);
  });
  test("a directory of PATH that may not be searched has nothing, which is said when nobody else has it", () => {
    const closed = { ...search, path: "/closed:/usr/bin" };
    expect(findProgram(host, "ls", closed)).toBe("/usr/bin/ls");
    const hint = "searched /closed:/usr/bin but for /closed, where you may not look";
    expect(() => findProgram(host, "nothing", closed)).toThrow(
      expect.objectContaining({ reason: "absent", message: "nothing: no such program in PATH", hint }),
    );
  });
  test("an empty element of PATH is the current directory", () => {
    expect(findProgram(host, "run", { ...search, path: "/usr/bin:" })).toBe("/home/me/run");
  });
  test.each([
    ["nothing", "absent", "nothing: no such program in PATH"],
    ["/usr/bin/nothing", "absent", "/usr/bin/nothing: no such file"],
    ["", "absent", "empty program name"],
    ["data", "not-executable", "/usr/bin/data: not executable"],
    ["/usr/bin", "not-executable", "/usr/bin: not a regular file"],
    ["secret", "not-executable", "/usr/bin/secret: permission denied"],
  ] as const)("%j: %s", (name, reason, message) => {
    let error: unknown;
    try {
      findProgram(host, name, search);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(ProgramError);
    expect(error).toMatchObject({ reason, message });
  });
});

describe("createWalker", () => {
  const table = tableHost({
    "/bin": { link: "usr/bin" },
    "/usr/bin/python3": { link: "python3.11" },
    "/usr/bin/python3.11": bytes("x"),
    "/usr/bin/vim": { link: "/etc/alternatives/vim" },
    "/etc/alternatives/vim": { link: "/bin/../bin/python3" },
    "/loop": { link: "loop2" },
    "/loop2": { link: "/loop" },
    "/dangling": { link: "nothing" },
  });
  const walk = createWalker((path) => table.readLink(path));
  test("links in order, where they stand", () => {
    expect(walk("/bin/vim")).toEqual({
      real: "/usr/bin/python3.11",
      links: [
        { path: "/bin", to: "usr/bin" },
        { path: "/usr/bin/vim", to: "/etc/alternatives/vim" },
        { path: "/etc/alternatives/vim", to: "/bin/../bin/python3" },
        { path: "/bin", to: "usr/bin" },
        { path: "/usr/bin/python3", to: "python3.11" },
      ],
    });
  });
  test.each([["/loop"], ["/dangling"], ["/usr/none/.."]])("%s leads nowhere", (path) => {
    expect(walk(path)).toBeUndefined();
  });
  test.each([
    ["/", "/"],
    ["/../usr/./bin//", "/usr/bin"],
    ["/bin/..", "/usr"],
  ])("%s is %s", (path, real) => {
    expect(walk(path)?.real).toBe(real);
  });
});
