/** Parsers under hostile input: a thousand each; scripts/fuzz.ts does a million. */

import { expect, test } from "bun:test";
import { fuzzTargets } from "../../scripts/fuzz-targets.ts";

const INPUTS = 1000;

test.each(fuzzTargets().map(({ name, run }) => [name, run] as const))("%s", (_, run) => {
  expect(() => run(INPUTS)).not.toThrow();
});
