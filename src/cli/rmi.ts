/** `hutch rmi [--force] IMAGE…`: names out of the store, and what only they needed. */

import type { ArgsDef } from "citty";
import { UsageError } from "../errors.ts";
import { removeImage } from "../image/manage.ts";
import type { Command } from "./command.ts";
import { imageContext } from "./image-context.ts";
import { has, parseMixed } from "./options.ts";
import { oneLine } from "../bytes.ts";
import { removeRanged } from "./ranges.ts";
import { print } from "./report.ts";

const OPTIONS = {
  force: { type: "boolean", alias: "f", description: "all names of an id that has several" },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;

const OPERANDS = "IMAGE…";

export const rmi: Command = {
  main: async (argv) => {
    const parsed = parseMixed(OPTIONS, argv);
    if (has(parsed, "help")) {
      const { commandUsage } = await import("./usage.ts");
      print(await commandUsage("hutch rmi", "Remove images from the store", OPERANDS, OPTIONS));
      return 0;
    }
    if (parsed.operands.length === 0) throw new UsageError("IMAGE is missing", { hint: `hutch rmi ${OPERANDS}` });
    const context = imageContext();
    for (const word of parsed.operands) {
      const { names } = await removeImage(context.store, word, {
        force: has(parsed, "force"),
        removeRanged: removeRanged(context),
      });
      print(names.map((name) => `${oneLine(name)}\n`).join(""));
    }
    return 0;
  },
};
