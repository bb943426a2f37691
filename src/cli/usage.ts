/** Help texts, made by citty from the option definitions. */

import { defineCommand, renderUsage, type ArgsDef } from "citty";

/** Colours are not for pipes. */
export const ESCAPES = /\u001b\[[0-9;]*m/g;

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
