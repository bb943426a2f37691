/** `hutch run [OPTIONS] ROOT [--] COMMAND [ARG…]` and `hutch plan`, which shows what run would do. */

import type { ArgsDef } from "citty";
import { gatherFacts } from "../host.ts";
import { launch, type Self } from "../launch/launch.ts";
import type { State } from "../launch/supervise.ts";
import { plan } from "../plan.ts";
import type { Spec } from "../spec.ts";
import type { Plan } from "../step.ts";
import { validate } from "../validate.ts";
import type { Command } from "./command.ts";
import { has, last, oneOf, parseOptions } from "./options.ts";
import { print } from "./report.ts";
import { RUN_OPTIONS } from "./run-options.ts";
import { parseRun, type RunRequest, runSpec } from "./run-spec.ts";

const OPERANDS = "ROOT [--] COMMAND [ARG…]";

/** Spec → Plan for this machine. @throws UsageError when the Spec breaks a rule */
export function planFor(spec: Spec, self?: Self): Plan {
  const host = gatherFacts(spec, self?.argv.at(-1)); // a script that bun must find again to explain a failure
  validate(spec, host);
  return plan(spec, host);
}

/** Whether help is asked for among hutch's own options. */
async function help(name: string, description: string, argv: readonly string[], options: ArgsDef): Promise<boolean> {
  if (!argv.includes("--help") || !parseOptions(options, argv).options.has("help")) return false;
  const { commandUsage } = await import("./usage.ts");
  print(await commandUsage(name, description, OPERANDS, options));
  return true;
}

/** With `--name` the sandbox is listed, which costs a file; without, nothing of it is anywhere. */
async function enlisted({ parsed }: RunRequest, made: Plan): Promise<State | undefined> {
  const name = last(parsed, "name");
  if (name === undefined) return undefined;
  const { enlist } = await import("./running.ts");
  return enlist(name.value, name.words, made);
}

export const run: Command = {
  main: async (argv, self) => {
    if (await help("hutch run", "Run a command in a sandbox", argv, RUN_OPTIONS)) return 0;
    const request = parseRun(argv);
    const parent = has(request.parsed, "die-with-parent") ? process.ppid : undefined;
    const start = async (outputFd?: number) => {
      const { spec, held } = await runSpec(request);
      const made = planFor(spec, self);
      const state = await enlisted(request, made);
      return launch(made, self, { held, parent, outputFd, state });
    };
    if (!has(request.parsed, "json")) return start();
    const { openOutput, reportingTo } = await import("./json-output.ts");
    const outputFd = openOutput(request.parsed);
    return reportingTo(outputFd, async () => start(outputFd));
  },
};

/** What `hutch plan` takes: all of run's, and how to print. */
const PLAN_OPTIONS = {
  ...RUN_OPTIONS,
  format: { type: "string", valueHint: "text|json", description: "for people, or for programs [text]" },
} as const satisfies ArgsDef;

export const showPlan: Command = {
  main: async (argv) => {
    if (await help("hutch plan", "Show what run would do, step by step", argv, PLAN_OPTIONS)) return 0;
    const request = parseRun(argv, PLAN_OPTIONS);
    const format = oneOf(request.parsed, "format", ["text", "json"], "text");
    const { formatPlan, planToJson } = await import("../explain.ts");
    const { spec } = await runSpec(request);
    const made = planFor(spec);
    print(format === "json" ? planToJson(made) : `${formatPlan(made)}${await refusals(spec)}`);
    return 0;
  },
};

/** What the filter refuses, when it is one of hutch's own. */
async function refusals({ security = "default", words, init }: Spec): Promise<string> {
  if (security === "none" || words["seccomp"] !== undefined) return "";
  const { formatRefusals } = await import("../process/profile-table.ts");
  return `\n${formatRefusals(security, !init)}`;
}
