/** Programs as ELF files and back; the assembler's words. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { HutchError } from "../../src/errors.ts";
import { Assembler, at, content } from "../../src/launch/assembler.ts";
import * as p from "../../src/launch/program.ts";
import type { Arch } from "../../src/libc/syscalls.ts";

const ARCHS = ["x64", "arm64"] as const satisfies readonly Arch[];

const programs = fc
  .record({
    arch: fc.constantFrom(...ARCHS),
    words: fc.array(fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }), { minLength: 12, maxLength: 12 * 40 }),
    data: fc.uint8Array({ maxLength: 5000 }),
    cells: fc.integer({ min: 4, max: 2000 }),
  })
  .map(({ arch, words, data, cells }): p.Program => {
    const whole = words.length - (words.length % p.RECORD_WORDS);
    return { arch, words: Int32Array.from(words.slice(0, whole)), data, cellBytes: 8 * cells };
  });

describe("encode and decode", () => {
  test("give each other back", () => {
    fc.assert(
      fc.property(programs, (program) => {
        const elf = p.encode(program);
        const back = p.decode(elf);
        expect(back.arch).toBe(program.arch);
        expect([...back.words]).toEqual([...program.words]);
        expect(Buffer.compare(back.data, program.data)).toBe(0);
        expect(back.cellBytes).toBe(program.cellBytes);
        expect(Buffer.compare(p.encode(back), elf)).toBe(0);
      }),
      { numRuns: 300 },
    );
  });

  test("a program whose words are part of a larger buffer is encoded alone", () => {
    const buffer = Int32Array.from({ length: 48 }, (_, i) => i);
    const part: p.Program = { arch: "x64", words: buffer.subarray(12, 36), data: new Uint8Array(0), cellBytes: 32 };
    expect([...p.decode(p.encode(part)).words]).toEqual([...buffer.slice(12, 36)]);
  });

  test("what is no launcher is refused, or read without reading past its end", () => {
    const elf = p.encode({ arch: "x64", words: new Int32Array(24), data: new Uint8Array(8), cellBytes: 32 });
    expect(() => p.decode(new Uint8Array(0))).toThrow(RangeError);
    expect(() => p.decode(new TextEncoder().encode("#!/bin/sh\n".repeat(200)))).toThrow(RangeError);
    fc.assert(
      fc.property(
        fc.nat(elf.length),
        fc.array(fc.tuple(fc.nat(0x2ff), fc.nat(255)), { maxLength: 4 }),
        (end, changes) => {
          const damaged = elf.slice(0, end);
          for (const [where, byte] of changes) if (where < damaged.length) damaged[where] = byte;
          try {
            p.decode(damaged);
          } catch (error) {
            expect(error).toBeInstanceOf(RangeError);
          }
        },
      ),
    );
  });

  test.each(ARCHS)("%s: no memory is both writable and executable, and nothing overlaps", (arch) => {
    fc.assert(
      fc.property(programs, (program) => {
        const view = new DataView(p.encode({ ...program, arch }).buffer);
        const headers = Array.from({ length: view.getUint16(56, true) }, (_, i) => 64 + i * 56);
        const loads = headers.filter((header) => view.getUint32(header, true) === 1);
        const ranges = loads.map((header) => {
          const flags = view.getUint32(header + 4, true);
          expect(flags & 3).not.toBe(3);
          const [offset, address] = [view.getUint32(header + 8, true), view.getUint32(header + 16, true)];
          expect((address - offset) % 4096).toBe(0); // elf(5): congruent modulo the page
          return { start: address, end: address + view.getUint32(header + 40, true) };
        });
        const sorted = ranges.toSorted((a, b) => a.start - b.start);
        sorted.slice(1).forEach(({ start }, i) => expect(start).toBeGreaterThanOrEqual(sorted[i]?.end ?? 0));
        const stack = headers.find((header) => view.getUint32(header, true) === 0x6474e551) ?? 0;
        expect(view.getUint32(stack + 4, true)).toBe(6);
      }),
      { numRuns: 50 },
    );
  });
});

test("addresses of records and indices", () => {
  fc.assert(
    fc.property(fc.nat(10_000), fc.integer({ min: 1, max: 47 }), (index, within) => {
      expect(p.recordAt(p.recordAddress(index))).toBe(index);
      expect(p.recordAt(p.recordAddress(index) + within)).toBe(-1);
    }),
  );
  expect(p.recordAt(0)).toBe(-1);
  expect(p.recordAt(p.recordAddress(-1))).toBe(-1);
});

test.each(ARCHS)("names of operations on %s", (arch) => {
  for (const name of ["sub", "and", "load64"] as const) expect(p.operationName(p.PSEUDO[name], arch)).toBe(name);
  expect(p.operationName(arch === "x64" ? 59 : 221, arch)).toBe("execve");
  expect(p.operationName(9999, arch)).toBe("9999");
});

/** One record's words by name. */
function record(program: p.Program, index: number) {
  const words = [...program.words.slice(index * p.RECORD_WORDS, (index + 1) * p.RECORD_WORDS)];
  return {
    operation: p.operationName(words[p.RECORD.operation] ?? 0, program.arch),
    mask: words[p.RECORD.mask],
    args: words.slice(p.RECORD.arguments, p.RECORD.result),
    result: words[p.RECORD.result],
    next: p.recordAt(words[p.RECORD.next] ?? 0),
    onError: p.recordAt(words[p.RECORD.onError] ?? 0),
    onZero: p.recordAt(words[p.RECORD.onZero] ?? 0),
  };
}

