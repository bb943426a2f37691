/**
 * glibc's /etc/ld.so.cache: which file ld.so takes for a library name (ldconfig(8), glibc's elf/dl-cache.c and
 * sysdeps/generic/{dl-cache,ldconfig}.h). The format "glibc-ld.so.cache1.1", alone or after the old "ld.so-1.7.0"
 * table as ldconfig wrote it before glibc 2.32. Pure; nothing is decoded before it is asked for.
 */

import { decodeBytes, encodeBytes } from "../bytes.ts";
import { UsageError } from "../errors.ts";
import type { Elf } from "./elf.ts";

export interface LdCacheEntry {
  /** `libc.so.6` */
  readonly name: string;
  /** `/lib/x86_64-linux-gnu/libc.so.6` */
  readonly path: string;
  /** ldconfig's FLAG_* word: kind of library and, above 0xff, its ABI. */
  readonly flags: number;
  /** Name of the glibc-hwcaps subdirectory (`x86-64-v3`), `legacy` for a mask of the time before glibc 2.33. */
  readonly hwcaps: string | undefined;
}

/** A cache whose header has been checked. */
export interface LdCache {
  readonly bytes: Uint8Array;
  /** Offset of the first entry, and their number. */
  readonly entries: number;
  readonly count: number;
  /** Offset that the file's string offsets count from: 0, or the start of the embedded new cache. */
  readonly base: number;
  readonly littleEndian: boolean;
  /** Names of the glibc-hwcaps subdirectories, by the index that entries use. */
  readonly hwcaps: readonly string[];
}

const OLD_MAGIC = "ld.so-1.7.0";
const NEW_MAGIC = "glibc-ld.so.cache1.1";
const HEADER = 48;
const ENTRY = 24;
const OLD_ENTRY = 12;
const EXTENSION_MAGIC = 0xeaa42174;
const EXTENSION_HWCAPS = 1;
/** Bit 62 of an entry's hwcap says that the low half is an index of a name; ten ISA-level bits may stand beside it. */
const HWCAP_EXTENSION = 0x4000_0000;
const ISA_LEVEL_MASK = 0x3ff;
const MAX_STRING = 4096;

/**
 * The FLAG_* word of a machine's libraries (glibc's _DL_CACHE_DEFAULT_ID), FLAG_ELF_LIBC6 included. ARM has two, for
 * its two float ABIs; RISC-V and LoongArch likewise.
 */
const ABI_FLAGS: Readonly<Record<string, readonly number[]>> = {
  "x86-64/64": [0x0303],
  "x86-64/32": [0x0803],
  "i386/32": [0x0003],
  "aarch64/64": [0x0a03],
  "arm/32": [0x0903, 0x0b03, 0x0003],
  "powerpc/32": [0x0003],
  "powerpc64/64": [0x0503],
  "s390/32": [0x0003],
  "s390/64": [0x0403],
  "riscv/64": [0x1003, 0x0f03],
  "loongarch/64": [0x1203, 0x1103],
  "ia64/64": [0x0203],
  "sparcv9/64": [0x0103],
  "mips/32": [0x0003, 0x0c03, 0x0603, 0x0d03],
  "mips/64": [0x0703, 0x0e03],
};

/** Check a cache's header. @throws UsageError when it is no such file or is cut short. */
export function parseLdCache(bytes: Uint8Array): LdCache {
  const base = findNew(bytes);
  if (bytes.length < base + HEADER) throw bad("cut short");
  const view = dataView(bytes);
  // cache_file_new.flags: 0 unset (before 2.33, then the machine's own order), 2 little, 3 big.
  const order = view.getUint8(base + 28) & 3;
  if (order === 1) throw bad("half written");
  const littleEndian = order !== 3;
  const count = view.getUint32(base + 20, littleEndian);
  if (base + HEADER + count * ENTRY > bytes.length) throw bad(`no room for its ${count} entries`);
  const extension = view.getUint32(base + 32, littleEndian);
  const cache = { bytes, base, entries: base + HEADER, count, littleEndian, hwcaps: [] };
  return extension === 0 ? cache : { ...cache, hwcaps: readHwcaps(cache, extension) };
}

/** All entries, in the file's order. @throws UsageError when one points outside of the file. */
export function ldCacheEntries(cache: LdCache): LdCacheEntry[] {
  return Array.from({ length: cache.count }, (_, index) => entryAt(cache, index));
}

/**
 * Entries for a library name that fit a program's class and machine, in the cache's order of preference; entries
 * without `hwcaps` run on every machine of that kind. Empty when there is none. Searched by halves as ld.so does.
 * @throws UsageError when an entry points outside of the file.
 */
export function lookupLdCache(cache: LdCache, name: string, elf: Pick<Elf, "class" | "machine">): LdCacheEntry[] {
  const flags = ABI_FLAGS[`${elf.machine}/${elf.class}`] ?? [];
  const wanted = encodeBytes(name);
  let low = 0;
  let high = cache.count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    // Entries are in falling order.
    if (compareLibraries(cache.bytes, keyOffset(cache, middle), wanted, 0) > 0) low = middle + 1;
    else high = middle;
  }
  const found: LdCacheEntry[] = [];
  for (let index = low; index < cache.count; index++) {
    if (compareLibraries(cache.bytes, keyOffset(cache, index), wanted, 0) !== 0) break;
    const entry = entryAt(cache, index);
    // 1 is FLAG_ELF, a library of no particular libc: ld.so takes it on every machine.
    if (entry.flags === 1 || flags.includes(entry.flags)) found.push(entry);
  }
  return found;
}

