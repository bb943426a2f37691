/** From argv to a command: which applet this is, which command is meant, and what becomes of its errors. */

import { EXIT, UsageError } from "../errors.ts";
import { APPLETS, COMMANDS } from "./commands.ts";
import { ownArguments } from "../launch/launch.ts";
import { nearest } from "./options.ts";
import { print, reportError } from "./report.ts";
import { VERSION } from "./version.ts";

/** Arguments behind the program's own, byte for byte, and the name it was called by. */
export function commandLine(): { name: string; args: readonly string[] } {
  const whole = ownArguments();
  const count = process.argv.length - 2; // Bun puts its own two in front, compiled or not
  const args = whole.slice(whole.length - count);
  const called = Bun.isStandaloneExecutable ? (whole[0] ?? "") : (process.argv[1] ?? "");
  return { name: called.slice(called.lastIndexOf("/") + 1).replace(/\.[jt]s$/, ""), args };
}

/** Run hutch; the exit code. Most runs do not come back: the process has become the launcher. */
export async function main(): Promise<number> {
  const { name, args } = commandLine();
  const applet = APPLETS.includes(name) ? name : undefined;
  const [word, rest] = applet === undefined ? [args[0], args.slice(1)] : [applet, args];
  const label =
    applet ?? (word !== undefined && word in COMMANDS && COMMANDS[word]?.hidden !== true ? `hutch ${word}` : "hutch");
  try {
    if (word === undefined || word === "help" || word === "--help" || word === "-h") {
      const { usage } = await import("./usage.ts");
      print(await usage());
      return word === undefined ? 2 : 0;
    }
    if (word === "--version" || word === "version") {
      print(`hutch ${VERSION}\n`);
      return 0;
    }
    const command = Object.hasOwn(COMMANDS, word) ? COMMANDS[word] : undefined;
    if (command === undefined) {
      const near = nearest(
        word,
        Object.keys(COMMANDS).filter((key) => COMMANDS[key]?.hidden !== true),
      );
      const hint = near === undefined ? "hutch help lists the commands" : `did you mean ${near}?`;
      throw new UsageError(`unknown ${word.startsWith("-") ? "option" : "command"} ${word}`, { hint, exitCode: 2 });
    }
    return await (await command.load()).main(rest);
  } catch (error) {
    const code = await reportError(error, label);
    const passesStatus = word !== undefined && COMMANDS[word]?.passesStatus === true;
    if (passesStatus || code !== EXIT.failure) return code;
    return error instanceof UsageError ? 2 : 1;
  }
}
