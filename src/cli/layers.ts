/** `hutch layers`: what `hutch run --persist` keeps. */

import type { ArgsDef } from "citty";
import { encodeBytes, oneLine } from "../bytes.ts";
import { EXIT, HutchError, UsageError } from "../errors.ts";
import { type PersistedLayer, persistedNames, persistedUser, readPersisted } from "../image/persisted.ts";
import type { Store } from "../image/store.ts";
import { formatAge } from "../image/views.ts";
import { writeAll } from "../libc/files.ts";
import type { Command } from "./command.ts";
import { imageContext } from "./image-context.ts";
import { has, oneOf, parseMixed } from "./options.ts";
import { describeRoot } from "./persist.ts";
import { print, printJson } from "./report.ts";
import { formatTable } from "./table.ts";

const OPTIONS = {
  format: { type: "string", valueHint: "text|json", description: "a table for people, or JSON [text]" },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;

const COLUMNS = ["NAME", "ROOT", "CREATED", "IN USE BY"] as const;

/** A layer, and who writes to it. */
interface Listed {
  readonly layer: PersistedLayer;
  readonly user: { readonly pid: number | undefined } | undefined;
}

export const layers: Command = {
  main: async (argv) => {
    const parsed = parseMixed(OPTIONS, argv);
    if (has(parsed, "help")) {
      const { commandUsage } = await import("./usage.ts");
      print(await commandUsage("hutch layers", "List what hutch run --persist keeps", "", OPTIONS));
      return 0;
    }
    const [stray] = parsed.operands;
    if (stray !== undefined)
      throw new UsageError(`unexpected ${stray}`, { hint: "hutch diff NAME shows what one changes" });
    const format = oneOf(parsed, "format", ["text", "json"], "text");
    const { listed, broken } = listLayers(imageContext().store);
    const now = Date.now();
    if (format === "json") printJson(listed.map(fields));
    else print(formatTable([COLUMNS, ...listed.map((entry) => row(entry, now))]));
    for (const text of broken) writeAll(2, encodeBytes(`hutch layers: warning: ${oneLine(text)}\n`));
    return broken.length === 0 ? 0 : EXIT.failure;
  },
};

function listLayers(store: Store): { readonly listed: readonly Listed[]; readonly broken: readonly string[] } {
  const listed: Listed[] = [];
  const broken: string[] = [];
  for (const name of persistedNames(store)) {
    try {
      const layer = readPersisted(store, name);
      if (layer !== undefined) listed.push({ layer, user: persistedUser(store, name) });
    } catch (error) {
      if (!(error instanceof HutchError)) throw error;
      broken.push(`${error.message}${error.hint === undefined ? "" : `; hint: ${error.hint}`}`);
    }
  }
  return { listed, broken };
}

function row({ layer, user }: Listed, now: number): readonly string[] {
  const by = user === undefined ? "" : user.pid === undefined ? "a sandbox" : `process ${user.pid}`;
  return [layer.name, describeRoot(layer.root), formatAge(layer.created, now), by];
}

function fields({ layer: { name, root, created }, user }: Listed): object {
  const over = root.kind === "image" ? { kind: root.kind, name: root.name, id: root.id } : root;
  return { name, root: over, created, inUse: user !== undefined, pid: user?.pid ?? null };
}
