/**
 * Feed every parser with hostile input, by hand and for long; `npm test` does a thousand each.
 *   bun scripts/fuzz.ts [INPUTS] [NAME]     INPUTS for each, a million by default; NAME: a part of a target's name
 */

import { fuzzTargets } from "./fuzz-targets.ts";

const [inputs = "1000000", wanted = ""] = process.argv.slice(2);
let failed = 0;
for (const { name, run } of fuzzTargets()) {
  if (!name.includes(wanted)) continue;
  const start = performance.now();
  try {
    run(Number(inputs));
    console.log(`ok      ${name}: ${inputs} in ${((performance.now() - start) / 1000).toFixed(1)} s`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
process.exitCode = failed === 0 ? 0 : 1;
