/** Section D: what a box can learn, of the host, of a box beside, of the box before. Numbers as in docs/security.md. */

import { expect, test } from "bun:test";
import { chmodSync, readFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { BUSYBOX, expectSuccess } from "../cli/hutch.ts";
import { eachAttacker, results } from "./attackers.ts";

eachAttacker("section D", (field) => {
  const { hutch, folder, withAttacker, startHutch, caller } = field;
  const inside = async (script: string, ...options: readonly string[]) =>
    (
      await hutch(["run", ...options, ...BUSYBOX, "scratch", "busybox", "sh", "-c", script], {
        env: { SECRET_TOKEN: "s3cret" },
      })
    ).stdout;

  test("D53: environment, command line, names of the host", async () => {
    const text = await inside(
      "busybox env; busybox cat /proc/*/environ /proc/*/cmdline /proc/*/comm; busybox hostname; busybox uname -n",
    );
    expect(text).toContain("HOSTNAME=hutch");
    for (const secret of ["s3cret", "SECRET_TOKEN", hostname(), "scratch", field.binary])
      expect(text).not.toContain(secret);
    for (const path of ["/etc/machine-id", "/var/lib/dbus/machine-id", "/sys/class/dmi/id/product_uuid"])
      expect(await inside(`busybox cat ${path} 2>/dev/null`)).toBe("");
  });

  test("D53: the boot's id is nobody's", async () => {
    const own = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    expect(own).toMatch(/^[0-9a-f-]{36}$/);
    expect(await inside("busybox cat /proc/sys/kernel/random/boot_id")).toBe("");
  });

  test("D53: mounts name what was asked for and nothing else of the host", async () => {
    const text = await inside("busybox cat /proc/self/mountinfo");
    const sources = text
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => line.split(" ")[4]);
    expect(sources.every((path) => path === "/" || /^\/(proc|dev|bin\/busybox)/.test(path ?? ""))).toBe(true);
    expect(text).not.toContain(caller.root ? "/root/" : "workspace");
    expect(text).not.toContain("hutch-cli-");
  });

  test("D54: two boxes at once have no place in common", async () => {
    const first = startHutch(["run", ...withAttacker, "scratch", "/attacker", "leave"]);
    await first.says("ready");
    expect(Object.values(results(first.output()))).toEqual(Array.from({ length: 8 }, () => "succeeded"));
    const second = await hutch(["run", ...withAttacker, "scratch", "/attacker", "look"]);
    const { abstract, ...rest } = results(second.stdout);
    expect(abstract).toBe("ECONNREFUSED");
    expect(Object.values(rest)).toEqual(Array.from({ length: 7 }, () => "ENOENT"));
    first.closeInput();
    expect((await first.ended).code).toBe(0);
  });

  test("D54: with the host's network, abstract sockets of another box stay out of reach", async () => {
    const first = startHutch(["run", "--network", "host", ...withAttacker, "scratch", "/attacker", "leave"]);
    await first.says("ready");
    const second = await hutch(["run", "--network", "host", ...withAttacker, "scratch", "/attacker", "look"]);
    expect(results(second.stdout)["abstract"]).toBe("EPERM");
    // The control: it is the landlock scope that keeps them apart.
    const open = await hutch([
      "run",
      "--network",
      "host",
      "--security",
      "none",
      ...withAttacker,
      "scratch",
      "/attacker",
      "look",
    ]);
    expect(results(open.stdout)["abstract"]).toBe("succeeded");
    first.closeInput();
    await first.ended;
  });

  test("D54: a lock on a shared file is a channel, and the only one of these", async () => {
    const shared = folder({ file: "x" });
    const lock = ["-v", `${shared}:/shared:ro`, ...withAttacker, "scratch", "/attacker", "lock", "/shared/file"];
    expectSuccess(await hutch(["run", ...lock]), "flock succeeded\n");
  });

  test.each(["scratch", "a directory"])("D55: the next run finds nothing in %s", async (kind) => {
    const tree = {
      tmp: { directory: true },
      "var/tmp": { directory: true },
      run: { directory: true },
      root: { directory: true },
    } as const;
    const root = kind === "scratch" ? kind : folder(tree);
    const leave = await hutch(["run", ...withAttacker, root, "/attacker", "leave"]);
    expect(results(leave.stdout)["/tmp/left"]).toBe("succeeded");
    const { abstract, ...rest } = results((await hutch(["run", ...withAttacker, root, "/attacker", "look"])).stdout);
    expect(abstract).toBe("ECONNREFUSED");
    expect(Object.values(rest)).toEqual(Array.from({ length: 7 }, () => "ENOENT"));
  });

  test("D56: files of the host's and of others", async () => {
    const others = folder({ "answer.txt": "42\n" });
    chmodSync(others, 0o755);
    const paths = [
      "/etc/shadow",
      "/root/.ssh",
      join(others, "answer.txt"),
      "/home",
      "/mnt",
      "/srv",
      "/var/lib",
      "/nix",
    ];
    const { stdout } = await hutch(["run", ...withAttacker, "scratch", "/attacker", "read", ...paths]);
    const { "/home": home, ...rest } = results(stdout);
    expect(home).toBe("succeeded"); // its own, empty
    expect(Object.values(rest)).toEqual(Array.from({ length: paths.length - 1 }, () => "ENOENT"));
    expect(await inside("busybox ls -A /home /root")).toBe("/home:\n\n/root:\n");
  });

  test("D57: control characters of the user's and the root's words stay words", async () => {
    const { stderr, code } = await hutch(["run", "scratch", "\u001b[2Jx\nhutch: all is well\r"]);
    expect(stderr).toBe(
      "hutch run: \\x1b[2Jx\\nhutch: all is well\\x0d: command not found; hint: not in any directory of the sandbox's PATH (hutch run --add brings programs along)\n",
    );
    expect(code).toBe(127);
    const plan = await hutch(["plan", "--format", "json", "scratch", "\u001b[2J\n"]);
    expect(plan.stdout).not.toContain("\u001b");
    const text = await hutch(["plan", "scratch", "\u001b[2J\nlauncher"]);
    expect(text.stdout).not.toContain("\u001b");
    expect(text.stdout.split("\n").filter((line) => line === "launcher").length).toBe(1);
  });
});
