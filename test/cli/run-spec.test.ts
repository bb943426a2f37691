/** `hutch run`'s command line as a Spec. */

import { afterAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseRun } from "../../src/cli/run-request.ts";
import { runSpec } from "../../src/cli/run-spec.ts";
import * as defaults from "../../src/defaults.ts";
import { HutchError, UsageError } from "../../src/errors.ts";
import type { Spec } from "../../src/spec.ts";

const spec = async (...argv: string[]): Promise<Spec> => (await runSpec(parseRun(argv))).spec;

/** What is said about a command line, or `undefined` when it is taken. */
async function complaint(...argv: string[]): Promise<{ message: string; from: string | undefined } | undefined> {
  try {
    await spec(...argv);
  } catch (error) {
    if (!(error instanceof HutchError)) throw error;
    expect(error.exitCode).toBe(125);
    return { message: error.message, from: error.from };
  }
  return undefined;
}

describe("what is ROOT and what is the program's", () => {
  test.each<readonly [argv: string[], root: string, command: string[]]>([
    [["/", "true"], "/", ["true"]],
    [["./r", "--", "ls", "-la"], "./r", ["ls", "-la"]],
    [["scratch", "ls", "--", "--rm"], "scratch", ["ls", "--", "--rm"]],
    [["--rm", "-i", "r", "--", "--", "x"], "r", ["--", "x"]],
    [["--", "-r", "x"], "-r", ["x"]],
    [["r", "sh", "-c", ""], "r", ["sh", "-c", ""]],
  ])("%j", (argv, root, command) => {
    const request = parseRun(argv);
    expect([request.rootWord, request.command]).toEqual([root, command]);
  });

  test("the program's arguments are never touched", () => {
    fc.assert(
      fc.property(fc.string({ minLength: 1 }), fc.array(fc.string({ unit: "binary" })), (name, args) => {
        expect(parseRun(["--rm", "r", "--", name, ...args]).command).toEqual([name, ...args]);
        if (name !== "--") expect(parseRun(["r", name, ...args]).command).toEqual([name, ...args]);
      }),
    );
  });

  test.each<readonly [argv: string[], message: string, from: string | undefined]>([
    [[], "ROOT is missing", undefined],
    [["--rm"], "ROOT is missing", undefined],
    [["r", ""], "COMMAND is empty", undefined],
    [["-d", "r", "x"], "there is no -d", "-d"],
    [["--detach", "r", "x"], "there is no --detach", "--detach"],
    [["--publish=n", "r", "x"], "there is no --publish", "--publish=n"],
    [["-p", "80:80", "r", "x"], "there is no -p", "-p 80:80"],
    [["--privileged", "r", "x"], "unknown option --privileged", undefined],
  ])("%j is refused", (argv, message, from) => {
    let caught: unknown;
    try {
      parseRun(argv);
    } catch (error) {
      caught = error;
    }
    expect(caught).toBeInstanceOf(UsageError);
    expect(caught).toMatchObject({ message, from });
  });
});

describe("roots", () => {
  const here = process.cwd();
  test.each<readonly [argv: string[], root: object]>([
    [["/"], { kind: "overlay", lower: ["/"], from: "/" }],
    [["./x"], { kind: "overlay", lower: [`${here}/x`], from: "./x" }],
    [["."], { kind: "overlay", lower: [here], from: "." }],
    [["--read-only", "/"], { kind: "bind", path: "/", readonly: true, from: "--read-only /" }],
    [["--writable", "/srv"], { kind: "bind", path: "/srv", readonly: false, from: "--writable /srv" }],
    [["scratch"], { kind: "scratch", readonly: false, from: "scratch" }],
    [["--read-only", "scratch"], { kind: "scratch", readonly: true, from: "scratch" }],
  ])("%j", async (argv, root) => {
    expect<object>((await spec(...argv, "x")).root).toMatchObject(root);
  });

  test.each<readonly [argv: string[], message: RegExp, from: string | undefined]>([
    [["--read-only", "--writable", "/"], /contradict/, undefined],
    [["--writable", "scratch"], /scratch is always writable/, "--writable"],
    [["--pull", "missing", "scratch"], /--pull is for images/, "--pull missing"],
    [["--platform=linux/arm64", "/srv"], /--platform is for images, and \/srv is none/, "--platform=linux/arm64"],
    [[".hidden"], /invalid image name ".hidden"/, undefined],
    [[""], /ROOT is empty/, undefined],
  ])("%j is refused", async (argv, message, from) => {
    const said = await complaint(...argv, "x");
    expect(said?.message).toMatch(message);
    expect(said?.from).toBe(from);
  });
});

