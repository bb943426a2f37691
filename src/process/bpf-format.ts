/** A filter as text, one instruction a line, for people: `0004: jge 41, 0005, 0012`. */

import { type Instruction, isReturn, parseBpf } from "./bpf.ts";
import { formatAction } from "./seccomp-actions.ts";

const ALU: Readonly<Record<number, string>> = {
  0x00: "add",
  0x10: "sub",
  0x20: "mul",
  0x30: "div",
  0x40: "or",
  0x50: "and",
  0x60: "lsh",
  0x70: "rsh",
  0x80: "neg",
  0xa0: "xor",
};
const JUMPS: Readonly<Record<number, string>> = { 0x10: "jeq", 0x20: "jgt", 0x30: "jge", 0x40: "jset" };

/**
 * Disassembles a filter. Jumps are shown by the number of the line that they lead to (if, then, else), loads by the field
 * of struct seccomp_data. Takes any whole number of instructions, valid or not; an unknown opcode is shown as data.
 */
export function formatBpf(program: Uint8Array | readonly Instruction[]): string {
  const instructions = program instanceof Uint8Array ? parseBpf(program) : program;
  return instructions.map((instruction, at) => `${line(at)}: ${text(instruction, at)}\n`).join("");
}

function line(at: number): string {
  return String(at).padStart(4, "0");
}

function text({ code, jt, jf, k }: Instruction, at: number): string {
  const kind = code & 0x07;
  const byX = (code & 0x08) !== 0;
  if (code === 0x20) return `ld ${field(k)}`;
  if (code === 0x00) return `ld #${hex(k)}`;
  if (code === 0x01) return `ldx #${hex(k)}`;
  if (code === 0x60 || code === 0x61) return `${kind === 0 ? "ld" : "ldx"} m[${k}]`;
  if (code === 0x80 || code === 0x81) return `${kind === 0 ? "ld" : "ldx"} #len`;
  if (code === 0x02 || code === 0x03) return `${kind === 2 ? "st" : "stx"} m[${k}]`;
  if (code === 0x84) return "neg";
  const alu = kind === 0x04 ? ALU[code & 0xf0] : undefined;
  if (alu !== undefined) return `${alu} ${byX ? "x" : hex(k)}`;
  if (code === 0x05) return `ja ${line(at + 1 + k)}`;
  const jump = kind === 0x05 ? JUMPS[code & 0xf0] : undefined;
  if (jump !== undefined) return `${jump} ${byX ? "x" : hex(k)}, ${line(at + 1 + jt)}, ${line(at + 1 + jf)}`;
  if (isReturn(code)) return code === 0x16 ? "ret a" : `ret ${formatAction(k)}`;
  if (code === 0x07) return "tax";
  if (code === 0x87) return "txa";
  return `.data ${hex(code)}, ${jt}, ${jf}, ${hex(k)}`;
}

function field(offset: number): string {
  if (offset === 0) return "nr";
  if (offset === 4) return "arch";
  if (offset % 4 !== 0 || offset >= 64) return `[${offset}]`;
  const half = offset % 8 === 0 ? "low" : "high";
  return offset < 16 ? `ip.${half}` : `args[${Math.floor((offset - 16) / 8)}].${half}`;
}

function hex(value: number): string {
  return value < 10 ? String(value) : `0x${value.toString(16)}`;
}
