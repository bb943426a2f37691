/** mydocker run IMAGE COMMAND [ARG…]: as few words as possible, nothing of its own printed, the program PID 1. */

import { expect, test } from "bun:test";
import { lstatSync, readlinkSync } from "node:fs";
import { join, resolve } from "node:path";
import { imageOf, layerOf } from "../image/helpers/layout.ts";
import { startRegistry } from "../image/helpers/registry.ts";
import { dir, file, link, tar } from "../image/tar-maker.ts";
import { need } from "../kernel/sandbox.ts";
import { type Bench, eachCaller, expectFailure, needs, type Options } from "./hutch.ts";

const busybox = await Bun.file(need("busybox", "busybox-static")).bytes();
const image = imageOf(
  [
    layerOf(
      tar(
        ...[dir("bin"), dir("dev"), dir("etc"), dir("proc"), dir("of-the-image"), file("of-the-image/file")],
        ...[file("bin/busybox", busybox, { mode: 0o755 }), link("bin/sh", "busybox"), link("bin/ls", "busybox")],
      ),
    ),
  ],
  { Env: ["WORD=image"] },
);

/** An image whose registry gives no answer, on a machine with a network or without: nothing listens on port 9. */
const UNREACHABLE = "127.0.0.1:9/alpine:latest";

/** A stand-in for the program that a tester runs: dynamic, at an absolute path. */
const EXPLORER = `
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
  if (argc > 2 && !strcmp(argv[1], "echo")) { printf("%s\\n", argv[2]); return 0; }
  if (argc > 2 && !strcmp(argv[1], "echo_stderr")) { fprintf(stderr, "%s\\n", argv[2]); return 0; }
  if (argc > 2 && !strcmp(argv[1], "exit")) return atoi(argv[2]);
  if (argc > 1 && !strcmp(argv[1], "mypid")) { printf("%d\\n", getpid()); return 0; }
  if (argc > 2 && !strcmp(argv[1], "touch")) { int fd = creat(argv[2], 0644); return fd < 0; }
  if (argc > 2 && !strcmp(argv[1], "ls")) {
    DIR *d = opendir(argv[2]);
    if (!d) { printf("%s\\n", strerror(errno)); return 2; }
    for (struct dirent *e; (e = readdir(d));) if (e->d_name[0] != '.') printf("%s\\n", e->d_name);
    return 0;
  }
  return 9;
}`;

function explorerOf(folder: string): string {
  const path = `${folder}/docker-explorer`;
  const made = Bun.spawnSync([needs("gcc"), "-x", "c", "-", "-o", path], { stdin: Buffer.from(EXPLORER) });
  if (made.exitCode !== 0) throw new Error(`gcc: ${made.stderr.toString()}`);
  return path;
}

test("dist/mydocker is another name of dist/hutch", () => {
  const path = resolve(import.meta.dir, "../../dist/mydocker");
  expect(lstatSync(path).isSymbolicLink()).toBe(true);
  expect(readlinkSync(path)).toBe("hutch");
});

