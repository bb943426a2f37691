/** `hutch rm NAME…`: remove layers that `hutch run --persist` keeps. */

import type { ArgsDef } from "citty";
import { HutchError, UsageError } from "../errors.ts";
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
    const failures: HutchError[] = [];
    for (const name of parsed.operands) {
      try {
        await removePersisted(store, name, self);
        print(`${name}\n`);
      } catch (error) {
        if (!(error instanceof HutchError)) throw error;
        failures.push(error);
      }
    }
    const [first, ...others] = failures;
    if (first !== undefined && others.length === 0) throw first;
    if (first !== undefined) throw new HutchError(failures.map(({ message }) => message).join("; "));
    return 0;
  },
};
