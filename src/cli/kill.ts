/**
 * `hutch kill [--signal SIGNAL|-SIGNAL] NAME`: a signal to a named sandbox, through its launcher, which passes it on.
 * As kill(1) has it, 0 is none: whether there is such a sandbox.
 */

import type { ArgsDef } from "citty";
import { UsageError } from "../errors.ts";
import { call } from "../libc/call.ts";
import { signalNumber } from "../libc/signal.ts";
import type { Command } from "./command.ts";
import { has, last, parseMixed } from "./options.ts";
import { print } from "./report.ts";
import { findRunning } from "./running.ts";

const OPTIONS = {
  signal: {
    type: "string",
    alias: "s",
    valueHint: "SIGNAL",
    description: "name or number [the image's StopSignal, or TERM]; KILL ends the sandbox, 0 asks whether it is there",
  },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;

export const kill: Command = {
  main: async (argv) => {
    // As kill(1) has it: -9, -KILL. Letters of options are small.
    const short = /^-(?:\d|[A-Z])/.test(argv[0] ?? "") ? argv[0] : undefined;
    const parsed = parseMixed(OPTIONS, short === undefined ? argv : argv.slice(1));
    if (has(parsed, "help")) {
      const { commandUsage } = await import("./usage.ts");
      print(
        await commandUsage(
          "hutch kill",
          "Send a signal to a sandbox that was given a --name",
          "[-SIGNAL] NAME",
          OPTIONS,
        ),
      );
      return 0;
    }
    const given = last(parsed, "signal") ?? (short === undefined ? undefined : { value: short.slice(1), words: short });
    const asked = given === undefined ? undefined : given.value === "0" ? 0 : signalNumber(given.value, given.words);
    const [name, stray] = parsed.operands;
    if (name === undefined || stray !== undefined)
      throw new UsageError(name === undefined ? "NAME is missing" : `unexpected ${stray}`, {
        hint: "hutch kill [--signal SIGNAL | -SIGNAL] NAME",
      });
    const { launcher, entry } = findRunning(name, name);
    call("pidfd_send_signal", launcher, asked ?? signalNumber(entry.stopSignal), null, 0);
    return 0;
  },
};
