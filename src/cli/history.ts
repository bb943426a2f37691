/** `hutch history IMAGE`: how an image was made, step by step. */

import type { ArgsDef } from "citty";
import { encodeBytes, oneLine } from "../bytes.ts";
import { UsageError } from "../errors.ts";
import { HISTORY_COLUMNS, historyJson, historyRows, imageHistory } from "../image/history.ts";
import { inspectImage } from "../image/manage.ts";
import { writeAll } from "../libc/files.ts";
import type { Command } from "./command.ts";
import { imageContext } from "./image-context.ts";
import { has, oneOf, parseMixed } from "./options.ts";
import { print, printJson } from "./report.ts";
import { formatTable, shorten } from "./table.ts";

const OPTIONS = {
  format: { type: "string", valueHint: "text|json", description: "a table for people, or JSON [text]" },
  "no-trunc": { type: "boolean", description: "show all of what is long" },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;

const OPERANDS = "IMAGE";

export const history: Command = {
  main: async (argv) => {
    const parsed = parseMixed(OPTIONS, argv);
    if (has(parsed, "help")) {
      const { commandUsage } = await import("./usage.ts");
      print(await commandUsage("hutch history", "Show how an image was made", OPERANDS, OPTIONS));
      return 0;
    }
    const [image, stray] = parsed.operands;
    const hint = `hutch history ${OPERANDS}`;
    if (image === undefined) throw new UsageError("IMAGE is missing", { hint });
    if (stray !== undefined) throw new UsageError(`unexpected ${stray}`, { hint });
    const format = oneOf(parsed, "format", ["text", "json"], "text");
    const found = imageHistory(inspectImage(imageContext().store, image));
    const short = has(parsed, "no-trunc") ? (text: string) => text : shorten;
    if (format === "json") printJson(found.rows.map(historyJson));
    else print(formatTable([HISTORY_COLUMNS, ...historyRows(found, Date.now(), short)]));
    if (found.fault !== undefined)
      writeAll(2, encodeBytes(`hutch history: warning: ${oneLine(`${image}: ${found.fault}`)}\n`));
    return 0;
  },
};