test.each(["./r", "scratch", "/"])("%s has no command of its own", async (root) => {
  expect(await complaint(root)).toMatchObject({ message: "COMMAND is missing", from: root });
  expect(await complaint(root, "--")).toMatchObject({ message: "COMMAND is missing", from: root });
});

describe("options as fields", () => {
  test("nothing asked for is the defaults", async () => {
    const { process: its, ...rest } = await spec("scratch", "ls", "-l");
    expect(its).toMatchObject({ args: ["ls", "-l"], cwd: "/", uid: 0, gid: 0, additionalGids: [], umask: 0o022 });
    expect(its).toMatchObject({ rlimits: [], noNewPrivileges: true, preserveFds: 0 });
    expect(its.capabilities).toEqual(
      [...defaults.DEFAULT_CAPABILITIES].toSorted((a, b) => its.capabilities.indexOf(a) - its.capabilities.indexOf(b)),
    );
    expect((its.seccomp?.length ?? 0) / 8).toBeGreaterThan(10);
    expect(its.env.slice(0, 3)).toEqual([`PATH=${defaults.DEFAULT_PATH}`, "HOME=/root", "HOSTNAME=hutch"]);
    expect(its.searchPath).toEqual(defaults.DEFAULT_PATH.split(":"));
    expect(rest).toMatchObject({
      hostname: "hutch",
      domainname: "(none)",
      namespaces: defaults.DEFAULT_NAMESPACES,
      idMap: "default",
      timeOffsets: undefined,
      init: true,
      words: {},
      maskedPaths: defaults.MASKED_PATHS,
      readonlyPaths: defaults.READONLY_PATHS,
    });
    const places = rest.mounts.map(({ type, destination }) => `${type} ${destination}`);
    expect(places).toEqual([
      ...defaults.SCRATCH_DIRECTORIES.map(([path]) => `directory ${path}`),
      ...defaults.scratchFiles("hutch").map(([path]) => `file ${path}`),
      "proc /proc",
      "dev /dev",
    ]);
  });

  test.each<readonly [argv: string[], expected: object]>([
    [["--hostname", "box"], { hostname: "box", words: { hostname: "--hostname box" } }],
    [["-h", "a", "-h", "b"], { hostname: "b", words: { hostname: "-h a -h b" } }],
    [["--domainname=d"], { domainname: "d", words: { domainname: "--domainname=d" } }],
    [["-w", "/a//b/"], { process: { cwd: "/a/b" }, words: { cwd: "-w /a//b/" } }],
    [["-w", "/"], { process: { cwd: "/" } }],
    [["-u", "nobody"], { process: { uid: 65534, gid: 65534 }, words: { user: "-u nobody" } }],
    [["-u", "7:8"], { process: { uid: 7, gid: 8 } }],
    [["--no-init"], { init: false }],
    [["--init"], { init: true }],
    [["--network", "host"], { namespaces: ["user", "mount", "pid", "ipc", "uts", "cgroup"] }],
    [["--network=none"], { namespaces: defaults.DEFAULT_NAMESPACES }],
    [
      ["--time-offset", "7"],
      { timeOffsets: { monotonic: 7, boottime: 7 }, namespaces: [...defaults.DEFAULT_NAMESPACES, "time"] },
    ],
    [["--userns", "auto"], { idMap: "range", words: { idMap: "--userns auto" } }],
    [["--cap-drop", "ALL", "--cap-add", "kill"], { process: { capabilities: ["CAP_KILL"] } }],
    [
      ["--ulimit", "nofile=5", "--ulimit", "core=0"],
      {
        process: { rlimits: [{ type: "RLIMIT_NOFILE" }, { type: "RLIMIT_CORE" }] },
        words: { RLIMIT_NOFILE: "--ulimit nofile=5", RLIMIT_CORE: "--ulimit core=0" },
      },
    ],
    [["-e", "PATH=/x:/y:"], { process: { searchPath: ["/x", "/y", ""] } }],
    [["-e", "PATH="], { process: { searchPath: [] } }],
  ])("%j", async (argv, expected) => {
    expect<object>(await spec(...argv, "scratch", "x")).toMatchObject(expected);
  });

  test("mounts of the user come last, in order of their kinds, so that they can cover the others", async () => {
    const argv = ["-v", "/a:/1", "--tmpfs", "/2", "--mount", "type=bind,src=/b,dst=/3", "-v", "/c:/4:ro"];
    const { mounts } = await spec(...argv, "scratch", "x");
    expect<string[]>(mounts.slice(-4).map(({ destination }) => destination)).toEqual(["/2", "/3", "/1", "/4"]);
  });

  test.each<readonly [argv: string[], message: string, from: string | undefined]>([
    [["--init", "--no-init"], "--init and --no-init contradict each other", undefined],
    [["--network", "bridge"], "--network must be none or host", "--network bridge"],
    [["--userns", "host"], "--userns must be auto", "--userns host"],
    [["--preserve-fds", "x"], "--preserve-fds needs a number up to 9999", "--preserve-fds x"],
    [["--preserve-fds", "9999"], "", "--preserve-fds 9999"],
    [["--env-file", "/absent"], "/absent cannot be read: ENOENT no such file or directory", "--env-file /absent"],
    [["-u", "carol"], 'unknown user "carol"', "-u carol"],
    [["--ulimit", "x=1"], 'unknown limit "x"', "--ulimit x=1"],
    [["--cap-add", "x"], 'unknown capability "x"', "--cap-add x"],
  ])("%j is refused", async (argv, message, from) => {
    const said = await complaint(...argv, "scratch", "x");
    if (message !== "") expect(said?.message).toBe(message);
    expect(said?.from).toBe(from);
  });

  test.each(["", ".", "./", "work", "../x"])(
    "the working directory %j is left as it is, for the rule to refuse",
    async (cwd) => {
      expect<string>((await spec("-w", cwd, "scratch", "x")).process.cwd).toBe(cwd);
    },
  );
});

