/** Values of options: each form that is taken, each mistake that is named. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Occurrence } from "../../src/cli/options.ts";
import { tidyPath } from "../../src/build-spec.ts";
import { mergeEnvironment, parseEnvFile } from "../../src/cli/environment.ts";
import { hostPath } from "../../src/cli/root-word.ts";
import * as values from "../../src/cli/values.ts";
import { UsageError } from "../../src/errors.ts";

const given = (value: string, option = "-v"): Occurrence => ({ value, words: `${option} ${value}` });
const CWD = "/here/we";

/** The complaint about a value, with the user's words checked. */
function complaint(parse: (occurrence: Occurrence) => unknown, value: string): string {
  const occurrence = given(value, "--option");
  try {
    parse(occurrence);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    expect(error.from).toBe(occurrence.words);
    return error.message;
  }
  throw new Error(`${value} was taken`);
}

describe("paths", () => {
  test.each([
    ["/", "/"],
    ["//", "/"],
    ["/a//b/./c/", "/a/b/c"],
    ["a/./b/", "a/b"],
    ["", ""],
    [".", ""],
    ["/a/../b", "/a/../b"],
    ["/ü\udc80", "/ü\udc80"],
  ])("%j tidied is %j", (path, expected) => {
    expect(tidyPath(path)).toBe(expected);
  });

  test("tidied twice is tidied once, and no name is lost", () => {
    const name = fc.string({ minLength: 1, maxLength: 4 }).filter((text) => !text.includes("/") && text !== ".");
    fc.assert(
      fc.property(fc.array(name), fc.boolean(), (names, absolute) => {
        const messy = (absolute ? "//" : "") + names.join("/.//") + (names.length > 0 ? "/" : "");
        const tidy = tidyPath(messy);
        expect(tidyPath(tidy)).toBe(tidy);
        expect(tidy.split("/").filter((part) => part !== "")).toEqual(names);
      }),
    );
  });

  test.each([
    ["/a", "/a"],
    [".", "/here/we"],
    ["./a", "/here/we/a"],
    ["../a", "/here/we/../a"],
    ["..", "/here/we/.."],
  ])("%j on the host is %j", (word, expected) => {
    expect<string>(hostPath(word, CWD, "w")).toBe(expected);
  });

  test.each(["data", "", ".hidden", "..."])("%j is no path", (word) => {
    expect(() => hostPath(word, CWD, "-v it")).toThrow(UsageError);
  });
});

describe("--volume", () => {
  const parse = (occurrence: Occurrence) => values.parseVolume(occurrence, CWD);
  test.each<readonly [string, source: string, destination: string, attributes: string[], idmap: boolean]>([
    ["/a:/b", "/a", "/b", [], false],
    ["/a:/b:rw", "/a", "/b", [], false],
    ["/a:/b:ro", "/a", "/b", ["ro"], true],
    ["./a:/b/./c/:ro,nosuid,nodev,noexec", "/here/we/a", "/b/c", ["ro", "nosuid", "nodev", "noexec"], true],
    ["/a:/b:noatime,nosymfollow", "/a", "/b", ["noatime", "nosymfollow"], false],
    ["/a:/", "/a", "/", [], false],
  ])("%s", (value, source, destination, attributes, idmap) => {
    const from = `-v ${value}`;
    expect<object>(parse(given(value))).toEqual({ type: "bind", source, destination, attributes, idmap, from });
  });

  test.each([
    ["/a", "a volume is SRC:DST[:OPTIONS]"],
    ["", "a volume is SRC:DST[:OPTIONS]"],
    [":/b", "a volume is SRC:DST[:OPTIONS]"],
    ["/a:", "a volume is SRC:DST[:OPTIONS]"],
    ["/a:/b:ro:rw", "a volume is SRC:DST[:OPTIONS]"],
    ["/a:b", 'target "b" is not an absolute path'],
    ["a:/b", '"a" is not a path'],
    ["/a:/b:z", 'unknown volume option "z"'],
    ["/a:/b:", 'unknown volume option ""'],
    ["/a:/b:ro,,nosuid", 'unknown volume option ""'],
    ["/a:/b:toString", 'unknown volume option "toString"'],
    ["/a:/b:ro,rw", "a volume is either ro or rw"],
  ])("%j is refused", (value, message) => {
    expect(complaint(parse, value)).toBe(message);
  });
});

