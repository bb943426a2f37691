/** A misspelt word of the library's options is refused: it never means less isolation. */

import { expect, test } from "bun:test";
import { buildSpec } from "../src/build-spec.ts";
import { UsageError } from "../src/errors.ts";
import { type SandboxOptions, specOf } from "../src/library.ts";

const options = (more: object) => ({ root: "scratch", command: ["/bin/true"], ...more }) as SandboxOptions;

test.each([
  ["network", "bridge"],
  ["network", "Host"],
  ["network", null],
  ["access", "readonly"],
  ["access", "ro"],
  ["security", "strct"],
  ["security", ["none"]],
])("%s: %j", async (name, word) => {
  const error: unknown = await specOf(options({ [name]: word })).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(UsageError);
  expect(String(error)).toContain(`${name} ${JSON.stringify(word)} is none of`);
});

test("the words that there are", async () => {
  for (const network of ["none", "host"] as const)
    expect((await specOf(options({ network }))).namespaces.includes("network")).toBe(network === "none");
  for (const security of ["default", "strict", "nested", "none"] as const)
    expect(await specOf(options({ security }))).toBeObject();
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
