/** Tables for people. */

import { oneLine } from "../bytes.ts";

/** Columns as wide as their widest cell, parted by three spaces. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const clean = rows.map((row) => row.map(oneLine));
  const widths = (clean[0] ?? []).map((_, i) => Math.max(...clean.map((row) => Bun.stringWidth(row[i] ?? ""))));
  const pad = (cell: string, i: number): string =>
    cell + " ".repeat(Math.max(0, (widths[i] ?? 0) - Bun.stringWidth(cell)));
  return clean.map((row) => `${row.map(pad).join("   ").trimEnd()}\n`).join("");
}

/** One line of at most so many columns, its end cut for an ellipsis. */
export function shorten(text: string, width: number): string {
  const line = oneLine(text);
  return Bun.stringWidth(line) <= width
    ? line
    : Bun.sliceAnsi(line, 0, width - 1)
        .trimEnd()
        .concat("…");
}