/**
 * glibc's _dl_cache_libcmp on two NUL-terminated names: numbers compare by value and above letters, the rest by byte.
 * The end of an array counts as NUL. Result below, at or above 0.
 */
export function compareLibraries(left: Uint8Array, l: number, right: Uint8Array, r: number): number {
  const isDigit = (byte: number) => byte >= 48 && byte <= 57;
  let a = left[l] ?? 0;
  let b = right[r] ?? 0;
  while (a !== 0) {
    if (isDigit(a)) {
      if (!isDigit(b)) return 1;
      let x = 0;
      let y = 0;
      for (; isDigit(a); a = left[++l] ?? 0) x = (x * 10 + a - 48) | 0;
      for (; isDigit(b); b = right[++r] ?? 0) y = (y * 10 + b - 48) | 0;
      if (x !== y) return x - y;
    } else if (isDigit(b)) {
      return -1;
    } else if (a !== b) {
      return a - b;
    } else {
      a = left[++l] ?? 0;
      b = right[++r] ?? 0;
    }
  }
  return a - b;
}

function findNew(bytes: Uint8Array): number {
  if (startsWith(bytes, 0, NEW_MAGIC)) return 0;
  if (!startsWith(bytes, 0, OLD_MAGIC)) throw bad("unknown format");
  if (bytes.length < 16) throw bad("cut short");
  // The old table is in the byte order of its machine: one of the two leads to the new magic.
  for (const littleEndian of [true, false]) {
    const end = 16 + dataView(bytes).getUint32(12, littleEndian) * OLD_ENTRY;
    for (const alignment of [8, 4]) {
      const base = Math.ceil(end / alignment) * alignment;
      if (startsWith(bytes, base, NEW_MAGIC)) return base;
    }
  }
  throw bad("only the format of before glibc 2.2");
}

/**
 * Names of the hwcaps subdirectories. Extensions and their sections are found from the start of the file even in an
 * embedded cache, the strings that they point to from the start of that cache, as all strings.
 */
function readHwcaps(cache: LdCache, at: number): string[] {
  const { bytes, littleEndian } = cache;
  const view = dataView(bytes);
  if (at + 8 > bytes.length) throw bad("extensions cut short");
  if (view.getUint32(at, littleEndian) !== EXTENSION_MAGIC) return [];
  const sections = view.getUint32(at + 4, littleEndian);
  if (at + 8 + sections * 16 > bytes.length) throw bad("extensions cut short");
  for (let i = 0; i < sections; i++) {
    const section = at + 8 + i * 16;
    if (view.getUint32(section, littleEndian) !== EXTENSION_HWCAPS) continue;
    const offset = view.getUint32(section + 8, littleEndian);
    const size = view.getUint32(section + 12, littleEndian);
    if (offset + size > bytes.length) throw bad("extensions cut short");
    return Array.from({ length: size >>> 2 }, (_, k) =>
      stringAt(cache, cache.base + view.getUint32(offset + 4 * k, littleEndian)),
    );
  }
  return [];
}

function keyOffset(cache: LdCache, index: number): number {
  const offset = cache.base + dataView(cache.bytes).getUint32(cache.entries + index * ENTRY + 4, cache.littleEndian);
  if (offset >= cache.bytes.length) throw bad("entry outside of the file");
  return offset;
}

function entryAt(cache: LdCache, index: number): LdCacheEntry {
  const view = dataView(cache.bytes);
  const at = cache.entries + index * ENTRY;
  const little = cache.littleEndian;
  const first = view.getUint32(at + 16, little);
  const second = view.getUint32(at + 20, little);
  return {
    name: stringAt(cache, keyOffset(cache, index)),
    path: stringAt(cache, cache.base + view.getUint32(at + 8, little)),
    flags: view.getUint32(at, little),
    hwcaps: hwcapsOf(cache, little ? first : second, little ? second : first),
  };
}

function hwcapsOf(cache: LdCache, low: number, high: number): string | undefined {
  if ((high & ~ISA_LEVEL_MASK) >>> 0 === HWCAP_EXTENSION) return cache.hwcaps[low] ?? `hwcaps ${low}`;
  return low === 0 && high === 0 ? undefined : "legacy";
}

function stringAt(cache: LdCache, offset: number): string {
  const bytes = cache.bytes.subarray(offset, offset + MAX_STRING);
  const end = bytes.indexOf(0);
  if (end < 0) throw bad("string without an end");
  return decodeBytes(bytes.subarray(0, end));
}

function startsWith(bytes: Uint8Array, at: number, text: string): boolean {
  for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text.charCodeAt(i)) return false;
  return true;
}

function dataView(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function bad(what: string): UsageError {
  return new UsageError(`bad ld.so.cache: ${what}`);
}