describe("--tmpfs", () => {
  test.each<readonly [string, destination: string, options: Record<string, string>, attributes: string[]]>([
    ["/t", "/t", { mode: "1777" }, ["nosuid", "nodev"]],
    ["/t:size=64m", "/t", { mode: "1777", size: "64m" }, ["nosuid", "nodev"]],
    ["/t:mode=700,nr_inodes=10k,size=50%", "/t", { mode: "700", nr_inodes: "10k", size: "50%" }, ["nosuid", "nodev"]],
    ["/t:ro,noexec,rw", "/t", { mode: "1777" }, ["nosuid", "nodev", "ro", "noexec"]],
  ])("%s", (value, destination, options, attributes) => {
    const from = `-v ${value}`;
    expect<object>(values.parseTmpfs(given(value))).toEqual({ type: "tmpfs", destination, options, attributes, from });
  });

  test.each([
    ["t", 'target "t" is not an absolute path'],
    ["", 'target "" is not an absolute path'],
    ["/t:size=", 'unknown tmpfs option "size="'],
    ["/t:size=lots", 'unknown tmpfs option "size=lots"'],
    ["/t:mode=9", 'unknown tmpfs option "mode=9"'],
    ["/t:mode=17777", 'unknown tmpfs option "mode=17777"'],
    ["/t:huge=always", 'unknown tmpfs option "huge=always"'],
    ["/t:size=1,mpol=bind", 'unknown tmpfs option "mpol=bind"'],
    ["/t:", 'unknown tmpfs option ""'],
    ["/t:constructor=1", 'unknown tmpfs option "constructor=1"'],
    ["/t:__proto__=1", 'unknown tmpfs option "__proto__=1"'],
  ])("%j is refused", (value, message) => {
    expect(complaint(values.parseTmpfs, value)).toBe(message);
  });
});

describe("--mount", () => {
  const parse = (occurrence: Occurrence) => values.parseMount(occurrence, CWD);
  test.each<readonly [string, object]>([
    ["type=bind,source=/a,target=/b", { source: "/a", destination: "/b", attributes: [], idmap: false }],
    ["type=bind,src=./a,dst=/b,readonly", { source: "/here/we/a", destination: "/b", attributes: ["ro"], idmap: true }],
    [
      "type=bind,src=/a:b,destination=/c,ro=true",
      { source: "/a:b", destination: "/c", attributes: ["ro"], idmap: true },
    ],
    ["type=bind,src=/a,dst=/b,readonly=1,noexec", { attributes: ["ro", "noexec"], idmap: true }],
    ["type=bind,src=/a,dst=/b,readonly=false", { attributes: [], idmap: false }],
    ["type=bind,src=/a,dst=/b,ro=0,rw", { attributes: [], idmap: false }],
    ["type=bind,src=/a=b,dst=/b", { source: "/a=b" }],
    ["type=tmpfs,target=/t", { type: "tmpfs", destination: "/t", options: { mode: "1777" } }],
    [
      "type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=755,ro",
      { options: { mode: "755", size: "64m" }, attributes: ["nosuid", "nodev", "ro"] },
    ],
  ])("%s", (value, expected) => {
    expect<object>(parse(given(value, "--mount"))).toMatchObject({ from: `--mount ${value}`, ...expected });
  });

  test.each([
    ["", "a mount needs type="],
    ["type=bind,source=/a", "a mount needs target="],
    ["type=bind,target=/b", "a bind mount needs source="],
    ["source=/a,target=/b", "a mount needs type="],
    ["type=volume,source=a,target=/b", "there is no type=volume"],
    ["type=tmpfs,source=/a,target=/b", "a tmpfs has no source"],
    ["type=bind,source=/a,target=b", 'target "b" is not an absolute path'],
    ["type=bind,source=a,target=/b", '"a" is not a path'],
    ["type=bind,source=/a,target=/b,bind-propagation=shared", 'unknown mount option "bind-propagation"'],
    ["type=bind,source=/a,target=/b,z", 'unknown mount option "z"'],
    ["type=bind,source=/a,target=/b,readonly=maybe", 'readonly is true or false, not "maybe"'],
    ["type=bind,source=/a,target=/b,ro=", 'readonly is true or false, not ""'],
    ["type=bind,source=/a,target=/b,ro,rw", "a mount is either ro or rw"],
    ["type=bind,source=/a,source=/b,target=/c", "source is given twice"],
    ["type=bind,source=/a,src=/b,target=/c", "source is given twice"],
    ["type=bind,source=/a,target=/b,dst=/c", "target is given twice"],
    ["type=tmpfs,target=/t,tmpfs-huge=always", 'unknown tmpfs option "huge=always"'],
  ])("%j is refused", (value, message) => {
    expect(complaint(parse, value)).toBe(message);
  });
});

