/** The interpreter: its bytes from its sources, and the same small programs on both architectures. */

import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assemble } from "../../scripts/assemble.ts";
import { Assembler, at, content } from "../../src/launch/assembler.ts";
import { INTERPRETER } from "../../src/launch/interpreter-bytes.ts";
import { encode, FAILURE, INITIAL_STACK, recordAddress } from "../../src/launch/program.ts";
import * as c from "../../src/libc/constants.ts";
import type { Arch } from "../../src/libc/syscalls.ts";

const ARCHS = ["x64", "arm64"] as const satisfies readonly Arch[];

test.each(ARCHS)("the committed bytes for %s are what its source makes", (arch) => {
  expect<string>(INTERPRETER[arch]).toBe(Buffer.from(assemble(arch)).toString("base64"));
});

const exit = (asm: Assembler, code: Parameters<Assembler["set"]>[1]) => asm.call("exit_group", [code]);

/** Name, writer of the program, exit code, output. Arguments given at the start: program, "one", "two". */
type Row = readonly [what: string, write: (asm: Assembler) => void, exitCode: number, stdout: string];
const TABLE: readonly Row[] = [
  ["an exit", (asm) => exit(asm, 42), 42, ""],
  [
    "a write, then an exit",
    (asm) => {
      asm.call("write", [1, "hello\n", 6]);
      exit(asm, 0);
    },
    0,
    "hello\n",
  ],
  [
    "sub of a number and a cell",
    (asm) => {
      const cell = asm.cell();
      asm.call("sub", [50, 8], { result: cell });
      asm.call("sub", [content(cell), -3], { result: cell });
      exit(asm, content(cell));
    },
    45,
    "",
  ],
  [
    "sub of negative numbers, sign-extended",
    (asm) => {
      const cell = asm.cell();
      asm.call("sub", [-1, -43], { result: cell });
      exit(asm, content(cell));
    },
    42,
    "",
  ],
  [
    "sub of 64 bits",
    (asm) => {
      const [cell, large] = [asm.cell(), asm.words(2 ** 40 + 7, 2 ** 40)];
      asm.call("sub", [content(large), content(at(large, 8))], { result: cell });
      exit(asm, content(cell));
    },
    7,
    "",
  ],
  [
    "and of 64 bits",
    (asm) => {
      const [cell, wide] = [asm.cell(), asm.words(2 ** 40 + 0xff, 2 ** 40)];
      const good = asm.label();
      asm.call("and", [content(wide), content(at(wide, 8))], { result: cell });
      asm.ifEqual(content(cell), content(at(wide, 8)), good);
      exit(asm, 1);
      asm.place(good);
      asm.call("and", [content(wide), 0x2a], { result: cell });
      exit(asm, content(cell));
    },
    42,
    "",
  ],
  [
    "load64 with a base and an offset, aligned or not",
    (asm) => {
      const [cell, offset, table] = [asm.cell(), asm.cell(), asm.words(1, 0x2a00, 3)];
      asm.set(offset, 9);
      asm.call("load64", [table, content(offset)], { result: cell });
      asm.call("and", [content(cell), 0xff], { result: cell });
      exit(asm, content(cell));
    },
    42,
    "",
  ],
  [
    "cells that are zero at the start, even far away",
    (asm) => {
      const [first, far] = [asm.cell(1 << 20), asm.cell()];
      const [good, better] = [asm.label(), asm.label()];
      asm.ifEqual(content(first), 0, good);
      exit(asm, 1);
      asm.place(good);
      asm.ifEqual(content(far), 0, better);
      exit(asm, 2);
      asm.place(better);
      asm.set(far, 42);
      exit(asm, content(far));
    },
    42,
    "",
  ],
  [
    "a loop that ends at zero",
    (asm) => {
      const count = asm.cell();
      const [again, done] = [asm.label(), asm.label()];
      asm.set(count, 5);
      asm.place(again);
      asm.call("write", [1, "x", 1]);
      asm.call("sub", [content(count), 1], { result: count, next: again, onZero: done });
      asm.place(done);
      exit(asm, content(count));
    },
    0,
    "xxxxx",
  ],
  [
    "a call's zero, error and other results, each its own way",
    (asm) => {
      const [zero, wrong, other, bad] = [asm.label(), asm.label(), asm.label(), asm.label()];
      asm.failure = bad;
      asm.call("umask", [0], { next: zero, onZero: zero });
      asm.place(zero);
      asm.call("umask", [0o22], { next: bad, onZero: wrong });
      asm.place(wrong);
      asm.call("close", [-1], { next: bad, onZero: bad, onError: other });
      asm.place(other);
      const end = asm.label();
      asm.call("umask", [0], { next: end, onZero: bad });
      asm.place(bad);
      exit(asm, 1);
      asm.place(end);
      exit(asm, 42);
    },
    42,
    "",
  ],
  [
    "an error that is ignored leaves its number in the result",
    (asm) => {
      const result = asm.cell();
      asm.call("close", [-1], { result, onError: "ignore" });
      asm.call("sub", [0, content(result)], { result });
      exit(asm, content(result));
    },
    9,
    "",
  ],
  [
    "the note of the last failure: which record, which error",
    (asm) => {
      const failed = asm.label();
      asm.failure = failed;
      asm.call("getpid", []);
      asm.call("close", [-1]);
      exit(asm, 1);
      asm.place(failed);
      asm.failure = undefined;
      const [error, good] = [asm.cell(), asm.label()];
      asm.ifEqual(content(FAILURE), recordAddress(1), good);
      exit(asm, 2);
      asm.place(good);
      asm.call("sub", [0, content(at(FAILURE, 8))], { result: error });
      exit(asm, content(error));
    },
    9,
    "",
  ],
  [
    "a negative difference, which is no error",
    (asm) => {
      const [cell, failed] = [asm.cell(), asm.label()];
      asm.call("sub", [5, 10], { result: cell, onError: failed });
      asm.call("sub", [content(cell), -47], { result: cell });
      exit(asm, content(cell));
      asm.place(failed);
      exit(asm, 1);
    },
    42,
    "",
  ],
  [
    "arguments on the stack",
    (asm) => {
      const [argument, argc, word] = [asm.cell(), asm.cell(), asm.cell()];
      asm.call("load64", [content(INITIAL_STACK), 0], { result: argc });
      asm.call("load64", [content(INITIAL_STACK), 24], { result: argument });
      asm.call("write", [1, content(argument), 3]);
      asm.call("load64", [content(argument), 0], { result: word });
      exit(asm, content(argc));
    },
    3,
    "two",
  ],
  [
    "data that is written to",
    (asm) => {
      const buffer = asm.data(new TextEncoder().encode("before"));
      const pipe = asm.cell();
      const [read, write] = [asm.cell(), asm.cell()];
      asm.call("pipe2", [pipe, 0]);
      asm.call("and", [content(pipe), content(asm.words(0xffffffff))], { result: read });
      asm.call("load64", [pipe, 4], { result: write });
      asm.call("and", [content(write), content(asm.words(0xffffffff))], { result: write });
      asm.call("write", [content(write), "after!", 6]);
      asm.call("read", [content(read), buffer, 6]);
      asm.call("write", [1, buffer, 6]);
      exit(asm, 0);
    },
    0,
    "after!",
  ],
];

