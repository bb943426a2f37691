/**
 * What the kernel would do: runs a filter on one system call, as data. For `seccomp check`, for tests, for explaining a
 * denial. Source: kernel net/core/filter.c (the old interpreter's meaning), seccomp(2).
 */

import { BPF_MAXINSNS, type Instruction, parseBpf } from "./bpf.ts";

/** struct seccomp_data: `arch` is an AUDIT_ARCH_ number, `nr` unsigned 32 bits, `ip` and up to six `args` unsigned 64. */
export type SeccompData = {
  readonly arch: number;
  readonly nr: number;
  readonly ip?: bigint;
  readonly args?: readonly bigint[];
};

/**
 * Runs a program and returns what it returns, the raw unsigned 32 bits (see formatAction in seccomp-actions.ts).
 * The program must be valid (validateBpf); on one that is not, throws RangeError instead of running away.
 */
export function evaluateBpf(program: Uint8Array | readonly Instruction[], data: SeccompData): number {
  return run(program instanceof Uint8Array ? parseBpf(program) : program, dataWords(data));
}

function dataWords({ arch, nr, ip = 0n, args = [] }: SeccompData): Uint32Array {
  const words = new Uint32Array(16);
  words[0] = nr;
  words[1] = arch;
  [ip, ...args].slice(0, 7).forEach((value, i) => {
    words[2 + 2 * i] = Number(value & 0xffffffffn);
    words[3 + 2 * i] = Number((value >> 32n) & 0xffffffffn);
  });
  return words;
}

function run(program: readonly Instruction[], words: Uint32Array): number {
  const memory = new Uint32Array(16);
  let a = 0;
  let x = 0;
  let at = 0;
  for (let step = 0; step <= BPF_MAXINSNS; step++) {
    const instruction = program[at];
    if (instruction === undefined) throw new RangeError(`filter runs past its end at ${at}`);
    const { code, jt, jf, k } = instruction;
    at += 1;
    switch (code & 0x07) {
      case 0x00:
        a = code === 0x00 ? k : code === 0x20 ? load(words, k) : code === 0x60 ? (memory[k] ?? 0) : 64;
        break;
      case 0x01:
        x = code === 0x01 ? k : code === 0x61 ? (memory[k] ?? 0) : 64;
        break;
      case 0x02:
        memory[k] = a;
        break;
      case 0x03:
        memory[k] = x;
        break;
      case 0x04: {
        const operand = (code & 0x08) === 0 ? k : x;
        // The kernel: a division by a register that is zero ends the filter with 0, SECCOMP_RET_KILL_THREAD.
        if ((code & 0xf0) === 0x30 && operand === 0) return 0;
        a = arithmetic(code & 0xf0, a, operand);
        break;
      }
      case 0x05:
        if (code === 0x05) at += k;
        else at += holds(code & 0xf0, a, (code & 0x08) === 0 ? k : x) ? jt : jf;
        break;
      case 0x06:
        return code === 0x16 ? a : k;
      default:
        if (code === 0x07) x = a;
        else a = x;
    }
  }
  throw new RangeError("filter does not end"); // only a program that is not valid can come here
}

function load(words: Uint32Array, offset: number): number {
  const word = words[offset / 4];
  if (word === undefined) throw new RangeError(`filter loads at ${offset}`);
  return word;
}

function arithmetic(operation: number, a: number, operand: number): number {
  switch (operation) {
    case 0x00:
      return (a + operand) >>> 0;
    case 0x10:
      return (a - operand) >>> 0;
    case 0x20:
      return Math.imul(a, operand) >>> 0;
    case 0x30:
      return Math.floor(a / operand);
    case 0x40:
      return (a | operand) >>> 0;
    case 0x50:
      return (a & operand) >>> 0;
    case 0x60:
      return (a << (operand & 31)) >>> 0;
    case 0x70:
      return a >>> (operand & 31);
    case 0xa0:
      return (a ^ operand) >>> 0;
    default:
      return -a >>> 0;
  }
}

function holds(comparison: number, a: number, operand: number): boolean {
  if (comparison === 0x10) return a === operand;
  if (comparison === 0x20) return a > operand;
  if (comparison === 0x30) return a >= operand;
  return (a & operand) !== 0;
}
