/** Section A: roots and sources that try to lead the set-up astray. Numbers are those of docs/security.md. */

import { expect, test } from "bun:test";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BUSYBOX, expectFailure, expectSuccess } from "../cli/hutch.ts";
import { eachAttacker, results, snapshot } from "./attackers.ts";

/** How many swaps the racing process of A8 must have made. */
const SWAPS = 10_000;

eachAttacker("section A", (field) => {
  const { hutch, folder, attacker, withAttacker, script, start } = field;

  /** A root with busybox, and a folder of the host's that nothing may touch. */
  const scene = (files: Parameters<typeof folder>[0] = {}) => {
    const victim = folder({ "precious/file": "precious\n" });
    const root = folder({ bin: { directory: true }, tmp: { directory: true }, ...files });
    return { victim, root, before: snapshot(victim) };
  };

  test("A1: a link in a bound folder leads a target out of the root", async () => {
    const { victim, before } = scene();
    const bound = folder({ link: { link: victim }, up: { link: "../../../../../../.." + victim } });
    const source = folder({ "file.txt": "mine\n" });
    for (const link of ["link", "up"]) {
      const target = `/mnt/${link}/made`;
      for (const options of [
        ["-v", `${source}:${target}`],
        ["-v", `${source}/file.txt:${target}`],
        ["--mount", `type=tmpfs,target=${target}`],
        ["-w", target],
      ]) {
        const mounts = ["--mount", `type=bind,source=${bound},target=/mnt`, ...options, ...BUSYBOX];
        const result = await hutch(["run", ...mounts, "scratch", "busybox", "true"]);
        expectFailure(result, 125, "ENOENT");
      }
    }
    expect(snapshot(victim)).toEqual(before);
    expect(readdirSync(bound).toSorted()).toEqual(["link", "up"]);
  });

  test("A2: the target of a bound file is a link to a place that only the host has", async () => {
    const { victim, root, before } = scene({ "etc/resolv.conf": { link: "/opt/hutch-a2/resolv.conf" } });
    const source = folder({ "resolv.conf": "nameserver 192.0.2.1\n" });
    const options = ["-v", `${source}/resolv.conf:/etc/resolv.conf:ro`, ...BUSYBOX, root];
    const { stdout, stderr, code } = await hutch(["run", ...options, "busybox", "cat", "/etc/resolv.conf"]);
    if (code === 0) expect(stdout).toBe("nameserver 192.0.2.1\n");
    else expect(stderr).toContain("/etc/resolv.conf");
    expect(await Bun.file("/opt/hutch-a2/resolv.conf").exists()).toBe(false);
    expect(readdirSync(join(root, "etc"))).toEqual(["resolv.conf"]);
    expect(snapshot(victim)).toEqual(before);
  });

  test.each(["/tmp", "/", "tmp", ".."])("A3: /dev of the root is a link to %s", async (target) => {
    const { root, victim, before } = scene({ dev: { link: target } });
    const result = await hutch(["run", ...BUSYBOX, root, "busybox", "true"]);
    expectFailure(result, 125, "/dev (nosymfollow)");
    expect(result.stderr).toMatch(/ELOOP|EEXIST/);
    expect(readdirSync(join(root, "tmp"))).toEqual([]);
    expect(snapshot(victim)).toEqual(before);
  });

  test("A4: the root's /dev/null is a link to a switch of the kernel's", async () => {
    const { root } = scene({ "dev/null": { link: "/proc/sysrq-trigger" }, "dev/zero": "no device\n" });
    const paths = ["/dev/null", "/dev/zero", "/dev/tty", "/proc/keys", "/proc/kmsg"];
    const { stdout } = await hutch(["run", ...withAttacker, root, "/attacker", "device", ...paths]);
    expect(results(stdout)).toEqual({
      "/dev/null 20000": "1:3",
      "/dev/zero 20000": "1:5",
      "/dev/tty 20000": "5:0",
      "/proc/keys 20000": "1:3",
      "/proc/kmsg 20000": "1:3",
    });
  });

  test("A4: the host's own /dev/null is no device", async () => {
    const fake = join(folder({ null: "" }), "null");
    const run = 'mount --bind "$1" /dev/null && shift && exec $AS "$HUTCH" "$@"';
    for (const options of [[], ["--read-only"]]) {
      const root = options.length === 0 ? "scratch" : "/";
      const result = await script(run, [fake, "run", ...options, root, "true"]);
      expectFailure(result, 125, "/dev/null", "not the device of this name");
    }
    expect(readFileSync(fake, "utf8")).toBe("");
  });

  test("A5: /dev/pts/0 and /dev/console of the root are links to core_pattern", async () => {
    const before = readFileSync("/proc/sys/kernel/core_pattern", "utf8");
    const link = { link: "/proc/sys/kernel/core_pattern" };
    const { root } = scene({ "dev/pts/0": link, "dev/console": link, "dev/ptmx": link });
    const { stdout } = await hutch([
      "run",
      ...BUSYBOX,
      root,
      "busybox",
      "sh",
      "-c",
      "busybox readlink /dev/ptmx; busybox ls /dev/pts",
    ]);
    expect(stdout).toBe("pts/ptmx\nptmx\n");
    expect(readFileSync("/proc/sys/kernel/core_pattern", "utf8")).toBe(before);
  });

  test.each(["/", "..", "tmp", "/proc/self/root"])("A6: /proc of the root is a link to %s", async (target) => {
    const { root, victim, before } = scene({ proc: { link: target } });
    const result = await hutch(["run", ...BUSYBOX, root, "busybox", "true"]);
    expectFailure(result, 125, "/proc (nosymfollow)");
    expect(result.stderr).toMatch(/ELOOP|EEXIST/);
    expect(snapshot(victim)).toEqual(before);
  });

  test.each(["/tmp", "../../../../tmp", "/proc"])("A6: /sys of a bound root is a link to %s", async (target) => {
    const { root, victim, before } = scene({
      proc: { directory: true },
      dev: { directory: true },
      sys: { link: target },
    });
    copyFileSync("/bin/busybox", join(root, "bin/busybox"));
    const result = await hutch(["run", "--read-only", root, "busybox", "true"]);
    expectFailure(result, 125, "cover ", "/sys/firmware", "ELOOP", "where /sys is a directory");
    expect(snapshot(victim)).toEqual(before);
    unlinkSync(join(root, "sys"));
    writeFileSync(join(root, "sys"), "no directory: nothing to cover\n");
    expectSuccess(
      await hutch(["run", "--read-only", root, "busybox", "cat", "/sys"]),
      "no directory: nothing to cover\n",
    );
  });

  test(
    `A8: ${SWAPS} swaps of a directory for a link out of the root`,
    async () => {
      const { victim, root, before } = scene({ "x/old": { directory: true } });
      const source = folder({ here: "inside\n" });
      symlinkSync(victim, join(root, "swapped"));
      const racer = start([attacker, "swap", join(root, "x"), join(root, "swapped")]);
      const command = ["busybox", "sh", "-c", "busybox cat /x/precious/file /x/new/here 2>&1; echo out > /x/new/out"];
      const seen = new Set<string>();
      for (let round = 0; round < 40; round++) {
        const options = ["-v", `${source}:/x/new`, ...BUSYBOX, root];
        const { stdout, code } = await hutch(["run", ...options, ...command]);
        seen.add(`${code}`);
        expect(stdout).not.toContain("precious\n");
        expect(readdirSync(victim)).toEqual(["precious"]);
      }
      // And with the folder bound writable, where the target is there in both.
      const bound = folder({ "a/new": { directory: true } });
      const outside = folder({ new: { directory: true } });
      symlinkSync(outside, join(bound, "b"));
      racer.closeInput();
      const second = start([attacker, "swap", join(bound, "a"), join(bound, "b")]);
      for (let round = 0; round < 40; round++) {
        const options = ["-v", `${bound}:/x`, "-v", `${source}:/x/a/new`, "-w", "/x/a/new", ...BUSYBOX, "scratch"];
        const { code } = await hutch(["run", ...options, "busybox", "sh", "-c", "echo out > /x/a/new/out"]);
        seen.add(`${code}`);
      }
      second.closeInput();
      const counts = [await racer.ended, await second.ended].map(({ stdout }) => Number(stdout));
      for (const count of counts) expect(count).toBeGreaterThan(SWAPS);
      expect(snapshot(victim)).toEqual(before);
      expect(readdirSync(join(outside, "new"))).toEqual([]);
      expect(seen.size).toBeGreaterThan(0);
    },
    { timeout: 120_000 },
  );

  test("A8: renames elsewhere on the machine do not stop a look-up with .. in it", async () => {
    const elsewhere = folder({ a: { directory: true }, b: { directory: true } });
    const racer = start([attacker, "swap", join(elsewhere, "a"), join(elsewhere, "b")]);
    const { root } = scene({ "x/y": { directory: true }, far: { link: `${"x/y/../../".repeat(150)}x` } });
    const source = folder();
    for (let round = 0; round < 20; round++) {
      const options = ["-v", `${source}:/far/y`, "-w", "/far/y", ...BUSYBOX, root];
      expectSuccess(await hutch(["run", ...options, "busybox", "pwd"]), "/x/y\n");
    }
    racer.closeInput();
    await racer.ended;
  });

  test("A9: loops, long chains and long names on the way to a target", async () => {
    const { root, victim, before } = scene({ loop: { link: "loop" } });
    mkdirSync(join(root, "end"));
    for (let depth = 0; depth < 45; depth++)
      symlinkSync(depth === 0 ? "end" : `chain${depth - 1}`, join(root, `chain${depth}`));
    const source = folder();
    const at = (target: string) => hutch(["run", "-v", `${source}:${target}`, ...BUSYBOX, root, "busybox", "true"]);
    expectFailure(await at("/loop"), 125, "EEXIST"); // nothing can be made at a link
    expectFailure(await at("/chain44"), 125, "EEXIST");
    expectFailure(await at(`/${"n".repeat(256)}`), 125, "ENAMETOOLONG");
    expectFailure(await at(`/${"name/".repeat(900)}end`), 125, "ENAMETOOLONG");
    expectSuccess(await at("/chain30"), "");
    expect(snapshot(victim)).toEqual(before);
  });

  test.each(["a:b", "a,b", "a\\b", "a b\nc", 'a"b', "a\\:b,c"])("A9: a root whose name is %j", async (name) => {
    const root = join(folder({ [`${name}/marker`]: `in ${name}` }), name);
    const result = await hutch([
      "run",
      "--mount",
      "type=bind,source=/bin/busybox,target=/bin/busybox,readonly",
      root,
      "busybox",
      "cat",
      "/marker",
    ]);
    expect(result.stderr).toBe("");
    expect(result.stdout).toBe(`in ${name}`);
  });

  test("A10: the folder where the root is assembled is full of traps", async () => {
    const { victim, before } = scene();
    const traps = folder({
      upper: { link: victim },
      work: { link: victim },
      root: { link: victim },
      mount0: "x",
      "dev-null": { link: victim },
    });
    const root = folder({ "bin/.keep": "" });
    // The traps are /tmp; the binary is reached by the folder that has it.
    const run = 'mount --bind "${HUTCH%/*}" /mnt && mount --bind "$1" /tmp && shift && exec $AS /mnt/hutch "$@"';
    const inside = "/mnt" + root.slice(root.lastIndexOf("/"));
    const result = await script(run, [
      traps,
      "run",
      ...BUSYBOX,
      inside,
      "busybox",
      "sh",
      "-c",
      "echo x > /upper; busybox ls /",
    ]);
    expectSuccess(result, "bin\ndev\nproc\nupper\n");
    expect(snapshot(victim)).toEqual(before);
    expect(readdirSync(traps).toSorted()).toEqual(["dev-null", "mount0", "root", "upper", "work"]);
  });

  test("A13: the working directory is a descriptor of the host's", async () => {
    const outside = folder({ "secret.txt": "secret\n" });
    for (const workdir of ["/proc/self/fd/7", "/proc/1/fd/7", "/proc/self/cwd", "/proc/self/root"]) {
      const run = 'exec 7<"$1"; shift; exec $AS "$HUTCH" "$@"';
      const args = [
        outside,
        "run",
        "-w",
        workdir,
        "--preserve-fds",
        "0",
        ...BUSYBOX,
        "scratch",
        "busybox",
        "cat",
        "secret.txt",
      ];
      const result = await script(run, args);
      expect(result.stdout).toBe("");
      expect(result.code).toBe(125);
      expect(result.stderr).toMatch(/ELOOP|ENOENT|EACCES/);
    }
  });

  test("a target that is missing in a bound folder is not made there", async () => {
    const bound = folder({ there: { directory: true } });
    const before = snapshot(bound);
    const options = ["--mount", `type=bind,source=${bound},target=/mnt`, "-v", `${bound}:/mnt/absent`];
    expectFailure(await hutch(["run", ...options, "scratch", "true"]), 125, "/mnt/absent", "ENOENT");
    expect(snapshot(bound)).toEqual(before);
  });
});
