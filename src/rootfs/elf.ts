/**
 * What the kernel and the dynamic loader read of an ELF file: header, program headers, dynamic segment (elf(5), System V
 * gABI chapters 4 and 5). Section headers are never looked at: a stripped or packed program has none, and ld.so does
 * not use them. Pure; every number of the file is checked before it is used, so that a hostile one ends in a UsageError.
 */

import { decodeBytes } from "../bytes.ts";
import { UsageError } from "../errors.ts";

/** Bytes that can be read in pieces: a file, or an array in memory. `read` gives fewer bytes at the end, never more. */
export interface ByteSource {
  readonly size: number;
  read(offset: number, length: number): Uint8Array;
}

export interface Elf {
  readonly class: 32 | 64;
  readonly byteOrder: "little" | "big";
  /** As people say it: `x86-64`, `aarch64`, `i386`, …; `machine 0x1234` when it has no name here. */
  readonly machine: string;
  readonly type: "relocatable" | "executable" | "shared" | "core" | "unknown";
  /** PT_INTERP: path of the dynamic loader; undefined for static programs and for libraries. */
  readonly interpreter: string | undefined;
  /** DT_NEEDED, in order. */
  readonly needed: readonly string[];
  /** DT_FILTER (must be there) and DT_AUXILIARY (loaded when it is there). */
  readonly filters: readonly string[];
  readonly auxiliaries: readonly string[];
  /** DT_RPATH and DT_RUNPATH, colon-separated, $ORIGIN and others not yet replaced. */
  readonly rpath: string | undefined;
  readonly runpath: string | undefined;
  readonly soname: string | undefined;
  /** DF_1_NODEFLIB: neither ld.so.cache's entries of default directories nor these directories may be used. */
  readonly noDefaultLibraries: boolean;
  /** Whether there is a dynamic segment at all. */
  readonly dynamic: boolean;
}

const MACHINES: ReadonlyMap<number, string> = new Map([
  [2, "sparc"],
  [3, "i386"],
  [4, "m68k"],
  [8, "mips"],
  [15, "parisc"],
  [18, "sparc32plus"],
  [20, "powerpc"],
  [21, "powerpc64"],
  [22, "s390"],
  [40, "arm"],
  [42, "sh"],
  [43, "sparcv9"],
  [50, "ia64"],
  [62, "x86-64"],
  [93, "arc"],
  [183, "aarch64"],
  [243, "riscv"],
  [247, "bpf"],
  [252, "csky"],
  [258, "loongarch"],
  [0x9026, "alpha"],
]);

const TYPES = ["unknown", "relocatable", "executable", "shared", "core"] as const;
const PT = { load: 1, dynamic: 2, interp: 3 } as const;
const DT = {
  null: 0,
  needed: 1,
  strtab: 5,
  strsz: 10,
  soname: 14,
  rpath: 15,
  runpath: 29,
  flags1: 0x6ffffffb,
  auxiliary: 0x7ffffffd,
  filter: 0x7fffffff,
} as const;
const DF_1_NODEFLIB = 0x800;

/** Sizes beyond which a file is refused rather than read. The kernel's own limit on program headers is 64 KiB too. */
const LIMIT = { programHeaders: 65536, dynamic: 1 << 20, names: 4096, string: 65536, path: 4096 } as const;
/** The first read of a file: the header, its program headers and PT_INTERP nearly always lie in it. */
const FIRST_READ = 4096;

/** Whether bytes begin with ELF's magic number. */
export function isElf(bytes: Uint8Array): boolean {
  return bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46;
}

/**
 * Parse a whole ELF file held in memory.
 * @throws UsageError when it is no ELF file, is cut short, or contradicts itself.
 */
export function parseElf(bytes: Uint8Array): Elf {
  return readElf({ size: bytes.length, read: (offset, length) => bytes.subarray(offset, offset + length) });
}

/** Like {@link parseElf}, for a file of which only the needed pieces are read (3 to 5 reads of a few KiB). */
export function readElf(source: ByteSource): Elf {
  const first = source.read(0, Math.min(FIRST_READ, source.size));
  if (!isElf(first)) throw bad("not an ELF file");
  const wide = oneOf(first[4], 1, 2, "class") === 2;
  const little = oneOf(first[5], 1, 2, "byte order") === 1;
  const file = pieces(source, first, little, wide);

  const header = file.view(0, wide ? 64 : 52, "header");
  const type = TYPES[header.u16(16)] ?? "unknown";
  const machine = header.u16(18);
  const segments = readSegments(file, header, wide);
  let interp: Segment | undefined;
  let dynamic: Segment | undefined;
  for (const segment of segments) {
    if (segment.type === PT.interp) interp ??= segment;
    if (segment.type === PT.dynamic) dynamic ??= segment;
  }
  return {
    class: wide ? 64 : 32,
    byteOrder: little ? "little" : "big",
    machine: MACHINES.get(machine) ?? `machine 0x${machine.toString(16)}`,
    type,
    interpreter: interp === undefined ? undefined : readInterpreter(file, interp),
    ...readDynamic(file, segments, dynamic, wide),
    dynamic: dynamic !== undefined,
  };
}

