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
import { print } from "./report.ts";

const OPTIONS = {
  format: { type: "string", valueHint: "text|json", description: "a table for people, or JSON [text]" },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;

/** Columns as wide as their widest cell, parted by three spaces. */
function formatTable(rows: readonly (readonly string[])[]): string {
  const clean = rows.map((row) => row.map(oneLine));
  const widths = (clean[0] ?? []).map((_, i) => Math.max(...clean.map((row) => Bun.stringWidth(row[i] ?? ""))));
  const pad = (cell: string, i: number): string =>
    cell + " ".repeat(Math.max(0, (widths[i] ?? 0) - Bun.stringWidth(cell)));
  return clean.map((row) => `${row.map(pad).join("   ").trimEnd()}\n`).join("");
}

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
    if (format === "json") print(`${JSON.stringify(found.map(imageJson), null, 2)}\n`);
    else print(formatTable([IMAGE_COLUMNS, ...imageRows(found, Date.now())]));
    for (const text of broken) writeAll(2, encodeBytes(`hutch images: warning: ${oneLine(text)}\n`));
    return broken.length === 0 ? 0 : EXIT.failure;
  },
};
