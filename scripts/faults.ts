/**
 * Every file operation of hutch's own process made to fail, and killed before, by strace's injection.
 *   bun scripts/faults.ts [CASE…]     all cases of fault-cases.ts, as root and (started by root) as uid 65534; counts
 * What counts is the process that becomes the launcher and what that becomes afterwards; the launcher's own records are
 * test/launch/faults.test.ts's. `npm test` has a part of it.
 *
 * After each fault either all is as it was without (what the program shows of its sandbox included), or one line on
 * stderr names the error and the exit code is the command's for a failure. Either way, and when hutch is killed, nothing is
 * left: no file of TMPDIR, the store, the state directory or what the command line names, no mount, cgroup, shared memory
 * or process, once whoever removes it has ended; no zombie either, where hutch can wait for it. What `--keep` names is not there or whole.
 */

import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { rawCall } from "../src/libc/call.ts";
import type { FaultCase } from "./fault-cases.ts";
import * as c from "../src/libc/constants.ts";

/** Calls of strace's name, and the errors that they are made to give. */
const ERRORS: Readonly<Record<string, readonly string[]>> = {
  ...group("openat openat2", "EMFILE", "EIO"),
  ...group("read pread64 getdents64 readlink readlinkat fsync unlink unlinkat rmdir statfs fstatfs", "EIO"),
  ...group("write pwrite64 copy_file_range mkdir mkdirat rename renameat2 linkat symlink symlinkat", "ENOSPC", "EIO"),
  ...group("ftruncate fallocate utimensat fsetxattr lsetxattr setxattr", "ENOSPC"),
  ...group("statx newfstatat", "EIO", "ENOMEM"),
  ...group("fchmod fchmodat chmod chown fchown fchownat lchown lseek setns pidfd_send_signal", "EPERM"),
  ...group("memfd_create pipe2 socketpair fcntl pidfd_open", "EMFILE", "ENOMEM"),
  ...group("execve execveat clone clone3 vfork getgroups landlock_create_ruleset getcwd ioctl", "ENOMEM"),
  ...group("flock", "ENOLCK"),
};

function group(calls: string, ...errors: readonly string[]): Readonly<Record<string, readonly string[]>> {
  return Object.fromEntries(calls.split(" ").map((call) => [call, errors]));
}

/** What a sweep has done and found. */
export interface Sweep {
  readonly failed: number;
  readonly tolerated: number;
  readonly killed: number;
  /** Injections that hit the runtime's own calls before or between hutch's, not counted above. */
  readonly missed: number;
  readonly wrong: readonly string[];
}

interface Seen {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly json: string;
  /** What is in the file that the case makes; empty without one. */
  readonly made: string;
  readonly trace: readonly string[];
}

/** One call of hutch's own: its name, which of its name it is, and how strace shows it. */
interface Call {
  readonly name: string;
  readonly nth: number;
  readonly line: string;
  /** Whether hutch is still reading its own command line, and does not know what it is to do. */
  readonly unknowing: boolean;
}

const HANGS_MS = 30_000;

/** What is the same in every run of what a sandboxed program shows of its sandbox: lines of /proc files. */
export function lasting(text: string): string {
  const lines = text
    .replaceAll(/hutch-build-[-\w]+/g, "hutch-build")
    .split("\n")
    .flatMap((line) => {
      if (/^\d+ \d+ \d+:\d+ /.test(line)) return [line.split(" ").slice(3, 6).join(" ")]; // mountinfo
      if (/^(voluntary|nonvoluntary|Vm|Rss|Huge|Core|Threads|Pid|Tgid|NS|Mems|Cpus|SigQ|THP|untag|x86|Spec)/.test(line))
        return [];
      return [line.replace(/^PPid:.*/, "PPid:")];
    });
  return lines.join("\n");
}

