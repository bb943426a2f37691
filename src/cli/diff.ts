/** `hutch diff NAME`: what a layer that `hutch run --persist` keeps changes of its root. */

import type { ArgsDef } from "citty";
import { oneLine } from "../bytes.ts";
import { HutchError, UsageError } from "../errors.ts";
import { type Change, inChunks, readChanges } from "../image/changes.ts";
import { type PersistedLayer, persistedDisk, readPersisted } from "../image/persisted.ts";
import { pathStatus } from "../libc/files.ts";
import { checkName } from "../running/directory.ts";
import type { Command } from "./command.ts";
import { type ImageContext, imageContext } from "./image-context.ts";
import { has, oneOf, parseMixed } from "./options.ts";
import { readChangesInRanges } from "./ranges.ts";
import { jsonText, print } from "./report.ts";

const OPTIONS = {
  format: { type: "string", valueHint: "text|json", description: "a line for each change, or JSON [text]" },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;

const OPERANDS = "NAME";

export const diff: Command = {
  main: async (argv) => {
    const parsed = parseMixed(OPTIONS, argv);
    if (has(parsed, "help")) {
      const { commandUsage } = await import("./usage.ts");
      print(await commandUsage("hutch diff", "Show what a layer that is kept changes of its root", OPERANDS, OPTIONS));
      return 0;
    }
    const [name, stray] = parsed.operands;
    if (name === undefined) throw new UsageError("NAME is missing", { hint: "hutch layers lists the names" });
    if (stray !== undefined) throw new UsageError(`unexpected ${stray}`, { hint: `hutch diff ${OPERANDS}` });
    checkName(name, name);
    const format = oneOf(parsed, "format", ["text", "json"], "text");
    const context = imageContext();
    const layer = readPersisted(context.store, name);
    if (layer === undefined) throw new HutchError(`there is no layer ${name}`, { hint: "hutch layers lists them" });
    if (format === "text") await eachChanges(context, layer, (changes) => print(changes.map(line).join("")));
    else {
      let before = "[";
      await eachChanges(context, layer, (changes) => {
        print(`${before}\n${changes.map(json).join(",\n")}`);
        before = ",";
      });
      print(before === "[" ? "[]\n" : "\n]\n");
    }
    return 0;
  },
};

const line = ([kind, path]: Change): string => `${kind} ${oneLine(path)}\n`;
const json = ([kind, path]: Change): string => jsonText({ kind, path });

/** Root may read every file; an ordinary user is root of those of a layer only in a namespace with their ids. */
async function eachChanges(
  context: ImageContext,
  { name, root, ids }: PersistedLayer,
  onChanges: (changes: readonly Change[]) => void,
): Promise<void> {
  const { store, uid } = context;
  const lower = root.kind === "directory" ? [root.path] : root.lower.map((path) => `${store.root}/${path}`);
  const absent = lower.find((path) => typeof pathStatus(path) === "number");
  if (absent !== undefined)
    throw new HutchError(`${absent}, which layer ${name} is over, is not there`, {
      hint: `hutch rm ${name} removes the layer`,
    });
  const upper = `${persistedDisk(store, name)}/upper`;
  if (uid === 0) for (const changes of inChunks(readChanges(upper, lower))) onChanges(changes);
  else await readChangesInRanges(context, ids.startsWith("u"), { upper, layers: lower }, onChanges);
}
