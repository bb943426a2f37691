/**
 * No process of hutch's is left when it has ended, not even one that has ended too and that nobody waits for: PID 1 of
 * many a container waits for none. Orphans become this test run's children, which waits for its own only.
 */

import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { descendants, remains, until } from "./host-processes.ts";
import { type Bench, BUSYBOX, eachCaller, needs } from "./hutch.ts";
import { applet, failedBuild } from "./nix-builds.ts";

setDefaultTimeout(30_000);
const build = failedBuild();

const NAMES = ["--name", "a layer on disk", "a layer on disk and --name", "nix-build-shell"] as const;

/** A command line with somebody who removes something, should hutch be killed. */
interface Way {
  /** The command line without the program's. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** A folder that is empty afterwards. */
  readonly folder: string;
  /** Words of the program's for a script. */
  readonly shell: readonly string[];
}

function ways(bench: Bench): Readonly<Record<(typeof NAMES)[number], Way>> {
  const [runtime, store, temporary] = [bench.folder(), bench.folder(), bench.folder()];
  const env = { XDG_RUNTIME_DIR: runtime, HUTCH_STORE: store, TMPDIR: temporary };
  const root = bench.folder({ proc: { directory: true }, dev: { directory: true } });
  const run = [bench.binary, "run", "--add", needs("busybox")];
  const old = [needs("setarch"), "--uname-2.6"];
  const shell = ["busybox", "sh", "-c"];
  const [list, sessions] = [join(runtime, "hutch"), join(store, "sessions")];
  const session = [applet(bench), "--store", build.shop().store.root, build.kept()];
  return {
    "--name": { argv: [...run, "--name", "box", "scratch"], env, folder: list, shell },
    "a layer on disk": { argv: [...old, ...run, root], env, folder: sessions, shell },
    "a layer on disk and --name": { argv: [...old, ...run, "--name", "box", root], env, folder: sessions, shell },
    "nix-build-shell": { argv: session, env, folder: temporary, shell: ["bash", "-c"] },
  };
}

/** Words that make the nth of hutch's own calls of a name fail; its children's are their own. */
function failing(call: string, nth: number): readonly string[] {
  return [needs("strace"), "-qq", "-o", "/dev/null", "-e", `trace=${call}`].concat(
    "-e",
    `inject=${call}:error=ENOMEM:when=${nth}`,
  );
}

eachCaller("no zombie", (bench) => {
  for (const name of NAMES) {
    const known = () => new Set(descendants(process.pid));
    const way = () => ways(bench)[name];
    const nix = name === "nix-build-shell";

    test(`${name}, after the program's end`, async () => {
      const [{ argv, env, folder, shell }, before] = [way(), known()];
      const { stdout, code } = await bench.start([...argv, ...shell, "echo ran; exit 7"], { stdin: "", env }).ended;
      expect(remains(before)).toEqual([]);
      expect({ stdout, code }).toEqual({ stdout: "ran\n", code: 7 });
      expect(readdirSync(folder)).toEqual([]);
    });

    test(`${name}, after a program that is not there`, async () => {
      const [{ argv, env, folder }, before] = [way(), known()];
      const { code } = await bench.start([...argv, "/none"], { stdin: "", env }).ended;
      expect(remains(before)).toEqual([]);
      expect(code).toBe(127);
      expect(readdirSync(folder)).toEqual([]);
    });

    test(`${name}, after a launcher that cannot be executed`, async () => {
      const [{ argv, env, folder, shell }, before] = [way(), known()];
      // setarch(8) executes hutch, which executes the launcher.
      const words = [...failing("execve", argv.includes("--uname-2.6") ? 2 : 1), ...argv, ...shell, "echo"];
      const { stderr, stdout, code } = await bench.start(words, { stdin: "", env }).ended;
      expect(remains(before)).toEqual([]);
      expect(stderr).toContain("ENOMEM");
      expect({ stdout, code }).toEqual({ stdout: "", code: 125 });
      expect(readdirSync(folder)).toEqual([]);
    });

    test.each(["SIGTERM", "SIGINT", "SIGHUP"] as const)(`${name}, after %s`, async (signal) => {
      const [{ argv, env, folder, shell }, before] = [way(), known()];
      const pause = nix ? ":" : "busybox sleep 0.1"; // of a session's programs only bash is sure to be there
      const script = `trap "exit 4" ${signal.slice(3)}; echo ready; while :; do ${pause}; done`;
      const running = bench.start([...argv, ...shell, script], { env });
      await running.says("ready\n");
      running.kill(signal);
      expect((await running.ended).code).toBe(4);
      expect(remains(before)).toEqual([]);
      expect(readdirSync(folder)).toEqual([]);
    });
  }

  test("after a name that is taken", async () => {
    const { argv, env, shell } = ways(bench)["--name"];
    const running = bench.start([...argv, ...shell, "echo ready; read -r line"], { env });
    await running.says("ready\n");
    const before = new Set(descendants(process.pid));
    const { stderr } = await bench.start([...argv, ...shell, ":"], { stdin: "", env }).ended;
    expect(remains(before)).toEqual([]);
    expect(stderr).toContain("there is a sandbox of the name box");
    running.closeInput();
    await running.ended;
  });

  test("after hutch doctor", async () => {
    const before = new Set(descendants(process.pid));
    const { stdout } = await bench.hutch(["doctor"]);
    expect(remains(before)).toEqual([]);
    expect(stdout).toContain("hutch run scratch");
  });

  // Only root's launcher mounts something itself, with a holder of id maps beside it.
  if (bench.caller.root)
    test("after a step that fails outside of the sandbox", async () => {
      const before = new Set(descendants(process.pid));
      const run = [bench.binary, "run", ...BUSYBOX, "scratch", "/bin/busybox", "true"];
      const { stderr, code } = await bench.start([...failing("open_tree", 1), ...run], { stdin: "" }).ended;
      expect(remains(before)).toEqual([]);
      expect(stderr).toContain("ENOMEM");
      expect(code).toBe(125);
    });

  test("after a program in the process group of a terminal's job, and after exec", async () => {
    const before = new Set(descendants(process.pid));
    const env = { XDG_RUNTIME_DIR: bench.folder(), HUTCH: bench.binary };
    const sandbox = `"$HUTCH" run --name box ${BUSYBOX.join(" ")} scratch /bin/busybox`;
    const script = `${sandbox} echo one; ${sandbox} sh -c "echo two; read line" < "$FIFO" & exec 9> "$FIFO"
      until "$HUTCH" exec box /bin/busybox echo three 2>/dev/null; do :; done; echo >&9; wait`;
    const fifo = join(bench.folder(), "fifo");
    await bench.shell('mkfifo "$1"', [fifo]);
    const running = bench.start([needs("script"), "-qec", script, "/dev/null"], { env: { ...env, FIFO: fifo } });
    await running.ended;
    for (const text of ["one", "two", "three"]) expect(running.output()).toContain(text);
    await until("the end of script(1)'s processes", () => remains(before).every((text) => !text.includes("(sh)")));
    expect(remains(before)).toEqual([]);
  });
});