/** All calls of hutch's own in a trace: from each opening of its command line to the next execve that works. */
export function ownCalls(trace: readonly string[]): readonly Call[] {
  const counts = new Map([["execve", -1]]); // strace's own, which starts hutch, is not counted by strace
  const calls: Call[] = [];
  let [own, unknowing] = [false, false];
  for (const line of trace) {
    const [, name] = /^(\w+)\(/.exec(line) ?? [];
    if (name === undefined || ERRORS[name] === undefined) continue;
    const nth = (counts.get(name) ?? 0) + 1;
    counts.set(name, nth);
    const cmdline = line.includes('"/proc/self/cmdline"');
    unknowing = cmdline || (unknowing && name === "read"); // the short way reads it, and the long one again
    own ||= cmdline;
    if (own && !line.includes("CLONE_THREAD")) calls.push({ name, nth, line, unknowing });
    if (name.startsWith("execve") && line.endsWith(" = 0")) own = false;
  }
  return calls;
}

function tree(path: string): readonly string[] {
  if (!existsSync(path)) return [];
  return readdirSync(path, { recursive: true, encoding: "latin1" }).toSorted();
}

const mounts = (): string => readFileSync("/proc/self/mountinfo", "utf8");

/**
 * Pids of our children, adopted ones included, that have not ended; those that have are waited for, and `ended` gets their
 * names: whoever ended before them should have done it.
 */
function living(ended: string[] = []): readonly number[] {
  const threads = readdirSync("/proc/self/task");
  const pids = threads.flatMap(
    (thread) => readFileSync(`/proc/self/task/${thread}/children`, "utf8").match(/\d+/g) ?? [],
  );
  return pids.map(Number).filter((pid) => {
    const name = nameOf(pid);
    const info = new Uint8Array(128); // siginfo_t, all zeros when it has not ended
    const waited = rawCall("waitid", c.P_PID, pid, info, c.WEXITED | c.WNOHANG, null);
    if (waited < 0 || info.every((byte) => byte === 0)) return waited === 0; // a zombie, too, whose threads still end
    ended.push(name);
    return false;
  });
}

function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, "latin1").trim();
  } catch {
    return "";
  }
}

/**
 * Whether hutch can wait for its own processes when this call fails: it knows by its command line which they are, has
 * become itself again, and Bun, without a descriptor of a process that it has started, has not forgotten that.
 */
function reaps({ unknowing, name }: Call): boolean {
  return !unknowing && !name.startsWith("execve") && name !== "pidfd_open";
}

async function nobodyLeft(known: readonly number[], ended: string[]): Promise<boolean> {
  for (let times = 0; times < 400; times++) {
    const before = ended.length;
    const left = living(ended);
    // Whoever has ended meanwhile may have left us its own children since they were looked at.
    if (ended.length === before && left.every((pid) => known.includes(pid))) return true;
    await Bun.sleep(times < 100 ? 5 : 30);
  }
  return false;
}

