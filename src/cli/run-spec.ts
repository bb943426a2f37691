/** `hutch run`'s command line → Spec. */

import { buildSpec, tidyPath } from "../build-spec.ts";
import * as defaults from "../defaults.ts";
import { UsageError } from "../errors.ts";
import type { MergedConfig } from "../image/config.ts";
import { ownEnvironment } from "../launch/become.ts";
import { linkTarget, readText, workingDirectory } from "../libc/files.ts";
import { resolveUser, type ResolvedUser } from "../process/user.ts";
import type { Mount, SandboxPath, Spec, Rlimit } from "../spec.ts";
import { rawCall } from "../libc/call.ts";
import { F_SETFD } from "../libc/constants.ts";
import { runEnvironment } from "./environment.ts";
import { all, has, last, type Occurrence, oneOf, type Parsed } from "./options.ts";
import type { Persist } from "./persist.ts";
import type { RunRequest } from "./run-request.ts";
import { chooseRights } from "./security-options.ts";
import { openRoot, type ShownRoot } from "./shown-root.ts";
import * as values from "./values.ts";

/** A Spec, and the descriptors that the launcher must keep open for it. */
export interface PreparedRun {
  readonly spec: Spec;
  readonly held: readonly number[];
  /** The layer that is to be kept. */
  readonly persist?: Persist | undefined;
  /** What asks the program to end: an image's StopSignal. */
  readonly stopSignal: string;
}

/** The Spec of a run. Reads the caller's environment, --env-file, the root's passwd and group, and programs to add. */
export async function runSpec(
  { parsed, rootWord, command: given }: RunRequest,
  opened?: ShownRoot,
): Promise<PreparedRun> {
  const cwd = workingDirectory();
  const shown = opened ?? (await openRoot(parsed, rootWord, cwd));
  const { root, config } = shown;
  const { args: command, stopSignal } = await commandOf(parsed, given, config);
  const hostname = last(parsed, "hostname")?.value ?? defaults.DEFAULT_HOSTNAME;
  const user = findUser(parsed, shown);
  const env = runEnvironment(parsed, hostname, user.home, await searchPath(parsed, cwd), config?.Env ?? []);
  const init = chooseInit(parsed);
  const rights = await chooseRights(parsed, init);
  const timeOffset = last(parsed, "time-offset");
  const workdir = last(parsed, "workdir")?.value ?? (config?.WorkingDir || "/");
  const spec = buildSpec({
    root,
    image: config !== undefined,
    command,
    env,
    user,
    workdir,
    hostname,
    domainname: last(parsed, "domainname")?.value ?? defaults.DEFAULT_DOMAINNAME,
    network: oneOf(parsed, "network", ["none", "host"], "none"),
    mounts: [...(await mountsOf(parsed, shown, env, cwd)), ...workdirBehindLinks(parsed, shown, workdir)],
    idMap: has(parsed, "userns") && oneOf(parsed, "userns", ["auto"], "auto") === "auto" ? "range" : "default",
    timeOffsets: timeOffset === undefined ? undefined : values.parseTimeOffset(timeOffset),
    rights,
    rlimits: limits(parsed),
    preserveFds: preserveFds(parsed),
    terminal: has(parsed, "tty"),
    init,
    words: wordsOf(parsed),
  });
  return { spec, held: shown.held, persist: shown.persist, stopSignal };
}

/** Fields of the Spec by the options that fill them, for errors. */
const FIELDS: Readonly<Record<string, string>> = {
  tty: "terminal",
  hostname: "hostname",
  domainname: "domainname",
  user: "user",
  userns: "idMap",
  workdir: "cwd",
  "time-offset": "timeOffsets",
  "cap-add": "capabilities",
  "cap-drop": "capabilities",
  "preserve-fds": "preserveFds",
  security: "security",
  seccomp: "seccomp",
  "seccomp-fd": "seccomp",
  "explain-denials": "explainDenials",
};

function wordsOf(parsed: Parsed): Readonly<Record<string, string>> {
  const words: Record<string, string> = {};
  for (const [option, field] of Object.entries(FIELDS)) {
    const given = all(parsed, option).map((occurrence) => occurrence.words);
    if (given.length > 0) words[field] = [words[field] ?? [], ...given].flat().join(" ");
  }
  for (const { value, words: from } of all(parsed, "ulimit"))
    words[values.parseUlimit({ value, words: from }).type] = from;
  return words;
}

/** The limits, of each kind the last. */
function limits(parsed: Parsed): readonly Rlimit[] {
  const byType = new Map<string, Rlimit>();
  for (const given of all(parsed, "ulimit").map(values.parseUlimit)) byType.set(given.type, given);
  return [...byType.values()];
}

/** COMMAND, with an image's Entrypoint and Cmd by moby's rules, and what ends it. */
async function commandOf(
  parsed: Parsed,
  command: readonly string[],
  config: ShownRoot["config"],
): Promise<Pick<MergedConfig, "args" | "stopSignal">> {
  const entrypoint = last(parsed, "entrypoint");
  if (config === undefined) {
    if (entrypoint !== undefined) throw new UsageError("only an image has an entrypoint", { from: entrypoint.words });
    return { args: command, stopSignal: "SIGTERM" };
  }
  const { mergeImageConfig } = await import("../image/config.ts");
  return mergeImageConfig(config, {
    command,
    ...(entrypoint === undefined ? {} : { entrypoint: entrypoint.value }),
    ...(has(parsed, "workdir") ? { cwd: "/" } : {}), // the user's own is read elsewhere, and the image's is not used
  });
}

