/**
 * A Program: the child's part of a plan as flat system call records, and its form as a static ELF executable.
 *
 * Nothing between clone and execve can be written in a language with a runtime, so it is data: an interpreter of 200
 * bytes walks these records (interpreter.x64.S, interpreter.arm64.S). This file knows their layout and nothing of
 * sandboxes; assembler.ts writes them, lower.ts says which calls are made.
 *
 * Memory image, each part at a fixed address, so that a record can name any place while it is being written:
 *   0x400000   ELF header, program headers, the interpreter      (read, execute)
 *   0x410300   records                                           (read)
 *   0x800000   cells and buffers, zero at the start              (read, write)
 *   0x1000000  data: strings, structures, pointer arrays         (read, write)
 */

import { setInt32, uint64 } from "../bytes.ts";
import { HutchError } from "../errors.ts";
import { type Arch, SYSCALLS, type SyscallName } from "../libc/syscalls.ts";
import { INTERPRETER } from "./interpreter-bytes.ts";

/** Operations of the interpreter beside system calls: a0 - a1, a0 & a1, the 64-bit word at a0 + a1. */
export type PseudoOperation = "sub" | "and" | "load64";
export const PSEUDO: Readonly<Record<PseudoOperation, number>> = { sub: -1, and: -2, load64: -3 };

declare const place: unique symbol;
/** The address of a cell or of data in the program's memory. */
export type Place = number & { readonly [place]: true };

/** Records as 32-bit words, constant data, and the size of the zeroed memory. */
export interface Program {
  readonly arch: Arch;
  /** {@link RECORD_WORDS} for each record; see {@link RECORD} for their order. */
  readonly words: Int32Array;
  readonly data: Uint8Array;
  readonly cellBytes: number;
}

/** Words of a record: operation, mask of arguments that are contents of cells, six arguments, result, successors. */
export const RECORD = { operation: 0, mask: 1, arguments: 2, result: 8, next: 9, onError: 10, onZero: 11 } as const;
export const RECORD_WORDS = 12;
const RECORD_BYTES = 4 * RECORD_WORDS;

const TEXT_ADDRESS = 0x400000;
const TEXT_OFFSET = 64 + 5 * 56;
const RECORDS_OFFSET = 0x300;
const RECORDS_ADDRESS = TEXT_ADDRESS + 0x10000 + RECORDS_OFFSET;
export const CELLS_ADDRESS = 0x800000;
export const DATA_ADDRESS = 0x1000000;

/** Where the interpreter notes the last failure, for records that report it: 16 bytes, {record address, -errno}. */
export const FAILURE = CELLS_ADDRESS as Place;
/** Stack pointer at the start: argc, then the pointers of argv (System V ABI, "Process Initialization"). */
export const INITIAL_STACK = (CELLS_ADDRESS + 16) as Place;
/** Receives results that nobody wants; the first cell to be given away follows. */
export const UNWANTED = (CELLS_ADDRESS + 24) as Place;
export const FIRST_FREE_CELL = 32;

/** Address of a record. */
export function recordAddress(index: number): number {
  return RECORDS_ADDRESS + index * RECORD_BYTES;
}

/** Index of the record at an address, or -1 when none can be there. */
export function recordAt(address: number): number {
  const index = (address - RECORDS_ADDRESS) / RECORD_BYTES;
  return Number.isInteger(index) && index >= 0 ? index : -1;
}

/** The program header of the data, which is the last part of the file (elf(5)). */
const DATA_HEADER = 64 + 3 * 56;

/** What has room between the fixed addresses; the data may grow up to where an address is no positive 32-bit number. */
const MOST_RECORD_BYTES = CELLS_ADDRESS - RECORDS_ADDRESS;
const MOST_CELL_BYTES = DATA_ADDRESS - CELLS_ADDRESS;
const MOST_DATA_BYTES = 0x40000000 - DATA_ADDRESS;

interface Segment {
  readonly flags: number;
  readonly offset: number;
  readonly address: number;
  readonly fileBytes: number;
  readonly memoryBytes: number;
}

const READ = 4;
const WRITE = 2;
const EXECUTE = 1;
const PT_LOAD = 1;
const PT_GNU_STACK = 0x6474e551;
const MACHINE: Readonly<Record<Arch, number>> = { x64: 62, arm64: 183 }; // EM_X86_64, EM_AARCH64

function segments({ arch, words, data, cellBytes }: Program): readonly Segment[] {
  const page = arch === "x64" ? 0x1000 : 0x10000; // aarch64's pages may have 64 KiB
  const dataOffset = (RECORDS_OFFSET + words.byteLength + page - 1) & -page;
  const load = (flags: number, offset: number, address: number, fileBytes: number, memoryBytes = fileBytes) => {
    return { flags, offset, address, fileBytes, memoryBytes };
  };
  return [
    load(READ | EXECUTE, 0, TEXT_ADDRESS, RECORDS_OFFSET),
    load(READ, RECORDS_OFFSET, RECORDS_ADDRESS, words.byteLength),
    load(READ | WRITE, 0, CELLS_ADDRESS, 0, cellBytes),
    load(READ | WRITE, dataOffset, DATA_ADDRESS, data.length),
  ];
}

