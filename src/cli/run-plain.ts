/**
 * `hutch run` at its fastest: when nothing but a root and a command is asked for, the launcher has been linked before
 * (src/prelinked/) and only its holes are filled. Anything unusual about the words or the machine, errors included, is
 * left to run.ts, which does the same from the beginning.
 */

import { searchPathOf } from "../build-spec.ts";
import { DEFAULT_HOSTNAME, DEFAULT_PATH } from "../defaults.ts";
import { type HostFacts, LAYER_BY_LAYER } from "../facts.ts";
import { gatherFacts } from "../host.ts";
import { argumentBytes, execute, explainDescriptors, memoryFile, ownArguments, type Self } from "../launch/become.ts";
import { emptyReport } from "../launch/report.ts";
import { workingDirectory, writeAll } from "../libc/files.ts";
import { fill } from "../prelinked/fill.ts";
import {
  LANDLOCK,
  LEAST_ARGV_BYTES,
  PLAIN_SELF,
  type Prelinked,
  type Shape,
  type Values,
  WORKSPACE,
} from "../prelinked/shape.ts";
import { execCandidates } from "../process/process.ts";
import type { HostPath, Root } from "../spec.ts";
import { runEnvironment } from "./environment.ts";
import { has, last, type Parsed } from "./options.ts";
import { hostPath, isImageName } from "./root-word.ts";
import { parseRun, type RunRequest } from "./run-request.ts";

/*
 * Of this file and what it calls: loops, where elsewhere a method of arrays would do, for Bun compiles each of these when
 * it is first called (0.05 to 0.15 ms); and no global that Bun makes when it is first named (Buffer, process, Math,
 * TextEncoder, DataView, …) in a function that runs.
 */

/** Whether this build has prelinked launchers: the npm package, which is for any machine, has not (scripts/build.ts). */
declare const HUTCH_PRELINKED: boolean;

/** Options that leave a run plain. */
const PLAIN = ["read-only", "env", "env-file", "init", "interactive", "rm", "pull"];

/** What a plain run shows and starts. */
export interface Plain {
  readonly root: Extract<Root, { kind: "overlay" | "bind" }>;
  readonly args: readonly string[];
  /** Variables of the image's. */
  readonly env: readonly string[];
  /** The lease on an image's layers. */
  readonly lease?: number | undefined;
}

/** The command line, or undefined when something is wrong with it, or more is asked for than a root and a command. */
function plainRequest(argv: readonly string[]): RunRequest | undefined {
  try {
    const request = parseRun(argv);
    let plain = 0;
    for (const name of PLAIN) if (has(request.parsed, name)) plain += 1;
    return plain === request.parsed.options.size ? request : undefined;
  } catch {
    return undefined; // run.ts will say so, or help
  }
}

/** A directory as a root. */
function plainDirectory({ parsed, rootWord, command }: RunRequest): Plain | undefined {
  if (rootWord === "scratch" || command.length === 0 || has(parsed, "pull")) return undefined;
  const path = hostPath(rootWord, rootWord.startsWith("/") ? "" : workingDirectory(), rootWord);
  const readonly = last(parsed, "read-only");
  const root: Plain["root"] =
    readonly === undefined
      ? { kind: "overlay", lower: [path], from: rootWord }
      : { kind: "bind", path, readonly: true, from: `${readonly.words} ${rootWord}` };
  return { root, args: command, env: [] };
}

/** Whether an image is asked for by nothing but its name. */
export function isNameAlone(parsed: Parsed): boolean {
  return !has(parsed, "pull") && !has(parsed, "read-only");
}

/** Start an image by what an earlier run has found out about it. */
async function startKnown(request: RunRequest, self: Self): Promise<void> {
  const { openKnownImage } = await import("./known-image.ts");
  const known = openKnownImage(request.rootWord, request.command);
  if (known === undefined) return;
  const { layers, args, env, lease } = known;
  const root: Plain["root"] = { kind: "overlay", lower: layers as readonly HostPath[], from: request.rootWord };
  await startPlain({ root, args, env, lease: lease.fd }, request, self);
  lease[Symbol.dispose]();
}