/** mmap(2) has six arguments and a result above 32 bits. */
function sixArguments(asm: Assembler): void {
  const [file, map, value] = [asm.cell(), asm.cell(), asm.cell()];
  const numbers = asm.words(0, 4096, 1, 2, 4096);
  const number = (index: number) => content(at(numbers, 8 * index));
  asm.call("memfd_create", ["x", c.MFD_CLOEXEC], { result: file });
  asm.call("pwrite64", [content(file), asm.words(42), 8, 4096]);
  // length 4096, PROT_READ, MAP_PRIVATE, the file, offset 4096: each from a cell
  asm.call("mmap", [number(0), number(1), number(2), number(3), content(file), number(4)], { result: map });
  asm.call("load64", [content(map), 0], { result: value });
  exit(asm, content(value));
}

describe.each(ARCHS)("on %s", (arch) => {
  const native = process.arch === arch;
  const emulator = `qemu-${arch === "arm64" ? "aarch64" : "x86_64"}-static`;
  const folder = mkdtempSync(join(tmpdir(), "hutch-interpreter-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const runElf = (elf: Uint8Array) => {
    if (!native && Bun.which(emulator) === null)
      throw new Error(`${emulator} is missing: apt-get install qemu-user-static`);
    const path = join(folder, "program");
    rmSync(path, { force: true });
    writeFileSync(path, elf, { mode: 0o755 });
    const result = Bun.spawnSync([...(native ? [] : [emulator]), path, "one", "two"], {
      stdin: "ignore",
      stderr: "pipe",
    });
    return { exitCode: result.exitCode, stdout: result.stdout.toString(), stderr: result.stderr.toString() };
  };

  test.each(TABLE)("%s", (_, write, exitCode, stdout) => {
    const asm = new Assembler(arch);
    write(asm);
    expect(runElf(encode(asm.finish()))).toEqual({ stdout, stderr: "", exitCode });
  });

  test("all six arguments from cells, and a result of 64 bits that is no error", () => {
    const asm = new Assembler(arch);
    sixArguments(asm);
    expect(runElf(encode(asm.finish()))).toEqual({ stdout: "", stderr: "", exitCode: 42 });
  });
});