/** Encode a program as a static ELF executable (elf(5): ET_EXEC, four PT_LOAD, PT_GNU_STACK). */
export function encode(program: Program): Uint8Array {
  const { words, cellBytes } = program;
  if (words.length * 4 > MOST_RECORD_BYTES || cellBytes > MOST_CELL_BYTES || program.data.length > MOST_DATA_BYTES)
    throw new HutchError("so much is asked for that the launcher has no room for it", { hint: "fewer mounts" });
  const list = segments(program);
  const [, records, , data] = list as readonly [Segment, Segment, Segment, Segment];
  const image = new Uint8Array(data.offset + data.fileBytes);
  const view = new DataView(image.buffer);
  image.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]); // 64-bit, little-endian, current version
  view.setUint16(16, 2, true); // ET_EXEC
  view.setUint16(18, MACHINE[program.arch], true);
  view.setUint32(20, 1, true);
  view.setUint32(24, TEXT_ADDRESS + TEXT_OFFSET, true); // entry
  view.setUint32(32, 64, true); // program headers follow
  view.setUint16(52, 64, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, list.length + 1, true);
  list.forEach((segment, index) => writeSegment(view, index, PT_LOAD, segment));
  const stack = { flags: READ | WRITE, offset: 0, address: 0, fileBytes: 0, memoryBytes: 0 };
  writeSegment(view, list.length, PT_GNU_STACK, stack);
  image.set(Uint8Array.fromBase64(INTERPRETER[program.arch]), TEXT_OFFSET);
  image.set(new Uint8Array(program.words.buffer, program.words.byteOffset, program.words.byteLength), records.offset);
  image.set(program.data, data.offset);
  return image;
}

/** Offsets of a program's records and data in its encoded form. */
export function partOffsets(program: Program): { readonly records: number; readonly data: number } {
  const [, records, , data] = segments(program) as readonly [Segment, Segment, Segment, Segment];
  return { records: records.offset, data: data.offset };
}

/** Let the data segment of an encoded program reach to the end of `image`. */
export function growData(image: Uint8Array): void {
  const length = image.length - (uint64(image, DATA_HEADER + 8) % 2 ** 32);
  for (const field of [32, 40]) setInt32(image, DATA_HEADER + field, length);
}

function writeSegment(view: DataView, index: number, type: number, segment: Segment): void {
  const at = 64 + index * 56;
  view.setUint32(at, type, true);
  view.setUint32(at + 4, segment.flags, true);
  view.setUint32(at + 8, segment.offset, true);
  view.setUint32(at + 16, segment.address, true);
  view.setUint32(at + 24, segment.address, true);
  view.setUint32(at + 32, segment.fileBytes, true);
  view.setUint32(at + 40, segment.memoryBytes, true);
  view.setUint32(at + 48, type === PT_LOAD ? 0x1000 : 16, true);
}

/** Read an encoded program back: `encode(decode(elf))` is `elf` again. @throws RangeError when it is none of ours. */
export function decode(elf: Uint8Array): Program {
  const view = new DataView(elf.buffer, elf.byteOffset, elf.byteLength);
  if (elf.length < RECORDS_OFFSET || view.getUint32(0) !== 0x7f454c46) throw new RangeError("not a launcher");
  const machine = view.getUint16(18, true);
  const arch: Arch = machine === MACHINE.arm64 ? "arm64" : "x64";
  const header = (index: number) => {
    const at = 64 + index * 56;
    return {
      offset: view.getUint32(at + 8, true),
      fileBytes: view.getUint32(at + 32, true),
      memoryBytes: view.getUint32(at + 40, true),
    };
  };
  const [records, cells, data] = [header(1), header(2), header(3)];
  const bytes = elf.slice(records.offset, records.offset + records.fileBytes);
  if (bytes.length % RECORD_BYTES !== 0) throw new RangeError("not a launcher");
  return {
    arch,
    words: new Int32Array(bytes.buffer),
    data: elf.slice(data.offset, data.offset + data.fileBytes),
    cellBytes: cells.memoryBytes,
  };
}

/** Name of an operation's number: a system call, a pseudo-operation, or the number when it is neither. */
export function operationName(operation: number, arch: Arch): string {
  for (const name of Object.keys(PSEUDO) as PseudoOperation[]) if (PSEUDO[name] === operation) return name;
  for (const name of Object.keys(SYSCALLS) as SyscallName[]) if (SYSCALLS[name][arch] === operation) return name;
  return String(operation);
}
