/** argv parsing: what is an option, what is an operand, and what is said about mistakes. */

import { describe, expect, test } from "bun:test";
import type { ArgsDef } from "citty";
import fc from "fast-check";
import { all, has, last, nearest, oneOf, parseMixed, parseOptions, type Parsed } from "../../src/cli/options.ts";
import { UsageError } from "../../src/errors.ts";

const ARGS = {
  env: { type: "string", alias: "e" },
  user: { type: "string", alias: ["u", "uid"] },
  network: { type: "string" },
  interactive: { type: "boolean", alias: "i" },
  tty: { type: "boolean", alias: "t" },
  rm: { type: "boolean" },
  root: { type: "positional" },
} as const satisfies ArgsDef;

const parse = (...argv: string[]): Parsed => parseOptions(ARGS, argv);
/** `name=value` for each option, in the order of first appearance, then the operands. */
const flat = (parsed: Parsed) => ({
  options: [...parsed.options].flatMap(([name, list]) => list.map(({ value }) => `${name}=${value}`)),
  operands: parsed.operands,
});
const words = (parsed: Parsed) => [...parsed.options.values()].flat().map((item) => item.words);

describe("options and operands", () => {
  test.each<readonly [argv: string[], options: string[], operands: string[]]>([
    [[], [], []],
    [["r"], [], ["r"]],
    [["--env", "A=1", "r"], ["env=A=1"], ["r"]],
    [["--env=A=1", "r"], ["env=A=1"], ["r"]],
    [["--env=", "r"], ["env="], ["r"]],
    [["--env", "", "r"], ["env="], ["r"]],
    [["-e", "A=1", "r"], ["env=A=1"], ["r"]],
    [["-eA=1", "r"], ["env=A=1"], ["r"]],
    [["-it", "r"], ["interactive=", "tty="], ["r"]],
    [["-iteA=1", "r"], ["interactive=", "tty=", "env=A=1"], ["r"]],
    [["-ite", "A=1", "r"], ["interactive=", "tty=", "env=A=1"], ["r"]],
    [["-e", "A", "-e", "B", "--env=C", "r"], ["env=A", "env=B", "env=C"], ["r"]],
    [["-u", "1", "--uid", "2"], ["user=1", "user=2"], []],
    // A value may look like an option, and like the end of options.
    [["-e", "--rm", "r"], ["env=--rm"], ["r"]],
    [["-e", "--", "r"], ["env=--"], ["r"]],
    // Options end at the first operand: all behind it is the program's.
    [["r", "ls", "-la", "--rm"], [], ["r", "ls", "-la", "--rm"]],
    [["--rm", "r", "--", "--rm"], ["rm="], ["r", "--", "--rm"]],
    [["--rm", "--", "-r"], ["rm="], ["-r"]],
    [["--", "--", "r"], [], ["--", "r"]],
    [["-"], [], ["-"]],
    [["", "--rm"], [], ["", "--rm"]],
  ])("of %j", (argv, options, operands) => {
    expect(flat(parse(...argv))).toEqual({ options, operands });
  });

  test("keep the user's words", () => {
    expect(words(parse("--env", "A=1", "--env=B=2", "-eC=3", "-it", "r"))).toEqual([
      "--env A=1",
      "--env=B=2",
      "-e C=3",
      "-i",
      "-t",
    ]);
  });

  test.each<readonly [argv: string[], message: string, hint: string | undefined]>([
    [["--nonsense"], "unknown option --nonsense", undefined],
    [["--networ=none"], "unknown option --networ", "did you mean --network?"],
    [["--evn", "A"], "unknown option --evn", "did you mean --env?"],
    [["--interact"], "unknown option --interact", "did you mean --interactive?"],
    [["-x"], "unknown option -x", undefined],
    [["-ix"], "unknown option -x", undefined],
    [["--e", "A"], "unknown option --e", "did you mean --env?"],
    [["--root"], "unknown option --root", undefined],
    [["---"], "unknown option ---", undefined],
    [["--toString"], "unknown option --toString", undefined],
    [["--env"], "option --env needs a value", undefined],
    [["-e"], "option -e needs a value", undefined],
    [["-ie"], "option -ie needs a value", undefined],
    [["--rm=1"], "option --rm takes no value", undefined],
  ])("%j is refused", (argv, message, hint) => {
    let caught: unknown;
    try {
      parse(...argv);
    } catch (error) {
      caught = error;
    }
    expect(caught).toBeInstanceOf(UsageError);
    const { message: said, hint: advice } = caught as UsageError;
    expect(said).toBe(message);
    if (hint !== undefined) expect(advice).toBe(hint);
  });
});

