/** The program's own steps: everything between entering the finished root and execve, in the only order that works. */

import type { HostFacts } from "../facts.ts";
import type { Spec } from "../spec.ts";
import type { Action } from "../step.ts";
import { landlockOf, securityOf } from "./security.ts";

/** Paths that execvp(3) would try for a command: itself when it has a slash, else one for each directory of PATH. */
export function execCandidates(command: string, searchPath: readonly string[]): readonly string[] {
  if (command.includes("/")) return [command];
  if (searchPath.length === 0) return [`./${command}`]; // an empty PATH is the working directory, as for execvp(3)
  const paths: string[] = [];
  for (const directory of searchPath) {
    let end = directory.length;
    while (end > 0 && directory[end - 1] === "/") end -= 1;
    paths.push(`${directory === "" ? "." : directory.slice(0, end)}/${command}`);
  }
  return paths;
}

/**
 * Steps by the process that becomes the program. Ids are changed before the directory is entered, so that it is entered
 * with the program's own rights. Landlock, the limits and the filter come last, in this order: landlock needs a descriptor,
 * and the filter may forbid everything that stands before it. `ids` tells where the id maps are from (namespaces/user.ts).
 */
export function processSteps(spec: Spec, host: HostFacts, ids: "self" | "held"): readonly (Action & { why: string })[] {
  const { process, words } = spec;
  const why = (field: string) => words[field] ?? "default";
  const steps: (Action & { why: string })[] = [];
  const add = (action: Action, reason: string) => steps.push({ ...action, why: reason });

  if (!spec.init) add({ op: "not-dumpable" }, "default"); // a child of PID 1 has it from there
  add({ op: "umask", mask: process.umask }, why("umask"));
  add({ op: "bounding-set", keep: process.capabilities }, why("capabilities"));
  if (securityOf(spec) === "strict") add({ op: "securebits" }, why("security"));
  if (ids === "held") {
    add({ op: "set-ids", uid: process.uid, gid: process.gid, groups: process.additionalGids }, why("user"));
  }
  const groups = ids === "held" ? process.additionalGids.length : host.root ? 0 : host.groups.length;
  add({ op: "check-groups", count: groups }, "default");
  add({ op: "capabilities", hold: process.uid === 0 ? process.capabilities : [] }, why("capabilities"));
  add({ op: "chdir", path: process.cwd }, why("cwd"));
  if (process.personality !== undefined) add({ op: "personality", flags: process.personality }, why("personality"));
  if (process.noNewPrivileges) add({ op: "no-new-privileges" }, "default");
  add({ op: "close-descriptors", from: 3 + process.preserveFds }, why("preserveFds"));
  const landlock = landlockOf(spec, host);
  if (landlock !== undefined) add({ op: "landlock", ...landlock }, why("security"));
  if (!process.rlimits.some((limit) => limit.type === "RLIMIT_NOFILE")) {
    add({ op: "rlimit", type: "RLIMIT_NOFILE", ...host.nofile }, "the caller's own limit, which Bun has raised");
  }
  for (const limit of process.rlimits) {
    add({ op: "rlimit", type: limit.type, soft: limit.soft, hard: limit.hard }, why(limit.type));
  }
  if (process.seccomp !== undefined) {
    const flags = process.seccompFlags === undefined ? {} : { flags: process.seccompFlags };
    const telling = process.explainDenials === true ? { telling: true as const } : {};
    add({ op: "seccomp", filter: process.seccomp, ...flags, ...telling }, words["seccomp"] ?? why("security"));
  }
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
