/** From argv to a command: which applet this is, which command is meant, and what becomes of its errors. */

import { EXIT, HutchError, UsageError } from "../errors.ts";
import { APPLETS, COMMANDS } from "./commands.ts";
import { nearest } from "./options.ts";
import { print, reportError } from "./report.ts";
import { commandLine, isHardened } from "./self.ts";
import { VERSION } from "./version.ts";

/** Run hutch; the exit code. Most runs do not come back: the process has become the launcher. */
export async function main(): Promise<number> {
  const { name, args, self } = commandLine();
  const applet = APPLETS.includes(name) ? name : undefined;
  const [word, rest] = applet === undefined ? [args[0], args.slice(1)] : [applet, args];
  const label =
    applet ?? (word !== undefined && word in COMMANDS && COMMANDS[word]?.hidden !== true ? `hutch ${word}` : "hutch");
  try {
    if (!isHardened())
      throw new HutchError("this build lacks the flags that keep foreign code out", {
        hint: "build it with npm run build",
      });
    if (word === undefined || word === "help" || word === "--help" || word === "-h") {
      const { usage } = await import("./help.ts");
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
    return await (await command.load()).main(rest, self);
  } catch (error) {
    const code = await reportError(error, label);
    const passesStatus = word !== undefined && COMMANDS[word]?.passesStatus === true;
    if (passesStatus || code !== EXIT.failure) return code;
    return error instanceof UsageError ? 2 : 1;
  }
}
