/** Section B: a hostile program tries to get out. Numbers are those of docs/security.md; selftest.test.ts has the rest. */

import { describe, expect, test } from "bun:test";
import { chmodSync, chownSync, copyFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { BUSYBOX, expectSuccess, needs } from "../cli/hutch.ts";
import { isAlive } from "../cli/host-processes.ts";
import { eachAttacker, fingerprint, results, snapshot } from "./attackers.ts";

interface Report {
  readonly attacks: readonly { number: string; name: string; seen: string; held: boolean }[];
}

/** Numbers that `hutch selftest` tries; the others are below. */
const BY_SELFTEST = "B11 B12 B14 B15 B16 B17 B18 B19 B20 B21 B22 B23 B24 B25 B26 B27 B28 B29 B30 B31 B32 B33 B35".split(
  " ",
);

eachAttacker("section B", (field) => {
  const { hutch, folder, binary, caller, attacker, withAttacker, script, startHutch } = field;

  describe("selftest, number by number", () => {
    const reports = new Map<string, Promise<Report>>();
    const report = (profile: string) => {
      const known =
        reports.get(profile) ??
        hutch(["selftest", "--format", "json", "--security", profile]).then(
          ({ stdout }) => JSON.parse(stdout) as Report,
        );
      reports.set(profile, known);
      return known;
    };
    test.each(BY_SELFTEST)("%s", async (number) => {
      for (const profile of ["default", "strict"]) {
        const tried = (await report(profile)).attacks.filter((attack) => attack.number === number);
        if (process.arch === "x64" || number !== "B28") expect(tried).not.toBeEmpty();
        expect(tried.filter(({ held }) => !held)).toEqual([]);
      }
    });
  });

  test.each([[[]], [["--no-init"]]])(
    "B11: the binary is the same after all that could overwrite it (%j)",
    async (options) => {
      const before = [fingerprint(binary), fingerprint(attacker)];
      const targets = ["/proc/1/exe", "/proc/self/exe", "/proc/2/exe", "/attacker"];
      const { stdout } = await hutch(["run", ...options, ...withAttacker, "scratch", "/attacker", "write", ...targets]);
      for (const [target, seen] of Object.entries(results(stdout))) {
        expect({ target, seen }).toEqual({
          target,
          seen: expect.stringMatching(/^(EACCES|EPERM|ETXTBSY|EROFS|ENOENT)$/),
        });
      }
      expect([fingerprint(binary), fingerprint(attacker)]).toEqual(before);
    },
  );

  test("B12: descriptors of the caller's", async () => {
    const run = 'exec 3</ 7</etc 9</etc/passwd; exec $AS "$HUTCH" "$@"';
    expectSuccess(await script(run, ["run", ...withAttacker, "scratch", "/attacker", "fds"]), "0 1 2 \n");
    expectSuccess(await script(run, ["run", "--no-init", ...withAttacker, "scratch", "/attacker", "fds"]), "0 1 2 \n");
  });

  test("B14: a shell on the same terminal is told nothing", async () => {
    const inner = join(
      folder({
        "inner.sh": {
          executable:
            '#!/bin/sh\n"$HUTCH" run -v "$ATTACKER:/attacker:ro" scratch /attacker inject\nread -t 1 line; echo "read: [$line]"\n',
        },
      }),
      "inner.sh",
    );
    const { stdout } = await script('exec script -qec "$AS bash $1" /dev/null', [inner], { env: { HUTCH: binary } });
    expect(stdout).toContain("TIOCSTI EPERM");
    expect(stdout).toContain("read: []");
  });

  test("B15: switches of the kernel's are as they were", async () => {
    const paths = ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/swappiness"];
    const texts = () => paths.map((path) => Bun.spawnSync(["cat", path]).stdout.toString());
    const before = texts();
    const writing = paths.map((path) => `echo hutch > ${path}`).join("; ");
    await hutch(["run", ...BUSYBOX, "scratch", "busybox", "sh", "-c", writing]);
    await hutch(["run", "--cap-add", "ALL", ...BUSYBOX, "scratch", "busybox", "sh", "-c", writing]);
    expect(texts()).toEqual(before);
  });

  test("B19: out of a chroot is still inside", async () => {
    const host = folder({ marker: "host\n" });
    const { stdout } = await hutch(["run", ...withAttacker, "scratch", "/attacker", "escape", join(host, "marker")]);
    expect(results(stdout)).toEqual({ chroot: "succeeded", marker: "ENOENT" });
    const strict = await hutch([
      "run",
      "--security",
      "strict",
      ...withAttacker,
      "scratch",
      "/attacker",
      "escape",
      join(host, "marker"),
    ]);
    expect(results(strict.stdout)).toEqual({ chroot: "EPERM", again: "EPERM", marker: "ENOENT" });
  });

  test("B21, B25: processes of the host's and of a box beside", async () => {
    const beside = startHutch(["run", ...BUSYBOX, "scratch", "busybox", "sh", "-c", "echo up; busybox cat"]);
    await beside.says("up");
    for (const pid of [beside.pid, process.pid, process.ppid]) {
      const kill = await hutch(["run", ...withAttacker, "scratch", "/attacker", "kill", `${pid}`]);
      expectSuccess(kill, "kill ESRCH\n");
      const trace = await hutch(["run", ...withAttacker, "scratch", "/attacker", "ptrace", `${pid}`]);
      expect(trace.stdout).toMatch(/^ptrace (ESRCH|EPERM)\n$/);
    }
    const seen = await hutch([
      "run",
      ...BUSYBOX,
      "scratch",
      "busybox",
      "sh",
      "-c",
      "busybox ls /proc | busybox grep -c '^[0-9]'",
    ]);
    expect(Number(seen.stdout)).toBeLessThanOrEqual(5);
    expect(isAlive(beside.pid)).toBe(true);
    beside.closeInput();
    expect((await beside.ended).code).toBe(0);
  });

  test("B24: setuid and setgid programs, file capabilities", async () => {
    const programs = folder({ plain: "" });
    for (const name of ["setuid", "capable"]) copyFileSync(attacker, join(programs, name));
    if (process.getuid?.() === 0) {
      chownSync(join(programs, "setuid"), 0, 0);
      chmodSync(join(programs, "setuid"), 0o6755);
      chmodSync(join(programs, "capable"), 0o755);
      const made = Bun.spawnSync([needs("setcap"), "cap_sys_admin,cap_setuid+ep", join(programs, "capable")]);
      expect(made.stderr.toString()).toBe("");
    }
    for (const mode of ["ro", "rw"]) {
      const options = ["-v", `${programs}:/programs:${mode}`, ...(caller.root ? ["-u", "1000:1000"] : [])];
      const { stdout } = await hutch(["run", ...options, "scratch", "/programs/setuid", "ids"]);
      expect(stdout).toBe(caller.root ? "1000 1000 1000 1000\n" : "0 0 0 0\n");
      const capable = await hutch([
        "run",
        "--security",
        "strict",
        ...options,
        "scratch",
        "/programs/capable",
        "escape",
        "/x",
      ]);
      expect(capable.stdout).not.toContain("chroot succeeded");
    }
  });

  test("B25: a group of processes that a terminal has made common", async () => {
    const lines = [
      "#!/bin/sh",
      "sleep 1000 & sleeper=$!",
      '"$HUTCH" run -v "$ATTACKER:/attacker:ro" scratch /attacker kill-group',
      "kill -0 $sleeper && echo alive; kill -9 $sleeper",
    ];
    const inner = join(folder({ "inner.sh": { executable: `${lines.join("\n")}\n` } }), "inner.sh");
    // sh has no job control in a script: the sleeper and hutch share the shell's process group.
    const { stdout } = await script('exec script -qec "$AS sh $1" /dev/null', [inner], { env: { HUTCH: binary } });
    expect(stdout).toContain("kill ");
    expect(stdout).toContain("alive");
  });

  test("B30: a page of a read-only file, by way of a pipe", async () => {
    const shared = folder({ "file.txt": "the page cache is shared with the host\n" });
    const before = snapshot(shared);
    const dirty = (profile: string) =>
      hutch([
        "run",
        "--security",
        profile,
        "-v",
        `${shared}:/shared:ro`,
        ...withAttacker,
        "scratch",
        "/attacker",
        "dirty",
        "/shared/file.txt",
      ]);
    expect(results((await dirty("default")).stdout)["open for writing"]).toBe("EROFS");
    expect(results((await dirty("strict")).stdout)).toMatchObject({
      splice: "EINVAL",
      "open for writing": expect.stringMatching(/EROFS|EACCES/),
    });
    expect(readFileSync(join(shared, "file.txt"), "utf8")).toBe("the page cache is shared with the host\n");
    expect(snapshot(shared)).toEqual(before);
  });

  test("B33, B34: sockets of the host's are reached through an explicit bind only", async () => {
    const place = folder();
    const path = join(place, "socket");
    const server = Bun.listen({ unix: path, socket: { data: () => {} } });
    try {
      chmodSync(path, 0o777);
      const others = ["/var/run/docker.sock", "/run/dbus/system_bus_socket", "/tmp/.X11-unix/X0"];
      const connect = async (...options: readonly string[]) =>
        results(
          (
            await hutch([
              "run",
              ...options,
              ...withAttacker,
              "scratch",
              "/attacker",
              "connect",
              path,
              "/place/socket",
              ...others,
            ])
          ).stdout,
        );
      const absent = Object.fromEntries(others.map((name) => [name, "ENOENT"]));
      expect(await connect()).toEqual({ ...absent, [path]: "ENOENT", "/place/socket": "ENOENT" });
      expect(await connect("--network", "host")).toEqual({ ...absent, [path]: "ENOENT", "/place/socket": "ENOENT" });
      // The control: a bound socket is reached, read-only or not. That is what binding it means.
      const bound = await connect("-v", `${place}:/place:ro`);
      expect(bound).toEqual({ ...absent, [path]: "ENOENT", "/place/socket": "succeeded" });
    } finally {
      server.stop(true);
    }
  });

  test.skipIf(process.getuid?.() !== 0)(
    "B35: groups that the caller had (only root can give itself groups)",
    async () => {
      const secret = folder({ file: "for all but the group\n" });
      chownSync(join(secret, "file"), 0, 4242);
      chmodSync(join(secret, "file"), 0o604);
      const prefix = caller.root ? "setpriv --groups=4242,4243" : "setpriv --reuid=65534 --regid=65534 --groups=4242";
      const run = `exec ${prefix} "$HUTCH" "$@"`;
      const args = ["-v", `${secret}/file:/file`, ...withAttacker, "scratch", "/attacker", "groups", "/file"];
      const { stdout } = await script(run, ["run", ...args]);
      if (caller.root) {
        expect(results(stdout)).toMatchObject({ groups: "0" });
        expect(stdout).toContain("groups 0\n");
      } else {
        // One id alone: the kernel keeps the groups, so that a file that is closed to one stays closed.
        expect(results(stdout)).toEqual({
          groups: "1",
          setgroups: "EPERM",
          "setgroups other": "EPERM",
          open: "EACCES",
        });
      }
      const strict = await script(run, ["run", "--security", "strict", ...args]);
      if (caller.root) expect(strict.stdout).toContain("groups 0\n");
      else expect(strict.stderr).toContain("the caller's groups 4242 cannot be given up");
    },
  );
});
