/** Where a command is looked for, and what becomes of the process before it. */

import { describe, expect, test } from "bun:test";
import { execCandidates, processSteps } from "../../src/process/process.ts";
import type { Action } from "../../src/step.ts";
import { HOSTS, specOf } from "../plans.ts";

test.each<readonly [command: string, path: string[], candidates: string[]]>([
  ["ls", ["/usr/bin", "/bin"], ["/usr/bin/ls", "/bin/ls"]],
  ["/bin/ls", ["/usr/bin"], ["/bin/ls"]],
  ["./ls", ["/usr/bin"], ["./ls"]],
  ["bin/ls", ["/usr/bin"], ["bin/ls"]],
  ["ls", [], ["./ls"]],
  ["ls", ["", "/bin/"], ["./ls", "/bin/ls"]], // an empty entry is the working directory (environ(7))
  ["ls", ["/"], ["/ls"]],
  ["ls", ["relative"], ["relative/ls"]],
])("%s in %j", (command, path, candidates) => {
  expect(execCandidates(command, path)).toEqual(candidates);
});

describe("the program's steps", () => {
  const find = <Op extends Action["op"]>(steps: readonly Action[], op: Op) =>
    steps.flatMap((step) => (step.op === op ? [step as Extract<Action, { op: Op }>] : []));

  test("a user who is not root inside holds no capability, and the bounding set stays", () => {
    const steps = processSteps(specOf({ process: { uid: 5, capabilities: ["CAP_KILL"] } }), HOSTS.user, "held");
    expect(find(steps, "capabilities")).toMatchObject([{ hold: [] }]);
    expect(find(steps, "bounding-set")).toMatchObject([{ keep: ["CAP_KILL"] }]);
    expect(find(steps, "set-ids")).toMatchObject([{ uid: 5, gid: 0, groups: [] }]);
  });

  test("ids are left alone where only one is mapped", () => {
    expect(find(processSteps(specOf(), HOSTS.user, "self"), "set-ids")).toEqual([]);
  });

  test("the caller's limit of descriptors is put back, unless another is asked for", () => {
    expect(find(processSteps(specOf(), HOSTS.user, "self"), "rlimit")).toMatchObject([
      { type: "RLIMIT_NOFILE", soft: 1024, hard: 4096 },
    ]);
    const asked = specOf({ process: { rlimits: [{ type: "RLIMIT_NOFILE", soft: 5, hard: 6 }] } });
    expect(find(processSteps(asked, HOSTS.user, "self"), "rlimit")).toMatchObject([
      { type: "RLIMIT_NOFILE", soft: 5, hard: 6 },
    ]);
  });

  test("argv[0] may be another than the command", () => {
    const steps = processSteps(specOf({ process: { args: ["/bin/x", "a"], argv0: "-x" } }), HOSTS.user, "self");
    expect(find(steps, "exec")).toMatchObject([{ command: "/bin/x", candidates: ["/bin/x"], args: ["-x", "a"] }]);
  });

  test("no_new_privs and the filter only where asked for", () => {
    const steps = processSteps(specOf({ process: { noNewPrivileges: false, seccomp: undefined } }), HOSTS.user, "self");
    expect(find(steps, "no-new-privileges")).toEqual([]);
    expect(find(steps, "seccomp")).toEqual([]);
  });
});
