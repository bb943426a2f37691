/** `hutch seccomp check FILE [CALL…]`: what a profile means here, and how it decides calls. */

import type { ArgsDef } from "citty";
import { DEFAULT_CAPABILITIES } from "../defaults.ts";
import { oneLine } from "../bytes.ts";
import { UsageError } from "../errors.ts";
import { ARCH } from "../libc/call.ts";
import { type CheckedSeccomp, checkSeccomp } from "../process/seccomp-check.ts";
import type { Command } from "./command.ts";
import { has, oneOf, parseMixed } from "./options.ts";
import { print } from "./report.ts";
import { kernelVersion, readProfile } from "./security-options.ts";

const OPTIONS = {
  format: { type: "string", valueHint: "text|json", description: "for people, or for programs [text]" },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;

const OPERANDS = "check FILE [CALL…]";

export const seccomp: Command = {
  main: async (argv) => {
    const parsed = parseMixed(OPTIONS, argv);
    if (has(parsed, "help")) {
      const { commandUsage } = await import("./usage.ts");
      print(await commandUsage("hutch seccomp", "Check a seccomp profile, and decide calls by it", OPERANDS, OPTIONS));
      return 0;
    }
    const format = oneOf(parsed, "format", ["text", "json"], "text");
    const [verb, file, ...calls] = parsed.operands;
    if (verb !== "check" || file === undefined)
      throw new UsageError(verb === "check" ? "FILE is missing" : "seccomp knows only check", {
        hint: `hutch seccomp ${OPERANDS}`,
      });
    const target = { arch: ARCH, capabilities: DEFAULT_CAPABILITIES, kernel: kernelVersion() };
    const { profile } = await readProfile({ value: file, words: file }, DEFAULT_CAPABILITIES);
    const checked = checkSeccomp(profile, target, calls);
    print(format === "json" ? `${JSON.stringify(checked, null, 2)}\n` : formatChecked(file, checked));
    return 0;
  },
};

function formatChecked(file: string, checked: CheckedSeccomp): string {
  const { instructions, defaultAction, unknown, notInForce, decisions } = checked;
  const lines = [
    `${file}: ${instructions} instructions, default ${defaultAction}`,
    ...(unknown.length === 0 ? [] : [`skipped, unknown here: ${unknown.join(" ")}`]),
    ...(notInForce.length === 0 ? [] : [`rules not in force with hutch's capabilities, here: ${notInForce.join(" ")}`]),
    ...decisions.map(({ call, action, byArguments }) => {
      return `${call}: ${action}${byArguments ? " (depends on the arguments)" : ""}`;
    }),
  ];
  return lines.map((line) => `${oneLine(line)}\n`).join("");
}
