/** `hutch exec [OPTIONS] NAME COMMAND [ARG…]`: another command in a named sandbox, with the same rights. */

import type { ArgsDef } from "citty";
import { UsageError } from "../errors.ts";
import { ownEnvironment } from "../launch/become.ts";
import { launch } from "../launch/launch.ts";
import { joinPlan, openNamespaces } from "../running/join.ts";
import type { Command } from "./command.ts";
import { all, has, last, parseOptions } from "./options.ts";
import { print } from "./report.ts";
import { findRunning } from "./running.ts";
import { mergeEnvironment } from "./environment.ts";

const OPTIONS = {
  env: {
    type: "string",
    alias: "e",
    valueHint: "K=V|K",
    description: "set a variable, or take the caller's (repeatable)",
  },
  workdir: { type: "string", alias: "w", valueHint: "DIR", description: "working directory [the program's first]" },
  interactive: { type: "boolean", alias: "i", description: "accepted: stdin is always passed on" },
  tty: { type: "boolean", alias: "t", description: "not there: the caller's terminal is passed on" },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;

const USAGE = "hutch exec [OPTIONS] NAME COMMAND [ARG…]";

export const exec: Command = {
  main: async (argv, self) => {
    const parsed = parseOptions(OPTIONS, argv);
    if (has(parsed, "help")) {
      const { commandUsage } = await import("./usage.ts");
      print(await commandUsage("hutch exec", "Run another command in a sandbox", "NAME COMMAND [ARG…]", OPTIONS));
      return 0;
    }
    const terminal = last(parsed, "tty");
    if (terminal !== undefined)
      throw new UsageError("there is no -t", { from: terminal.words, hint: "the caller's terminal is passed on" });
    const [name, ...rest] = parsed.operands;
    const args = rest[0] === "--" ? rest.slice(1) : rest;
    if (name === undefined) throw new UsageError("NAME is missing", { hint: USAGE });
    if (args[0] === undefined || args[0] === "")
      throw new UsageError("COMMAND is missing", { from: name, hint: USAGE });
    const workdir = last(parsed, "workdir");
    if (workdir !== undefined && !workdir.value.startsWith("/"))
      throw new UsageError(`working directory ${JSON.stringify(workdir.value)} is not an absolute path`, {
        from: workdir.words,
      });
    const env = mergeEnvironment([], all(parsed, "env"), ownEnvironment());
    const { entry } = findRunning(name, name);
    return launch(joinPlan(entry, openNamespaces(entry), { args, env, cwd: workdir?.value }), self);
  },
};
