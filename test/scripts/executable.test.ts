/** The layout of the built executable. */

import { expect, test } from "bun:test";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { alignSegments, writeInPieces } from "../../scripts/executable.ts";
import { parseElf } from "../../src/rootfs/elf.ts";
import { makeFolder } from "../kernel/sandbox.ts";

const HUGE = 2 << 20;

/** PT_LOAD segments, and what is at each address of theirs. */
function loads(elf: Uint8Array): readonly { offset: number; address: number; align: number; bytes: Buffer }[] {
  const view = new DataView(elf.buffer, elf.byteOffset, elf.byteLength);
  const number = (at: number) => Number(view.getBigUint64(at, true));
  return Array.from({ length: view.getUint16(56, true) }, (_, index) => number(32) + 56 * index)
    .filter((at) => view.getUint32(at, true) === 1)
    .map((at) => {
      const offset = number(at + 8);
      const bytes = Buffer.from(elf.subarray(offset, offset + number(at + 32)));
      return { offset, address: number(at + 16), align: number(at + 48), bytes };
    });
}

const file = new Uint8Array(readFileSync("/bin/echo"));

test("segments are moved to where offset and address agree, with all that is in them", () => {
  const aligned = alignSegments(file);
  const [before, after] = [loads(file), loads(aligned)];
  expect(before.length).toBeGreaterThan(1);
  expect(before.some(({ offset, address }) => (address - offset) % HUGE !== 0)).toBe(true);
  for (const { offset, address, align } of after) {
    expect((address - offset) % HUGE).toBe(0);
    expect(align).toBe(HUGE);
  }
  expect(after.map(({ address }) => address)).toEqual(before.map(({ address }) => address));
  // The ELF header and the program headers are what has changed.
  const headers = 64 + 56 * new DataView(file.buffer).getUint16(56, true);
  expect(after.map(({ bytes }, index) => bytes.subarray(index === 0 ? headers : 0))).toEqual(
    before.map(({ bytes }, index) => bytes.subarray(index === 0 ? headers : 0)),
  );
  expect(parseElf(aligned)).toEqual(parseElf(file));
  expect(loads(alignSegments(aligned))).toEqual(after);
});

test("the file still runs, and its sections are where it says", async () => {
  const path = join(makeFolder(), "echo");
  await writeInPieces(path, alignSegments(file), 0o755);
  const { exitCode, stdout } = Bun.spawnSync([path, "hello"]);
  expect([exitCode, stdout.toString()]).toEqual([0, "hello\n"]);
  expect(sectionNames(new Uint8Array(readFileSync(path)))).toEqual(sectionNames(file));
  expect(sectionNames(file)).toContain(".text");
});

/** Names of the sections, by e_shoff and e_shstrndx. */
function sectionNames(elf: Uint8Array): readonly string[] {
  const view = new DataView(elf.buffer, elf.byteOffset, elf.byteLength);
  const number = (at: number) => Number(view.getBigUint64(at, true));
  const header = (index: number) => number(40) + 64 * index;
  const strings = number(header(view.getUint16(62, true)) + 24);
  return Array.from({ length: view.getUint16(60, true) }, (_, index) => {
    const start = strings + view.getUint32(header(index), true);
    return new TextDecoder().decode(elf.subarray(start, elf.indexOf(0, start)));
  });
}

test("a file is written whole, and never over another", async () => {
  const path = join(makeFolder(), "file");
  const bytes = new Uint8Array((17 << 20) + 3).fill(7);
  await writeInPieces(path, bytes, 0o640);
  expect(Bun.SHA256.hash(readFileSync(path), "hex")).toBe(Bun.SHA256.hash(bytes, "hex"));
  expect(statSync(path).mode & 0o777).toBe(0o640);
  expect(writeInPieces(path, bytes, 0o640)).rejects.toThrow("EEXIST");
});

test("what is no such file is refused", () => {
  for (const bytes of [new Uint8Array(10), new Uint8Array(100), file.slice(0, 5)])
    expect(() => alignSegments(bytes)).toThrow("no ELF file");
  const backwards = new Uint8Array(file);
  const view = new DataView(backwards.buffer);
  const last = 64 + 56 * (view.getUint16(56, true) - 1);
  backwards.set(file.subarray(64, 64 + 56), last); // no PT_LOAD
  for (let at = 64; at <= last; at += 56) if (view.getUint32(at, true) === 1) view.setBigUint64(at + 8, 0n, true);
  expect(() => alignSegments(backwards)).toThrow("not in order");
});
