/**
 * A decoder for bzip2, which Nix compresses build logs with (Debian has the library, other hosts may have neither it
 * nor the program). Format: Julian Seward's bzip2 1.0; "bzip2: Format Specification", J. Tsai, 2016.
 *
 * Hostile input costs bounded time and memory: a block is at most 900,000 bytes before its runs are expanded, every
 * code length, selector and pointer is checked, and the output is handed out in pieces of at most 1 MiB.
 */

import { HutchError } from "../errors.ts";

interface Bits {
  readonly bytes: Uint8Array;
  at: number;
  buffer: number;
  count: number;
}

class EndOfInput extends Error {}

function readBit(bits: Bits): number {
  if (bits.count === 0) {
    const byte = bits.bytes[bits.at++];
    if (byte === undefined) throw new EndOfInput();
    bits.buffer = byte;
    bits.count = 8;
  }
  bits.count -= 1;
  return (bits.buffer >> bits.count) & 1;
}

/** Up to 24 bits, the most significant first. */
function readBits(bits: Bits, wanted: number): number {
  let value = 0;
  let left = wanted;
  while (left > 0) {
    if (bits.count === 0) {
      const byte = bits.bytes[bits.at++];
      if (byte === undefined) throw new EndOfInput();
      bits.buffer = byte;
      bits.count = 8;
    }
    const take = Math.min(left, bits.count);
    bits.count -= take;
    left -= take;
    value = (value << take) | ((bits.buffer >> bits.count) & ((1 << take) - 1));
  }
  return value;
}

const read32 = (bits: Bits): number => ((readBits(bits, 16) << 16) | readBits(bits, 16)) >>> 0;

const PIECE = 1 << 20;
const BLOCK = "314159265359"; // the digits of pi
const END = "177245385090"; // and of its square root
const GROUP_SIZE = 50;
const MAX_CODE = 20;

function corrupt(what: string): never {
  throw new HutchError(`not bzip2 data: ${what}`);
}

/**
 * Decompress, piece by piece; several streams one after another are one. Returns false when the data ends before its
 * stream does, as the log of a build that was killed may: what came before has been yielded.
 * @throws HutchError when the data is not bzip2's or a checksum is wrong
 */
export function* decompressBzip2(bytes: Uint8Array): Generator<Uint8Array, boolean> {
  const bits: Bits = { bytes, at: 0, buffer: 0, count: 0 };
  try {
    do yield* decodeStream(bits);
    while (bits.at < bytes.length);
    return true;
  } catch (error) {
    if (error instanceof EndOfInput) return false;
    throw error;
  }
}

function* decodeStream(bits: Bits): Generator<Uint8Array> {
  bits.count = 0; // streams begin on whole bytes
  if (readBits(bits, 24) !== 0x425a68) corrupt("no signature");
  const level = readBits(bits, 8) - 0x30;
  if (level < 1 || level > 9) corrupt("no block size");
  let combined = 0;
  for (;;) {
    const magic = readBits(bits, 24).toString(16).padStart(6, "0") + readBits(bits, 24).toString(16).padStart(6, "0");
    const expected = read32(bits);
    if (magic === END) {
      if (expected !== combined) corrupt("wrong checksum of the stream");
      return;
    }
    if (magic !== BLOCK) corrupt("no block");
    const block = decodeBlock(bits, level * 100_000);
    const checksum = yield* expandRuns(block);
    if (checksum !== expected) corrupt("wrong checksum of a block");
    combined = (((combined << 1) | (combined >>> 31)) ^ checksum) >>> 0;
  }
}

/** A canonical Huffman code: per length the largest code, and where its symbols begin in `symbols`. */
interface Code {
  readonly limit: Int32Array;
  readonly base: Int32Array;
  readonly symbols: Uint16Array;
}

function canonicalCode(lengths: Uint8Array): Code {
  const counts = new Int32Array(MAX_CODE + 2);
  for (const length of lengths) counts[length] = (counts[length] ?? 0) + 1;
  const limit = new Int32Array(MAX_CODE + 2).fill(-1);
  const base = new Int32Array(MAX_CODE + 2);
  const symbols = new Uint16Array(lengths.length);
  let code = 0;
  let index = 0;
  for (let length = 1; length <= MAX_CODE; length++) {
    base[length] = index - code;
    for (let symbol = 0; symbol < lengths.length; symbol++) if (lengths[symbol] === length) symbols[index++] = symbol;
    code += counts[length] ?? 0;
    if (code > 1 << length) corrupt("a Huffman code with too many symbols");
    limit[length] = code - 1;
    code <<= 1;
  }
  return { limit, base, symbols };
}

function readSymbol(bits: Bits, code: Code): number {
  let value = 0;
  for (let length = 1; length <= MAX_CODE; length++) {
    value = (value << 1) | readBit(bits);
    if (value > (code.limit[length] ?? -1)) continue;
    const symbol = code.symbols[value + (code.base[length] ?? 0)];
    if (symbol !== undefined) return symbol;
  }
  return corrupt("a bit pattern that is no symbol");
}

/** The block after the Burrows-Wheeler transform is undone, with its runs still as counts. */
interface Block {
  /** Low byte: the character; the rest: where the next one is. */
  readonly chain: Uint32Array;
  readonly length: number;
  readonly origin: number;
}

