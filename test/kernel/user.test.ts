/** User namespace: who the program is, outside and inside (user_namespaces(7)). */

import { describe, expect, test } from "bun:test";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DEFAULT_CAPABILITIES } from "../../src/defaults.ts";
import { CAPABILITIES, capabilityWords } from "../../src/process/capabilities.ts";
import * as sandbox from "./sandbox.ts";

const four = (id: number) => Array(4).fill(id).join(" ");
const mask = (names: readonly string[]) => {
  const [low, high] = capabilityWords(names);
  return high.toString(16).padStart(8, "0") + low.toString(16).padStart(8, "0");
};

describe.each(sandbox.CALLERS)("started by %s", (caller) => {
  const root = sandbox.makeRoot();
  const outside = sandbox.outsideIds(caller);
  const ranged = outside.size > 1;

  test("the maps are exactly as planned", async () => {
    await using running = await sandbox.start(caller, [], root);
    for (const pid of [running.init, running.program]) {
      expect(sandbox.mapOf(pid, "uid_map")).toEqual([`0 ${outside.uid} ${outside.size}`]);
      expect(sandbox.mapOf(pid, "gid_map")).toEqual([`0 ${outside.gid} ${outside.size}`]);
      expect(sandbox.procFile(pid, "setgroups").trim()).toBe(ranged ? "allow" : "deny");
      expect(sandbox.namespaceOf(pid, "user")).not.toBe(sandbox.namespaceOf("self", "user"));
    }
  });

  test("no process inside is the machine's root, nor in a group of the caller's", async () => {
    await using running = await sandbox.start(caller, [], root);
    for (const pid of [running.init, running.program]) {
      expect(sandbox.status(pid, "Uid")).toBe(four(outside.uid));
      expect(sandbox.status(pid, "Gid")).toBe(four(outside.gid));
      expect(outside.uid).not.toBe(0);
      if (caller !== "user") expect(sandbox.status(pid, "Groups")).toBe("");
    }
  });

  test("the launcher is where it was called, as who called it, and may at most send signals", async () => {
    await using running = await sandbox.start(caller, [], root);
    const { launcher } = running;
    for (const kind of ["mnt", "user", "pid", "net"])
      expect([kind, sandbox.namespaceOf(launcher, kind)]).toEqual([kind, sandbox.namespaceOf("self", kind)]);
    expect(sandbox.status(launcher, "Uid")).toBe(four(caller === "root" ? 0 : outside.uid));
    const effective = caller === "root" ? mask(["CAP_KILL"]) : "0".repeat(16);
    for (const set of ["CapPrm", "CapEff"]) expect([set, sandbox.status(launcher, set)]).toEqual([set, effective]);
  });

  test("another user inside is another outside, where there are several", async () => {
    await using running = await sandbox.start(caller, ["-u", "5:6"], root, "id -u; id -g");
    expect(running.printed).toBe("5\n6\n");
    expect(sandbox.status(running.program, "Uid")).toBe(four(outside.uid + (ranged ? 5 : 0)));
    expect(sandbox.status(running.program, "Gid")).toBe(four(outside.gid + (ranged ? 6 : 0)));
    for (const set of ["CapInh", "CapPrm", "CapEff", "CapAmb"]) {
      expect(sandbox.status(running.program, set)).toBe("0".repeat(16));
    }
  });

  test("the program has the default capabilities and cannot gain any, PID 1 none but that to signal another user", async () => {
    await using running = await sandbox.start(caller, [], root);
    const { program, init } = running;
    for (const set of ["CapPrm", "CapEff", "CapBnd"]) {
      expect([set, sandbox.status(program, set)]).toEqual([set, mask(DEFAULT_CAPABILITIES)]);
    }
    for (const set of ["CapInh", "CapAmb"]) expect(sandbox.status(program, set)).toBe("0".repeat(16));
    for (const set of ["CapInh", "CapAmb"]) expect(sandbox.status(init, set)).toBe("0".repeat(16));
    for (const set of ["CapPrm", "CapEff"]) expect(sandbox.status(init, set)).toBe(mask(ranged ? ["CAP_KILL"] : []));
    for (const pid of [program, init]) expect(sandbox.status(pid, "NoNewPrivs")).toBe("1");
    expect(sandbox.status(program, "Seccomp")).toBe("2");
  });

  test.each<readonly [options: string[], held: readonly string[]]>([
    [["--cap-drop", "ALL"], []],
    [["--cap-drop", "ALL", "--cap-add", "KILL"], ["CAP_KILL"]],
    [
      ["--cap-add", "SYS_PTRACE"],
      [...DEFAULT_CAPABILITIES, "CAP_SYS_PTRACE"],
    ],
  ])("%j", async (options, held) => {
    await using running = await sandbox.start(caller, options, root);
    const sets = ["CapPrm", "CapEff", "CapBnd"].map((set) => sandbox.status(running.program, set));
    expect(sets).toEqual(Array(3).fill(mask(held)));
  });

  test("all capabilities are all that the kernel knows", async () => {
    await using running = await sandbox.start(caller, ["--cap-add", "ALL"], root);
    const last = Number(sandbox.procFile("self", "../sys/kernel/cap_last_cap"));
    expect(sandbox.status(running.program, "CapEff")).toBe(mask(CAPABILITIES.slice(0, last + 1)));
  });

  test.each([[[]], [["--cap-add", "ALL"]]])("no further user namespace can be made with %j", (options: string[]) => {
    const seen = sandbox.python(
      caller,
      // An ordinary user may not have SYS_ADMIN beside a read-only root.
      caller === "nobody" && options.length > 0 ? [...options, "--cap-drop", "SYS_ADMIN"] : options,
      `
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def tried(result): return errno.errorcode[ctypes.get_errno()] if result < 0 else "made"
def raise_limit():
    try:
        open("/proc/sys/user/max_user_namespaces", "w").write("5")
        return "raised"
    except OSError as error:
        return errno.errorcode[error.errno]
print(json.dumps({
    "limit": open("/proc/sys/user/max_user_namespaces").read().strip(),
    "raise": raise_limit(),
    "unshare": tried(libc.unshare(0x10000000)),
    "clone": tried(libc.syscall(56 if os.uname().machine == "x86_64" else 220, 0x10000011, 0, 0, 0, 0)),
}))`,
    ) as { unshare: string; clone: string; limit: string; raise: string };
    expect(seen.limit).toBe("0");
    expect(["EROFS", "EACCES", "EPERM"]).toContain(seen.raise);
    expect(["EPERM", "ENOSPC"]).toContain(seen.unshare);
    expect(["EPERM", "ENOSPC"]).toContain(seen.clone);
  });

  test("files of others are nobody's inside, the caller's own are root's", () => {
    const seen = sandbox.output(sandbox.run(caller, root, "sh", "-c", "ls -ln /bin/busybox; touch /new; ls -ln /new"));
    const owners = seen
      .trim()
      .split("\n")
      .map((line) => line.split(/ +/).slice(2, 4).join(":"));
    expect(owners).toEqual([caller === "nobody" ? "65534:65534" : "0:0", "0:0"]);
  });
});

