/** The program's own steps: everything between entering the finished root and execve, in the only order that works. */

import type { HostFacts } from "../facts.ts";
import type { Spec } from "../spec.ts";
import type { Action } from "../step.ts";

/** Paths that execvp(3) would try for a command: itself when it has a slash, else one for each directory of PATH. */
export function execCandidates(command: string, searchPath: readonly string[]): readonly string[] {
  if (command.includes("/")) return [command];
  return searchPath.map((directory) => `${directory === "" ? "." : directory.replace(/\/+$/, "")}/${command}`);
}

/**
 * Steps by the process that becomes the program. Ids are changed before the directory is entered, so that it is entered
 * with the program's own rights; capabilities and no_new_privs come before the filter, which may forbid their calls.
 */
export function processSteps(spec: Spec, host: HostFacts, setIds: boolean): readonly (Action & { why: string })[] {
  const { process, words } = spec;
  const why = (field: string) => words[field] ?? "default";
  const steps: (Action & { why: string })[] = [];
  const add = (action: Action, reason: string) => steps.push({ ...action, why: reason });

  add({ op: "umask", mask: process.umask }, why("umask"));
  if (!process.rlimits.some((limit) => limit.type === "RLIMIT_NOFILE")) {
    add({ op: "rlimit", type: "RLIMIT_NOFILE", ...host.nofile }, "the caller's own limit, which Bun has raised");
  }
  for (const limit of process.rlimits) {
    add({ op: "rlimit", type: limit.type, soft: limit.soft, hard: limit.hard }, why(limit.type));
  }
  add({ op: "bounding-set", keep: process.capabilities }, why("capabilities"));
  if (setIds) {
    add({ op: "set-ids", uid: process.uid, gid: process.gid, groups: process.additionalGids }, why("user"));
  }
  add({ op: "capabilities", hold: process.uid === 0 ? process.capabilities : [] }, why("capabilities"));
  add({ op: "chdir", path: process.cwd }, why("cwd"));
  if (process.noNewPrivileges) add({ op: "no-new-privileges" }, "default");
  if (process.seccomp !== undefined) add({ op: "seccomp", filter: process.seccomp }, why("seccomp"));
  add({ op: "close-descriptors", from: 3 + process.preserveFds }, why("preserveFds"));
  const command = process.args[0] ?? "";
  add(
    {
      op: "exec",
      command,
      candidates: execCandidates(command, process.searchPath),
      args: [process.argv0 ?? command, ...process.args.slice(1)],
      env: process.env,
    },
    command,
  );
  return steps;
}
