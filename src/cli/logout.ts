/** `hutch logout [REGISTRY] | --all`: forget passwords. */

import type { ArgsDef } from "citty";
import { oneLine } from "../bytes.ts";
import { HutchError, UsageError } from "../errors.ts";
import { forget, forgetAll, formatPlace, keyOf, type Place } from "../image/login.ts";
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
    const options = { env: process.env, uid: process.getuid?.() ?? 0 };
    const line = (key: string, place: Place): string =>
      oneLine(`${key}: logged out (${formatPlace(place)})`).concat("\n");
    if (has(parsed, "all")) {
      if (word !== undefined) throw new UsageError(`${word} is one of all`, { from: "--all" });
      print((await forgetAll(options)).map(({ key, place }) => line(key, place)).join(""));
      return 0;
    }
    const key = keyOf(parseRegistryName(word ?? "docker.io"));
    const places = await forget(parseRegistryName(word ?? "docker.io"), options);
    if (places.length === 0)
      throw new HutchError(`not logged in to ${key}`, { hint: "hutch logout --all forgets all" });
    print(places.map((place) => line(key, place)).join(""));
    return 0;
  },
};