describe("the assembler", () => {
  test("writes records that follow each other", () => {
    const asm = new Assembler("x64");
    const cell = asm.cell();
    asm.call("close", [3]);
    asm.call("close", [content(cell)], { result: cell });
    const program = asm.finish();
    const first = { operation: "close", mask: 0, args: [3, 0, 0, 0, 0, 0], result: p.UNWANTED as number };
    expect(record(program, 0)).toEqual({ ...first, next: 1, onError: 1, onZero: 1 });
    expect(record(program, 1)).toMatchObject({ mask: 1, args: [cell, 0, 0, 0, 0, 0], result: cell, next: 2 });
  });

  test("resolves labels before and behind, and sends errors where it was told", () => {
    const asm = new Assembler("arm64");
    const [back, forth, failed] = [asm.label(), asm.label(), asm.label()];
    asm.failure = failed;
    asm.place(back);
    asm.call("close", [0], { next: forth, onZero: back });
    asm.call("close", [0], { onError: "ignore" });
    asm.call("sub", [1, 1], { onZero: forth });
    asm.place(forth);
    asm.jump(back);
    asm.place(failed);
    asm.failure = undefined;
    asm.call("close", [0]);
    const program = asm.finish();
    expect(record(program, 0)).toMatchObject({ next: 3, onZero: 0, onError: 4 });
    expect(record(program, 1)).toMatchObject({ next: 2, onError: 2 });
    expect(record(program, 2)).toMatchObject({ operation: "sub", next: 3, onError: 3, onZero: 3 });
    expect(record(program, 3)).toMatchObject({ next: 0, onZero: 0 });
    expect(record(program, 4)).toMatchObject({ next: 5, onError: 5 });
  });

  test("does not finish while a label is used and placed nowhere", () => {
    const asm = new Assembler("x64");
    asm.jump(asm.label());
    expect(() => asm.finish()).toThrow("uses of labels that were never placed");
  });

  test("keeps equal strings and words once, and bytes that may be written to apart", () => {
    const asm = new Assembler("x64");
    expect(asm.string("abc")).toBe(asm.string("abc"));
    expect(asm.words(1, 2)).toBe(asm.words(1, 2));
    expect(asm.words(1, 2)).not.toBe(asm.words(12));
    expect(asm.string("1 2")).not.toBe(asm.words(1, 2));
    expect(asm.data(Uint8Array.of(1))).not.toBe(asm.data(Uint8Array.of(1)));
    expect(() => asm.string("a\0")).toThrow(HutchError);
  });

  test("whatever is stored is found again at its place, aligned", () => {
    const item = fc.oneof(
      fc.uint8Array({ maxLength: 3000 }),
      fc.string({ unit: "binary" }).filter((s) => !s.includes("\0")),
    );
    fc.assert(
      fc.property(fc.array(item, { maxLength: 30 }), (items) => {
        const asm = new Assembler("x64");
        const places = items.map((value) => (typeof value === "string" ? asm.string(value) : asm.data(value)));
        const { data } = asm.finish();
        items.forEach((value, index) => {
          const offset = (places[index] ?? 0) - p.DATA_ADDRESS;
          const bytes = typeof value === "string" ? new TextEncoder().encode(`${value}\0`) : value;
          expect(offset % 8).toBe(0);
          expect(Buffer.compare(data.subarray(offset, offset + bytes.length), bytes)).toBe(0);
        });
      }),
      { numRuns: 50 },
    );
  });

  test("makes arrays of pointers, structures with a pointer, and words of 64 bits", () => {
    const asm = new Assembler("x64");
    const made = asm.cell(16);
    const array = asm.strings(["a", made, "b"]);
    const struct = asm.pointing(new Uint8Array(16), 8, made);
    const words = asm.words(-1, 2 ** 40 + 3, 0);
    const { data } = asm.finish();
    const view = new DataView(data.buffer, data.byteOffset);
    const word = (place: number) => view.getBigUint64(place - p.DATA_ADDRESS, true);
    expect([0, 8, 16, 24].map((offset) => word(at(array, offset)))).toEqual([
      BigInt(asm.string("a")),
      BigInt(made),
      BigInt(asm.string("b")),
      0n,
    ]);
    expect([word(struct), word(at(struct, 8))]).toEqual([0n, BigInt(made)]);
    expect([0, 8, 16].map((offset) => word(at(words, offset)))).toEqual([2n ** 64n - 1n, 2n ** 40n + 3n, 0n]);
  });

  test("gives cells away once, behind the header's", () => {
    const asm = new Assembler("x64");
    const cells = [asm.cell(), asm.cell(1), asm.cell(16), asm.cell()].map((cell) => cell - p.CELLS_ADDRESS);
    expect(cells).toEqual([p.FIRST_FREE_CELL, p.FIRST_FREE_CELL + 8, p.FIRST_FREE_CELL + 16, p.FIRST_FREE_CELL + 32]);
    expect(asm.finish().cellBytes).toBe(p.FIRST_FREE_CELL + 40);
  });
});