function decodeBlock(bits: Bits, capacity: number): Block {
  if (readBit(bits) === 1) corrupt("a randomised block, which no bzip2 since 0.9.5 writes");
  const origin = readBits(bits, 24);
  const used = readUsed(bits);
  const alphabet = used.length + 2; // run symbols a and b, the characters but one, the end of the block
  const groups = readBits(bits, 3);
  if (groups < 2 || groups > 6) corrupt("number of codes");
  const selectors = readSelectors(bits, groups);
  const codes = Array.from({ length: groups }, () => readCode(bits, alphabet));

  const chain = new Uint32Array(capacity);
  const counts = new Uint32Array(256);
  const front = Uint8Array.from(used);
  let length = 0;
  let run = 0;
  let weight = 1;
  for (let group = 0; ; group++) {
    const code = codes[selectors[group] ?? corrupt("more symbols than selectors")] ?? corrupt("a selector");
    for (let i = 0; i < GROUP_SIZE; i++) {
      const symbol = readSymbol(bits, code);
      if (symbol <= 1) {
        run += weight << symbol;
        weight <<= 1;
        if (run > capacity) corrupt("a run longer than the block");
        continue;
      }
      if (run > 0) {
        const character = front[0] ?? 0;
        if (length + run > capacity) corrupt("a block that is too long");
        chain.fill(character, length, length + run);
        counts[character] = (counts[character] ?? 0) + run;
        length += run;
        run = 0;
        weight = 1;
      }
      if (symbol === alphabet - 1) {
        if (length === 0 || origin >= length) corrupt("where the block begins");
        return { chain: link(chain, counts, length), length, origin };
      }
      if (length >= capacity) corrupt("a block that is too long");
      const character = front[symbol - 1] ?? 0;
      front.copyWithin(1, 0, symbol - 1);
      front[0] = character;
      counts[character] = (counts[character] ?? 0) + 1;
      chain[length++] = character;
    }
  }
}

function readUsed(bits: Bits): number[] {
  const ranges = readBits(bits, 16);
  const used: number[] = [];
  for (let range = 0; range < 16; range++) {
    if ((ranges & (0x8000 >> range)) === 0) continue;
    const map = readBits(bits, 16);
    for (let i = 0; i < 16; i++) if ((map & (0x8000 >> i)) !== 0) used.push(range * 16 + i);
  }
  if (used.length === 0) corrupt("a block without characters");
  return used;
}

function readSelectors(bits: Bits, groups: number): Uint8Array {
  const count = readBits(bits, 15);
  if (count === 0) corrupt("no selectors");
  const order = [0, 1, 2, 3, 4, 5];
  const selectors = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    let position = 0;
    while (readBit(bits) === 1) if (++position >= groups) corrupt("a selector");
    const [selector = 0] = order.splice(position, 1);
    order.unshift(selector);
    selectors[i] = selector;
  }
  return selectors;
}

function readCode(bits: Bits, alphabet: number): Code {
  const lengths = new Uint8Array(alphabet);
  let length = readBits(bits, 5);
  for (let symbol = 0; symbol < alphabet; symbol++) {
    for (;;) {
      if (length < 1 || length > MAX_CODE) corrupt("the length of a code");
      if (readBit(bits) === 0) break;
      length += readBit(bits) === 0 ? 1 : -1;
    }
    lengths[symbol] = length;
  }
  return canonicalCode(lengths);
}

/** Undo the Burrows-Wheeler transform: into each entry goes the place of the character that follows it. */
function link(chain: Uint32Array, counts: Uint32Array, length: number): Uint32Array {
  const places = new Uint32Array(256);
  let sum = 0;
  for (let character = 0; character < 256; character++) {
    places[character] = sum;
    sum += counts[character] ?? 0;
  }
  for (let i = 0; i < length; i++) {
    const character = (chain[i] ?? 0) & 0xff;
    const place = places[character] ?? 0;
    places[character] = place + 1;
    chain[place] = (chain[place] ?? 0) | (i << 8);
  }
  return chain;
}

/** The block's text: four equal bytes are followed by how often the byte comes again. Returns its checksum. */
function* expandRuns({ chain, length, origin }: Block): Generator<Uint8Array, number> {
  let piece = new Uint8Array(PIECE);
  let filled = 0;
  let checksum = 0xffffffff;
  let position = (chain[origin] ?? 0) >>> 8;
  let last = -1;
  let equal = 0;
  for (let i = 0; i < length; i++) {
    const entry = chain[position] ?? 0;
    const character = entry & 0xff;
    position = entry >>> 8;
    let times = 1;
    let out = character;
    if (equal === 4) {
      times = character;
      out = last;
      equal = 0;
      last = -1;
    } else {
      equal = character === last ? equal + 1 : 1;
      last = character;
    }
    for (; times > 0; times--) {
      checksum = (checksum << 8) ^ (CRC[(checksum >>> 24) ^ out] ?? 0);
      piece[filled++] = out;
      if (filled < PIECE) continue;
      yield piece;
      piece = new Uint8Array(PIECE);
      filled = 0;
    }
  }
  if (filled > 0) yield piece.subarray(0, filled);
  return ~checksum >>> 0;
}

/** CRC-32 with the polynomial 0x04c11db7, most significant bit first. */
const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte << 24;
  for (let bit = 0; bit < 8; bit++) value = value < 0 ? (value << 1) ^ 0x04c11db7 : value << 1;
  return value >>> 0;
});