test.if(sandbox.CALLERS.includes("root"))(
  "by newuidmap, an ordinary user gets its own id and its range (needs root to set /etc/subuid)",
  async () => {
    for (const name of ["newuidmap", "newgidmap"]) sandbox.need(name, "uidmap");
    const folder = sandbox.makeFolder();
    const ranges = join(folder, "ranges");
    writeFileSync(ranges, "nobody:300000:65536\n");
    chmodSync(ranges, 0o644);
    const root = sandbox.makeRoot();
    // A mount namespace in which the two files are ours; the machine's own are not touched.
    const script = `mount --bind ${ranges} /etc/subuid && mount --bind ${ranges} /etc/subgid && exec "$@"`;
    const hutch = sandbox.asCaller("nobody", [
      "run",
      "--userns",
      "auto",
      "-u",
      "7:8",
      root,
      "sh",
      "-c",
      "echo ready; read end",
    ]);
    await using running = await sandbox.waitReady([
      "unshare",
      "-m",
      "--propagation",
      "private",
      "sh",
      "-c",
      script,
      "sh",
      ...hutch,
    ]);
    for (const file of ["uid_map", "gid_map"] as const) {
      expect(sandbox.mapOf(running.program, file)).toEqual(["0 65534 1", "1 300000 65536"]);
    }
    expect(sandbox.status(running.program, "Uid")).toBe(four(300_006));
    expect(sandbox.status(running.program, "Gid")).toBe(four(300_007));
    expect(sandbox.status(running.init, "Uid")).toBe(four(65_534));
  },
);
