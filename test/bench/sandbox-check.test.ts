/** The check before a benchmark accepts a real sandbox, and sees what is missing from a lesser one. */

import { expect, test } from "bun:test";
import { sandboxFaults } from "../../bench/sandbox-check.ts";
import { benchCases } from "../../bench/cases.ts";

const [item] = benchCases("/nonexistent/hutch", false);

test.each(["bwrap", "unshare"])("%s makes the sandbox that it is timed for", (name) => {
  const side = item?.sides.find((one) => one.name === name);
  if (side === undefined) throw new Error(`no side ${name}`);
  expect(sandboxFaults(side)).toEqual([]);
});

test("no sandbox at all is seen", () => {
  const faults = sandboxFaults({ name: "env", prefix: ["env"], namespaces: ["user", "net"], readOnly: false });
  expect(faults.slice(0, 2)).toEqual(["the user namespace is not new", "the net namespace is not new"]);
});

test("a root that can be written to is seen", () => {
  const prefix = "unshare -U -r -m -p --fork --mount-proc".split(" ");
  const faults = sandboxFaults({ name: "unshare", prefix, namespaces: ["user", "mnt", "pid"], readOnly: true });
  expect(faults).toEqual(["/ is not read-only"]);
});

test("a command that fails says why", () => {
  const side = { name: "sh", prefix: ["sh", "-c", "echo no >&2; exit 3"], namespaces: [], readOnly: false };
  expect(sandboxFaults(side)).toEqual(["exit code 3: no"]);
});

test("a command that runs nothing is seen", () => {
  const side = { name: "echo", prefix: ["echo", "done", "#"], namespaces: [], readOnly: false };
  expect(sandboxFaults(side).join()).toStartWith("did not run what it was given, but printed: done");
});
