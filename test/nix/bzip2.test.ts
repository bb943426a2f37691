import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { decompressBzip2 } from "../../src/nix/bzip2.ts";
import { failedPhase, parseBuildLog, parseSetPhase } from "../../src/nix/build-log.ts";
import { needProgram } from "./builds.ts";

function compress(data: Uint8Array, level = 9): Uint8Array {
  const child = Bun.spawnSync([needProgram("bzip2", "bzip2"), `-${level}c`], { stdin: data });
  if (child.exitCode !== 0) throw new Error(child.stderr.toString());
  return child.stdout;
}

function decompress(data: Uint8Array): { readonly bytes: Uint8Array; readonly complete: boolean } {
  const pieces: Uint8Array[] = [];
  const iterator = decompressBzip2(data);
  for (;;) {
    const next = iterator.next();
    if (next.done) return { bytes: Buffer.concat(pieces), complete: next.value };
    pieces.push(next.value);
  }
}

const text = (n: number) => Uint8Array.from({ length: n }, (_, i) => (i * i * 31 + (i >> 7)) & 0xff);

describe("decompressBzip2 reads what bzip2 writes", () => {
  test.each([
    ["nothing", new Uint8Array(0), 9],
    ["one byte", Uint8Array.of(7), 1],
    ["zeros, whose runs are counts", new Uint8Array(3_000_000), 9],
    [
      "runs of 3, 4, 5, 255, 259, 260",
      Buffer.concat([3, 4, 5, 255, 259, 260].map((n, i) => new Uint8Array(n).fill(i))),
      9,
    ],
    ["several blocks", text(350_000), 1],
    ["a block of every size", text(899_981), 9],
  ])("%s", (_, data, level) => {
    const { bytes, complete } = decompress(compress(data, level));
    expect(complete).toBe(true);
    expect(Bun.hash(bytes)).toBe(Bun.hash(data));
    expect(bytes.length).toBe(data.length);
  });

  test("any bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 3000 }), (data) => {
        expect(Buffer.compare(decompress(compress(data)).bytes, data)).toBe(0);
      }),
      { numRuns: 30 },
    );
  });

  test("two streams one after another are one", () => {
    const both = Buffer.concat([compress(text(1000)), compress(text(500))]);
    expect(decompress(both).bytes.length).toBe(1500);
  });
});

test("data that ends too early gives what came before it", () => {
  const data = compress(text(250_000), 1);
  const { bytes, complete } = decompress(data.subarray(0, data.length - 1000));
  expect(complete).toBe(false);
  expect(bytes.length).toBeGreaterThanOrEqual(199_000);
  expect(Buffer.compare(bytes, text(bytes.length))).toBe(0);
});

test("damaged data is refused or seen by its checksum, and nothing hangs", () => {
  const whole = compress(text(5000));
  fc.assert(
    fc.property(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const damaged = Uint8Array.from(whole);
      damaged[at] = (damaged[at] ?? 0) ^ change;
      try {
        const { bytes, complete } = decompress(damaged);
        if (complete) expect(Buffer.compare(bytes, text(5000))).toBe(0); // only bits that mean nothing
      } catch (error) {
        expect(String(error)).toContain("not bzip2 data");
      }
    }),
  );
  expect(() => decompress(new TextEncoder().encode("plain text of a log"))).toThrow("not bzip2 data: no signature");
});

describe("build logs", () => {
  const log = (lines: string, size = 7) => {
    const bytes = new TextEncoder().encode(lines);
    const pieces: Uint8Array[] = [];
    for (let i = 0; i < bytes.length; i += size) pieces.push(bytes.subarray(i, i + size));
    return parseBuildLog(pieces);
  };

  test("the last setPhase is the failed one, however the log is cut", () => {
    const lines = `hi\n@nix { "action": "setPhase", "phase": "unpackPhase" }\n${"x".repeat(200_000)}@nix {"action":"setPhase","phase":"no"}\n@nix {"action":"setPhase","phase":"checkPhase"}\nmake: error\n@nix {"action":"other"}\n@nix {broken\n`;
    for (const size of [1, 3, 4096, 1 << 20]) {
      expect(log(lines, size)).toEqual({ phases: ["unpackPhase", "checkPhase"], complete: true });
    }
    expect(failedPhase(log(lines))).toBe("checkPhase");
    expect(failedPhase(log("no phases\n"))).toBeUndefined();
  });

  test("a phase on a last line without its newline counts", () => {
    expect(log('@nix {"action":"setPhase","phase":"p"}').phases).toEqual(["p"]);
  });

  test.each(['@nix {"action":"setPhase","phase":7}', "@nix null", "@nix []", '{"action":"setPhase","phase":"p"}', ""])(
    "%p names no phase",
    (line) => expect(parseSetPhase(line)).toBeUndefined(),
  );
});
