/** Environment and arguments of the program, byte for byte. */

import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { type Bench, BUSYBOX, eachCaller, expectFailure, expectSuccess, withProbe } from "./hutch.ts";

const PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** The program's variables, sorted. */
async function variables(bench: Bench, options: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const result = await bench.hutch(["run", ...withProbe(bench), ...options, "scratch", "/probe", "strings"], { env });
  expect(result.stderr).toBe("");
  expect(result.code).toBe(0);
  const lines = result.stdout.split("--\n")[1]?.trimEnd().split("\n") ?? [];
  return lines.map((line) => Buffer.from(line, "hex").toString()).toSorted();
}

const hex = (...bytes: readonly number[]) => Buffer.from(bytes).toString("hex");
const hexText = (text: string) => Buffer.from(text).toString("hex");

eachCaller("the environment", (bench) => {
  const folder = bench.folder();

  test("is hutch's own, not the caller's", async () => {
    expect(await variables(bench, [], { SECRET: "x", LD_PRELOAD: "", TERM: "vt100" })).toEqual([
      "HOME=/root",
      "HOSTNAME=hutch",
      PATH,
    ]);
  });

  test("-e sets, takes from the caller, and the last one wins", async () => {
    const options = [
      "-e",
      "A=1",
      "-e",
      "A=2",
      "-e",
      "TAKEN",
      "-e",
      "ABSENT",
      "-e",
      "EMPTY=",
      "-e",
      "E==x=",
      "-e",
      "HOME=/h",
    ];
    expect(await variables(bench, options, { TAKEN: "from the caller" })).toEqual([
      "A=2",
      "E==x=",
      "EMPTY=",
      "HOME=/h",
      "HOSTNAME=hutch",
      PATH,
      "TAKEN=from the caller",
    ]);
  });

  test("--env-file: comments, empty lines, CRLF, blanks, names alone; -e goes over it", async () => {
    const file = `${folder}/variables`;
    writeFileSync(
      file,
      "# comment\n\nA=from file\r\n  B= spaces kept \nTAKEN\nABSENT\nC='quotes kept'\n\tD=#no comment\nA2=x",
    );
    const second = `${folder}/second`;
    writeFileSync(second, "C=second\n");
    const got = await variables(bench, ["-e", "A=1", "--env-file", file, "--env-file", second], { TAKEN: "t" });
    expect(got).toEqual([
      "A2=x",
      "A=1",
      "B= spaces kept ",
      "C=second",
      "D=#no comment",
      "HOME=/root",
      "HOSTNAME=hutch",
      PATH,
      "TAKEN=t",
    ]);
  });

  test("--env-file with a name that is none", async () => {
    const file = `${folder}/bad`;
    writeFileSync(file, "A B=1\n");
    expectFailure(await bench.hutch(["run", "--env-file", file, "scratch", "x"]), 125, "A B", file);
  });

  test("--env-file by a path relative to the caller's folder", async () => {
    writeFileSync(`${folder}/here.env`, "HERE=1\n");
    const args = ["run", ...BUSYBOX, "--env-file", "here.env", "scratch", "busybox", "env"];
    expectSuccess(await bench.hutch(args, { cwd: folder }), /^HERE=1$/m);
  });

  test("HOSTNAME follows --hostname, and PATH is where a bare command is looked up", async () => {
    expect(await variables(bench, ["--hostname", "box"])).toContain("HOSTNAME=box");
    const found = ["run", ...withProbe(bench), "-e", "PATH=/nowhere:/", "scratch", "probe", "exit", "5"];
    expect((await bench.hutch(found)).code).toBe(5);
    const lost = ["run", ...withProbe(bench), "-e", "PATH=/nowhere", "scratch", "probe", "exit", "5"];
    expectFailure(await bench.hutch(lost), 127, "probe: command not found");
  });

  test("arguments and variables that are not UTF-8, with newlines, or empty, arrive as they are", async () => {
    const script = [
      `a="$(printf '\\377\\200a\\n\\001b')"; B="$(printf '\\303\\050\\376')"; export B`,
      `exec "$HUTCH" run -v "$1:/probe:ro" -e B -e "C=$a" -e "$(printf 'D\\351=1')" scratch /probe strings "$a" "" "é" "$B"`,
    ].join("\n");
    const result = await bench.shell(script, [bench.probe]);
    expect(result.stderr).toBe("");
    const [args, env] = result.stdout.split("--\n");
    const odd = hex(0xff, 0x80, 0x61, 0x0a, 0x01, 0x62);
    expect(args?.split("\n")).toEqual([odd, "", hexText("é"), hex(0xc3, 0x28, 0xfe), ""]);
    expect(env?.split("\n")).toContain(hexText("B=") + hex(0xc3, 0x28, 0xfe));
    expect(env?.split("\n")).toContain(hexText("C=") + odd);
    expect(env?.split("\n")).toContain(hexText("D") + hex(0xe9) + hexText("=1"));
  });

  test("paths that are not UTF-8: ROOT, volume, working directory, command", async () => {
    const script = [
      `cd "$1"; n="$(printf 'r\\377oot')"; mkdir -p "$n/d" "$n/p" "$n/proc" "$n/dev"; touch "$n/d/inside"`,
      `cp "$2" "$n/p/$(printf 'c\\376')"`,
      `"$HUTCH" run -v "./$n/d:/$n:ro" -v /bin/busybox:/bin/busybox:ro -w "/$n" "./$n" /bin/busybox ls; echo "code $?"`,
      `"$HUTCH" run "./$n" "/p/$(printf 'c\\376')" exit 9; echo "code $?"`,
      `"$HUTCH" run -v "$PWD/$n/none:/x" scratch true; echo "code $?"`,
    ].join("\n");
    const result = await bench.shell(script, [folder, bench.probe]);
    expect(result.stdout).toBe("inside\ncode 0\ncode 9\ncode 125\n");
    expect(result.stderr).toContain("does not exist");
  });

  test("a very large environment and many arguments", async () => {
    const value = "x".repeat(100_000);
    const words = Array.from({ length: 3000 }, (_, index) => `word-${index}`);
    const args = [
      "run",
      ...BUSYBOX,
      "-e",
      `BIG=${value}`,
      "scratch",
      "busybox",
      "sh",
      "-c",
      'echo $# ${#BIG} "${3000}"',
      "sh",
    ];
    expectSuccess(await bench.hutch([...args, ...words]), "3000 100000 word-2999\n");
  });

  test("TERM only with a terminal", async () => {
    const args = ["run", ...BUSYBOX, "scratch", "busybox", "sh", "-c", 'echo "[$TERM]"'];
    expectSuccess(await bench.hutch(args, { env: { TERM: "vt220" } }), "[]\n");
  });
});