/** `x86-64, 64 bit`: for messages that compare two files. */
export function formatMachine(elf: Pick<Elf, "machine" | "class" | "byteOrder">): string {
  const big = elf.byteOrder === "big" ? ", big-endian" : "";
  return `${elf.machine}, ${elf.class} bit${big}`;
}

interface Segment {
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly size: number;
}

function readSegments(file: Pieces, header: View, wide: boolean): Segment[] {
  const offset = header.word(wide ? 32 : 28);
  const entrySize = header.u16(wide ? 54 : 42);
  const count = header.u16(wide ? 56 : 44);
  if (count === 0) return [];
  if (entrySize !== (wide ? 56 : 32)) throw bad(`program headers of ${entrySize} bytes each`);
  if (count * entrySize > LIMIT.programHeaders) throw bad(`${count} program headers`);
  const table = file.view(offset, count * entrySize, "program headers");
  const segments: Segment[] = [];
  for (let i = 0; i < count; i++) {
    const at = i * entrySize;
    const kind = table.u32(at);
    if (kind !== PT.load && kind !== PT.dynamic && kind !== PT.interp) continue;
    segments.push({
      type: kind,
      offset: table.word(at + (wide ? 8 : 4)),
      address: table.word(at + (wide ? 16 : 8)),
      size: table.word(at + (wide ? 32 : 16)),
    });
  }
  return segments;
}

function readInterpreter(file: Pieces, segment: Segment): string {
  // The kernel's rule (binfmt_elf): 2 to PATH_MAX bytes, ending in NUL.
  if (segment.size < 2 || segment.size > LIMIT.path) throw bad(`interpreter of ${segment.size} bytes`);
  const bytes = file.bytes(segment.offset, segment.size, "interpreter");
  if (bytes[bytes.length - 1] !== 0) throw bad("interpreter without a final NUL");
  return decodeBytes(bytes.subarray(0, bytes.indexOf(0)));
}

type Dynamic = Omit<Elf, "class" | "byteOrder" | "machine" | "type" | "interpreter" | "dynamic">;

// The loop below runs cold in every `hutch run --add`: plain numbers in one pass, no helpers per entry.
function readDynamic(file: Pieces, segments: readonly Segment[], dynamic: Segment | undefined, wide: boolean): Dynamic {
  const needed: number[] = [];
  const filters: number[] = [];
  const auxiliaries: number[] = [];
  const table: StringTable = { address: undefined, size: undefined };
  let soname: number | undefined;
  let rpath: number | undefined;
  let runpath: number | undefined;
  let flags = 0;
  if (dynamic !== undefined) {
    if (dynamic.size > LIMIT.dynamic) throw bad(`dynamic segment of ${dynamic.size} bytes`);
    const view = file.view(fileOffset(segments, dynamic.address) ?? dynamic.offset, dynamic.size, "dynamic segment");
    const width = wide ? 8 : 4;
    for (let at = 0; at + 2 * width <= dynamic.size; at += 2 * width) {
      const tag = view.low(at);
      if (wide && view.high(at) !== 0) continue; // no tag that has a name is wider
      if (tag === DT.null) break;
      const value = at + width;
      if (tag === DT.needed) needed.push(view.word(value));
      else if (tag === DT.strtab) table.address = view.word(value);
      else if (tag === DT.strsz) table.size = view.word(value);
      else if (tag === DT.soname) soname = view.word(value);
      else if (tag === DT.rpath) rpath = view.word(value);
      else if (tag === DT.runpath) runpath = view.word(value);
      else if (tag === DT.flags1) flags = view.low(value);
      else if (tag === DT.filter) filters.push(view.word(value));
      else if (tag === DT.auxiliary) auxiliaries.push(view.word(value));
    }
    if (needed.length + filters.length + auxiliaries.length > LIMIT.names) {
      throw bad(`more than ${LIMIT.names} needed libraries`);
    }
  }
  const offsets = [...needed, ...filters, ...auxiliaries];
  if (soname !== undefined) offsets.push(soname);
  if (rpath !== undefined) offsets.push(rpath);
  if (runpath !== undefined) offsets.push(runpath);
  const strings = readStrings(file, segments, table, offsets);
  const at = (offset: number) => strings.get(offset) ?? "";
  return {
    needed: needed.map(at),
    filters: filters.map(at),
    auxiliaries: auxiliaries.map(at),
    rpath: rpath === undefined ? undefined : at(rpath),
    runpath: runpath === undefined ? undefined : at(runpath),
    soname: soname === undefined ? undefined : at(soname),
    noDefaultLibraries: (flags & DF_1_NODEFLIB) !== 0,
  };
}

