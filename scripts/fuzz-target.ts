/** What a fuzz target is, and inputs that are nearly right. */

import fc from "fast-check";
import { HutchError } from "../src/errors.ts";

/** A parser, and where its inputs come from. */
export interface FuzzTarget {
  readonly name: string;
  /** Feed inputs until one is found that breaks it. @throws with that input, made as small as it goes */
  readonly run: (inputs: number) => void;
}

/** No single input may take longer; a hang is a bug too. */
const MOST_MILLISECONDS = 2000;

/** A target; `isExpected` tells of errors that its contract names beside HutchError. */
export function target<T>(
  name: string,
  input: fc.Arbitrary<T>,
  feed: (value: T) => void,
  isExpected: (error: unknown) => boolean = () => false,
): FuzzTarget {
  const property = fc.property(input, (value) => {
    const start = performance.now();
    try {
      feed(value);
    } catch (error) {
      if (!(error instanceof HutchError) && !isExpected(error)) throw error;
    }
    const took = performance.now() - start;
    if (took > MOST_MILLISECONDS) throw new Error(`took ${took.toFixed(0)} ms`);
  });
  return { name, run: (numRuns) => void fc.assert(property, { numRuns }) };
}

/** A good file with some bytes changed, cut off anywhere; sometimes nothing but noise. */
export function mutated(good: Uint8Array): fc.Arbitrary<Uint8Array> {
  const interesting = fc.constantFrom(0, 1, 0x7f, 0x80, 0xfe, 0xff);
  const where = fc.oneof(fc.nat(64), fc.nat(Math.min(1024, good.length)), fc.nat(good.length));
  const changes = fc.array(fc.tuple(where, fc.oneof(interesting, fc.nat(255))), { maxLength: 16 });
  const length = fc.oneof(
    { weight: 4, arbitrary: fc.constant(good.length) },
    { weight: 1, arbitrary: fc.nat(good.length) },
  );
  const changed = fc.tuple(changes, length).map(([list, end]) => {
    const bytes = good.slice();
    for (const [at, value] of list) bytes[at] = value;
    return bytes.subarray(0, end);
  });
  return fc.oneof({ weight: 9, arbitrary: changed }, { weight: 1, arbitrary: fc.uint8Array({ maxLength: 256 }) });
}

/** Text of pieces that the format is made of, in any order, and of anything. */
export function pieced(...pieces: readonly string[]): fc.Arbitrary<string> {
  const piece = fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(...pieces) },
    { weight: 1, arbitrary: fc.string({ unit: "binary", maxLength: 8 }) },
  );
  return fc.array(piece, { maxLength: 40 }).map((list) => list.join(""));
}
