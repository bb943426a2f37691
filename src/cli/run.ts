/** `hutch run [OPTIONS] ROOT [--] COMMAND [ARG…]` and `hutch plan`, which shows what run would do. */

import type { ArgsDef } from "citty";
import { DEFAULT_PATH } from "../defaults.ts";
import { UsageError } from "../errors.ts";
import { type HostFacts, IDMAPPED_LAYERS } from "../facts.ts";
import { gatherFacts } from "../host.ts";
import type { Rename } from "../launch/afterwards.ts";
import type { Self } from "../launch/become.ts";
import type { Telling } from "../launch/denials.ts";
import { launch, launchAndThen, type LaunchOptions } from "../launch/launch.ts";
import type { State } from "../launch/listing.ts";
import { plan } from "../plan.ts";
import type { HostPath, Spec } from "../spec.ts";
import type { Plan } from "../step.ts";
import { validate } from "../validate.ts";
import type { Command } from "./command.ts";
import { has, last, oneOf, parseOptions, understood } from "./options.ts";
import type { Persist } from "./persist.ts";
import { print } from "./report.ts";
import { RUN_OPTIONS } from "./run-options.ts";
import { parseRun, type RunRequest } from "./run-request.ts";
import { runSpec } from "./run-spec.ts";
import type { ShownRoot } from "./shown-root.ts";

const OPERANDS = "ROOT [--] COMMAND [ARG…]";

/** What a plan of a Spec must know of this machine. @throws UsageError when the Spec breaks a rule */
export function factsFor(spec: Spec, self?: Self): HostFacts {
  const host = gatherFacts(spec, self?.argv.at(-1)); // a script that bun must find again to explain a failure
  validate(spec, host);
  return host;
}

/** Spec → Plan for this machine. @throws UsageError when the Spec breaks a rule */
export function planFor(spec: Spec, self?: Self): Plan {
  return plan(spec, factsFor(spec, self));
}

/** As {@link planFor}, for a Spec that binds a directory by the name that it gets only just before the start. */
export function planRenamed(spec: Spec, { from, to }: Rename): Plan {
  const mounts = spec.mounts.map((mount) =>
    mount.type === "bind" && mount.source === to ? { ...mount, source: from as HostPath } : mount,
  );
  const host = factsFor({ ...spec, mounts });
  const renamed = <Value>(facts: ReadonlyMap<string, Value>) =>
    new Map([...facts].map(([path, value]) => [path === from ? to : path, value]));
  return plan(spec, { ...host, kinds: renamed(host.kinds), owners: renamed(host.owners) });
}

/** Whether an overlay in memory may not do on this kernel. */
function mayNeedDisk({ root, kernel, tmpfsAttributes }: HostFacts): boolean {
  return !tmpfsAttributes || (root && kernel < IDMAPPED_LAYERS);
}

/** What tells denials, where that is asked for; a run without it does not load it. */
async function toldTo({ process }: Spec): Promise<{ readonly telling?: Telling }> {
  if (process.explainDenials !== true) return {};
  const { denialsFile, newTelling } = await import("../launch/denials.ts");
  return { telling: newTelling(denialsFile()) };
}

/** Become the launcher of a Spec's plan; `enlist` is told the plan first. @throws UsageError, SystemError */
export async function start(
  spec: Spec,
  self: Self,
  options: LaunchOptions,
  enlist?: (made: Plan) => Promise<State | undefined>,
  persist?: Persist,
): Promise<never> {
  const host = factsFor(spec, self);
  if (persist !== undefined) return startKept(spec, host, self, options, persist, enlist);
  const disk = mayNeedDisk(host) ? await import("./disk-layer.ts") : undefined;
  const wanted = disk?.findDiskRoot(spec, host);
  const onDisk = wanted === undefined ? undefined : await disk?.makeDiskRoot(spec, host, wanted, self);
  let state: State | undefined;
  try {
    const there =
      disk === undefined || wanted === undefined || onDisk === undefined
        ? { spec, host }
        : disk.withDiskRoot(spec, host, wanted, onDisk.directory);
    const made = plan(there.spec, there.host);
    state = await enlist?.(made);
    const then = { ...options, state, ...(await toldTo(spec)) };
    if (onDisk === undefined) return launch(made, self, then);
    const removers = [onDisk.remover, ...(state === undefined ? [] : [state.remover])].map(String);
    const end = ["end-disk-layer", onDisk.directory, ...removers];
    return launchAndThen(made, self, end, [`PATH=${DEFAULT_PATH}`], then);
  } catch (error) {
    if (state !== undefined) (await import("./running.ts")).delist(state);
    if (onDisk !== undefined) await disk?.removeDiskRoot(onDisk);
    throw error;
  }
}

