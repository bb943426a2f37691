/** `hutch logout [REGISTRY] | --all`: forget passwords. */

import type { ArgsDef } from "citty";
import { oneLine } from "../bytes.ts";
import { HutchError, UsageError } from "../errors.ts";
import { forget, formatPlace, keyOf } from "../image/login.ts";
import { parseRegistryName } from "../image/reference.ts";
import type { Command } from "./command.ts";
import { has, parseMixed } from "./options.ts";
import { print } from "./report.ts";

const OPTIONS = {
  all: { type: "boolean", alias: "a", description: "of every registry" },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;

const OPERANDS = "[REGISTRY]";

export const logout: Command = {
  main: async (argv) => {
    const parsed = parseMixed(OPTIONS, argv);
    if (has(parsed, "help")) {
      const { commandUsage } = await import("./usage.ts");
      print(await commandUsage("hutch logout", "Forget the password for a registry", OPERANDS, OPTIONS));
      return 0;
    }
    const [word, stray] = parsed.operands;
    if (stray !== undefined) throw new UsageError(`unexpected ${stray}`, { hint: `hutch logout ${OPERANDS}` });
    if (word !== undefined && has(parsed, "all")) throw new UsageError(`${word} is one of all`, { from: "--all" });
    const name = has(parsed, "all") ? "all" : parseRegistryName(word ?? "docker.io");
    const { gone, failures } = await forget(name, { env: process.env, uid: process.getuid?.() ?? 0 });
    print(gone.map(({ key, place }) => `${oneLine(`${key}: logged out (${formatPlace(place)})`)}\n`).join(""));
    const [failure, ...others] = failures;
    if (failure !== undefined) {
      const more = others.map(({ message }) => `; ${message}`).join("");
      throw new HutchError(failure.message + more, failure.hint === undefined ? {} : { hint: failure.hint });
    }
    if (gone.length === 0 && name !== "all")
      throw new HutchError(`not logged in to ${keyOf(name)}`, { hint: "hutch logout --all forgets all" });
    return 0;
  },
};
