/** `hutch login [REGISTRY]`: a password, tried at its registry and kept for the pulls to come. */

import type { ArgsDef } from "citty";
import { decodeBytes, encodeBytes, oneLine } from "../bytes.ts";
import { HutchError, UsageError } from "../errors.ts";
import { choosePlace, formatPlace, keyOf, type Password, storePassword, verifyPassword } from "../image/login.ts";
import { parseRegistryName } from "../image/reference.ts";
import { isTerminal, readAll, writeAll } from "../libc/files.ts";
import { ask, askSecretly } from "./ask.ts";
import type { Command } from "./command.ts";
import { has, last, type Parsed, parseMixed } from "./options.ts";
import { print, wasClosed } from "./report.ts";

const OPTIONS = {
  username: { type: "string", alias: "u", valueHint: "NAME", description: "whose password it is [asked]" },
  "password-stdin": { type: "boolean", description: "read the password from standard input [asked]" },
  password: { type: "string", alias: "p", description: "not there: everybody could read it in the list of processes" },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;

const OPERANDS = "[REGISTRY]";
const HINT = "hutch login -u NAME --password-stdin REGISTRY <FILE";
const PASSWORD_LIMIT = 64 * 1024;

export const login: Command = {
  main: async (argv) => {
    const parsed = parseMixed(OPTIONS, argv);
    if (has(parsed, "help")) {
      const { commandUsage } = await import("./usage.ts");
      print(await commandUsage("hutch login", "Keep a password for a registry", OPERANDS, OPTIONS));
      return 0;
    }
    // No word of the command line that may be a password is repeated.
    if (has(parsed, "password"))
      throw new UsageError("a password on the command line is refused: others see it there", { hint: HINT });
    if (parsed.operands.length > 1) throw new UsageError("more than one REGISTRY", { hint: HINT });
    const name = parseRegistryName(parsed.operands[0] ?? "docker.io");
    const options = { env: process.env, uid: process.getuid?.() ?? 0 };
    const place = choosePlace(name, options); // before anybody types a password
    const password = await whoAndWhat(parsed, keyOf(name));
    const isKnown = await verifyPassword(name, password, options);
    await storePassword(name, password, place, options);
    if (!isKnown) {
      const text = `${name.domain} asks for no password here: it is kept, but nobody has tried it`;
      writeAll(2, encodeBytes(`hutch login: warning: ${text}\n`));
    }
    print(`${keyOf(name)}: logged in as ${oneLine(password.username)} (${oneLine(formatPlace(place))})\n`);
    return 0;
  },
};

/** Name and password, from the options and standard input or by asking. @throws UsageError where nobody can be asked */
async function whoAndWhat(parsed: Parsed, registry: string): Promise<Password> {
  const given = last(parsed, "username");
  const isPiped = has(parsed, "password-stdin");
  const isTyped = !wasClosed(0) && isTerminal(0);
  if (isPiped && given === undefined) throw new UsageError("--password-stdin needs --username", { hint: HINT });
  if (isPiped && isTyped)
    throw new UsageError("--password-stdin is not for a terminal, which would show the password", {
      hint: "without it the password is asked for, and not shown",
    });
  if (!isPiped && !isTyped)
    throw new UsageError("standard input is not a terminal: nobody can be asked for the password", { hint: HINT });
  const username = given?.value ?? plainText(await ask(`User name for ${registry}: `), "user name");
  if (username === "") throw new UsageError("the user name is empty", { hint: HINT });
  // RFC 7617, section 2: what is before the first colon is the user.
  if (/[:\p{Cc}]/u.test(username) || !username.isWellFormed())
    throw new UsageError("a user name has no colon, no control character and nothing but UTF-8");
  const bytes = isPiped ? pipedPassword() : await askSecretly(`Password of ${oneLine(username)}: `);
  const password = plainText(bytes, "password");
  if (password === "") throw new UsageError("the password is empty");
  if (password.includes("\0")) throw new UsageError("a NUL byte in the password");
  return { kind: "password", username, password };
}

/** All of standard input but the end of its last line, as docker takes it. @throws UsageError */
function pipedPassword(): Uint8Array | undefined {
  if (wasClosed(0)) throw new UsageError("standard input is closed", { from: "--password-stdin" });
  const bytes = readAll(0, PASSWORD_LIMIT + 1);
  if (bytes.length > PASSWORD_LIMIT)
    throw new UsageError(`more than ${PASSWORD_LIMIT} bytes on standard input`, { from: "--password-stdin" });
  const end = bytes.at(-1) === 10 ? (bytes.at(-2) === 13 ? -2 : -1) : bytes.length;
  return bytes.subarray(0, end);
}

function plainText(bytes: Uint8Array | undefined, what: string): string {
  if (bytes === undefined) throw new HutchError(`no ${what}: the input has ended`);
  const text = decodeBytes(bytes);
  if (!text.isWellFormed()) throw new UsageError(`the ${what} is not UTF-8`);
  return text;
}