describe("files that a run reads", () => {
  const folder = mkdtempSync(join(tmpdir(), "hutch-spec-"));
  chmodSync(folder, 0o755);
  const root = join(folder, "root");
  mkdirSync(join(root, "etc"), { recursive: true });
  writeFileSync(join(root, "etc/passwd"), "app:x:12:34::/srv:/bin/sh\n");
  writeFileSync(join(root, "etc/group"), "wheel:x:56:app\n");
  writeFileSync(join(folder, "env"), "A=1\nB=2\nPATH=/p\n");
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test("names are those of the root", async () => {
    const its = (await spec("-u", "app", root, "x")).process;
    expect(its).toMatchObject({ uid: 12, gid: 34, additionalGids: [56] });
    expect(its.env).toContain("HOME=/srv");
    expect(await complaint("-u", "nobody", root, "x")).toMatchObject({ message: 'unknown user "nobody"' });
  });

  test("-e wins over --env-file, wherever it stands, and both over the defaults", async () => {
    const { env, searchPath } = (await spec("-e", "A=3", "--env-file", join(folder, "env"), "scratch", "x")).process;
    expect(env).toContain("A=3");
    expect(env).toContain("B=2");
    expect(env.filter((entry) => /^(A|PATH)=/.test(entry))).toEqual(["PATH=/p", "A=3"]);
    expect(searchPath).toEqual(["/p"]);
  });

  test("a directory root gets nothing but /proc and /dev of its own", async () => {
    expect((await spec(root, "x")).mounts.map(({ type }) => type)).toEqual(["proc", "dev"]);
  });
});
