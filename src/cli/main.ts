/** From argv to a command: which applet this is, which command is meant, and what becomes of its errors. */

import { EXIT, HutchError, SystemError, UsageError } from "../errors.ts";
import { asSystemError } from "../libc/call.ts";
import { keepChildren } from "../libc/children.ts";
import { COMMANDS, type Entry } from "./commands.ts";
import { nearest } from "./options.ts";
import { print, reportError } from "./report.ts";
import { APPLETS, commandLine, isHardened } from "./self.ts";
import { VERSION } from "./version.ts";

/**
 * Run hutch; the exit code. Whatever is wrong is 125, with every command: 1 is an answer (doctor's, selftest's no). Most runs
 * do not come back: the process has become the launcher.
 */
export async function main(): Promise<number> {
  let label = "hutch";
  try {
    const { name, args, self } = commandLine();
    const applet = APPLETS.includes(name) ? name : undefined;
    const [word, rest] = applet === undefined ? [args[0], args.slice(1)] : [applet, args];
    const entry = word !== undefined && Object.hasOwn(COMMANDS, word) ? COMMANDS[word] : undefined;
    if (word === "explain-failure") label = rest[2] ?? label;
    else label = applet ?? (entry !== undefined && entry.hidden !== true ? `hutch ${word}` : "hutch");
    if (!isHardened())
      throw new HutchError("this build lacks the flags that keep foreign code out", {
        hint: "build it with npm run build",
      });
    keepChildren();
    if (word === undefined || word === "help" || word === "--help" || word === "-h") {
      const about = word === "help" ? rest[0] : undefined;
      if (about !== undefined) return await (await commandOf(about).load()).main(["--help"], { ...self, label });
      const { usage } = await import("./help.ts");
      print(await usage());
      return word === undefined ? EXIT.failure : 0;
    }
    if (word === "--version" || word === "version") {
      print(`hutch ${VERSION}\n`);
      return 0;
    }
    if (entry === undefined) throw unknownCommand(word);
    return await (await entry.load()).main(rest, { ...self, label });
  } catch (thrown) {
    const error = asSystemError(thrown);
    // Whoever reads our output has had enough: no message, and the status that SIGPIPE would give.
    if (error instanceof SystemError && error.code === "EPIPE" && error.call.endsWith("descriptor 1")) return 141;
    return reportError(error, label);
  }
}

/** A command that `hutch help` lists. @throws UsageError */
function commandOf(word: string): Entry {
  const entry = Object.hasOwn(COMMANDS, word) ? COMMANDS[word] : undefined;
  if (entry === undefined || entry.hidden === true) throw unknownCommand(word);
  return entry;
}

/** What docker's commands that hutch has no use for are answered with. */
const INSTEAD: Readonly<Record<string, string>> = {
  stop: "hutch kill NAME",
  create: "hutch run starts at once: a sandbox is there as long as its program",
  start: "hutch run --persist NAME ROOT goes on with what earlier runs of that name have written",
  logs: "hutch has no daemon: a sandbox's output is that of hutch run",
  attach: "hutch has no daemon: a sandbox's output is that of hutch run",
  cp: "hutch run -v SRC:DST shows a file or directory inside",
  build: "other programs make images (buildah, umoci), and hutch import makes one of a tar archive",
  push: "hutch save IMAGE writes an archive that skopeo can push",
};

function unknownCommand(word: string): UsageError {
  const isOption = word.startsWith("-");
  const shown = Object.keys(COMMANDS).filter((key) => COMMANDS[key]?.hidden !== true);
  const near = isOption ? undefined : nearest(word, shown);
  const known = Object.hasOwn(INSTEAD, word) ? INSTEAD[word] : undefined;
  const hint = known ?? (near === undefined ? "hutch help lists the commands" : `did you mean ${near}?`);
  return new UsageError(`unknown ${isOption ? "option" : "command"} ${word}`, { hint });
}
