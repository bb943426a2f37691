/** Named sandboxes: `hutch run --name`, and what `ps`, `exec` and `kill` share. */

import { HutchError } from "../errors.ts";
import type { Self } from "../launch/become.ts";
import type { State } from "../launch/listing.ts";
import { endRemover, startRemover } from "../launch/remover.ts";
import { call, rawCall } from "../libc/call.ts";
import { F_DUPFD } from "../libc/constants.ts";
import { closeDescriptor } from "../libc/files.ts";
import {
  checkName,
  type Directory,
  directoryPath,
  entryNames,
  makeEntry,
  openDirectory,
  readEntry,
  removeEntry,
} from "../running/directory.ts";
import { decodeEntry, encodeEntry, joinSteps, type RunningEntry } from "../running/entry.ts";
import { openLauncher, ownStartTime } from "../running/join.ts";
import type { Plan } from "../step.ts";
import type { Command } from "./command.ts";

const path = (): string => directoryPath(process.env["XDG_RUNTIME_DIR"]);

/**
 * List this process, which is about to become the launcher of a plan, under a name; a remover takes that away when the
 * launcher is killed. @throws UsageError when taken
 */
export function enlist(name: string, from: string, plan: Plan, stopSignal: string, self: Self): State {
  checkName(name, from);
  const directory = openDirectory(path(), true) as Directory;
  const remover = startRemover([`${directory.path}/${name}`], self, ["remove-name", directory.path, name]);
  try {
    const content = entryContent(name, plan, stopSignal);
    const directoryFd = call("fcntl", directory.fd, F_DUPFD, 3); // for the launcher, over execve
    return { fd: makeEntry(directory, name, content, from), directoryFd, name, remover };
  } catch (error) {
    endRemover(remover);
    throw error;
  }
}

/** Take this process off the list again. */
export function delist({ directoryFd, name, remover }: State): void {
  removeEntry(directoryFd, name);
  endRemover(remover);
}

/** What is listed of this process. */
function entryContent(name: string, plan: Plan, stopSignal: string): Uint8Array {
  const exec = plan.steps.find(({ op }) => op === "exec");
  return encodeEntry({
    name,
    pid: rawCall("getpid"),
    startTime: ownStartTime(),
    created: Date.now(),
    command: exec?.op === "exec" ? exec.args : [],
    init: plan.init,
    stopSignal,
    steps: joinSteps(plan),
  });
}

const PATIENCE_MS = 2000;
const PAUSE_MS = 20;

/**
 * `hutch remove-name DIRECTORY NAME`: what the remover becomes when a launcher was killed. Its sandbox, which has the
 * entry's lock until it executes its program, may live for a moment; another one of the same name is left in peace.
 */
export const removeName: Command = {
  main: async ([place, name]) => {
    const directory = place === undefined ? undefined : openDirectory(place, false);
    if (directory === undefined || name === undefined) return 0;
    const start = performance.now();
    while (readEntry(directory, name) !== undefined && performance.now() - start < PATIENCE_MS)
      await Bun.sleep(PAUSE_MS);
    return 0;
  },
};

/** All sandboxes that are running; what is left of others is cleared away. */
export function runningEntries(): readonly RunningEntry[] {
  const directory = openDirectory(path(), false);
  if (directory === undefined) return [];
  return entryNames(directory).flatMap((name) => {
    const bytes = readEntry(directory, name);
    const entry = bytes === undefined ? undefined : decodeEntry(bytes);
    return entry === undefined ? [] : [entry];
  });
}

/** The sandbox of a name, and a descriptor of its launcher. @throws HutchError when there is none */
export function findRunning(name: string, from: string): { readonly entry: RunningEntry; readonly launcher: number } {
  checkName(name, from);
  const directory = openDirectory(path(), false);
  const bytes = directory === undefined ? undefined : readEntry(directory, name);
  if (directory !== undefined) closeDescriptor(directory.fd);
  const entry = bytes === undefined ? undefined : decodeEntry(bytes);
  if (entry === undefined) throw new HutchError(`there is no sandbox ${name}`, { hint: "see hutch ps" });
  return { entry, launcher: openLauncher(entry) };
}
