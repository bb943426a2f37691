/** `hutch images`: the images of the store. */

import type { ArgsDef } from "citty";
import { EXIT, UsageError } from "../errors.ts";
import { listImages } from "../image/manage.ts";
import { IMAGE_COLUMNS, imageJson, imageRows } from "../image/views.ts";
import { encodeBytes, oneLine } from "../bytes.ts";
import { writeAll } from "../libc/files.ts";
import type { Command } from "./command.ts";
import { imageContext } from "./image-context.ts";
import { has, oneOf, parseMixed } from "./options.ts";
import { print, printJson } from "./report.ts";
import { formatTable } from "./table.ts";

const OPTIONS = {
  format: { type: "string", valueHint: "text|json", description: "a table for people, or JSON [text]" },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;

export const images: Command = {
  main: async (argv) => {
    const parsed = parseMixed(OPTIONS, argv);
    if (has(parsed, "help")) {
      const { commandUsage } = await import("./usage.ts");
      print(await commandUsage("hutch images", "List the images of the store", "", OPTIONS));
      return 0;
    }
    const [stray] = parsed.operands;
    if (stray !== undefined) throw new UsageError(`unexpected ${stray}`, { hint: "hutch inspect IMAGE shows one" });
    const format = oneOf(parsed, "format", ["text", "json"], "text");
    const { images: found, broken } = listImages(imageContext().store);
    if (format === "json") printJson(found.map(imageJson));
    else print(formatTable([IMAGE_COLUMNS, ...imageRows(found, Date.now())]));
    for (const text of broken) writeAll(2, encodeBytes(`hutch images: warning: ${oneLine(text)}\n`));
    return broken.length === 0 ? 0 : EXIT.failure;
  },
};
