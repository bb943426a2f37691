/** Whatever becomes of a sandbox, what it was made from is the same afterwards: bit for bit, inode by inode. */

import { expect, test } from "bun:test";
import { findDescendant, isAlive, until } from "./host-processes.ts";
import { BUSYBOX, eachCaller } from "./hutch.ts";
import { fingerprint } from "./tree.ts";

const FILES = {
  "etc/passwd": "root:x:0:0::/:/bin/sh\n",
  "etc/deep/er/file": "content",
  "usr/bin/tool": { executable: "#!/bin/sh\n" },
  lib: { link: "usr/lib" },
  "usr/lib/empty": { directory: true },
  dangling: { link: "/nowhere" },
} as const;

/** Everything that a program might do to what it sees. */
const RAGE =
  "for p in /* /vol/* /etc/*; do case $p in /proc|/dev|/bin) ;; *) chmod 777 $p; chown 5:5 $p; touch $p; echo x >> $p; mv $p $p.moved; rm -rf $p $p.moved;; esac; done; mkdir /new; echo done";

eachCaller("sources", (bench) => {
  const root = bench.folder(FILES);
  const volume = bench.folder(FILES);
  const before = { root: fingerprint(root), volume: fingerprint(volume) };
  const unchanged = () => expect({ root: fingerprint(root), volume: fingerprint(volume) }).toEqual(before);
  const options = [...BUSYBOX, "-v", `${volume}:/vol:ro`, "--add-path", `${volume}/etc/deep`];
  const shell = ["/bin/busybox", "sh", "-c"];

  test.each([
    ["scratch", []],
    ["a directory", []],
    // Not SYS_ADMIN beside a read-only volume: an ordinary user is refused that (mounts.test.ts).
    ["a directory", ["--cap-add", "ALL", ...(bench.caller.root ? [] : ["--cap-drop", "SYS_ADMIN"])]],
    ["a directory", ["--no-init"]],
  ] as const)("after a program that destroys all it can, %s %j", async (where, more) => {
    const result = await bench.hutch(["run", ...options, ...more, where === "scratch" ? where : root, ...shell, RAGE]);
    expect(result.stdout).toBe("done\n");
    expect(result.code).toBe(0);
    unchanged();
  });

  test("after a program that destroys a read-only root", async () => {
    const bound = bench.folder({ ...FILES, "proc/x": "", "dev/x": "", "bin/busybox": "", "vol/x": "" });
    const first = fingerprint(bound);
    const result = await bench.hutch(["run", ...BUSYBOX, "--read-only", bound, ...shell, RAGE]);
    expect(result.stdout).toBe("done\n");
    expect(fingerprint(bound)).toEqual(first);
  });

  test("after failures: in the command line, at a mount, at the command", async () => {
    for (const [code, ...args] of [
      [125, "--tmpfs", "relative", root, "true"],
      [125, "-v", `${volume}:/etc/passwd`, root, "true"],
      [125, "-v", "/dev/null:/etc/deep", root, "true"],
      [125, "--ulimit", "nofile=9999999999", root, "true"],
      [127, root, "/no/such"],
      [126, root, "/etc/passwd"],
    ] as const) {
      const result = await bench.hutch(["run", ...options, ...args]);
      expect(result.code).toBe(code);
      unchanged();
    }
  });

  test.each(["--init", "--no-init"])("after SIGKILL of hutch, %s", async (init) => {
    const running = bench.start([bench.binary, "run", ...options, init, root, ...shell, `${RAGE}; exec busybox cat`]);
    await running.says("done");
    const inside = await findDescendant(running.pid, "busybox cat");
    running.kill("SIGKILL");
    expect((await running.ended).signal).toBe("SIGKILL");
    await until("the end of the program", () => !isAlive(inside));
    unchanged();
  });

  test("after SIGKILL at any moment of the start", async () => {
    for (let ms = 0; ms < 40; ms += 4) {
      const running = bench.start([bench.binary, "run", ...options, root, ...shell, "exec busybox cat"]);
      await Bun.sleep(ms); // not awaiting anything: the moment itself is the input
      running.kill("SIGKILL");
      await running.ended;
    }
    unchanged();
  });
});
