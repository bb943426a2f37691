/** Help texts, made by citty from the option definitions. */

import { defineCommand, renderUsage, type ArgsDef } from "citty";
import { COMMANDS } from "./commands.ts";
import { VERSION } from "./version.ts";

const ESCAPES = /\u001b\[[0-9;]*m/g; // eslint-disable-line no-control-regex -- colours are not for pipes

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

/** `hutch COMMAND --help`. */
export async function commandUsage(
  name: string,
  description: string,
  operands: string,
  args: ArgsDef,
): Promise<string> {
  const command = defineCommand({ meta: { name, description }, args });
  const text = (await renderUsage(command)).replace(ESCAPES, "");
  return `${text.replace(/^(USAGE|usage).*$/m, `USAGE ${name} [OPTIONS] ${operands}`)}\n`;
}
