/**
 * The built binary as a black box, by each kind of caller: as root and as an ordinary user without any rights. Nothing
 * here knows what is inside.
 */

import { afterAll, afterEach, beforeEach, describe, expect } from "bun:test";
import { chmodSync, copyFileSync, existsSync, lchownSync, linkSync, mkdirSync, mkdtempSync } from "node:fs";
import { rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { adoptOrphans, descendants, mountLines, strays, until } from "./host-processes.ts";
import { namesBelow } from "./tree.ts";

const DIST = resolve(import.meta.dir, "../../dist");
const ORDINARY_ID = 65534;
/** Longer than anything here takes; a sandbox that hangs is killed and the test fails for its missing output. */
const PATIENCE_MS = 30_000;

/** Who starts hutch. */
export interface Caller {
  readonly name: string;
  readonly uid: number;
  /** Whether the caller is the machine's root: ids of the sandbox are others outside, then. */
  readonly root: boolean;
  /** Words in front of a command that make it this caller's. */
  readonly prefix: readonly string[];
}

/** What came out of a process that has ended. `code` is null when a signal ended hutch itself. */
export interface Result {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number | null;
  readonly signal: NodeJS.Signals | number | null;
}

export interface Options {
  readonly stdin?: string | Uint8Array;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

/** A process that is still running, with what it has written so far. */
export interface Running {
  readonly pid: number;
  readonly output: () => string;
  readonly errors: () => string;
  readonly write: (text: string) => void;
  readonly closeInput: () => void;
  readonly kill: (signal: NodeJS.Signals | number) => void;
  /** Wait until the standard output contains a text. */
  readonly says: (text: string) => Promise<void>;
  readonly ended: Promise<Result>;
}

/** Files by path: the text of an ordinary one, the content of an executable one, the target of a link, or a directory. */
export type Files = Readonly<
  Record<
    string,
    string | { readonly executable: string | Uint8Array } | { readonly link: string } | { readonly directory: true }
  >
>;

/** Where one caller works: folders of its own, the binary, and the ways to start it. */
export interface Bench {
  readonly caller: Caller;
  /** Paths of the executables, as this caller may execute them. */
  readonly binary: string;
  readonly mydocker: string;
  /** The program of probe.c, static; inside, by `withProbe`, it is /probe. */
  readonly probe: string;
  readonly hutch: (args: readonly string[], options?: Options) => Promise<Result>;
  /** A script of /bin/sh by the caller; the binary is $HUTCH, and `args` are $1 and up. */
  readonly shell: (script: string, args?: readonly string[], options?: Options) => Promise<Result>;
  readonly start: (argv: readonly string[], options?: Options) => Running;
  /** A fresh folder with these files, all of it the caller's. */
  readonly folder: (files?: Files) => string;
}

/** Options that show the static probe inside as /probe. */
export function withProbe(bench: Bench): readonly string[] {
  return ["-v", `${bench.probe}:/probe:ro`];
}

/** Options that give a scratch root busybox's commands. */
export const BUSYBOX: readonly string[] = ["-v", "/bin/busybox:/bin/busybox:ro"];

const ENVIRONMENT = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", HOME: "/", LC_ALL: "C" };

/** Fail, with the name of what must be installed, when a tool of the machine is absent. */
export function needs(tool: string): string {
  const found = Bun.which(tool, { PATH: ENVIRONMENT.PATH });
  if (found === null) throw new Error(`this test needs ${tool}, which is not installed`);
  return found;
}

function callers(): readonly Caller[] {
  const uid = process.getuid?.() ?? -1;
  if (uid !== 0) return [{ name: `uid ${uid}`, uid, root: false, prefix: [] }];
  const setpriv = [needs("setpriv"), `--reuid=${ORDINARY_ID}`, `--regid=${ORDINARY_ID}`, "--clear-groups"];
  return [
    { name: "root", uid: 0, root: true, prefix: [] },
    { name: `uid ${ORDINARY_ID}`, uid: ORDINARY_ID, root: false, prefix: setpriv },
  ];
}

interface Workshop {
  readonly path: string;
  readonly binary: string;
  readonly mydocker: string;
  readonly probe: string;
}

/** A folder that everybody may enter, with the binary and the probe program; gone after the last test of the file. */
function openWorkshop(): Workshop {
  const built = join(DIST, "hutch");
  if (!existsSync(built)) throw new Error(`${built} is not there: build it first (npm run build)`);
  const path = mkdtempSync(join(tmpdir(), "hutch-cli-"));
  chmodSync(path, 0o755);
  const binary = join(path, "hutch");
  try {
    linkSync(built, binary);
  } catch {
    copyFileSync(built, binary); // another file system, or a policy against hard links
  }
  symlinkSync("hutch", join(path, "mydocker"));
  const probe = join(path, "probe");
  const source = join(import.meta.dir, "probe.c");
  const made = Bun.spawnSync([needs("gcc"), "-static", "-O1", "-Wall", "-Werror", "-o", probe, source]);
  if (made.exitCode !== 0) throw new Error(`gcc probe.c: ${made.stderr.toString()}`);
  return { path, binary, mydocker: join(path, "mydocker"), probe };
}

/** Start a program as the test's own user. */
export function start(argv: readonly string[], { stdin, env, cwd }: Options): Running {
  const child = Bun.spawn([...argv], {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "pipe",
    env: { ...ENVIRONMENT, ...env },
    cwd: cwd ?? "/",
    timeout: PATIENCE_MS,
    killSignal: "SIGKILL",
  });
  let [output, errors] = ["", ""];
  const collect = async (stream: ReadableStream<Uint8Array>, add: (text: string) => void) => {
    const decoder = new TextDecoder();
    for await (const chunk of stream) add(decoder.decode(chunk, { stream: true }));
  };
  const collected = Promise.all([
    collect(child.stdout, (text) => (output += text)),
    collect(child.stderr, (text) => (errors += text)),
  ]);
  const closeInput = () => {
    try {
      void child.stdin.end();
    } catch (error) {
      if ((error as { code?: string }).code !== "EPIPE") throw error; // it has ended already
    }
  };
  if (stdin !== undefined) {
    void child.stdin.write(stdin);
    closeInput();
  }
  return {
    pid: child.pid,
    output: () => output,
    errors: () => errors,
    write: (text) => {
      void child.stdin.write(text);
      void child.stdin.flush();
    },
    closeInput,
    kill: (signal) => child.kill(signal),
    says: async (text) => {
      await until(`${JSON.stringify(text)} in the output of ${argv.join(" ")}`, () => {
        if (child.exitCode !== null && !output.includes(text))
          throw new Error(`ended with ${child.exitCode} without ${JSON.stringify(text)}: ${output}${errors}`);
        return output.includes(text);
      });
    },
    ended: (async () => {
      await Promise.all([child.exited, collected]);
      return { stdout: output, stderr: errors, code: child.exitCode, signal: child.signalCode };
    })(),
  };
}

function benchOf(workshop: Workshop, caller: Caller): Bench {
  const { binary } = workshop;
  let folders = 0;
  const by = (argv: readonly string[]) => [...caller.prefix, ...argv];
  const finish = (argv: readonly string[], options: Options) => start(by(argv), { stdin: "", ...options }).ended;
  return {
    caller,
    binary,
    mydocker: workshop.mydocker,
    probe: workshop.probe,
    hutch: (args, options = {}) => finish([binary, ...args], options),
    shell: (script, args = [], options = {}) =>
      finish(["/bin/sh", "-c", script, "sh", ...args], { ...options, env: { HUTCH: binary, ...options.env } }),
    start: (argv, options = {}) => start(by(argv), options),
    folder: (files = {}) => {
      folders += 1;
      const path = join(workshop.path, `${caller.uid}-${folders}`);
      mkdirSync(path, { mode: 0o755 });
      for (const [name, file] of Object.entries(files)) {
        const target = join(path, name);
        mkdirSync(dirname(target), { recursive: true });
        if (typeof file === "string") writeFileSync(target, file);
        else if ("executable" in file) writeFileSync(target, file.executable, { mode: 0o755 });
        else if ("link" in file) symlinkSync(file.link, target);
        else mkdirSync(target, { recursive: true });
      }
      if (process.getuid?.() === 0) {
        for (const name of ["", ...namesBelow(path)]) lchownSync(join(path, name), caller.uid, caller.uid);
      }
      return path;
    },
  };
}

/**
 * Describe what holds for every caller. After each test nothing of it may be left: no process (orphans become ours, so
 * none escapes) and no mount.
 */
export function eachCaller(title: string, body: (bench: Bench) => void): void {
  const workshop = openWorkshop();
  afterAll(() => {
    adoptOrphans(false);
    rmSync(workshop.path, { recursive: true, force: true });
  });
  for (const caller of callers()) {
    describe(`${title}, as ${caller.name}`, () => {
      let known: ReadonlySet<number> = new Set();
      let mounts: ReadonlySet<string> = new Set();
      beforeEach(() => {
        adoptOrphans(true);
        known = new Set(descendants(process.pid));
        mounts = new Set(mountLines());
      });
      afterEach(async () => {
        await until("the end of every process", () => strays(known).length === 0);
        await until("the end of every mount", () => mountLines().every((line) => mounts.has(line)));
      });
      body(benchOf(workshop, caller));
    });
  }
}

/** Expect a run that says this on stdout, nothing on stderr, and exits with 0. */
export function expectSuccess(result: Result, stdout: string | RegExp): void {
  expect(result.stderr).toBe("");
  if (typeof stdout === "string") expect(result.stdout).toBe(stdout);
  else expect(result.stdout).toMatch(stdout);
  expect(result.code).toBe(0);
}

/** Expect a failure before anything has started: one line on stderr that contains all words, nothing on stdout. */
export function expectFailure(result: Result, code: number, ...words: readonly string[]): void {
  expect(result.stdout).toBe("");
  expect(result.stderr).toMatch(/^[^\n]+\n$/);
  for (const word of words) expect(result.stderr).toContain(word);
  expect(result.code).toBe(code);
}
