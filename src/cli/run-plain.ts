/**
 * `hutch run` at its fastest: when nothing but a directory and a command is asked for, the launcher has been linked
 * before (src/prelinked/) and only its holes are filled. Anything unusual about the words or the machine, errors
 * included, is left to run.ts, which does the same from the beginning.
 */

import { DEFAULT_HOSTNAME, DEFAULT_PATH } from "../defaults.ts";
import { LAYER_BY_LAYER } from "../facts.ts";
import { type Asking, gatherFacts } from "../host.ts";
import { searchPathOf } from "../build-spec.ts";
import { argumentBytes, execute, explainDescriptors, memoryFile, ownArguments, type Self } from "../launch/become.ts";
import { emptyReport } from "../launch/report.ts";
import { workingDirectory, writeAll } from "../libc/files.ts";
import { fill } from "../prelinked/fill.ts";
import { LANDLOCK, LEAST_ARGV_BYTES, PLAIN_SELF, type Shape, type Values, WORKSPACE } from "../prelinked/shape.ts";
import { execCandidates } from "../process/process.ts";
import type { Root } from "../spec.ts";
import type { Command } from "./command.ts";
import { runEnvironment } from "./environment.ts";
import { last } from "./options.ts";
import { hostPath, isImageName } from "./root-word.ts";
import { parseRun, type RunRequest } from "./run-request.ts";

/** Options that leave a run plain. */
const PLAIN = new Set(["read-only", "env", "env-file", "init", "interactive", "rm"]);

/** The command line, or undefined when something is wrong with it. */
function understood(argv: readonly string[]): RunRequest | undefined {
  try {
    return parseRun(argv);
  } catch {
    return undefined; // run.ts will say so, or help
  }
}

type PlainRoot = Extract<Root, { kind: "overlay" | "bind" }>;

/** The directory that is asked for, and as what root, or undefined when more than that is. */
function plainRoot({ parsed, rootWord, command }: RunRequest): { directory: string; root: PlainRoot } | undefined {
  if ([...parsed.options.keys()].some((name) => !PLAIN.has(name)) || command.length === 0) return undefined;
  if (rootWord === "scratch" || isImageName(rootWord)) return undefined;
  const path = hostPath(rootWord, workingDirectory(), rootWord);
  const readonly = last(parsed, "read-only");
  const root: PlainRoot =
    readonly === undefined
      ? { kind: "overlay", lower: [path], from: rootWord }
      : { kind: "bind", path, readonly: true, from: `${readonly.words} ${rootWord}` };
  return { directory: path, root };
}

/** Become the launcher of a plain run, or return when this is none. @throws UsageError, SystemError */
async function startPlain(argv: readonly string[], self: Self): Promise<void> {
  if (self.executable !== PLAIN_SELF.executable || self.label !== PLAIN_SELF.label) return;
  const request = understood(argv);
  const asked = request === undefined ? undefined : plainRoot(request);
  if (request === undefined || asked === undefined) return;
  const { directory, root } = asked;
  const asking: Asking = { root, mounts: [], idMap: "default", words: {} };
  const host = gatherFacts(asking);
  if (host.kinds.get(directory) !== "directory" || (host.mountsBelow.get(directory) ?? []).length > 0) return;
  if (
    host.kernel < LAYER_BY_LAYER ||
    !host.tmpfsAttributes ||
    host.landlock < LANDLOCK.least ||
    host.workspace !== WORKSPACE
  )
    return;
  if (host.root !== (host.ranges !== undefined)) return;
  const own = ownArguments();
  const argvBytes = argumentBytes(own);
  const { command } = request;
  const env = runEnvironment(request.parsed, DEFAULT_HOSTNAME, "/root", DEFAULT_PATH, []);
  if (argvBytes < LEAST_ARGV_BYTES || env.some((entry) => entry.includes("\0"))) return;

  const shape: Shape = {
    root: host.root,
    readonly: root.kind === "bind",
    terminal: host.terminal,
    scopes: host.landlock >= LANDLOCK.scopes,
  };
  const { prelinkedFor } = await import("../prelinked/images.ts"); // apart: all of them are 700 KB
  const prelinked = prelinkedFor(shape);
  if (prelinked === undefined) return;
  const { uid, gid, ranges, groups, nofile } = host;
  const values: Values = { directory, from: root.from, args: command, env, uid, gid, ranges, groups, nofile };
  const candidates = execCandidates(command[0] ?? "", searchPathOf(env));
  const { reportFd, executableFd } = explainDescriptors(self);
  const image = fill(prelinked, values, candidates, { reportFd, executableFd, argvBytes });
  if (image === undefined) return;
  const brief = { ...values, args: command.slice(0, 1), env: env.filter((entry) => entry.startsWith("PATH=")) };
  writeAll(reportFd, emptyReport({ shape, values: brief }));
  execute(memoryFile("hutch", image), own);
}

export const run: Command = {
  main: async (argv, self) => {
    await startPlain(argv, self);
    const { run: whole } = await import("./run.ts");
    return whole.main(argv, self);
  },
};
