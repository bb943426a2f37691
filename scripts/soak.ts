/**
 * Many sandboxes, and what they leave behind.
 *   bun scripts/soak.ts [RUNS] [AT_ONCE] [-- OPTION…]     10,000 in a row and 100 at once by default; options of hutch run
 * `npm test` has the short form.
 */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { adoptOrphans } from "../test/cli/host-processes.ts";
import { ROOT } from "./run.ts";

/** What can be left, counted. Kilobytes of memory are the kernel's that it cannot give back (proc_meminfo(5)). */
export interface Leftovers {
  readonly descriptors: number;
  readonly mounts: number;
  readonly children: number;
  readonly files: number;
  readonly sharedMemory: number;
  readonly kernelKilobytes: number;
}

/** What a soak found: before and after. */
export interface Soak {
  readonly runs: number;
  readonly before: Leftovers;
  readonly after: Leftovers;
  /** Runs that did not end with exit code 0, by what they said. */
  readonly failures: readonly string[];
}

function meminfo(...names: readonly string[]): number {
  const text = readFileSync("/proc/meminfo", "utf8");
  return names.reduce((sum, name) => sum + Number(new RegExp(`^${name}: +(\\d+)`, "m").exec(text)?.[1] ?? 0), 0);
}

const names = (path: string) => readdirSync(path).length;

/** Count what this process and this machine have at the moment. */
export function leftovers(folders: readonly string[]): Leftovers {
  const threads = readdirSync("/proc/self/task");
  const children = threads.flatMap((thread) => readFileSync(`/proc/self/task/${thread}/children`, "utf8").split(" "));
  return {
    descriptors: names("/proc/self/fd"),
    mounts: readFileSync("/proc/self/mountinfo", "utf8").split("\n").length,
    children: children.filter((pid) => pid !== "").length,
    files: folders.filter((path) => existsSync(path)).reduce((sum, path) => sum + names(path), 0),
    sharedMemory: readFileSync("/proc/sysvipc/shm", "utf8").split("\n").length,
    kernelKilobytes: meminfo("SUnreclaim", "KernelStack", "PageTables", "Percpu"),
  };
}

/**
 * Run a sandbox `runs` times, `atOnce` of them at a time.
 * @param argv the whole command line
 * @param folders where files could be left
 */
export async function soak(
  argv: readonly string[],
  { runs, atOnce, folders }: { readonly runs: number; readonly atOnce: number; readonly folders: readonly string[] },
): Promise<Soak> {
  const failures: string[] = [];
  let started = 0;
  const one = async () => {
    const child = Bun.spawn([...argv], { stdio: ["ignore", "ignore", "pipe"] });
    const [code, text] = await Promise.all([child.exited, new Response(child.stderr).text()]);
    if (code !== 0) failures.push(`${code}: ${text.trim()}`);
  };
  const worker = async () => {
    while (started < runs) {
      started += 1;
      await one();
    }
  };
  adoptOrphans(true); // a process that a sandbox leaves behind is a child of ours, to be counted
  await one(); // what is made once and for all is made before
  const before = leftovers(folders);
  await Promise.all(Array.from({ length: atOnce }, worker));
  Bun.gc(true);
  return { runs, before, after: await settled(folders, before.kernelKilobytes), failures };
}

/** The kernel takes namespaces apart after their last process has been told of: give it ten seconds to get back near `kilobytes`. */
async function settled(folders: readonly string[], kilobytes: number): Promise<Leftovers> {
  const end = performance.now() + 10_000;
  let least = leftovers(folders);
  while (least.kernelKilobytes > kilobytes * 1.01 && performance.now() < end) {
    await Bun.sleep(200);
    const now = leftovers(folders);
    if (now.kernelKilobytes < least.kernelKilobytes) least = now;
  }
  return least;
}

/** One line for each thing that is counted. */
export function formatSoak({ runs, before, after, failures }: Soak): string {
  const keys = Object.keys(before) as (keyof Leftovers)[];
  const rows = keys.map((key) => `  ${key.padEnd(16)} ${String(before[key]).padStart(8)} → ${after[key]}`);
  return [`${runs} runs, ${failures.length} failed`, ...rows, ...failures.slice(0, 5)].join("\n");
}

if (import.meta.main) {
  const split = process.argv.indexOf("--");
  const [runs = "10000", atOnce = "100"] = process.argv.slice(2, split < 0 ? undefined : split);
  const options = split < 0 ? [] : process.argv.slice(split + 1);
  const argv = [join(ROOT, "dist/hutch"), "run", ...options, "--read-only", "/", "true"];
  const folders = [tmpdir(), "/run", "/dev/shm"];
  const row = await soak(argv, { runs: Number(runs), atOnce: 1, folders });
  console.log(`one after the other: ${formatSoak(row)}`);
  const together = await soak(argv, { runs: Number(atOnce), atOnce: Number(atOnce), folders });
  console.log(`all at once: ${formatSoak(together)}`);
  process.exitCode = row.failures.length + together.failures.length === 0 ? 0 : 1;
}
