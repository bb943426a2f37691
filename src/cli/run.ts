/** `hutch run [OPTIONS] ROOT [--] COMMAND [ARG…]` and `hutch plan`, which shows what run would do. */

import { UsageError } from "../errors.ts";
import { gatherFacts } from "../host.ts";
import { launch } from "../launch/launch.ts";
import { plan } from "../plan.ts";
import type { Spec } from "../spec.ts";
import type { Plan } from "../step.ts";
import { validate } from "../validate.ts";
import type { Command } from "./command.ts";
import { parseOptions } from "./options.ts";
import { print } from "./report.ts";
import { RUN_OPTIONS } from "./run-options.ts";
import { parseRun, runSpec } from "./run-spec.ts";

const OPERANDS = "ROOT [--] COMMAND [ARG…]";

/** Spec → Plan for this machine. @throws UsageError when the Spec breaks a rule */
export function planFor(spec: Spec): Plan {
  const host = gatherFacts(spec);
  validate(spec, host);
  return plan(spec, host);
}

/** Whether help is asked for among hutch's own options. */
async function help(name: string, description: string, argv: readonly string[]): Promise<boolean> {
  if (!argv.includes("--help") || !parseOptions(RUN_OPTIONS, argv).options.has("help")) return false;
  const { commandUsage } = await import("./usage.ts");
  print(await commandUsage(name, description, OPERANDS, RUN_OPTIONS));
  return true;
}

export const run: Command = {
  main: async (argv, self) => {
    if (await help("hutch run", "Run a command in a sandbox", argv)) return 0;
    return launch(planFor(await runSpec(parseRun(argv))), self);
  },
};

export const showPlan: Command = {
  main: async (argv) => {
    if (await help("hutch plan", "Show what run would do, step by step (--format json for programs)", argv)) return 0;
    const { format, rest } = takeFormat(argv);
    const { formatPlan, planToJson } = await import("../explain.ts");
    const made = planFor(await runSpec(parseRun(rest)));
    print(format === "json" ? planToJson(made) : formatPlan(made));
    return 0;
  },
};

/** `--format text|json`, which plan has beside all of run's options; it may stand anywhere before ROOT. */
function takeFormat(argv: readonly string[]): { format: "text" | "json"; rest: readonly string[] } {
  const index = argv.findIndex((word) => word === "--format" || word.startsWith("--format="));
  if (index < 0) return { format: "text", rest: argv };
  const word = argv[index] ?? "";
  const inline = word.includes("=");
  const value = inline ? word.slice(word.indexOf("=") + 1) : argv[index + 1];
  const rest = [...argv.slice(0, index), ...argv.slice(index + (inline ? 1 : 2))];
  if (value !== "json" && value !== "text") throw new UsageError("--format must be text or json", { from: word });
  return { format: value, rest };
}
