/** What the library is asked for in vain: each is a UsageError that names the member, and none means less isolation. */

import { describe, expect, test } from "bun:test";
import { buildSpec } from "../src/build-spec.ts";
import { UsageError } from "../src/errors.ts";
import { plan, specOf, start } from "../src/library.ts";
import type { SandboxOptions } from "../src/library-options.ts";

const options = (more: object) => ({ root: "scratch", command: ["/bin/true"], ...more }) as SandboxOptions;

async function refusal(made: Promise<unknown>): Promise<string> {
  const error: unknown = await made.catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(UsageError);
  return (error as UsageError).message;
}

describe("refused", () => {
  test.each([
    ["network", "bridge"],
    ["network", "Host"],
    ["network", null],
    ["access", "readonly"],
    ["access", "ro"],
    ["security", "strct"],
    ["security", ["none"]],
    ["root", undefined],
    ["root", 1],
    ["command", "true"],
    ["command", ["true", 1]],
    ["command", undefined],
    ["env", { A: 1 }],
    ["env", ["A=b"]],
    ["user", "x"],
    ["user", { uid: 5 }],
    ["user", { uid: "5", gid: 5 }],
    ["user", { uid: 5, gid: 5, name: "x" }],
    ["volumes", [{}]],
    ["volumes", [{ source: "/", target: "/x", readOnly: true }]],
    ["volumes", { source: "/", target: "/x" }],
    ["tmpfs", ["/x"]],
    ["tmpfs", [{ target: "/x", size: -1 }]],
    ["rlimits", { nofile: "x" }],
    ["rlimits", [{ type: "RLIMIT_NOFILE", soft: "1", hard: 1 }]],
    ["init", "false"],
    ["capAdd", "CAP_NET_RAW"],
    ["cwd", 0],
  ])("%s: %j", async (name, value) => {
    expect(await refusal(specOf(options({ [name]: value })))).toStartWith(`${name} must be `);
  });

  test.each(["readOnly", "Network", "toString", "__proto__x"])("an option %s", async (name) => {
    expect(await refusal(specOf(options({ [name]: true })))).toBe(`there is no option ${name}`);
  });

  test.each([null, undefined, [], "scratch", 5])("%j instead of options", async (wanted) => {
    expect(await refusal(plan(wanted as unknown as SandboxOptions))).toBe("what is wanted must be an object");
  });

  test("nothing at all, and a place that is none", async () => {
    expect(await refusal(plan({} as SandboxOptions))).toBe("root is missing");
    const stdout = "ignore" as "null";
    expect(await refusal(start(options({}), { stdout }))).toBe('stdout "ignore" is no place');
  });
});

test("the words that there are; undefined is absent", async () => {
  for (const network of ["none", "host"] as const)
    expect((await specOf(options({ network }))).namespaces.includes("network")).toBe(network === "none");
  for (const security of ["default", "strict", "nested", "none"] as const)
    expect((await specOf(options({ security }))).security).toBe(security);
  expect(await specOf(options({ network: undefined, env: undefined }))).toEqual(await specOf(options({})));
  const user = { uid: 5, gid: 6, additionalGids: [7] };
  const rlimits = [{ type: "RLIMIT_CORE", soft: 0, hard: Number.POSITIVE_INFINITY }];
  const tmpfs = [{ target: "/x", size: 4096, mode: 0o700 }];
  const whole = await specOf(options({ user, rlimits, tmpfs, init: false, env: { A: "" }, cwd: "/x" }));
  expect(whole.process).toMatchObject({ ...user, rlimits, cwd: "/x" });
});

test("a Spec from any other word has a network of its own", () => {
  const wanted = {
    env: [],
    user: {},
    rights: { seccompFlags: [] },
    mounts: [],
    root: { kind: "scratch" },
    workdir: "/",
  };
  const spec = buildSpec({ ...wanted, network: "bridge" } as unknown as Parameters<typeof buildSpec>[0]);
  expect(spec.namespaces).toContain("network");
});
