/** Byte strings lose nothing. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { decodeBytes, encodeBytes, setUint64, uint64 } from "../src/bytes.ts";

const same = (bytes: Uint8Array) => expect([...encodeBytes(decodeBytes(bytes))]).toEqual([...bytes]);

describe("bytes decoded and encoded are the same bytes", () => {
  test("whatever they are", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        same(bytes);
      }),
      { numRuns: 3000 },
    );
  });

  test("where UTF-8 is nearly right", () => {
    // Bytes at the edges of Unicode's table 3-7, so that broken sequences of each length are common.
    const edges = [0x00, 0x2f, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1];
    const more = [0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff, 0xb2];
    const byte = fc.constantFrom(...edges, ...more);
    fc.assert(
      fc.property(fc.array(byte, { maxLength: 12 }), (list) => {
        same(Uint8Array.from(list));
      }),
      { numRuns: 5000 },
    );
  });

  test("every single byte and every pair", () => {
    for (let a = 0; a < 256; a++) {
      same(Uint8Array.of(a));
      for (let b = 0; b < 256; b++) same(Uint8Array.of(a, b));
    }
  });
});

test("a string of whole characters is what it is in UTF-8, both ways", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      expect(encodeBytes(text)).toEqual(new TextEncoder().encode(text));
      expect(decodeBytes(new TextEncoder().encode(text))).toBe(text);
    }),
  );
});

test.each<readonly [bytes: number[], text: string]>([
  [[], ""],
  [[0x61, 0xff, 0x62], "a\udcffb"],
  [[0x80], "\udc80"],
  [[0xc3, 0xa4], "ä"],
  [[0xc3], "\udcc3"],
  [[0xc0, 0xaf], "\udcc0\udcaf"], // an overlong slash must not become one
  [[0xe0, 0x80, 0xaf], "\udce0\udc80\udcaf"],
  [[0xed, 0xa0, 0x80], "\udced\udca0\udc80"], // a surrogate in UTF-8
  [[0xed, 0xb2, 0x80], "\udced\udcb2\udc80"], // U+DC80 in UTF-8: not to be taken for the escaped byte 80
  [[0xf4, 0x8f, 0xbf, 0xbf], "\u{10ffff}"],
  [[0xf4, 0x90, 0x80, 0x80], "\udcf4\udc90\udc80\udc80"],
  [[0xef, 0xbb, 0xbf, 0x61], "\ufeffa"], // a byte order mark is a character like any other
  [[0xf0, 0x9f, 0x98, 0x80, 0xf0, 0x9f], "😀\udcf0\udc9f"],
])("%j is %j", (bytes, text) => {
  expect(decodeBytes(Uint8Array.from(bytes))).toBe(text);
  expect([...encodeBytes(text)]).toEqual(bytes);
});

test("strings that join keep their bytes", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 9 }), fc.uint8Array({ maxLength: 9 }), (a, b) => {
      expect([...encodeBytes(`${decodeBytes(a)}/${decodeBytes(b)}`)]).toEqual([...a, 0x2f, ...b]);
    }),
  );
});

test("64-bit numbers are as DataView writes and reads them", () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.nat({ max: 5 }), (value, at) => {
      const bytes = new Uint8Array(16).fill(0xaa);
      setUint64(bytes, at, value);
      const expected = new Uint8Array(16).fill(0xaa);
      new DataView(expected.buffer).setBigUint64(at, BigInt(value), true);
      expect(bytes).toEqual(expected);
      expect(uint64(bytes, at)).toBe(value);
    }),
  );
  expect(uint64(new Uint8Array(8).fill(0xff), 0)).toBe(2 ** 64); // RLIM_INFINITY
});
