/**
 * A Program: the child's part of a plan as flat system call records, and its form as a static ELF executable.
 *
 * Nothing between clone and execve can be written in a language with a runtime, so it is data: an interpreter of 200
 * bytes walks these records (interpreter.x64.S, interpreter.arm64.S). This file is the assembler for them. It knows
 * nothing of sandboxes; lower.ts says which calls are made,
 * assembler.ts helps it to write them.
 *
 * Memory image, at fixed addresses:
 *   0x400000  ELF header, three program headers, the interpreter                                (read, execute)
 *   0x410200  failed record, its -errno, first record and count, stack pointer; then 48-byte records; then constant data (read, write)
 *   …         cells and buffers, zero at the start
 */

import { type Arch, SYSCALLS, type SyscallName } from "../libc/syscalls.ts";
import { INTERPRETER } from "./interpreter-bytes.ts";

/** Operations of the interpreter beside system calls: a0 - a1, a0 & a1, the 64-bit word at a0 + a1. */
export type PseudoOperation = "sub" | "and" | "load64";
const PSEUDO: Readonly<Record<PseudoOperation, number>> = { sub: -1, and: -2, load64: -3 };

/** A place in the program's memory: the header's cells, constant data, or zeroed cells (offsets in bytes). */
export interface Place {
  readonly space: "header" | "data" | "cells";
  readonly offset: number;
}

/** An argument: a 32-bit immediate (sign-extended), the address of a place, or the content of a cell. */
export type Operand = number | { readonly address: Place } | { readonly content: Place };

/** One record. `next`, `onError` and `onZero` are indices of records; an absent one means the following record. */
export interface ProgramRecord {
  readonly operation: SyscallName | PseudoOperation | number;
  readonly operands: readonly Operand[];
  readonly result: Place | undefined;
  readonly next: number | undefined;
  readonly onError: number | undefined;
  readonly onZero: number | undefined;
}

/** Records, constant data with the pointers in it, and the number of zeroed bytes behind it. */
export interface Program {
  readonly records: readonly ProgramRecord[];
  readonly data: Uint8Array;
  /** 64-bit words in `data` that hold the address of another place. */
  readonly pointers: readonly { readonly at: number; readonly to: Place }[];
  readonly cellBytes: number;
}

const HEADER_ADDRESS = 0x410200;
const HEADER_BYTES = 32;
const TEXT_ADDRESS = 0x400000;
const TEXT_OFFSET = 64 + 3 * 56;
const DATA_OFFSET = 0x200;
const RECORD_BYTES = 48;
const RECORDS_ADDRESS = HEADER_ADDRESS + HEADER_BYTES;
const UNWANTED_CELL = 0; // receives results that nobody wants
export const FIRST_FREE_CELL = 8;

/** Where the interpreter notes the last failure, for records that report it: 16 bytes, {record address, -errno}. */
export const FAILURE: Place = { space: "header", offset: 0 };
/** Stack pointer at the start: argc, then the pointers of argv (System V ABI, "Process Initialization"). */
export const INITIAL_STACK: Place = { space: "header", offset: 24 };

/** Addresses of a program's parts, all below 2 GiB so that they fit a record's 32-bit fields. */
function layout(program: Pick<Program, "records" | "data">) {
  const data = RECORDS_ADDRESS + program.records.length * RECORD_BYTES;
  const cells = (data + program.data.length + 15) & ~15;
  const start = { header: HEADER_ADDRESS, data, cells };
  const addressOf = (place: Place): number => start[place.space] + place.offset;
  return { data, cells, addressOf, record: (index: number) => RECORDS_ADDRESS + index * RECORD_BYTES };
}

/** Index of the record whose address a failure report holds, or -1 when it is none of this program's. */
export function recordAt(address: number): number {
  const index = (address - RECORDS_ADDRESS) / RECORD_BYTES;
  return Number.isInteger(index) && index >= 0 ? index : -1;
}

/** Encode a program as a static ELF executable for one architecture (elf(5): ET_EXEC, two PT_LOAD, PT_GNU_STACK). */
export function encode(program: Program, arch: Arch): Uint8Array {
  const place = layout(program);
  const end = place.cells + program.cellBytes;
  const image = new Uint8Array(DATA_OFFSET + (place.cells - HEADER_ADDRESS));
  const view = new DataView(image.buffer);
  writeElfHeader(view, arch, image.length - DATA_OFFSET, end - HEADER_ADDRESS);
  image.set(Buffer.from(INTERPRETER[arch], "base64"), TEXT_OFFSET);
  view.setUint32(DATA_OFFSET + 16, RECORDS_ADDRESS, true);
  view.setUint32(DATA_OFFSET + 20, program.records.length, true); // for decode only
  program.records.forEach((record, index) => {
    const at = DATA_OFFSET + HEADER_BYTES + index * RECORD_BYTES;
    const { operation } = record;
    const number = typeof operation === "number" ? operation : operationNumber(operation, arch);
    view.setInt32(at, number, true);
    let mask = 0;
    record.operands.forEach((operand, i) => {
      let value: number;
      if (typeof operand === "number") value = operand;
      else if ("content" in operand) {
        mask |= 1 << i;
        value = place.addressOf(operand.content);
      } else {
        mask |= 0x100 << i; // for decode only: the interpreter reads the low byte
        value = place.addressOf(operand.address);
      }
      view.setInt32(at + 8 + 4 * i, value | 0, true);
    });
    view.setUint32(at + 4, mask, true);
    const next = place.record(record.next ?? index + 1);
    view.setUint32(
      at + 32,
      record.result === undefined ? place.cells + UNWANTED_CELL : place.addressOf(record.result),
      true,
    );
    view.setUint32(at + 36, next, true);
    view.setUint32(at + 40, record.onError === undefined ? next : place.record(record.onError), true);
    view.setUint32(at + 44, record.onZero === undefined ? next : place.record(record.onZero), true);
  });
  const dataAt = DATA_OFFSET + (place.data - HEADER_ADDRESS);
  image.set(program.data, dataAt);
  for (const { at, to } of program.pointers) view.setUint32(dataAt + at, place.addressOf(to), true);
  return image;
}

