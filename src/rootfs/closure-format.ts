/** A closure as text for people and as JSON, for `hutch closure PROGRAM`. Pure. */

import type { Closure, ClosureFile } from "./closure.ts";
import { isWithin } from "./walk.ts";

/**
 * A tree: each file the user named, below it what it wants, and so on; a file's own wants are shown where it stands
 * first. Then the links, what is missing, and the sum.
 */
export function formatClosure(closure: Closure): string {
  const children = new Map<string, ClosureFile[]>();
  const paths = new Set(closure.files.map((file) => file.path));
  const directories = closure.files.filter((file) => file.kind === "directory");
  for (const file of closure.files) {
    // A module inside of a directory that is bound whole stands for the directory.
    const wanters = file.wantedBy.map((wanter) =>
      paths.has(wanter) ? wanter : (directories.find((one) => isWithin(wanter, one.path))?.path ?? wanter),
    );
    for (const wanter of new Set(wanters)) children.set(wanter, [...(children.get(wanter) ?? []), file]);
  }
  const lines: string[] = [];
  const shown = new Set<string>();
  const show = (file: ClosureFile, lead: string, below: string): void => {
    const again = shown.has(file.path);
    shown.add(file.path);
    const own = children.get(file.path) ?? [];
    lines.push(`${lead}${label(file)}${again && own.length > 0 ? " (above)" : ""}`);
    if (again) return;
    own.forEach((child, index) => {
      const final = index === own.length - 1;
      show(child, `${below}${final ? "└── " : "├── "}`, `${below}${final ? "    " : "│   "}`);
    });
  };
  for (const file of closure.files) if (file.wantedBy.length === 0) show(file, "", "");
  // Files that want each other in a ring hang below none of the above.
  for (const file of closure.files) if (!shown.has(file.path)) show(file, "", "");
  if (closure.symlinks.length > 0) {
    lines.push("", "links:", ...closure.symlinks.map(({ path, to }) => `  ${path} → ${to}`));
  }
  if (closure.missing.length > 0) {
    lines.push("", "not on this machine (optional):");
    lines.push(...closure.missing.map(({ name, wantedBy }) => `  ${name}, wanted by ${wantedBy}`));
  }
  const counted = directories.length === 0 ? "" : `, ${directories.length} of them directories`;
  lines.push(
    "",
    `${closure.files.length} entries${counted}, ${closure.symlinks.length} links, ${formatSize(closure.size)}`,
  );
  return `${lines.join("\n")}\n`;
}

function label(file: ClosureFile): string {
  const real = file.real === file.path ? "" : ` → ${file.real}`;
  const rule = file.rule === undefined ? "" : `, ${file.rule}`;
  const what = file.kind === "library" || file.kind === "data" ? "" : `${file.kind}, `;
  const size = file.kind === "directory" && file.size === 0 ? "whole" : formatSize(file.size);
  return `${file.path}${real}  (${what}${size}${rule})`;
}

/** Bytes for people: `17 B`, `211 KiB`, `1.8 MiB`. */
export function formatSize(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** A closure as plain data for JSON: versioned, sizes in bytes, `rule` left out where there is none. */
export function closureJson(closure: Closure): Record<string, unknown> {
  return {
    schema: 1,
    size: closure.size,
    files: closure.files.map((file) => ({
      path: file.path,
      real: file.real,
      kind: file.kind,
      size: file.size,
      wantedBy: file.wantedBy,
      ...(file.rule === undefined ? {} : { rule: file.rule }),
    })),
    symlinks: closure.symlinks,
    missing: closure.missing,
  };
}