/** DT_STRTAB, a virtual address, and DT_STRSZ. */
interface StringTable {
  address: number | undefined;
  size: number | undefined;
}

/** Offset in the file of a virtual address, through the PT_LOAD that holds it. */
function fileOffset(segments: readonly Segment[], address: number): number | undefined {
  for (const { type, address: start, size, offset } of segments) {
    if (type === PT.load && address >= start && address < start + size) return offset + (address - start);
  }
  return undefined;
}

/** Strings at offsets of DT_STRTAB. The table of a large program has megabytes: only the wanted stretch is read. */
function readStrings(
  file: Pieces,
  segments: readonly Segment[],
  { address, size }: StringTable,
  offsets: readonly number[],
): Map<number, string> {
  const strings = new Map<number, string>();
  if (offsets.length === 0) return strings;
  if (address === undefined || size === undefined) throw bad("dynamic segment without a string table");
  const start = fileOffset(segments, address);
  if (start === undefined) throw bad("string table outside of the loaded segments");
  const tail = 256; // most strings are shorter; longer ones are read again
  let low = size;
  let high = 0;
  for (const offset of offsets) {
    if (offset < low) low = offset;
    if (offset > high) high = offset;
  }
  const together =
    high - low <= LIMIT.string ? file.upTo(start + low, Math.min(high - low + tail, size - low)) : undefined;
  for (const offset of offsets) {
    if (offset >= size) throw bad("string beyond its table");
    let bytes = together?.subarray(offset - low) ?? file.upTo(start + offset, Math.min(tail, size - offset));
    if (!bytes.includes(0)) bytes = file.upTo(start + offset, Math.min(LIMIT.string, size - offset));
    const end = bytes.indexOf(0);
    if (end < 0) throw bad("string without an end");
    strings.set(offset, decodeBytes(bytes.subarray(0, end)));
  }
  return strings;
}

interface View {
  u16(at: number): number;
  u32(at: number): number;
  /** An address-sized number. */
  word(at: number): number;
  /** Its low and high 32 bits; of a 32-bit number the low ones are all. */
  low(at: number): number;
  high(at: number): number;
}

interface Pieces {
  /** Exactly `length` bytes, or a UsageError that names what was to be read. */
  bytes(offset: number, length: number, what: string): Uint8Array;
  /** Up to `length` bytes. */
  upTo(offset: number, length: number): Uint8Array;
  view(offset: number, length: number, what: string): View;
}

function pieces(source: ByteSource, first: Uint8Array, little: boolean, wide: boolean): Pieces {
  const upTo = (offset: number, length: number): Uint8Array => {
    if (length <= 0 || offset >= source.size) return new Uint8Array(0);
    if (offset + length <= first.length) return first.subarray(offset, offset + length);
    return source.read(offset, Math.min(length, source.size - offset));
  };
  const bytes = (offset: number, length: number, what: string): Uint8Array => {
    const got = upTo(offset, length);
    if (got.length < length) throw bad(`${what} cut short`);
    return got;
  };
  const view = (offset: number, length: number, what: string): View => {
    const raw = bytes(offset, length, what);
    const data = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
    const lowAt = wide && !little ? 4 : 0;
    const highAt = little ? 4 : 0;
    return {
      u16: (at) => data.getUint16(at, little),
      u32: (at) => data.getUint32(at, little),
      low: (at) => data.getUint32(at + lowAt, little),
      high: (at) => data.getUint32(at + highAt, little),
      word: (at) => {
        if (!wide) return data.getUint32(at, little);
        const top = data.getUint32(at + highAt, little);
        if (top >= 0x200000) throw bad(`${what} with a number beyond 2^53`);
        return top * 0x1_0000_0000 + data.getUint32(at + lowAt, little);
      },
    };
  };
  return { bytes, upTo, view };
}

function oneOf(value: number | undefined, a: number, b: number, what: string): number {
  if (value !== a && value !== b) throw bad(`unknown ${what}`);
  return value;
}

function bad(what: string): UsageError {
  return new UsageError(`bad ELF file: ${what}`);
}