async function once(one: FaultCase, by: readonly string[], log: string, inject?: string): Promise<Seen> {
  for (const file of [one.json, one.makes]) if (file !== undefined) rmSync(file, { force: true });
  if (one.fresh !== undefined) rmSync(one.fresh, { recursive: true, force: true });
  const injection = inject === undefined ? [] : ["-e", `inject=${inject}`];
  const filter = `trace=${Object.keys(ERRORS).join(",")}`;
  const strace = ["strace", "-qq", "-s", "64", "-o", log, "-e", filter, ...injection, "--"];
  const shown = { out: `${log}.out`, err: `${log}.err` };
  const traced = [...strace, ...one.argv];
  const words = one.terminal === true ? onTerminal(traced, shown) : traced;
  const child = Bun.spawn([...(one.around ?? []), ...by, ...words], {
    stdio: [one.terminal === true ? "pipe" : "ignore", "pipe", "pipe"], // script(1) would hang up at an end of input
    env: { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", HOME: "/", LC_ALL: "C", ...one.env },
    cwd: "/",
    timeout: HANGS_MS,
    killSignal: "SIGKILL",
  });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  await child.exited;
  const killed = child.signalCode === "SIGKILL";
  const text = (file: string | undefined) => (file !== undefined && existsSync(file) ? readFileSync(file, "utf8") : "");
  return {
    code: killed ? 137 : (child.exitCode ?? -1),
    stdout: lasting(one.terminal === true ? text(shown.out) : stdout),
    // What script(1) shows is what has come to the terminal, where nothing should.
    stderr: one.terminal === true ? text(shown.err) + stdout + stderr : stderr,
    json: text(one.json),
    made: one.makes !== undefined && existsSync(one.makes) ? text(one.makes) || "nothing" : "",
    trace: existsSync(log) ? readFileSync(log, "latin1").split("\n") : [],
  };
}

/** A command whose standard input is a terminal, told of when its settings have changed, by script(1). */
function onTerminal(argv: readonly string[], { out, err }: { readonly out: string; readonly err: string }) {
  const quoted = argv.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
  const script = [
    "before=$(stty -g)",
    `${quoted} >${out} 2>${err}`,
    "code=$?",
    '[ "$(stty -g)" = "$before" ] || echo the terminal is not as it was',
    "exit $code",
  ];
  return ["script", "-qec", script.join("\n"), "/dev/null"];
}

/** What is wrong with how a run with an error injected went, or undefined. */
function judge(
  one: FaultCase,
  { line, unknowing }: Call,
  error: string,
  plain: Seen,
  seen: Seen,
): string | "as it was" | undefined {
  const same = seen.code === plain.code && seen.stdout === plain.stdout && seen.stderr === plain.stderr;
  if (same && seen.made === plain.made) return "as it was";
  if (seen.made !== "" && seen.made !== plain.made) return `made a part: ${seen.made}`;
  if (one.reports === true && [0, 1].includes(seen.code) && seen.stdout.includes(error)) return undefined;
  // What follows a session (a diff, the removal) fails beside what has been shown; the program's exit code may stay.
  const told = seen.stderr.startsWith(plain.stderr) ? seen.stderr.slice(plain.stderr.length) : seen.stderr;
  const afterwards = seen.code === plain.code && seen.stdout === plain.stdout;
  if (!afterwards && !one.fails.includes(seen.code) && !(unknowing && seen.code === 125))
    return `exit code ${seen.code}: ${seen.stderr}${difference(seen.stdout, plain.stdout)}`;
  if (/^write\((1|2),/.test(line) && seen.stderr === "") return undefined;
  const inJson = seen.json.includes('"error"') && seen.json.includes(error);
  // After the program's end standard error is no longer hutch's: the JSON tells, or, without a command line, the code.
  if (seen.stderr === "" && one.json !== undefined && (inJson || unknowing)) return undefined;
  if (!/^[^\n]+\n$/.test(told)) return `not one line: ${seen.stderr}`;
  const words = error === "ENOSPC" ? "disk full" : "db.sqlite: "; // SQLite tells no errno, but what it could not do
  const named = seen.stderr.includes(error) || seen.stderr.includes(words);
  if (seen.stderr.includes("internal error") || !named) return `message: ${seen.stderr}`;
  if (one.json === undefined || inJson || unknowing) return undefined;
  return /^(openat\(.*json|fcntl|write\(\d+, "\{\\"schema)/.test(line)
    ? undefined
    : `no error in the JSON: ${seen.json}`;
}

function difference(is: string, was: string): string {
  const [has, had] = [is.split("\n"), was.split("\n")];
  const more = has.filter((text) => !had.includes(text)).map((text) => `+${text}`);
  return [...more, ...had.filter((text) => !has.includes(text)).map((text) => `-${text}`)].slice(0, 6).join("; ");
}

/** Start what runs beside a case, and wait until it is ready. */
async function startBeside({ beside, env }: FaultCase, by: readonly string[]): Promise<AsyncDisposable> {
  if (beside === undefined) return { [Symbol.asyncDispose]: async () => undefined };
  const child = Bun.spawn([...by, ...beside], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...env },
  });
  for await (const chunk of child.stdout) if (chunk.length > 0) break;
  return {
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGTERM");
      await child.exited;
    },
  };
}

/** Remove a rescued copy that the error names and that is there. */
function rescued({ rescues }: FaultCase, { stderr }: Seen): void {
  const [, directory] = /your changes are in (\S*\/hutch-rescued-[-\w]+)\/build/.exec(stderr) ?? [];
  if (rescues !== true || directory === undefined || !existsSync(`${directory}/build`)) return;
  rmSync(directory, { recursive: true });
}

/** Names that tell of hutch in shared memory and among the cgroups where a cgroup of a sandbox would be. */
function ownNames(): readonly string[] {
  const cgroups = readFileSync("/proc/self/cgroup", "latin1").matchAll(/^\d+:([^:]*):(.*)$/gm);
  const places = [...cgroups].map(([, controllers = "", path = ""]) => `/sys/fs/cgroup/${controllers}${path}`);
  return ["/dev/shm", ...places].flatMap((place) => {
    const names = existsSync(place) ? readdirSync(place) : [];
    return names.filter((name) => /hutch(?!-test|-fuzz)/.test(name)).map((name) => `${place}/${name}`);
  });
}

/** What was not there before a case's faults. Whoever is about to remove something is waited for. */
function watch({ folders, fresh, makes, early }: FaultCase): {
  /** `waits`: whether hutch has had the chance to wait for its own processes. */
  readonly left: (seen: Seen, waits: boolean) => Promise<string>;
} {
  const known = living();
  const all = () => [...folders.map(tree), ownNames()];
  const before = { mounts: mounts(), trees: all() };
  const whole = fresh === undefined ? [] : tree(fresh);
  // What the run is to make is judged for itself.
  const below = (name: string) => [fresh, makes].some((path) => path?.endsWith(`/${name.split("/")[0]}`) === true);
  const less = (some: readonly string[], others: readonly string[] = []) =>
    some.filter((name) => !others.includes(name) && !below(name));
  return {
    left: async (seen, waits) => {
      const ended: string[] = [];
      if (!(await nobodyLeft(known, ended))) return " leaves a process";
      if (waits && ended.length > 0) return ` leaves ${ended.join(" and ")} to be waited for`;
      if (mounts() !== before.mounts) return " leaves a mount";
      const trees = all();
      const more = trees.flatMap((names, index) => less(names, before.trees[index]));
      const gone = before.trees.flatMap((names, index) => less(names, trees[index]));
      if (more.length + gone.length > 0) return ` leaves ${more.join(" ")}, removes ${gone.join(" ")}`;
      if (fresh === undefined || !existsSync(fresh)) return "";
      const is = tree(fresh).join();
      if (early !== undefined && ["", early.join()].includes(is)) return "";
      if (seen.stdout === "" && seen.code === 137) return ` leaves ${fresh}, although nothing has run`;
      return is === whole.join() ? "" : ` leaves a part of ${fresh}: ${tree(fresh).join(" ")}`;
    },
  };
}

/**
 * Sweep a case over hutch's own calls.
 * @param by words in front of a command that make it the caller's
 * @param log a file that the caller may write to, for strace
 * @param chosen which of the calls, by their place and what strace shows; all when not given
 */
export async function sweep(
  one: FaultCase,
  by: readonly string[],
  log: string,
  chosen: (index: number, line: string) => boolean = () => true,
): Promise<Sweep> {
  rawCall("prctl", 36, 1, 0, 0, 0); // PR_SET_CHILD_SUBREAPER: whoever is left becomes ours
  await using _beside = await startBeside(one, by);
  // What it makes once and for all is there before.
  const [plain, again] = [await once(one, by, log), await once(one, by, log)];
  const watched = watch(one); // what `fresh` names is there now, and may be

  const wrong: string[] = [];
  const counts = { failed: 0, tolerated: 0, killed: 0, missed: 0 };
  if (plain.code !== again.code || plain.stdout !== again.stdout || plain.stderr !== again.stderr)
    wrong.push(`not the same twice: ${plain.stderr} ${again.stderr} ${difference(again.stdout, plain.stdout)}`);
  const calls = ownCalls(again.trace).filter(({ line }, index) => chosen(index, line));
  if (calls.length === 0) wrong.push("no calls of hutch's own");
  for (const call of calls) {
    const tell = (fault: string, text: string) => wrong.push(`${fault} ${call.line.slice(0, 110)}: ${text.trim()}`);
    for (const error of ERRORS[call.name] ?? []) {
      const seen = await once(one, by, log, `${call.name}:error=${error}:when=${call.nth}`);
      const hit = ownCalls(seen.trace).some(({ line }) => line.includes("(INJECTED)"));
      const verdict = hit ? judge(one, call, error, plain, seen) : undefined;
      counts[!hit ? "missed" : verdict === "as it was" ? "tolerated" : "failed"] += 1;
      rescued(one, seen);
      const left = await watched.left(seen, reaps(call));
      if (left !== "") tell(error, `${seen.code}${left}: ${seen.stderr}`);
      if (verdict !== undefined && verdict !== "as it was") tell(error, verdict);
    }
    const seen = await once(one, by, log, `${call.name}:signal=KILL:when=${call.nth}`);
    counts[seen.code === 137 ? "killed" : "missed"] += 1;
    const left = await watched.left(seen, false);
    if (left !== "") tell("SIGKILL", left);
    if (seen.made !== "" && seen.made !== plain.made) tell("SIGKILL", `makes a part: ${seen.made}`);
  }
  return { ...counts, wrong };
}

/** One line of counts, and a line for each that is wrong. */
export function formatSweep(name: string, { failed, tolerated, killed, missed, wrong }: Sweep): string {
  const counts = `${failed} said, ${tolerated} without effect, ${killed} killed, ${missed} missed, ${wrong.length} wrong`;
  return [`${name}: ${counts}`, ...wrong.map((text) => `  ${text}`)].join("\n");
}

if (import.meta.main) {
  const { faultCases } = await import("./fault-cases.ts");
  const wanted = process.argv.slice(2);
  using place = faultCases(wanted.length === 0 || wanted.includes("nix-exact"));
  let wrong = 0;
  for (const caller of place.callers) {
    for (const one of caller.cases.filter(({ name }) => wanted.length === 0 || wanted.includes(name))) {
      const chosen = (index: number) => index % (one.every ?? 1) === 0;
      const found = await sweep(one, caller.by, join(caller.folder, "trace"), chosen);
      wrong += found.wrong.length;
      console.log(formatSweep(`${one.name}, as ${caller.name}`, found));
    }
  }
  process.exitCode = wrong === 0 ? 0 : 1;
}
