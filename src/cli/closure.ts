/** `hutch closure [OPTIONS] PROGRAM…`: what programs of this machine need to run, and why. */

import type { ArgsDef } from "citty";
import { UsageError } from "../errors.ts";
import { closureJson, formatClosure } from "../rootfs/closure-format.ts";
import type { Command } from "./command.ts";
import { hostClosure } from "./host-closure.ts";
import { all, has, oneOf, parseMixed } from "./options.ts";
import { print } from "./report.ts";

const OPTIONS = {
  "add-path": {
    type: "string",
    valueHint: "PATH",
    description: "a file or directory beside the programs, as with run (repeatable)",
  },
  format: { type: "string", valueHint: "text|json", description: "a tree for people, or JSON [text]" },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;

const OPERANDS = "PROGRAM…";

export const closure: Command = {
  main: async (argv) => {
    const parsed = parseMixed(OPTIONS, argv);
    if (has(parsed, "help")) {
      const { commandUsage } = await import("./usage.ts");
      print(await commandUsage("hutch closure", "List what programs of this machine need to run", OPERANDS, OPTIONS));
      return 0;
    }
    const format = oneOf(parsed, "format", ["text", "json"], "text");
    const paths = all(parsed, "add-path");
    if (parsed.operands.length + paths.length === 0) {
      throw new UsageError("PROGRAM is missing", { hint: `hutch closure [OPTIONS] ${OPERANDS}` });
    }
    const programs = parsed.operands.map((word) => ({ value: word, words: word }));
    const found = hostClosure(programs, paths);
    print(format === "json" ? `${JSON.stringify(closureJson(found), null, 2)}\n` : formatClosure(found));
    return 0;
  },
};
