/** `hutch run`'s command line, taken apart; the machine is not asked anything yet. */

import type { ArgsDef } from "citty";
import { UsageError } from "../errors.ts";
import { last, type Parsed, parseOptions } from "./options.ts";
import { isImageName } from "./root-word.ts";
import { RUN_OPTIONS } from "./run-options.ts";

/** What docker's options that hutch has no use for are answered with. */
const INSTEAD: Readonly<Record<string, string>> = {
  detach: "hutch has no daemon: put it into the background with & or run it from a service manager",
  publish: "a sandbox has no network but loopback: use --network host, or a UNIX socket in a volume",
};

/** What is to be said of docker's options that hutch does not know. */
const notThere = (): readonly (readonly [option: RegExp, hint: string])[] => [
  [
    /^(-m|--(memory|memory-swap|cpus|cpu-.*|cgroup.*))$/,
    "no limit on a whole sandbox yet; --ulimit limits each process",
  ],
  [/^--pids-limit$/, "--ulimit nproc=N counts the sandbox's own processes"],
  [/^--(stop-)?timeout$/, "timeout(1) ends it: timeout 60 hutch run …"],
  [/^--privileged$/, "--security none --cap-add ALL comes nearest"],
  [/^--(ro-bind|bind|proc|dev|unshare-.*)$/, "bubblewrap's; here -v SRC:DST:ro, and all namespaces are new"],
  [/^--(pid|ipc|uts|cgroupns)$/, "these namespaces are always new"],
  [/^--net$/, "--network none or --network host"],
  [
    /^--(dns|dns-.*|add-host|ip|mac-address|link|expose)$/,
    "--network host brings the host's resolver; or -v FILE:/etc/hosts:ro",
  ],
  [/^--(device|gpus|device-.*)$/, "-v /dev/NAME:/dev/NAME shows a device that the caller may open"],
  [/^--security-opt$/, "--security default|strict|nested|none, --seccomp FILE"],
  [/^--shm-size$/, "--tmpfs /dev/shm:size=256m"],
  [/^--chdir$/, "-w DIR"],
  [/^--setenv$/, "-e NAME=VALUE"],
  [/^--clearenv$/, "the environment is the sandbox's own, with what -e and --env-file say"],
  [/^--restart$/, "hutch has no daemon: a service manager starts it again"],
  [/^--group-add$/, "-u NAME takes the groups of the root's own /etc/group"],
];

function parseKnown(options: ArgsDef, argv: readonly string[]): Parsed {
  try {
    return parseOptions(options, argv);
  } catch (error) {
    throw error instanceof UsageError ? explainUnknown(error) : error;
  }
}

/** An unknown option of docker's or bubblewrap's, with what is to be said of it; any other mistake as it is. */
function explainUnknown(error: UsageError): UsageError {
  const word = /^unknown option (\S+)$/.exec(error.message)?.[1] ?? "";
  const hint = notThere().find(([option]) => option.test(word))?.[1];
  if (hint === undefined) return error;
  return new UsageError(error.message, { hint, ...(error.from === undefined ? {} : { from: error.from }) });
}

/** What the command line says, before the machine is asked anything else. */
export interface RunRequest {
  readonly parsed: Parsed;
  readonly rootWord: string;
  readonly command: readonly string[];
}

/** Split `[OPTIONS] ROOT [--] COMMAND [ARG…]` of `name`, `options` being those that are known. @throws UsageError */
export function parseRun(argv: readonly string[], options: ArgsDef = RUN_OPTIONS, name = "hutch run"): RunRequest {
  const hint = `${name} [OPTIONS] ROOT [--] COMMAND [ARG…]`;
  const parsed = parseKnown(options, argv);
  for (const [option, instead] of Object.entries(INSTEAD)) {
    const given = last(parsed, option);
    if (given !== undefined) {
      const word = given.words.split("=")[0]?.split(" ")[0];
      throw new UsageError(`there is no ${word}`, { from: given.words, hint: instead });
    }
  }
  const [rootWord, ...rest] = parsed.operands;
  if (rootWord === undefined) throw new UsageError("ROOT is missing", { hint });
  const command = rest[0] === "--" ? rest.slice(1) : rest;
  if (command.length === 0 && !isImageName(rootWord))
    throw new UsageError("COMMAND is missing", { from: rootWord, hint });
  if (command[0] === "") throw new UsageError("COMMAND is empty");
  return { parsed, rootWord, command };
}
