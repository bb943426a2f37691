/** `hutch doctor [--format json]`: what this machine lets the caller do, and what mends the rest. */

import type { ArgsDef } from "citty";
import { doctor as examine } from "../doctor/doctor.ts";
import { formatReport, reportJson } from "../doctor/finding.ts";
import { UsageError } from "../errors.ts";
import type { Command } from "./command.ts";
import { has, oneOf, parseMixed } from "./options.ts";
import { print } from "./report.ts";

const OPTIONS = {
  format: { type: "string", valueHint: "text|json", description: "lines for people, or JSON [text]" },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;

/** Exit code 0 when `hutch run` works here, else 1. */
export const doctor: Command = {
  main: async (argv) => {
    const parsed = parseMixed(OPTIONS, argv);
    if (has(parsed, "help")) {
      const { commandUsage } = await import("./usage.ts");
      print(await commandUsage("hutch doctor", "Say what this machine can do, and what mends the rest", "", OPTIONS));
      return 0;
    }
    const [stray] = parsed.operands;
    if (stray !== undefined) throw new UsageError(`unexpected ${stray}`, { hint: "hutch doctor [--format json]" });
    const format = oneOf(parsed, "format", ["text", "json"], "text");
    const report = await examine();
    print(format === "json" ? reportJson(report) : formatReport(report));
    return report.works ? 0 : 1;
  },
};
