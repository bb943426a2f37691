/**
 * Kernels before 6.6, by uname(2)'s own way to pretend (setarch --uname-2.6): the writable layer is on disk, and nothing
 * of it is left, whatever ends the sandbox. (The real thing: scripts/old-kernel.ts.)
 */

import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { imageOf, layerOf, writeLayout } from "../image/helpers/layout.ts";
import { dir, file, hard, link, tar } from "../image/tar-maker.ts";
import { until } from "./host-processes.ts";
import { type Bench, eachCaller, withProbe } from "./hutch.ts";
import { need } from "../kernel/sandbox.ts";
import { openTerminal } from "./terminal.ts";

/** A file with two names and an owner, a deleted file, a link. */
const image = imageOf([
  layerOf(
    tar(
      ...[dir("old"), dir("old/below"), file("gone"), dir("home"), dir("home/ada", { uid: 1000, mode: 0o700 })],
      file("home/ada/one", "one", { uid: 1000, gid: 1001, mode: 0o4711 }),
      hard("home/ada/two", "home/ada/one"),
    ),
  ),
  layerOf(
    tar(file(".wh.gone"), dir("n", { mode: 0o1777 }), file("n/2", "two", { uid: 5 }), link("one", "home/ada/one")),
  ),
]);

const sessions = (store: string): readonly string[] => readdirSync(join(store, "sessions"));

/** A root with busybox, and a store that is empty. */
function places(bench: Bench): { readonly root: string; readonly env: { readonly HUTCH_STORE: string } } {
  need("setarch", "util-linux");
  const root = bench.folder({ "old/below/file": "text", proc: { directory: true }, dev: { directory: true } });
  return { root, env: { HUTCH_STORE: bench.folder() } };
}

const busybox = ["--add", need("busybox", "busybox-static")];
const run = (script: string) => `exec setarch --uname-2.6 "$HUTCH" run ${busybox.join(" ")} ${script}`;

