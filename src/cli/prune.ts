/** `hutch prune [--all]`: what no image needs out of the store. */

import type { ArgsDef } from "citty";
import { UsageError } from "../errors.ts";
import { pruneImages } from "../image/manage.ts";
import { formatBytes } from "../image/views.ts";
import type { Command } from "./command.ts";
import { imageContext } from "./image-context.ts";
import { removeOldLayers } from "./disk-layer.ts";
import { has, parseMixed } from "./options.ts";
import { showProgress } from "./progress.ts";
import { oneLine } from "../bytes.ts";
import { removeRanged } from "./ranges.ts";
import { print } from "./report.ts";

const OPTIONS = {
  all: { type: "boolean", alias: "a", description: "every image, not only those without a name" },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;

export const prune: Command = {
  main: async (argv) => {
    const parsed = parseMixed(OPTIONS, argv);
    if (has(parsed, "help")) {
      const { commandUsage } = await import("./usage.ts");
      print(await commandUsage("hutch prune", "Free what no image needs", "", OPTIONS));
      return 0;
    }
    const [stray] = parsed.operands;
    if (stray !== undefined) throw new UsageError(`unexpected ${stray}`, { hint: "hutch rmi IMAGE removes one" });
    const context = imageContext();
    await removeOldLayers(context);
    using progress = showProgress("hutch prune");
    const { names, freed } = await pruneImages(context.store, {
      all: has(parsed, "all"),
      onEvent: progress.onEvent,
      removeRanged: removeRanged(context),
    });
    const sum = `freed ${formatBytes(freed?.bytes ?? 0)}: ${freed?.blobs ?? 0} blobs, ${freed?.layers ?? 0} layers`;
    print(`${names.map((name) => `${oneLine(name)}\n`).join("")}${sum}\n`);
    return 0;
  },
};