describe("whatever is given", () => {
  const word = fc.oneof(
    fc.string({ unit: "binary", maxLength: 6 }),
    fc.constantFrom("--", "-", "-i", "-it", "--rm", "--env", "-e", "--env=x", "-ex", "--user", "root"),
  );

  test("the operands are the end of argv, byte for byte, or the user is told", () => {
    fc.assert(
      fc.property(fc.array(word, { maxLength: 8 }), (argv) => {
        let parsed: Parsed;
        try {
          parsed = parse(...argv);
        } catch (error) {
          expect(error).toBeInstanceOf(UsageError);
          return;
        }
        const { operands } = parsed;
        expect(operands).toEqual(argv.slice(argv.length - operands.length));
      }),
      { numRuns: 2000 },
    );
  });

  test("nothing behind the first operand changes what the options are", () => {
    fc.assert(
      fc.property(fc.array(word, { maxLength: 6 }), (tail) => {
        const parsed = parse("-i", "--env", "A", "root", ...tail);
        expect(flat(parsed)).toEqual({ options: ["interactive=", "env=A"], operands: ["root", ...tail] });
      }),
    );
  });

  test("every value arrives in each way of writing it", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (value) => {
        expect(last(parse("--env", value), "env")?.value).toBe(value);
        expect(last(parse(`--env=${value}`), "env")?.value).toBe(value);
        expect(last(parse("-e", value), "env")?.value).toBe(value);
        if (value !== "") expect(last(parse(`-e${value}`), "env")?.value).toBe(value);
      }),
    );
  });
});

describe("questions to what was parsed", () => {
  const parsed = parse("-e", "A", "-e", "B", "--rm", "--network", "none", "r");

  test("all, last and has", () => {
    expect(all(parsed, "env").map(({ value }) => value)).toEqual(["A", "B"]);
    expect(all(parsed, "user")).toEqual([]);
    expect(last(parsed, "env")?.value).toBe("B");
    expect(last(parsed, "user")).toBeUndefined();
    expect([has(parsed, "rm"), has(parsed, "tty")]).toEqual([true, false]);
  });

  test("oneOf takes the fallback when nothing is said, and refuses other words", () => {
    expect(oneOf(parsed, "network", ["none", "host"], "host")).toBe("none");
    expect(oneOf(parsed, "user", ["none", "host"], "host")).toBe("host");
    expect(() => oneOf(parse("--network", "bridge"), "network", ["none", "host"], "none")).toThrow(
      expect.objectContaining({ message: "--network must be none or host", from: "--network bridge" }),
    );
  });
});

describe("the nearest word", () => {
  const options = ["env", "env-file", "read-only", "writable", "volume", "workdir"];
  test.each([
    ["evn", "env"],
    ["readonly", "read-only"],
    ["read_only", "read-only"],
    ["writeable", "writable"],
    ["vol", "volume"],
    ["work", "workdir"],
    ["xyzzy", undefined],
    ["", undefined],
  ])("to %j is %j", (word, expected) => {
    expect(nearest(word, options)).toBe(expected);
  });

  test("of a word that is there is itself", () => {
    fc.assert(
      fc.property(fc.constantFrom(...options), (word) => {
        expect(nearest(word, [word])).toBe(word);
      }),
    );
  });
});

describe("options behind operands too", () => {
  const mixed = (...argv: string[]) => flat(parseMixed(ARGS, argv));

  test.each<readonly [argv: string[], options: string[], operands: string[]]>([
    [[], [], []],
    [["a", "b"], [], ["a", "b"]],
    [
      ["a", "--rm", "b", "-e", "x", "c"],
      ["rm=", "env=x"],
      ["a", "b", "c"],
    ],
    [["-e", "1", "a", "-e", "2"], ["env=1", "env=2"], ["a"]],
    [["a", "--", "--rm", "b"], [], ["a", "--rm", "b"]],
    [["a", "-e", "--", "b"], ["env=--"], ["a", "b"]],
    [["a", "-"], [], ["a", "-"]],
  ])("%j", (argv, options, operands) => {
    expect(mixed(...argv)).toEqual({ options, operands });
  });

  test("unknown ones are refused wherever they stand", () => {
    expect(() => mixed("a", "--netwrk", "b")).toThrow(UsageError);
    expect(() => mixed("a", "--env")).toThrow("option --env needs a value");
  });

  test("without options every word is an operand, in order", () => {
    const word = fc.string({ minLength: 1 }).filter((text) => !text.startsWith("-"));
    fc.assert(fc.property(fc.array(word), (argv) => expect(mixed(...argv).operands).toEqual(argv)));
  });
});
