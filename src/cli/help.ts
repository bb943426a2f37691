/** `hutch help`: the commands, as citty shows them. */

import { defineCommand, renderUsage } from "citty";
import { COMMANDS } from "./commands.ts";
import { ESCAPES } from "./usage.ts";
import { VERSION } from "./version.ts";

/** `hutch help`. */
export async function usage(): Promise<string> {
  const shown = Object.entries(COMMANDS).filter(([, entry]) => entry.hidden !== true);
  const subCommands = Object.fromEntries(
    shown.map(([name, { summary }]) => [name, defineCommand({ meta: { name, description: summary } })]),
  );
  const command = defineCommand({
    meta: { name: "hutch", version: VERSION, description: "a Linux sandbox in one file" },
    subCommands,
  });
  return `${(await renderUsage(command)).replace(ESCAPES, "")}\n`;
}
