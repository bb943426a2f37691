/** The report that `bun test --reporter=junit` writes. */

/** How a run of tests ended; `skipped` holds names, as `file: group > test`. */
export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: readonly string[];
}

function attribute(tag: string, name: string): string {
  const value = new RegExp(`\\s${name}="([^"]*)"`).exec(tag)?.[1] ?? "";
  const entities: Readonly<Record<string, string>> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };
  return value.replace(/&(lt|gt|quot|apos|amp);/g, (whole, entity: string) => entities[entity] ?? whole);
}

/**
 * Count the cases of a JUnit report. Skipped and todo tests are both `<skipped>` in it.
 * Throws when it has no `<testsuites>`, or its cases are fewer than it says.
 */
export function parseJUnit(xml: string): Counts {
  const total = /<testsuites\s[^>]*>/.exec(xml)?.[0];
  if (total === undefined) throw new Error("no <testsuites> in the report of the tests");
  const skipped: string[] = [];
  let [cases, failed] = [0, 0];
  for (const [, tag = "", body = ""] of xml.matchAll(
    /(<testcase\s(?:[^>"]|"[^"]*")*?)(?:\/>|>([\s\S]*?)<\/testcase>)/g,
  )) {
    cases += 1;
    if (/<(?:failure|error)\b/.test(body)) failed += 1;
    else if (/<skipped\b/.test(body)) {
      skipped.push(`${attribute(tag, "file")}: ${attribute(tag, "classname")} > ${attribute(tag, "name")}`);
    }
  }
  const said = Number(attribute(total, "tests"));
  if (cases !== said) throw new Error(`the report of the tests says ${said} tests and has ${cases}`);
  return { passed: cases - failed - skipped.length, failed, skipped };
}
