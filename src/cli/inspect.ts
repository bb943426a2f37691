/** `hutch inspect IMAGE…`: what is known of images, as a JSON array. */

import type { ArgsDef } from "citty";
import { UsageError } from "../errors.ts";
import { inspectImage } from "../image/manage.ts";
import { inspectJson } from "../image/views.ts";
import type { Command } from "./command.ts";
import { imageContext } from "./image-context.ts";
import { has, oneOf, parseMixed } from "./options.ts";
import { print, printJson } from "./report.ts";

const OPTIONS = {
  format: { type: "string", valueHint: "json", description: "accepted: it is always JSON" },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;

const OPERANDS = "IMAGE…";

export const inspect: Command = {
  main: async (argv) => {
    const parsed = parseMixed(OPTIONS, argv);
    if (has(parsed, "help")) {
      const { commandUsage } = await import("./usage.ts");
      print(await commandUsage("hutch inspect", "Show what is known of images, as JSON", OPERANDS, OPTIONS));
      return 0;
    }
    if (parsed.operands.length === 0) throw new UsageError("IMAGE is missing", { hint: `hutch inspect ${OPERANDS}` });
    oneOf(parsed, "format", ["json"], "json");
    const { store } = imageContext();
    const found = parsed.operands.map((word) => inspectJson(inspectImage(store, word)));
    printJson(found);
    return 0;
  },
};
