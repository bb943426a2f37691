/** `hutch tag IMAGE NAME`: another name for an image of the store. */

import type { ArgsDef } from "citty";
import { oneLine } from "../bytes.ts";
import { UsageError } from "../errors.ts";
import { tagImage } from "../image/manage.ts";
import { parseReference } from "../image/reference.ts";
import type { Command } from "./command.ts";
import { imageContext } from "./image-context.ts";
import { has, parseMixed } from "./options.ts";
import { print } from "./report.ts";

const OPTIONS = { help: { type: "boolean", description: "show this" } } as const satisfies ArgsDef;

const OPERANDS = "IMAGE NAME[:TAG]";

export const tag: Command = {
  main: async (argv) => {
    const parsed = parseMixed(OPTIONS, argv);
    if (has(parsed, "help")) {
      const { commandUsage } = await import("./usage.ts");
      print(await commandUsage("hutch tag", "Give an image of the store another name", OPERANDS, OPTIONS));
      return 0;
    }
    const [image, name, stray] = parsed.operands;
    const hint = `hutch tag ${OPERANDS}`;
    if (image === undefined || name === undefined)
      throw new UsageError(`${image === undefined ? "IMAGE" : "NAME"} is missing`, { hint });
    if (stray !== undefined) throw new UsageError(`unexpected ${stray}`, { hint });
    const reference = parseReference(name);
    if (reference.kind !== "registry" || reference.digest !== undefined)
      throw new UsageError(`${name} is not a name with a tag`, {
        hint: "a digest names one image, a place on disk none",
      });
    print(`${oneLine(await tagImage(imageContext().store, image, reference))}\n`);
    return 0;
  },
};