function operationNumber(operation: SyscallName | PseudoOperation, arch: Arch): number {
  return operation in PSEUDO ? PSEUDO[operation as PseudoOperation] : SYSCALLS[operation as SyscallName][arch];
}

function writeElfHeader(view: DataView, arch: Arch, fileBytes: number, memoryBytes: number): void {
  const { buffer } = view;
  new Uint8Array(buffer).set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]); // 64-bit, little-endian, current version
  view.setUint16(16, 2, true); // ET_EXEC
  view.setUint16(18, arch === "x64" ? 62 : 183, true); // EM_X86_64, EM_AARCH64
  view.setUint32(20, 1, true);
  view.setBigUint64(24, BigInt(TEXT_ADDRESS + TEXT_OFFSET), true);
  view.setBigUint64(32, 64n, true); // program headers follow
  view.setUint16(52, 64, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, 3, true);
  const segment = (
    index: number,
    type: number,
    flags: number,
    offset: number,
    address: number,
    file: number,
    memory: number,
  ) => {
    const at = 64 + index * 56;
    view.setUint32(at, type, true);
    view.setUint32(at + 4, flags, true);
    view.setUint32(at + 8, offset, true);
    view.setUint32(at + 16, address, true);
    view.setUint32(at + 24, address, true);
    view.setUint32(at + 32, file, true);
    view.setUint32(at + 40, memory, true);
    view.setUint32(at + 48, type === 1 ? 0x10000 : 16, true); // 64 KiB: the largest page of aarch64
  };
  segment(0, 1, 5, 0, TEXT_ADDRESS, DATA_OFFSET, DATA_OFFSET);
  segment(1, 1, 6, DATA_OFFSET, HEADER_ADDRESS, fileBytes, memoryBytes);
  segment(2, 0x6474e551, 6, 0, 0, 0, 0); // PT_GNU_STACK: not executable
}

/**
 * Read an encoded program back, for tests and for people. Pointers come back as the addresses they were written as, so
 * that `encode(decode(elf))` is `elf` again. @throws RangeError when the bytes are not such an executable.
 */
export function decode(elf: Uint8Array): { program: Program; arch: Arch } {
  const view = new DataView(elf.buffer, elf.byteOffset, elf.byteLength);
  const machine = view.getUint16(18, true);
  if (view.getUint32(0, false) !== 0x7f454c46 || (machine !== 62 && machine !== 183))
    throw new RangeError("not a launcher");
  const arch: Arch = machine === 62 ? "x64" : "arm64";
  const memoryBytes = view.getUint32(64 + 56 + 40, true);
  const count = view.getUint32(DATA_OFFSET + 20, true);
  const dataStart = RECORDS_ADDRESS + count * RECORD_BYTES;
  const cellsStart = elf.length - DATA_OFFSET + HEADER_ADDRESS;
  const names = operationNames(arch);
  const place = (address: number): Place => {
    if (address >= cellsStart) return { space: "cells", offset: address - cellsStart };
    if (address >= dataStart) return { space: "data", offset: address - dataStart };
    return { space: "header", offset: address - HEADER_ADDRESS };
  };
  const records: ProgramRecord[] = [];
  for (let index = 0; index < count; index++) {
    const at = DATA_OFFSET + HEADER_BYTES + index * RECORD_BYTES;
    const mask = view.getUint32(at + 4, true);
    const target = (offset: number): number => recordAt(view.getUint32(at + offset, true));
    const next = target(36);
    const result = view.getUint32(at + 32, true);
    const operands: Operand[] = [];
    for (let i = 0; i < 6; i++) {
      const value = view.getInt32(at + 8 + 4 * i, true);
      operands.push(
        (mask >> i) & 1 ? { content: place(value) } : (mask >> i) & 0x100 ? { address: place(value) } : value,
      );
    }
    const operation = view.getInt32(at, true);
    records.push({
      operation: names.get(operation) ?? operation,
      operands,
      result: result === cellsStart + UNWANTED_CELL ? undefined : place(result),
      next: next === index + 1 ? undefined : next,
      onError: target(40) === next ? undefined : target(40),
      onZero: target(44) === next ? undefined : target(44),
    });
  }
  const data = elf.slice(DATA_OFFSET + (dataStart - HEADER_ADDRESS));
  return { program: { records, data, pointers: [], cellBytes: memoryBytes - (cellsStart - HEADER_ADDRESS) }, arch };
}

function operationNames(arch: Arch): Map<number, SyscallName | PseudoOperation> {
  const names = new Map<number, SyscallName | PseudoOperation>();
  for (const name of Object.keys(SYSCALLS) as SyscallName[]) names.set(SYSCALLS[name][arch], name);
  for (const name of Object.keys(PSEUDO) as PseudoOperation[]) names.set(PSEUDO[name], name);
  return names;
}