/** {@link start} with a layer that is kept: hutch's process has nothing to do when the sandbox has ended. */
async function startKept(
  spec: Spec,
  host: HostFacts,
  self: Self,
  options: LaunchOptions,
  persist: Persist,
  enlist?: (made: Plan) => Promise<State | undefined>,
): Promise<never> {
  const { openPersisted } = await import("./persist.ts");
  const layer = await openPersisted(spec, host, persist, self);
  let state: State | undefined;
  try {
    const made = plan(spec, layer.host);
    state = await enlist?.(made);
    const held = [...(options.held ?? []), layer.lockFd];
    return launch(made, self, { ...options, state, held, ...(await toldTo(spec)) });
  } catch (error) {
    if (state !== undefined) (await import("./running.ts")).delist(state);
    await layer.giveBack();
    throw error;
  }
}

/** Whether help is asked for among hutch's own options. */
async function help(name: string, description: string, argv: readonly string[], options: ArgsDef): Promise<boolean> {
  if (!argv.includes("--help") || !parseOptions(options, argv).options.has("help")) return false;
  const { commandUsage } = await import("./usage.ts");
  print(await commandUsage(name, description, OPERANDS, options));
  return true;
}

/** With `--name` the sandbox is listed, which costs a file; without, nothing of it is anywhere. */
async function enlisted(
  { parsed }: RunRequest,
  made: Plan,
  stopSignal: string,
  self: Self,
): Promise<State | undefined> {
  const name = last(parsed, "name");
  if (name === undefined) return undefined;
  const { enlist } = await import("./running.ts");
  return enlist(name.value, name.words, made, stopSignal, self);
}

/** The command line; what is wrong with it goes to `--json`, too, where that stands before it. @throws UsageError */
async function parseOrReport(argv: readonly string[]): Promise<RunRequest> {
  try {
    return parseRun(argv);
  } catch (error) {
    const parsed = understood(RUN_OPTIONS, argv);
    if (has(parsed, "json")) {
      const { openOutput, reportingTo } = await import("./json-output.ts");
      await reportingTo(openOutput(parsed), async () => Promise.reject(error));
    }
    throw error;
  }
}

/** `hutch run`; `shown` is its root where that has been opened already. */
export async function runWith(argv: readonly string[], self: Self, shown?: ShownRoot): Promise<number> {
  if (await help("hutch run", "Run a command in a sandbox", argv, RUN_OPTIONS)) return 0;
  const request = await parseOrReport(argv);
  const parent = has(request.parsed, "die-with-parent") ? process.ppid : undefined;
  const begin = async (outputFd?: number) => {
    const { spec, held, stopSignal, persist } = await runSpec(request, shown);
    const enlist = async (made: Plan) => enlisted(request, made, stopSignal, self);
    return start(spec, self, { held, parent, outputFd }, enlist, persist);
  };
  if (!has(request.parsed, "json")) return begin();
  const { openOutput, reportingTo } = await import("./json-output.ts");
  const outputFd = openOutput(request.parsed);
  return reportingTo(outputFd, async () => begin(outputFd));
}

/** What `hutch plan` takes: all of run's, and how to print. */
const PLAN_OPTIONS = {
  ...RUN_OPTIONS,
  format: { type: "string", valueHint: "text|json", description: "for people, or for programs [text]" },
} as const satisfies ArgsDef;

export const showPlan: Command = {
  main: async (argv) => {
    if (await help("hutch plan", "Show what run would do, step by step", argv, PLAN_OPTIONS)) return 0;
    const request = parseRun(argv, PLAN_OPTIONS, "hutch plan");
    const format = oneOf(request.parsed, "format", ["text", "json"], "text");
    const ending = last(request.parsed, "json");
    if (ending !== undefined)
      throw new UsageError("--json is how a run has ended, and nothing is run", {
        from: ending.words,
        hint: "the plan as JSON is hutch plan --format json",
      });
    const { formatPlan, planToJson } = await import("../explain.ts");
    const { spec, persist } = await runSpec(request);
    const made = await planAlone(spec, factsFor(spec), persist);
    print(format === "json" ? planToJson(made) : `${formatPlan(made)}${await refusals(spec)}`);
    return 0;
  },
};

/** The plan of a run that is not to be. @throws as the run would before it makes anything */
async function planAlone(spec: Spec, host: HostFacts, persist: Persist | undefined): Promise<Plan> {
  if (persist !== undefined) return plan(spec, (await import("./persist.ts")).planPersisted(spec, host, persist));
  const disk = mayNeedDisk(host) ? await import("./disk-layer.ts") : undefined;
  const wanted = disk?.findDiskRoot(spec, host);
  const there = wanted === undefined ? { spec, host } : disk?.withDiskRoot(spec, host, wanted, `${wanted.parent}/…`);
  return plan(there?.spec ?? spec, there?.host ?? host);
}

/** What the filter refuses, when it is one of hutch's own. */
async function refusals({ security = "default", words, init }: Spec): Promise<string> {
  if (security === "none" || words["seccomp"] !== undefined) return "";
  const { formatRefusals } = await import("../process/profile-table.ts");
  return `\n${formatRefusals(security, !init)}`;
}
