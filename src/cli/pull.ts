/** `hutch pull [OPTIONS] IMAGE…`: images into the store, asking their registries again. */

import type { ArgsDef } from "citty";
import { UsageError } from "../errors.ts";
import { parsePlatform } from "../image/platform.ts";
import { pull as pullImage } from "../image/pull.ts";
import { formatReference, parseReference } from "../image/reference.ts";
import type { Command } from "./command.ts";
import { imageContext } from "./image-context.ts";
import { has, last, oneOf, parseMixed } from "./options.ts";
import { showProgress } from "./progress.ts";
import { oneLine } from "../bytes.ts";
import { print } from "./report.ts";

const OPTIONS = {
  platform: { type: "string", valueHint: "OS/ARCH[/VARIANT]", description: "of an image of many [this machine's]" },
  pull: {
    type: "string",
    valueHint: "always|missing",
    description: "ask the registry even for an image that is there [always]",
  },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;

const OPERANDS = "IMAGE…";

export const pull: Command = {
  main: async (argv) => {
    const parsed = parseMixed(OPTIONS, argv);
    if (has(parsed, "help")) {
      const { commandUsage } = await import("./usage.ts");
      print(await commandUsage("hutch pull", "Bring images into the store", OPERANDS, OPTIONS));
      return 0;
    }
    if (parsed.operands.length === 0) throw new UsageError("IMAGE is missing", { hint: `hutch pull ${OPERANDS}` });
    const policy = oneOf(parsed, "pull", ["always", "missing"], "always");
    const wanted = last(parsed, "platform");
    const platform = wanted === undefined ? undefined : parsePlatform(wanted.value);
    const references = parsed.operands.map(parseReference);
    const context = imageContext();
    for (const reference of references) {
      const { image } = await (async () => {
        using progress = showProgress("hutch pull");
        return await pullImage(reference, { ...context, policy, platform, onEvent: progress.onEvent });
      })();
      const { name, manifest } = image.record;
      // What is printed is an IMAGE again; a place on disk has no form with a digest.
      const shown = name ?? formatReference(reference);
      const pinned = reference.kind !== "registry" || shown.includes("@") ? shown : `${shown}@${manifest.digest}`;
      print(`${oneLine(pinned)}\n`);
    }
    return 0;
  },
};