describe("--ulimit", () => {
  const no = Number.POSITIVE_INFINITY;
  test.each<readonly [string, type: string, soft: number, hard: number]>([
    ["nofile=1024", "RLIMIT_NOFILE", 1024, 1024],
    ["nofile=1024:2048", "RLIMIT_NOFILE", 1024, 2048],
    ["CORE=0:unlimited", "RLIMIT_CORE", 0, no],
    ["cpu=-1", "RLIMIT_CPU", no, no],
    ["as=999999999999999", "RLIMIT_AS", 999_999_999_999_999, 999_999_999_999_999],
  ])("%s", (value, type, soft, hard) => {
    expect(values.parseUlimit(given(value))).toEqual({ type, soft, hard });
  });

  test.each([
    ["files=1", 'unknown limit "files"'],
    ["=1", 'unknown limit ""'],
    ["constructor=1", 'unknown limit "constructor"'],
    ["nofile", "a limit is NAME=SOFT[:HARD]"],
    ["nofile=", 'limit "" is not a number'],
    ["nofile=1:", 'limit "" is not a number'],
    ["nofile=1:2:3", "a limit is NAME=SOFT[:HARD]"],
    ["nofile=1k", 'limit "1k" is not a number'],
    ["nofile=-2", 'limit "-2" is not a number'],
    ["nofile=1e3", 'limit "1e3" is not a number'],
    ["nofile=9999999999999999", 'limit "9999999999999999" is not a number'],
  ])("%j is refused", (value, message) => {
    expect(complaint(values.parseUlimit, value)).toBe(message);
  });
});

describe("--time-offset", () => {
  test.each<readonly [string, monotonic: number, boottime: number]>([
    ["5", 5, 5],
    ["-86400", -86_400, -86_400],
    ["monotonic=5", 5, 0],
    ["boottime=-5", 0, -5],
    ["monotonic=1,boottime=2", 1, 2],
  ])("%s", (value, monotonic, boottime) => {
    expect(values.parseTimeOffset(given(value))).toEqual({ monotonic, boottime });
  });

  const form = "a time offset is SECONDS or monotonic=SECONDS,boottime=SECONDS";
  test.each([
    ["", form],
    ["1.5", form],
    ["1h", form],
    ["monotonic=", form],
    ["monotonic=1,boottime", form],
    ["monotonic=1=2", form],
    ["9999999999999", form],
    ["realtime=1", 'unknown clock "realtime"'],
    ["monotonic=1,,boottime=1", 'unknown clock ""'],
  ])("%j is refused", (value, message) => {
    expect(complaint(values.parseTimeOffset, value)).toBe(message);
  });
});

describe("environments", () => {
  test("a file has a variable on each line", () => {
    const text = "A=1\n# comment\n\n  B=two words \r\nC\nD=\nE=x=y\n#F=1\n";
    expect(parseEnvFile(text, "--env-file f").map(({ value }) => value)).toEqual([
      "A=1",
      "B=two words ",
      "C",
      "D=",
      "E=x=y",
    ]);
  });

  test.each(["=1\n", "A B=1\n", "A\tB\n"])("the line %j is refused", (text) => {
    expect(() => parseEnvFile(text, "--env-file f")).toThrow(
      expect.objectContaining({ from: "--env-file f", message: expect.stringContaining("is not a name") }),
    );
  });

  test.each<readonly [defaults: string[], given: string[], caller: string[], merged: string[]]>([
    [["A=1"], [], ["A=caller"], ["A=1"]],
    [["A=1", "B=2"], ["A=3"], [], ["A=3", "B=2"]],
    [[], ["A=1", "A=2"], [], ["A=2"]],
    [[], ["A"], ["B=1", "A=x=y"], ["A=x=y"]],
    [[], ["A"], ["AB=1"], []],
    [["A=1"], ["A"], [], ["A=1"]],
    [["A=1"], ["A="], [], ["A="]],
    [[], ["A=\udcff\n"], [], ["A=\udcff\n"]],
    [[], ["A=1", "B=1", "A=2"], [], ["A=2", "B=1"]],
  ])("%j with %j of a caller with %j is %j", (defaults, words, caller, merged) => {
    expect(
      mergeEnvironment(
        defaults,
        words.map((word) => given(word, "-e")),
        caller,
      ),
    ).toEqual(merged);
  });

  test.each(["", "=", "=1"])("%j is no variable", (value) => {
    expect(complaint((occurrence) => mergeEnvironment([], [occurrence], []), value)).toBe("a variable needs a name");
  });

  test("no name is there twice, and every value given last is there", () => {
    const entry = fc.tuple(fc.constantFrom("A", "B", "PATH", "HOME"), fc.string()).map(([k, v]) => `${k}=${v}`);
    fc.assert(
      fc.property(fc.array(entry), fc.array(entry), (defaults, words) => {
        const merged = mergeEnvironment(
          defaults,
          words.map((word) => given(word, "-e")),
          [],
        );
        const nameOf = (text: string) => text.slice(0, text.indexOf("="));
        const names = merged.map(nameOf);
        expect(new Set(names).size).toBe(names.length);
        for (const name of names) {
          const wanted = [...defaults, ...words].findLast((text) => nameOf(text) === name);
          expect(merged.find((text) => nameOf(text) === name)).toBe(wanted);
        }
      }),
    );
  });
});