function findUser(parsed: Parsed, { read, config }: ShownRoot): ResolvedUser {
  const given = last(parsed, "user");
  const word = given?.value ?? (config?.User || undefined);
  if (word === undefined) return { uid: 0, gid: 0, additionalGids: [], home: "/root" };
  return resolveUser(word, read("/etc/passwd"), read("/etc/group"), given?.words ?? "the image's User");
}

/** The default PATH, and behind it where programs added by name come from (~/.local/bin, a version manager's, …). */
async function searchPath(parsed: Parsed, cwd: string): Promise<string> {
  const names = all(parsed, "add").map(({ value }) => value);
  const usual = defaults.DEFAULT_PATH.split(":");
  if (names.every((name) => name.includes("/"))) return defaults.DEFAULT_PATH;
  const { programDirectories } = await import("../rootfs/host-programs.ts");
  const others = programDirectories(names, { path: callerPath(), cwd }).filter(
    (directory) => !usual.includes(directory) && !directory.includes(":"),
  );
  return [...usual, ...others].join(":");
}

/** The caller's PATH, in which programs to add are found. */
function callerPath(): string {
  return (
    ownEnvironment()
      .find((entry) => entry.startsWith("PATH="))
      ?.slice(5) ?? defaults.DEFAULT_PATH
  );
}

function chooseInit(parsed: Parsed): boolean {
  if (has(parsed, "init") && has(parsed, "no-init")) throw new UsageError("--init and --no-init contradict each other");
  return !has(parsed, "no-init");
}

/** How many descriptors to pass on; each must be open, and meant to be inherited. */
function preserveFds(parsed: Parsed): number {
  const given = last(parsed, "preserve-fds");
  if (given === undefined) return 0;
  if (!/^\d{1,4}$/.test(given.value))
    throw new UsageError("--preserve-fds needs a number up to 9999", { from: given.words });
  const count = Number(given.value);
  for (let descriptor = 3; descriptor < 3 + count; descriptor++) {
    if (!isInherited(descriptor)) throw new UsageError(`descriptor ${descriptor} is not open`, { from: given.words });
    rawCall("fcntl", descriptor, F_SETFD, 0);
  }
  return count;
}

/**
 * Whether the caller has left a descriptor open. Bun makes all from 4 up close-on-exec when it starts, so the flag tells
 * nothing; but its own event poll takes the lowest number that the caller did not.
 */
function isInherited(descriptor: number): boolean {
  const target = linkTarget(`/proc/self/fd/${descriptor}`);
  return typeof target === "string" && target !== "anon_inode:[eventpoll]";
}

/** Mounts in order: programs, then the user's, so that the user's can cover the others. */
async function mountsOf(
  parsed: Parsed,
  shown: ShownRoot,
  env: readonly string[],
  cwd: string,
): Promise<readonly Mount[]> {
  const programs = all(parsed, "add");
  const paths = all(parsed, "add-path");
  const network = await networkFiles(parsed, shown);
  let added: readonly Mount[] = [];
  // A root is looked into only when something depends on it: a layer that is kept may be closed to its own owner.
  if (programs.length + paths.length > 0) {
    const path = "/etc/nsswitch.conf";
    const nsswitch = network.length > 0 ? (readText(path) ?? "") : shown.read(path);
    added = await hostPrograms(programs, paths, shown, env, nsswitch, cwd);
  }
  const given: readonly Mount[] = [
    ...all(parsed, "tmpfs").map(values.parseTmpfs),
    ...all(parsed, "mount").map((occurrence: Occurrence) => values.parseMount(occurrence, cwd)),
    ...all(parsed, "volume").map((occurrence: Occurrence) => values.parseVolume(occurrence, cwd)),
  ];
  for (const [index, { destination, from }] of given.entries()) {
    const before = given.slice(0, index).find((other) => other.destination === destination);
    if (before !== undefined)
      throw new UsageError(`two mounts at ${destination}`, { from: `${before.from} and ${from}` });
  }
  // As docker has it, what lies deeper comes later: nothing is hidden by the order of the words.
  const depth = ({ destination }: Mount) => destination.split("/").length;
  return [...network, ...added, ...given.toSorted((a, b) => depth(a) - depth(b))];
}

/**
 * A working directory to which an image's own links lead, where there is nothing, is made there: as moby does
 * (container.go `SetupWorkingDirectory`, which follows links inside the root before it makes what is missing).
 */
function workdirBehindLinks(parsed: Parsed, { missingBehindLinks }: ShownRoot, workdir: string): readonly Mount[] {
  const place = tidyPath(workdir) === "/" ? undefined : missingBehindLinks?.(tidyPath(workdir));
  if (place === undefined) return [];
  const from = last(parsed, "workdir")?.words ?? "the image's WorkingDir";
  return [{ type: "directory", destination: place as SandboxPath, mode: 0o755, from }];
}

/** With the host's network its resolver's files too, where the root is one of hutch's own to put them. */
async function networkFiles(parsed: Parsed, { root, look }: ShownRoot): Promise<readonly Mount[]> {
  const given = last(parsed, "network");
  if (given?.value !== "host" || root.kind === "bind") return [];
  const { networkMounts } = await import("../rootfs/network-files.ts");
  return networkMounts(look, given.words);
}

/** Programs and paths of the host; the code for it is only loaded when they are asked for. */
async function hostPrograms(
  programs: readonly Occurrence[],
  paths: readonly Occurrence[],
  { look }: ShownRoot,
  env: readonly string[],
  nsswitch: string,
  cwd: string,
): Promise<readonly Mount[]> {
  const { closureMounts, programsClosure } = await import("../rootfs/host-programs.ts");
  const closure = programsClosure({ programs, paths, search: { path: callerPath(), cwd }, env, nsswitch });
  return closureMounts(closure, look);
}
