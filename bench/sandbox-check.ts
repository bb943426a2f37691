/** Before anything is timed: is each side really the sandbox that it says it is? */

import { readlinkSync } from "node:fs";
import type { Side } from "./cases.ts";

/** Prints the namespaces as `kind:[inode]`, then the ids of all processes, then the options of the mount at /. */
const PROBE = `
for kind in user mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$kind; done
echo "pids $(echo /proc/[0-9]*)"
while read -r _ _ _ _ target options _; do [ "$target" = / ] && root=$options; done </proc/self/mountinfo
echo "root $root"`;

interface Seen {
  readonly namespaces: ReadonlyMap<string, string>;
  readonly processes: number;
  readonly rootOptions: readonly string[];
}

/** What {@link PROBE} saw; undefined when it did not come to its end. */
function parseProbe(output: string): Seen | undefined {
  const links = [...output.matchAll(/^(\w+):\[(\d+)\]$/gm)];
  const pids = /^pids (.*)$/m.exec(output)?.[1]?.split(" ");
  const options = /^root (.+)$/m.exec(output)?.[1]?.split(",");
  if (pids === undefined || options === undefined) return undefined;
  const namespaces = new Map(links.map(([link, kind = ""]) => [kind, link]));
  return { namespaces, processes: pids.length, rootOptions: options };
}

/** What is wrong with a sandbox, one line each; none when it is what it says. Runs it once. */
export function sandboxFaults(side: Side): readonly string[] {
  const { exitCode, stdout, stderr } = Bun.spawnSync([...side.prefix, "sh", "-c", PROBE], { stdin: "ignore" });
  if (exitCode !== 0) return [`exit code ${exitCode}: ${stderr.toString().trim()}`];
  const seen = parseProbe(stdout.toString());
  if (seen === undefined) {
    return [`did not run what it was given, but printed: ${stdout.toString().trim().slice(0, 200)}`];
  }
  const faults = side.namespaces
    .filter(
      (kind) =>
        seen.namespaces.get(kind) === undefined || seen.namespaces.get(kind) === readlinkSync(`/proc/self/ns/${kind}`),
    )
    .map((kind) => `the ${kind} namespace is not new`);
  // An init, the shell, and the subshell that counts.
  if (seen.processes > 4) faults.push(`${seen.processes} processes in /proc: it shows another pid namespace`);
  if (side.readOnly && !seen.rootOptions.includes("ro")) faults.push("/ is not read-only");
  return faults;
}