/** Whether the machine is one that prelinked launchers are for. */
function isPlainMachine({ kernel, tmpfsAttributes, landlock, workspace, root, ranges }: HostFacts): boolean {
  if (kernel < LAYER_BY_LAYER || !tmpfsAttributes || landlock < LANDLOCK.least) return false;
  return workspace === WORKSPACE && root === (ranges !== undefined);
}

/** The launcher for a shape. They are apart from this file, being 4 MB; and a bundler that has none leaves them out. */
async function prelinkedFor(shape: Shape): Promise<Prelinked | undefined> {
  const { prelinkedFor: find } =
    typeof HUTCH_PRELINKED !== "undefined" && !HUTCH_PRELINKED
      ? { prelinkedFor: () => undefined }
      : shape.image
        ? await import("../prelinked/images.ts")
        : await import("../prelinked/directories.ts");
  return find(shape);
}

/**
 * Become the launcher of a plain run, or return when it is none after all. `fitting` is called when one fits.
 * @throws SystemError */
export async function startPlain(
  { root, args, env: imageEnv, lease }: Plain,
  request: RunRequest,
  self: Self,
  fitting?: () => Promise<void>,
): Promise<void> {
  const host = gatherFacts({ root, mounts: [], idMap: "default", words: {} });
  const directories = root.kind === "bind" ? [root.path] : root.lower;
  for (const path of directories)
    if (host.kinds.get(path) !== "directory" || (host.mountsBelow.get(path)?.length ?? 0) > 0) return;
  const own = ownArguments();
  const argvBytes = argumentBytes(own);
  const env = runEnvironment(request.parsed, DEFAULT_HOSTNAME, "/root", DEFAULT_PATH, imageEnv);
  for (const text of args.concat(env)) if (text.includes("\0")) return; // of an image, or of a file of variables
  if (!isPlainMachine(host) || argvBytes < LEAST_ARGV_BYTES) return;

  const shape: Shape = {
    root: host.root,
    image: lease !== undefined,
    layers: root.kind === "bind" ? 0 : root.lower.length,
    terminal: host.terminal,
    scopes: host.landlock >= LANDLOCK.scopes,
  };
  const prelinked = await prelinkedFor(shape);
  if (prelinked === undefined) return;
  const { uid, gid, ranges, groups, nofile, landlock } = host;
  const values: Values = { directories, from: root.from, args, env, uid, gid, ranges, groups, nofile, landlock };
  const candidates = execCandidates(args[0] ?? "", searchPathOf(env));
  const { reportFd, executableFd } = explainDescriptors(self);
  const image = fill(prelinked, values, candidates, { reportFd, executableFd, argvBytes, lease });
  if (image === undefined) return;
  if (fitting !== undefined) await fitting();
  const paths: string[] = [];
  for (const entry of env) if (entry.startsWith("PATH=")) paths.push(entry);
  const brief = { ...values, args: args.slice(0, 1), env: paths };
  writeAll(reportFd, emptyReport({ shape, values: brief }));
  execute(memoryFile("hutch", image), own);
}

/** The request, when this executable's prelinked launchers are for it. */
export function plainRequestFor(argv: readonly string[], self: Self): RunRequest | undefined {
  return self.executable === PLAIN_SELF.executable && self.label === PLAIN_SELF.label ? plainRequest(argv) : undefined;
}

/**
 * Become the launcher of a plain run of a directory or of an image that is known, or return when it is none.
 * @throws UsageError, SystemError */
export async function runPlain(argv: readonly string[], self: Self): Promise<void> {
  const request = plainRequestFor(argv, self);
  if (request === undefined) return;
  if (!isImageName(request.rootWord)) {
    const plain = plainDirectory(request);
    if (plain !== undefined) await startPlain(plain, request, self);
  } else if (isNameAlone(request.parsed)) await startKnown(request, self);
}
