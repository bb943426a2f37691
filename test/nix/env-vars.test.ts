import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { decodeBytes, encodeBytes } from "../../src/bytes.ts";
import {
  buildFacts,
  type EnvVar,
  envVar,
  formatEnvVars,
  mapDirectory,
  parseEnvVars,
  quoteValue,
  valueOf,
} from "../../src/nix/env-vars.ts";
import { needProgram } from "./builds.ts";

const one = (text: string) => parseEnvVars(text)[0];

describe("parseEnvVars", () => {
  test.each<readonly [string, string, string | undefined]>([
    ["a plain value", 'declare -x A="b c"\n', "b c"],
    ["escapes inside quotes", String.raw`declare -x A="\"\$\`\\ \n"` + "\n", '"$`\\ \\n'],
    ["a value over two lines, as bash 4 writes it", 'declare -x A="one\ntwo"\n', "one\ntwo"],
    ["ANSI quotes", String.raw`declare -x A=$'a\nb\t\'c\\\E[0m\a'` + "\n", "a\nb\t'c\\\x1b[0m\x07"],
    ["UTF-8 in octal", String.raw`declare -x A=$'caf\303\251'` + "\n", "café"],
    ["a byte that is no UTF-8", String.raw`declare -x A=$'\377x'` + "\n", "\udcffx"],
    ["hexadecimal and Unicode", String.raw`declare -x A=$'\x41é\U0001F600\cA'` + "\n", "Aé😀\x01"],
    ["an unknown escape", String.raw`declare -x A=$'\q'` + "\n", "\\q"],
    ["not set", "declare -x A\n", undefined],
    ["empty", 'declare -x A=""\n', ""],
    ["without quotes, in posix mode", "export A=b\n", "b"],
    ["no newline at the end", 'declare -x A="b"', "b"],
  ])("%s", (_, text, value) => {
    expect(one(text)).toEqual({ name: "A", flags: "x", value });
  });

  test("a line that looks like SHELL inside another value is not SHELL", () => {
    const text = `declare -x A=$'x\\ndeclare -x SHELL="/evil"'\ndeclare -x SHELL="/nix/store/x/bin/bash"\n`;
    expect(buildFacts(parseEnvVars(text)).shell).toBe("/nix/store/x/bin/bash");
    const raw = `declare -x A="x\ndeclare -x SHELL=\\"/evil\\""\ndeclare -x SHELL="/good"\n`;
    expect(buildFacts(parseEnvVars(raw)).shell).toBe("/good");
  });

  test("exported arrays are kept as they stand", () => {
    expect(one(`declare -ax A=([0]="a) b" [1]=$'c\\n)')\n`)).toEqual({
      name: "A",
      flags: "ax",
      value: undefined,
      elements: `[0]="a) b" [1]=$'c\\n)'`,
    });
  });

  test.each([
    ["a command", "rm -rf /\n", 1],
    ["a command substitution", 'declare -x A="$(id)"\n', 1],
    ["an open quote", 'declare -x A="b\n\n', 1],
    ["an open ANSI quote", "declare -x A=$'b", 1],
    ["a NUL", "declare -x A=$'\\000'\n", 1],
    ["more after the value", 'declare -x B="1"\ndeclare -x A="b"; id\n', 2],
    ["an open array", 'declare -ax A=([0]="b"', 1],
    ["a bad name", 'declare -x 1A="b"\n', 1],
  ])("%s is refused with its line", (_, text, line) => {
    expect(() => parseEnvVars(text)).toThrow(`env-vars line ${line}:`);
  });

  test("any text is either parsed or refused", () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...Array.from("declare -x A=$'\"\\\n()a01u")) }), (text) => {
        try {
          parseEnvVars(`declare -x A=${text}`);
        } catch (error) {
          expect(String(error)).toContain("env-vars line");
        }
      }),
    );
  });
});

const bytes = fc.uint8Array({ maxLength: 60 }).map((array) => decodeBytes(array.filter((byte) => byte !== 0)));

test("formatEnvVars and parseEnvVars are twins for all bytes", () => {
  fc.assert(
    fc.property(fc.array(bytes), (values) => {
      const variables: EnvVar[] = values.map((value, i) => envVar(`v${i}`, value));
      expect(parseEnvVars(formatEnvVars(variables))).toEqual(variables);
    }),
  );
});

test("bash in the C locale writes what formatEnvVars writes, and what it wrote is parsed", () => {
  const bash = needProgram("bash", "bash");
  fc.assert(
    fc.property(fc.array(bytes, { minLength: 1, maxLength: 8 }), (values) => {
      const variables = values.map((value, i) => envVar(`v${i}`, value));
      const script = `unset OLDPWD SHLVL PWD\n${formatEnvVars(variables)}export LC_ALL=C; export -n LC_ALL; export`;
      const child = Bun.spawnSync([bash, "--norc"], {
        env: { LC_ALL: "C" },
        stdin: encodeBytes(script),
      });
      const printed = decodeBytes(child.stdout);
      expect(printed).toBe(formatEnvVars(variables));
      expect(parseEnvVars(printed)).toEqual(variables);
    }),
    { numRuns: 25 },
  );
});

test("a NUL cannot be quoted", () => {
  expect(() => quoteValue("a\0b")).toThrow("NUL");
});

test("facts of a package with pname and version, and outputs in another order", () => {
  const text = [
    "pname=hello",
    "version=2.12",
    "outputs=dev out",
    "dev=/nix/store/d",
    "PWD=/build/hello",
    "NIX_BUILD_TOP=",
  ]
    .map((pair) => pair.split("="))
    .map(([name = "", value = ""]) => formatEnvVars([envVar(name, value)]))
    .join("");
  expect(buildFacts(parseEnvVars(text))).toEqual({
    shell: undefined,
    workingDirectory: "/build/hello",
    buildTop: undefined,
    store: undefined,
    out: "/nix/store/d",
    name: "hello-2.12",
  });
});

test("mapDirectory maps a host path and what is below, and nothing that only begins alike", () => {
  const variables = [envVar("A", "/tmp/b-0:/tmp/b-0/x:/tmp/b-01"), envVar("B", "/tmp/b-0")];
  const mapped = mapDirectory(variables, "/tmp/b-0", "/build");
  expect(valueOf(mapped, "A")).toBe("/build:/build/x:/tmp/b-01");
  expect(valueOf(mapped, "B")).toBe("/build");
  expect(mapDirectory(variables, "/", "/build")).toEqual(variables);
});
