/**
 * How an executable lies in its file, and that in the page cache: a start maps it by as few page faults as can be. It holds
 * as long as the page cache has the file as it was written: read from disk anew, a start takes a third longer (measured).
 */

import { open } from "node:fs/promises";

/** A page of the second level on x86-64, and on aarch64 with pages of 4 KiB. */
const HUGE_PAGE = 2 << 20;
const PIECE = 16 << 20;

const PT_LOAD = 1;

/**
 * Move each segment of a 64-bit little-endian ELF file to where offset and address are the same modulo 2 MiB, as a linker
 * does with `-z common-page-size`: where the page cache has a folio of that size, the kernel maps it by one fault
 * (do_set_pmd() in mm/memory.c). Addresses stay as they are.
 * @throws RangeError when it is no such file, or its segments are not in order
 */
export function alignSegments(elf: Uint8Array): Uint8Array {
  const from = new DataView(elf.buffer, elf.byteOffset, elf.byteLength);
  if (elf.length < 64 || from.getUint32(0) !== 0x7f454c46 || elf[4] !== 2 || elf[5] !== 1) {
    throw new RangeError("no ELF file of 64 bits, little-endian");
  }
  const headers = { at: number(from, 32), count: from.getUint16(56, true), size: 56 };
  const sections = { at: number(from, 40), count: from.getUint16(60, true), size: 64 };

  /** From each offset on, by how much what is there moves. */
  const moves: { readonly from: number; readonly by: number }[] = [];
  const moved = (offset: number) => offset + (moves.findLast((move) => move.from <= offset)?.by ?? 0);
  for (let index = 0; index < headers.count; index++) {
    const at = headers.at + index * headers.size;
    if (from.getUint32(at, true) !== PT_LOAD) continue;
    const [offset, address] = [number(from, at + 8), number(from, at + 16)];
    const last = moves.at(-1);
    if (last !== undefined && offset <= last.from) throw new RangeError("the segments are not in order");
    const before = last?.by ?? 0;
    const gap = (((address - offset - before) % HUGE_PAGE) + HUGE_PAGE) % HUGE_PAGE;
    moves.push({ from: offset, by: before + gap });
  }

  const image = new Uint8Array(moved(elf.length));
  moves.forEach(({ from: start, by }, index) =>
    image.set(elf.subarray(start, moves[index + 1]?.from ?? elf.length), start + by),
  );
  const to = new DataView(image.buffer);
  const move = (at: number) => to.setBigUint64(at, BigInt(moved(number(to, at))), true);
  for (let index = 0; index < headers.count; index++) {
    const at = headers.at + index * headers.size;
    if (number(to, at + 32) > 0) move(at + 8);
    if (to.getUint32(at, true) === PT_LOAD) to.setBigUint64(at + 48, BigInt(HUGE_PAGE), true);
  }
  move(40);
  for (let index = 0; index < sections.count; index++) move(moved(sections.at) + index * sections.size + 24);
  return image;
}

const number = (view: DataView, at: number): number => Number(view.getBigUint64(at, true));

/**
 * Write a new file in pieces of 16 MiB. The page cache then holds it in large folios; in pieces of 4 KiB, it does not.
 * @throws Error when there is such a file
 */
export async function writeInPieces(path: string, bytes: Uint8Array, mode: number): Promise<void> {
  const file = await open(path, "wx", mode);
  try {
    for (let at = 0; at < bytes.length;)
      at += (await file.write(bytes, at, Math.min(PIECE, bytes.length - at))).bytesWritten;
  } finally {
    await file.close();
  }
}