eachCaller("mydocker", (bench: Bench) => {
  const folder = bench.folder({ mark: "of the host" });
  const explorer = explorerOf(folder);
  const waysToCall = [
    ["mydocker", [bench.mydocker]],
    ["hutch mydocker", [bench.binary, "mydocker"]],
  ] as const;
  const call = (argv: readonly string[], options: Options = {}) => bench.start(argv, { stdin: "", ...options }).ended;
  const inAlpine = (...words: readonly string[]) => call([bench.mydocker, "run", UNREACHABLE, ...words]);

  for (const [name, argv] of waysToCall) {
    test(`${name}: output, errors and exit code are the program's, to the byte`, async () => {
      const run = (...words: readonly string[]) => call([...argv, "run", UNREACHABLE, explorer, ...words]);
      expect(await run("echo", "hey")).toEqual({ stdout: "hey\n", stderr: "", code: 0, signal: null });
      expect(await run("echo_stderr", "hey")).toEqual({ stdout: "", stderr: "hey\n", code: 0, signal: null });
      for (const code of [0, 1, 2, 125, 127, 255]) {
        expect(await run("exit", String(code))).toEqual({ stdout: "", stderr: "", code, signal: null });
      }
      expect(await run("ls", "/some_dir")).toEqual({
        stdout: "No such file or directory\n",
        stderr: "",
        code: 2,
        signal: null,
      });
      expect(await run("mypid")).toEqual({ stdout: "1\n", stderr: "", code: 0, signal: null });
    });
  }

  test("a registry without an answer is not asked again for a while", async () => {
    const options = { env: { HUTCH_STORE: join(bench.folder(), "store") } };
    let asked = 0;
    const listen = (port: number) =>
      Bun.listen({ hostname: "127.0.0.1", port, socket: { open: () => void (asked += 1), data: () => {} } });
    const server = listen(0);
    server.stop(true);
    const run = () => bench.hutch(["mydocker", "run", `127.0.0.1:${server.port}/x`, explorer, "echo", "hey"], options);
    expect(await run()).toMatchObject({ stdout: "hey\n", stderr: "", code: 0 });
    const again = listen(server.port);
    try {
      expect(await run()).toMatchObject({ stdout: "hey\n", stderr: "", code: 0 });
      expect(asked).toBe(0);
    } finally {
      again.stop(true);
    }
  });

  test("an image that can be had is the root; a COMMAND that only the host has is added with what it needs", async () => {
    await using registry = startRegistry();
    registry.add(image);
    const options = { env: { HUTCH_STORE: join(bench.folder(), "store") } };
    const run = (...words: readonly string[]) =>
      bench.hutch(["mydocker", "run", `${registry.host}/test`, ...words], options);
    const top = "bin\ndev\netc\nof-the-image\nproc\n";
    expect(await run("/bin/sh", "-c", "/bin/ls /")).toEqual({ stdout: top, stderr: "", code: 0, signal: null });
    const asked = registry.requests.length;
    expect(await run("/bin/sh", "-c", "echo $$ $WORD; exit 42")).toMatchObject({
      stdout: "1 image\n",
      stderr: "",
      code: 42,
    });
    expect(await run(explorer, "ls", "/of-the-image")).toMatchObject({ stdout: "file\n", stderr: "", code: 0 });
    expect(await run(explorer, "ls", folder)).toMatchObject({ stdout: "docker-explorer\n", code: 0 });
    expectFailure(await run("docker-explorer"), 127, "docker-explorer");
    expectFailure(await run("/no/such"), 127, "/no/such");
    expect(registry.requests.length).toBe(asked);
  });

  test.each([401, 403, 404, 429, 500])("an answer of %d is an error, with the registry's own words", async (status) => {
    await using registry = startRegistry();
    const body = { errors: [{ code: "OWN_CODE", message: "own words" }] };
    registry.intercept = ({ path }) =>
      path === "/v2/" ? undefined : Response.json(body, { status, headers: { "retry-after": "0" } });
    const options = { env: { HUTCH_STORE: join(bench.folder(), "store") } };
    const refused = await bench.hutch(["mydocker", "run", `${registry.host}/test`, explorer, "echo", "hey"], options);
    expectFailure(
      refused,
      125,
      `${registry.host}/test`,
      `${status}`,
      "OWN_CODE: own words",
      `${registry.host}/test:latest`,
    );
  });

  test("a registry that is silent for three seconds gives no answer", async () => {
    const options = { env: { HUTCH_STORE: join(bench.folder(), "store") } };
    const silent = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
    const name = `127.0.0.1:${silent.port}/x`;
    try {
      const before = performance.now();
      const required = bench.hutch(["mydocker", "run", "--require-image", name, explorer, "echo", "hey"], options);
      const free = bench.hutch(["mydocker", "run", name, explorer, "echo", "hey"], options);
      expect(await free).toEqual({ stdout: "hey\n", stderr: "", code: 0, signal: null });
      expectFailure(await required, 125, `127.0.0.1:${silent.port}: no answer within 3000 ms`);
      const took = performance.now() - before;
      expect(took).toBeGreaterThan(2900);
      expect(took).toBeLessThan(8000);
    } finally {
      silent.stop(true);
    }
  });

  test.each([
    ["hangs up", ""],
    ["talks something else", "hello\r\n"],
  ])("a registry that answers and %s is an error, each time", async (_, said) => {
    const options = { env: { HUTCH_STORE: join(bench.folder(), "store") } };
    const port = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: { open: (s) => void s.end(said), data: () => {} },
    });
    try {
      for (let i = 0; i < 2; i++) {
        const run = await bench.hutch(
          ["mydocker", "run", `127.0.0.1:${port.port}/x`, explorer, "echo", "hey"],
          options,
        );
        expectFailure(run, 125, `127.0.0.1:${port.port}: `);
      }
    } finally {
      port.stop(true);
    }
  });

  test("the host's files are not there, and what is made is gone", async () => {
    expect(await inAlpine(explorer, "ls", folder)).toMatchObject({ stdout: "docker-explorer\n", code: 0 });
    expect(await inAlpine("/bin/ls", "-A", "/home", "/root", "/run")).toMatchObject({
      stdout: "/home:\n\n/root:\n\n/run:\n",
    });
    expect(await inAlpine("/bin/ls", "/tmp")).toMatchObject({ stdout: "", stderr: "", code: 0 });
    expect(await inAlpine(explorer, "touch", `${folder}/made`)).toMatchObject({ code: 0 });
    expect(Array.from(new Bun.Glob("*").scanSync(folder)).toSorted()).toEqual(["docker-explorer", "mark"]);
  });

  test("an absent directory, as ls itself reports it", async () => {
    const result = await inAlpine("/bin/ls", "/some_dir");
    expect(result.stdout).toBe("");
    expect(result.stderr).toContain("/some_dir': No such file or directory\n");
    expect(result.code).toBe(2);
  });

  test("a bare name is looked up in the host's PATH; options behind it are its own", async () => {
    expect(await inAlpine("echo", "-n", "--help", "--")).toMatchObject({ stdout: "--help --", stderr: "", code: 0 });
    expect(await inAlpine("bash", "-c", "echo $$ $0 $1", "a", "b")).toMatchObject({ stdout: "1 a b\n", code: 0 });
    const env = { PATH: `${folder}:/usr/bin` };
    const found = await call([bench.mydocker, "run", UNREACHABLE, "docker-explorer", "mypid"], { env });
    expect(found).toMatchObject({ stdout: "1\n", code: 0 });
    const relative = await call([bench.mydocker, "run", UNREACHABLE, "./docker-explorer", "mypid"], { cwd: folder });
    expect(relative).toMatchObject({ stdout: "1\n", code: 0 });
    expect(await inAlpine("bash", "-c", "echo $0")).toMatchObject({ stdout: "bash\n" }); // not its path
  });

  test("standard input is the program's", async () => {
    const run = call([bench.mydocker, "run", UNREACHABLE, "/bin/cat"], { stdin: "one\ntwo" });
    expect(await run).toEqual({ stdout: "one\ntwo", stderr: "", code: 0, signal: null });
  });

  test("a COMMAND that the host does not have is not found", async () => {
    expectFailure(await inAlpine("/no/such/command"), 127, "/no/such/command");
    expectFailure(await inAlpine("no-such-command"), 127, "no-such-command");
    expectFailure(await inAlpine(`${folder}/mark`), 126, `${folder}/mark`);
  });

  test("wrong use is one line with the right one", async () => {
    const wrong = (...args: readonly string[]) => call([bench.mydocker, ...args]);
    expectFailure(await wrong(), 125, "IMAGE COMMAND [ARG…]");
    expectFailure(await wrong("rnu"), 125, "rnu", "IMAGE COMMAND [ARG…]");
    expectFailure(await wrong("run"), 125, "IMAGE", "IMAGE COMMAND [ARG…]");
    expectFailure(await wrong("run", "alpine"), 125, "COMMAND", "IMAGE COMMAND [ARG…]");
    expectFailure(await wrong("run", "-it", "alpine", "sh"), 125, "-it", "hutch run");
  });

  test.each([
    ["SIGTERM", 143],
    ["SIGINT", 130],
    ["SIGHUP", 129],
    ["SIGKILL", null],
  ] as const)("%s ends a program that is PID 1 as it would any other", async (signal, code) => {
    const running = bench.start([bench.mydocker, "run", UNREACHABLE, "/bin/cat"]);
    running.write("up");
    await running.says("up");
    running.kill(signal);
    expect(await running.ended).toMatchObject({ stdout: "up", stderr: "", code });
  });
});
