/**
 * Classic BPF as seccomp(2) takes it: an array of struct sock_filter `{u16 code; u8 jt; u8 jf; u32 k}`, 8 bytes each,
 * little-endian on both architectures. Source: linux/filter.h, linux/bpf_common.h, kernel net/core/filter.c
 * (bpf_check_classic, check_load_and_stores) and kernel/seccomp.c (seccomp_check_filter).
 */

import { UsageError } from "../errors.ts";

/** One instruction. `jt` and `jf` (0..255) count instructions to skip, `k` is an unsigned 32-bit number. */
export type Instruction = {
  readonly code: number;
  readonly jt: number;
  readonly jf: number;
  readonly k: number;
};

/** Opcodes that the compiler makes. The whole set that seccomp takes is in {@link isSeccompCode}. */
export const BPF = { LD: 0x20, AND: 0x54, JA: 0x05, JEQ: 0x15, JGT: 0x25, JGE: 0x35, JSET: 0x45, RET: 0x06 } as const;

/** Most instructions in one filter (BPF_MAXINSNS). */
export const BPF_MAXINSNS = 4096;

/** Bytes of struct seccomp_data, which `ld [k]` reads. */
export const SECCOMP_DATA_SIZE = 64;

const INSTRUCTION_SIZE = 8;
const MEMORY_WORDS = 16;

/** Numbers to the bytes of a struct sock_filter array. */
export function assembleBpf(program: readonly Instruction[]): Uint8Array {
  const bytes = new Uint8Array(program.length * INSTRUCTION_SIZE);
  const view = new DataView(bytes.buffer);
  program.forEach(({ code, jt, jf, k }, i) => {
    const at = i * INSTRUCTION_SIZE;
    view.setUint16(at, code, true);
    view.setUint8(at + 2, jt);
    view.setUint8(at + 3, jf);
    view.setUint32(at + 4, k, true);
  });
  return bytes;
}

/** The twin of {@link assembleBpf}. @throws UsageError when the length is not a multiple of 8. Checks nothing else. */
export function parseBpf(bytes: Uint8Array): Instruction[] {
  if (bytes.length % INSTRUCTION_SIZE !== 0) {
    throw new UsageError(`filter of ${bytes.length} bytes: not a whole number of 8-byte instructions`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: bytes.length / INSTRUCTION_SIZE }, (_, i) => {
    const at = i * INSTRUCTION_SIZE;
    return {
      code: view.getUint16(at, true),
      jt: view.getUint8(at + 2),
      jf: view.getUint8(at + 3),
      k: view.getUint32(at + 4, true),
    };
  });
}

/**
 * The kernel's own checks, before the kernel makes them: 1 to 4096 instructions, known opcodes, jumps forward and in
 * range, aligned loads inside struct seccomp_data, no division by a constant zero, no shift by 32 or more, memory
 * written before it is read on every path, RET at the end. Returns the parsed program.
 * @throws UsageError naming the first instruction at fault.
 */
export function validateBpf(bytes: Uint8Array): Instruction[] {
  const program = parseBpf(bytes);
  if (program.length === 0) throw new UsageError("filter is empty");
  if (program.length > BPF_MAXINSNS) {
    throw new UsageError(`filter has ${program.length} instructions: the kernel takes at most ${BPF_MAXINSNS}`);
  }
  program.forEach((instruction, at) => {
    const fault = instructionFault(instruction, program.length - at - 1);
    if (fault !== undefined) throw new UsageError(`filter instruction ${at}: ${fault}`);
  });
  if (!isReturn(program.at(-1)?.code ?? 0)) throw new UsageError("filter does not end in a return");
  checkMemory(program);
  return program;
}

/** Whether an opcode leaves the program (`ret k`, `ret a`). */
export function isReturn(code: number): boolean {
  return code === 0x06 || code === 0x16;
}

function instructionFault({ code, jt, jf, k }: Instruction, after: number): string | undefined {
  if (!isSeccompCode(code)) return `opcode 0x${code.toString(16)} is not one that seccomp takes`;
  const kind = code & 0x07;
  if (code === BPF.LD && (k % 4 !== 0 || k >= SECCOMP_DATA_SIZE)) return `load at ${k}: not a word of seccomp_data`;
  if ((code === 0x60 || code === 0x61 || kind === 0x02 || kind === 0x03) && k >= MEMORY_WORDS)
    return `memory cell ${k}`;
  if (code === 0x34 && k === 0) return "division by zero"; // BPF_MOD is not allowed in seccomp filters
  if ((code === 0x64 || code === 0x74) && k > 31) return `shift by ${k}`;
  if (code === BPF.JA && k >= after) return `jump by ${k} leaves the program`;
  if (kind === 0x05 && code !== BPF.JA && Math.max(jt, jf) >= after) return "conditional jump leaves the program";
  return undefined;
}

/** The opcodes of seccomp_check_filter: ld, ldx, st, stx, alu, jmp, ret, misc; no packet loads but `ld [k]`, no mod. */
export function isSeccompCode(code: number): boolean {
  switch (code & 0x07) {
    case 0x00: // ld: imm, abs word, mem, len
      return [0x00, 0x20, 0x60, 0x80].includes(code);
    case 0x01: // ldx: imm, mem, len
      return [0x01, 0x61, 0x81].includes(code);
    case 0x02: // st, stx
    case 0x03:
      return code < 0x08;
    case 0x04: // alu by k or x: add sub mul div or and lsh rsh, xor; neg has only one form
      return code <= 0x7c || code === 0x84 || code === 0xa4 || code === 0xac;
    case 0x05: // ja; jeq jgt jge jset by k or x
      return code === 0x05 || (code >= 0x15 && code <= 0x4d);
    case 0x06:
      return isReturn(code);
    default: // tax, txa
      return code === 0x07 || code === 0x87;
  }
}

/** As check_load_and_stores: the cells written on every way to an instruction, joined forwards in one pass. */
function checkMemory(program: readonly Instruction[]): void {
  const ALL = 0xffff;
  const reached = Array.from(program, () => ALL);
  const join = (at: number, cells: number) => {
    reached[at] = (reached[at] ?? ALL) & cells;
  };
  let cells = 0;
  program.forEach(({ code, jt, jf, k }, at) => {
    cells &= reached[at] ?? ALL;
    if (code === 0x02 || code === 0x03) cells |= 1 << k;
    else if ((code === 0x60 || code === 0x61) && (cells & (1 << k)) === 0) {
      throw new UsageError(`filter instruction ${at}: memory cell ${k} is read before it is written`);
    } else if (code === BPF.JA) {
      join(at + 1 + k, cells);
      cells = ALL;
    } else if ((code & 0x07) === 0x05) {
      join(at + 1 + jt, cells);
      join(at + 1 + jf, cells);
      cells = ALL;
    }
  });
}