eachCaller("a writable layer on disk", (bench) => {
  test("takes every write, changes nothing else, and is gone at the end with the exit status kept", async () => {
    const { root, env } = places(bench);
    const script = "rm -r /old && mkdir /old && busybox ls -A /old && echo new > /old/file && cat /old/file; exit 7";
    const { stdout, stderr, code } = await bench.shell(
      run(`"$1" busybox sh -c "$2"`),
      [root, script.replaceAll(/\b(rm|mkdir|cat)\b/g, "busybox $1")],
      { env },
    );
    expect(stderr).toBe("");
    expect(stdout).toBe("new\n");
    expect(code).toBe(7);
    expect(sessions(env.HUTCH_STORE)).toEqual([]);
    expect(readdirSync(join(root, "old"))).toEqual(["below"]);
  });

  test("a failed start leaves nothing, and says the same", async () => {
    const { root, env } = places(bench);
    const { stderr, code } = await bench.shell(run(`"$1" /none`), [root], { env });
    expect(stderr).toContain("/none: command not found");
    expect(code).toBe(127);
    expect(sessions(env.HUTCH_STORE)).toEqual([]);
  });

  test.each(["SIGTERM", "SIGKILL"] as const)(
    "%s reaches the program or ends it, and nothing is left",
    async (signal) => {
      const { root, env } = places(bench);
      const words = ["setarch", "--uname-2.6", bench.binary, "run", ...busybox, root, "busybox", "sh", "-c"];
      const running = bench.start([...words, "trap 'exit 4' TERM; echo ready; while :; do busybox sleep 1; done"], {
        env,
      });
      await running.says("ready\n");
      const [made, ...others] = sessions(env.HUTCH_STORE);
      expect(others).toEqual([]);
      expect(readdirSync(join(env.HUTCH_STORE, "sessions", made ?? "")).toSorted()).toEqual(["upper", "work"]);
      running.kill(signal);
      const ended = await running.ended;
      expect(ended.code).toBe(signal === "SIGTERM" ? 4 : null);
      // hutch is what was killed: another process removes the layer.
      if (signal === "SIGKILL") await until("the layer is gone", async () => sessions(env.HUTCH_STORE).length === 0);
      expect(sessions(env.HUTCH_STORE)).toEqual([]);
    },
  );

  test("without a store a directory's writes are in memory, and the plan says what that costs", async () => {
    const { root } = places(bench);
    const env = { HUTCH_STORE: "/proc/nowhere" };
    const { stdout, stderr, code } = await bench.shell(run(`"$1" busybox echo one`), [root], { env });
    expect({ stdout, stderr, code }).toEqual({ stdout: "one\n", stderr: "", code: 0 });
    const plan = await bench.shell('exec setarch --uname-2.6 "$HUTCH" plan "$1" /bin/true', [root], { env });
    expect(plan.stdout).toContain("writes in memory: without user.* attributes there");
  });

  test("with a name it is found, joined and ended by it, and nothing is left", async () => {
    const { root, env: store } = places(bench);
    const env = { ...store, XDG_RUNTIME_DIR: bench.folder() };
    const running = bench.start(
      ["setarch", "--uname-2.6", bench.binary, "run", "--name", "old", ...busybox, root, "busybox", "sh", "-c"].concat(
        "trap 'exit 4' TERM; echo one > /made; echo ready; while :; do busybox sleep 0.2; done",
      ),
      { env },
    );
    await running.says("ready\n");
    expect(sessions(env.HUTCH_STORE)).toHaveLength(1);
    const listed = JSON.parse((await bench.hutch(["ps", "--format", "json"], { env })).stdout) as { pid: number }[];
    expect(listed.map(({ pid }) => pid)).toEqual([running.pid]);
    expect(await bench.hutch(["exec", "old", "busybox", "cat", "/made"], { env })).toMatchObject({
      stdout: "one\n",
      stderr: "",
      code: 0,
    });
    expect((await bench.hutch(["kill", "old"], { env })).code).toBe(0);
    expect((await running.ended).code).toBe(4);
    expect(sessions(env.HUTCH_STORE)).toEqual([]);
    expect((await bench.hutch(["ps", "--format", "json"], { env })).stdout).toBe("[]\n");
  });

  test("--die-with-parent ends the sandbox with its parent, and nothing is left", async () => {
    const { root, env } = places(bench);
    const script = `setarch --uname-2.6 "$HUTCH" run --die-with-parent ${busybox.join(" ")} "$1" busybox sh -c "$2"; true`;
    const parent = bench.start(["sh", "-c", script, "sh", root, "echo ready; while :; do busybox sleep 0.2; done"], {
      env: { ...env, HUTCH: bench.binary },
    });
    await parent.says("ready\n");
    expect(sessions(env.HUTCH_STORE)).toHaveLength(1);
    parent.kill("SIGKILL");
    await until("the layer is gone", async () => sessions(env.HUTCH_STORE).length === 0);
    const lives = await bench.shell(
      run(`--die-with-parent "$1" busybox sh -c "exit 6"; echo $?`).replace("exec ", ""),
      [root],
      {
        env,
      },
    );
    expect(lives).toMatchObject({ stdout: "6\n", stderr: "" });
  });

  test("a terminal of its own works, and what it shows ends before the shell goes on", async () => {
    const { root, env } = places(bench);
    const terminal = await openTerminal(bench);
    terminal.type(`export HUTCH_STORE=${env.HUTCH_STORE}\n`);
    terminal.type(
      `setarch --uname-2.6 ${bench.binary} run -t ${[...withProbe(bench), ...busybox].join(" ")} ${root} busybox sh -c 'busybox tty; exit 5'; echo "code $?"\n`,
    );
    await terminal.shows("/dev/pts/0\r\n");
    await terminal.shows("code 5\r\n");
    expect(sessions(env.HUTCH_STORE)).toEqual([]);
    terminal.type("exit\n");
    await terminal.ended;
  });

  test("an image is copied where the store can hold no writable layer, and shows the same tree", async () => {
    const { root } = places(bench);
    writeLayout(`${root}/layout`, image);
    // A tmpfs, which this pretended kernel believes to be without attributes.
    const store = (await bench.shell("mktemp -d /dev/shm/hutch-test-XXXXXX")).stdout.trim();
    try {
      const env = { HUTCH_STORE: store };
      const script =
        "cd /; busybox find home n one* -exec busybox stat -c '%n %u:%g %a %h %F %s %Y' {} + | busybox sort; busybox rm -r old; busybox mkdir old; busybox ls -A old gone; pwd -P; busybox touch /new";
      const words = (more: string) =>
        `"$HUTCH" run ${more} ${busybox.join(" ")} oci:"$1"/layout busybox sh -c "$2"; echo $?`;
      const expected = await bench.shell(words(""), [root, script], { env });
      expect(expected.stdout).toContain(
        `home/ada/one ${bench.caller.root ? "1000:1001" : "0:0"} 4711 2 regular file 3 `,
      );
      expect(expected.stdout).toContain("\n/\n0\n");
      const copied = await bench.shell(`setarch --uname-2.6 ${words("")}`, [root, script], { env });
      expect(copied).toEqual(expected);
      const readOnly = await bench.shell(`setarch --uname-2.6 ${words("--read-only")}`, [root, "busybox touch /new"], {
        env,
      });
      expect(readOnly.stderr).toContain("Read-only file system");
      expect(readOnly.stdout).toBe("1\n");
      const planned = await bench.shell('exec setarch --uname-2.6 "$HUTCH" plan oci:"$1"/layout sh', [root], { env });
      expect(planned.stdout).toContain("/sessions/…/upper as root");
      expect(sessions(store)).toEqual([]);
    } finally {
      await bench.shell('exec rm -rf --one-file-system "$1"', [store]);
    }
  });
});
