/** `hutch ps [--format text|json]`: the caller's named sandboxes. */

import type { ArgsDef } from "citty";
import { UsageError } from "../errors.ts";
import type { RunningEntry } from "../running/entry.ts";
import type { Command } from "./command.ts";
import { has, oneOf, parseMixed } from "./options.ts";
import { oneLine } from "../bytes.ts";
import { print } from "./report.ts";
import { runningEntries } from "./running.ts";

const OPTIONS = {
  format: { type: "string", valueHint: "text|json", description: "a table for people, or JSON [text]" },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;

export const ps: Command = {
  main: async (argv) => {
    const parsed = parseMixed(OPTIONS, argv);
    if (has(parsed, "help")) {
      const { commandUsage } = await import("./usage.ts");
      print(await commandUsage("hutch ps", "List running sandboxes that were given a --name", "", OPTIONS));
      return 0;
    }
    const [stray] = parsed.operands;
    if (stray !== undefined) throw new UsageError(`unexpected ${stray}`, { hint: "hutch ps [--format json]" });
    const format = oneOf(parsed, "format", ["text", "json"], "text");
    const entries = runningEntries();
    print(format === "json" ? `${JSON.stringify(entries.map(fields))}\n` : table(entries));
    return 0;
  },
};

function fields({ name, pid, child, created, command, namespaces }: RunningEntry) {
  return { name, pid, child, created: new Date(created).toISOString(), command, namespaces };
}

function table(entries: readonly RunningEntry[]): string {
  const rows = [
    ["NAME", "PID", "STARTED", "COMMAND"],
    ...entries.map(({ name, pid, created, command }) => [
      name,
      String(pid),
      new Date(created).toISOString().slice(0, 19).replace("T", " "),
      oneLine(command.join(" ")),
    ]),
  ];
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) => `${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ")}\n`).join("");
}
