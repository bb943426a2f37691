/**
 * Nothing is left behind: no process at the moment hutch ends, no mount, no control group, no file, whatever the end.
 * The other tests of this folder check processes and mounts after each of theirs; here it is one by one and at once.
 */

import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { dirname } from "node:path";
import { cgroupDirectories, descendants, findDescendant, mountLines, strays, until } from "./host-processes.ts";
import { type Bench, BUSYBOX, eachCaller, needs, withProbe } from "./hutch.ts";

const FOLDERS = ["/", "/tmp", "/var/tmp", "/run", "/dev", "/dev/shm", "/dev/mqueue", "/mnt", "/var", "/home", "/etc"];

function names(folder: string): readonly string[] {
  try {
    return readdirSync(folder).map((name) => `${folder}/${name}`);
  } catch {
    return [];
  }
}

/** Every way for a sandbox to come and go, as words behind `hutch`. */
function ways(bench: Bench, root: string): readonly (readonly string[])[] {
  const base = ["run", ...BUSYBOX, ...withProbe(bench)];
  return [
    [...base, "scratch", "busybox", "true"],
    [...base, "--no-init", "scratch", "busybox", "false"],
    [...base, root, "/bin/busybox", "touch", "/tmp", "/made"],
    [...base, "--tmpfs", "/tmp", "-v", `${root}:/x`, "--hostname", "x", "scratch", "/probe", "grandchild"],
    [...base, "--no-init", "scratch", "/probe", "grandchild"],
    [...base, "scratch", "/probe", "abort"],
    [...base, "scratch", "/no/such"],
    [...base, "-v", "/tmp:/etc/passwd", "scratch", "x"],
    [...base, "--ulimit", "nofile=9999999999", root, "x"],
    [...base, "--time-offset", "-999999999", "scratch", "x"],
    ["run", "--read-only", "-v", "/tmp:/no/such", "/", "x"],
    ["run", "--bogus"],
    ["plan", ...base.slice(1), root, "x"],
    ["run", "--add", "bash", "scratch", "bash", "-c", "exit 3"],
    ["mydocker", "run", "alpine", "/bin/ls", "/some_dir"],
  ];
}

eachCaller("leftovers", (bench) => {
  const root = bench.folder({ "etc/file": "", "tmp/x": "" });

  test("no process is left at the moment hutch ends", async () => {
    for (const words of ways(bench, root)) {
      const known = new Set(descendants(process.pid));
      await bench.hutch(words);
      expect([words, strays(known)]).toEqual([words, []]);
    }
  });

  // Only root can have a /tmp of its own to look into, be it for another user.
  if (process.getuid?.() === 0)
    test("no mount and no file, in a mount namespace with a /tmp of its own", () => {
      // Alone with its /tmp: others work on this machine too. The binary's folder moves out of it first.
      const script = [
        'mount --bind "$1" /mnt && mount -t tmpfs -o mode=1777 alone /tmp && mount --bind /mnt /mnt',
        "look() { find /tmp /mnt /var/tmp /dev/shm -xdev | sort; cat /proc/self/mountinfo; }",
        'before="$(look)"',
        'shift; while [ $# -gt 0 ]; do eval "$1" > /dev/null 2>&1 < /dev/null; shift; done',
        'after="$(look)"; [ "$before" = "$after" ] || printf "%s\\nAFTERWARDS\\n%s\\n" "$before" "$after"',
      ].join("\n");
      const folder = dirname(bench.binary);
      const moved = (word: string) => word.replaceAll(folder, "/mnt");
      const quote = (word: string) => `'${moved(word)}'`;
      const commands = ways(bench, root).map((words) =>
        [...bench.caller.prefix, "/mnt/hutch", ...words].map(quote).join(" "),
      );
      const killed = `${[...bench.caller.prefix, "/mnt/hutch", "run", ...BUSYBOX, root, "/bin/busybox", "sleep", "100"].map(quote).join(" ")} & kill -9 $!; wait`;
      const argv = [
        needs("unshare"),
        "-m",
        "--propagation",
        "private",
        "sh",
        "-c",
        script,
        "sh",
        folder,
        ...commands,
        killed,
      ];
      const child = Bun.spawnSync(argv, { cwd: "/" });
      expect(child.stderr.toString()).toBe("");
      expect(child.stdout.toString()).toBe("");
    });

  test("nothing at the machine's own places, after success, failure and SIGKILL", async () => {
    const before = new Set([...cgroupDirectories(), ...mountLines(), ...FOLDERS.flatMap(names)]);
    await Promise.all(ways(bench, root).map((words) => bench.hutch(words)));
    const running = bench.start([bench.binary, "run", ...BUSYBOX, root, "/bin/busybox", "cat"]);
    await findDescendant(running.pid, "/bin/busybox cat");
    running.kill("SIGKILL");
    await running.ended;
    // Others may come and go on this machine: what is new and ours would stay.
    await until("what is new to be gone", () => {
      const now = [...cgroupDirectories(), ...mountLines(), ...FOLDERS.flatMap(names)];
      return now
        .filter((one) => !before.has(one))
        .every((one) => !/hutch|overlay|dev-null|lower|mount\d/.test(one) || one.startsWith("/tmp/hutch-"));
    });
  });
});
