/** `hutch rm NAME…`: remove layers that `hutch run --persist` keeps. */

import type { ArgsDef } from "citty";
import { UsageError } from "../errors.ts";
import { checkName } from "../running/directory.ts";
import type { Command } from "./command.ts";
import { imageContext } from "./image-context.ts";
import { has, parseMixed } from "./options.ts";
import { removePersisted } from "./persist.ts";
import { print } from "./report.ts";

const OPTIONS = { help: { type: "boolean", description: "show this" } } as const satisfies ArgsDef;

const OPERANDS = "NAME…";

export const rm: Command = {
  main: async (argv, self) => {
    const parsed = parseMixed(OPTIONS, argv);
    if (has(parsed, "help")) {
      const { commandUsage } = await import("./usage.ts");
      print(await commandUsage("hutch rm", "Remove layers that hutch run --persist keeps", OPERANDS, OPTIONS));
      return 0;
    }
    if (parsed.operands.length === 0) throw new UsageError("NAME is missing", { hint: `hutch rm ${OPERANDS}` });
    for (const name of parsed.operands) checkName(name, name);
    const { store } = imageContext();
    for (const name of parsed.operands) {
      await removePersisted(store, name, self);
      print(`${name}\n`);
    }
    return 0;
  },
};
