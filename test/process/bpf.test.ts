import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { assembleBpf, BPF, type Instruction, parseBpf, validateBpf } from "../../src/process/bpf.ts";
import { evaluateBpf } from "../../src/process/bpf-evaluate.ts";
import { formatBpf } from "../../src/process/bpf-format.ts";

const ALLOW = 0x7fff0000;

function op(code: number, k = 0, jt = 0, jf = 0): Instruction {
  return { code, jt, jf, k };
}

const ret = (k = ALLOW) => op(BPF.RET, k);

describe("assembleBpf and parseBpf", () => {
  test("an instruction is 8 little-endian bytes", () => {
    expect([...assembleBpf([op(BPF.JEQ, 0xc000003e, 1, 2)])]).toEqual([0x15, 0, 1, 2, 0x3e, 0, 0, 0xc0]);
  });

  test("are twins", () => {
    const instruction = fc.record({
      code: fc.nat(0xffff),
      jt: fc.nat(255),
      jf: fc.nat(255),
      k: fc.nat(0xffffffff),
    });
    fc.assert(fc.property(fc.array(instruction), (program) => expect(parseBpf(assembleBpf(program))).toEqual(program)));
  });

  test("bytes that are not whole instructions are refused", () => {
    expect(() => parseBpf(new Uint8Array(9))).toThrow("filter of 9 bytes");
  });
});

describe("validateBpf", () => {
  const faults: [string, Instruction[], string][] = [
    ["nothing", [], "filter is empty"],
    ["4097 instructions", Array.from({ length: 4097 }, () => ret()), "at most 4096"],
    ["no return at the end", [ret(), op(BPF.LD, 0)], "does not end in a return"],
    ["a load beyond seccomp_data", [op(BPF.LD, 64), ret()], "load at 64"],
    ["an unaligned load", [op(BPF.LD, 2), ret()], "load at 2"],
    ["a byte load", [op(0x30, 0), ret()], "opcode 0x30"],
    ["a modulo", [op(0x94, 3), ret()], "opcode 0x94"],
    ["a jump by register", [op(0x0d, 0), ret()], "opcode 0xd"],
    ["a 16-bit opcode", [op(0x0120, 0), ret()], "opcode 0x120"],
    ["a jump over the end", [op(BPF.JA, 1), ret()], "leaves the program"],
    ["a jump of 2^32 - 1", [op(BPF.JA, 0xffffffff), ret()], "leaves the program"],
    ["a conditional jump over the end", [op(BPF.JEQ, 0, 0, 1), ret()], "leaves the program"],
    ["division by zero", [op(0x34, 0), ret()], "division by zero"],
    ["shift by 32", [op(0x64, 32), ret()], "shift by 32"],
    ["memory cell 16", [op(0x02, 16), ret()], "memory cell 16"],
    ["a cell read first", [op(0x60, 3), ret()], "memory cell 3 is read before"],
    [
      "a cell written on one way only",
      [op(BPF.JEQ, 0, 0, 1), op(0x02, 1), op(0x60, 1), ret()],
      "memory cell 1 is read",
    ],
  ];
  test.each(faults)("refuses %s", (_what, program, message) => {
    expect(() => validateBpf(assembleBpf(program))).toThrow(message);
  });

  test("takes 4096 instructions, and cells written on every way", () => {
    expect(validateBpf(assembleBpf(Array.from({ length: 4096 }, () => ret())))).toHaveLength(4096);
    const both = [op(BPF.JEQ, 0, 0, 2), op(0x02, 1), op(BPF.JA, 1), op(0x03, 1), op(0x60, 1), ret()];
    expect(validateBpf(assembleBpf(both))).toHaveLength(6);
  });
});

describe("evaluateBpf", () => {
  const data = { arch: 0xc000003e, nr: 7, ip: 0x1122334455667788n, args: [0xffffffff00000001n, 2n, 3n, 4n, 5n, ~0n] };
  const load = (offset: number): Instruction[] => [op(BPF.LD, offset), op(0x16)];
  const values: [string, Instruction[], number][] = [
    ["nr", load(0), 7],
    ["arch", load(4), 0xc000003e],
    ["ip low", load(8), 0x55667788],
    ["ip high", load(12), 0x11223344],
    ["argument 0 low", load(16), 1],
    ["argument 0 high", load(20), 0xffffffff],
    ["argument 5 high", load(60), 0xffffffff],
    ["length", [op(0x80), op(0x16)], 64],
    ["immediate", [op(0x00, 0xfffffffe), op(0x16)], 0xfffffffe],
    ["add wraps", [op(0x00, 0xffffffff), op(0x04, 2), op(0x16)], 1],
    ["sub wraps", [op(0x00, 1), op(0x14, 2), op(0x16)], 0xffffffff],
    ["mul wraps", [op(0x00, 0x10001), op(0x24, 0x10001), op(0x16)], 0x20001],
    ["div is unsigned", [op(0x00, 0xfffffffe), op(0x34, 2), op(0x16)], 0x7fffffff],
    ["div by a zero register ends with 0", [op(0x01, 0), op(0x3c), ret()], 0],
    ["or, xor", [op(0x00, 0x80000000), op(0x44, 3), op(0xa4, 1), op(0x16)], 0x80000002],
    ["shifts", [op(0x00, 1), op(0x64, 31), op(0x74, 30), op(0x16)], 2],
    ["neg", [op(0x00, 1), op(0x84), op(0x16)], 0xffffffff],
    ["memory", [op(0x00, 9), op(0x02, 4), op(0x61, 4), op(0x00, 0), op(0x87), op(0x16)], 9],
    ["tax", [op(0x00, 5), op(0x07), op(0x0c), op(0x16)], 10],
    ["jgt is unsigned", [op(0x00, 0x80000000), op(BPF.JGT, 1, 0, 1), ret(1), ret(2)], 1],
    ["jge at equal", [op(0x00, 4), op(BPF.JGE, 4, 0, 1), ret(1), ret(2)], 1],
    ["jset at bit 31", [op(0x00, 0x80000000), op(BPF.JSET, 0x80000000, 0, 1), ret(1), ret(2)], 1],
    ["ja", [op(BPF.JA, 1), ret(1), ret(2)], 2],
  ];
  test.each(values)("%s", (_what, program, answer) => {
    validateBpf(assembleBpf(program));
    expect(evaluateBpf(assembleBpf(program), data)).toBe(answer);
  });

  test("a program that is not valid does not run away", () => {
    expect(() => evaluateBpf([op(BPF.LD, 0)], data)).toThrow(RangeError);
    expect(() => evaluateBpf([op(BPF.LD, 64), ret()], data)).toThrow(RangeError);
  });
});

test("formatBpf shows lines, fields and actions", () => {
  const program = [
    op(BPF.LD, 4),
    op(BPF.JEQ, 0xc000003e, 0, 3),
    op(BPF.LD, 20),
    op(BPF.AND, 0xff),
    ret(0x00050026),
    op(BPF.JA, 0),
    ret(0x80000000),
    op(0xffff, 1),
  ];
  expect(formatBpf(program)).toBe(
    [
      "0000: ld arch",
      "0001: jeq 0xc000003e, 0002, 0005",
      "0002: ld args[0].high",
      "0003: and 0xff",
      "0004: ret errno ENOSYS",
      "0005: ja 0006",
      "0006: ret kill process",
      "0007: .data 0xffff, 0, 0, 1",
      "",
    ].join("\n"),
  );
});
