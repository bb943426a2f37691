/** Mount namespace: what is there, what is not, and what cannot be undone (mount_namespaces(7)). */

import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { chmodSync, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { readlinkSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DEVICES, MASKED_PATHS, READONLY_PATHS } from "../../src/defaults.ts";
import * as sandbox from "./sandbox.ts";

/** A fingerprint of a tree: every name, with its kind, mode, owner, times and content. */
function fingerprint(tree: string): string {
  const hash = createHash("sha256");
  const visit = (path: string): void => {
    const found = lstatSync(path, { bigint: true });
    hash.update(
      `${path}\0${found.mode} ${found.uid} ${found.gid} ${found.nlink} ${found.ino} ${found.mtimeNs} ${found.ctimeNs}\0`,
    );
    if (found.isSymbolicLink()) hash.update(readlinkSync(path));
    else if (found.isDirectory()) for (const name of readdirSync(path).toSorted()) visit(join(path, name));
    else if (found.isFile()) hash.update(readFileSync(path));
  };
  visit(tree);
  return hash.digest("hex");
}

/** Mounts of the sandbox's program, by where they are. */
const mountsOf = (pid: number) =>
  new Map(sandbox.parseMountinfo(sandbox.procFile(pid, "mountinfo")).map((mount) => [mount.point, mount]));

/** A folder whose content uid 65534 may read but not change, and one that everybody may write to. */
function makeData(): { folder: string; open: string } {
  const folder = sandbox.makeFolder();
  writeFileSync(join(folder, "file"), "content\n");
  mkdirSync(join(folder, "open"));
  writeFileSync(join(folder, "open/inner"), "inner\n");
  chmodSync(join(folder, "open"), 0o777);
  chmodSync(join(folder, "open/inner"), 0o666);
  return { folder, open: join(folder, "open") };
}

/** What is covered in a root that shows no /sys. */
const covers = (name: string) => name.startsWith("/proc/") && existsSync(name);

describe.each(sandbox.CALLERS)("started by %s", (caller) => {
  const root = sandbox.makeRoot();

  test("nothing is mounted but what the plan says, all of it private", async () => {
    await using running = await sandbox.start(caller, [], root);
    const mounts = mountsOf(running.program);
    const expected = [
      ...["/", "/proc", "/dev", "/dev/pts", "/dev/shm", ...DEVICES.map((name) => `/dev/${name}`)],
      ...MASKED_PATHS.filter(covers),
      ...READONLY_PATHS.filter(covers),
    ];
    expect([...mounts.keys()].toSorted()).toEqual(expected.toSorted());
    for (const { point, propagation } of mounts.values()) expect([point, propagation]).toEqual([point, []]);
    expect(sandbox.procFile(running.program, "mountinfo").trim().split("\n").length).toBe(expected.length);
    expect(sandbox.namespaceOf(running.program, "mnt")).not.toBe(sandbox.namespaceOf("self", "mnt"));
    expect(mounts.get("/")).toMatchObject({ type: "overlay" });
    expect(mounts.get("/")?.options).toEqual(expect.arrayContaining(["rw", "nosuid", "nodev"]));
    expect(mounts.get("/proc")?.options).toEqual(expect.arrayContaining(["rw", "nosuid", "nodev", "noexec"]));
    expect(mounts.get("/dev")?.options).toEqual(expect.arrayContaining(["nosuid", "noexec"]));
  });

  test("the old root is out of reach", () => {
    const marker = join(sandbox.makeFolder(), "marker");
    writeFileSync(marker, "");
    const script = `ls -d /../../${marker} ${marker} /proc/1/root/${marker} /proc/self/root/${marker} 2>&1; ls / /..; ls /tmp`;
    const seen = sandbox.run(caller, root, "sh", "-c", script);
    expect(seen.stdout).not.toMatch(/^\/.*marker$/m);
    const names = "bin\ndata\ndev\netc\nproc\ntmp\n";
    expect(seen.stdout).toEndWith(`/:\n${names}\n/..:\n${names}`);
    for (const directory of readdirSync("/")) {
      if (!names.includes(`${directory}\n`)) expect(seen.stdout).not.toContain(`\n${directory}\n`);
    }
  });

  test("host's directories held open are not passed on", () => {
    const seen = sandbox.spawnToEnd([
      "sh",
      "-c",
      `exec 7< /; exec "$@"`,
      "sh",
      ...sandbox.asCaller(caller, ["run", root, "ls", "/proc/self/fd"]),
    ]);
    expect(sandbox.output(seen).trim().split("\n").toSorted()).toEqual(["0", "1", "2", "3"]); // 3: ls itself
  });

  test("masked paths are empty, read-only ones refuse every write", () => {
    const code = `
def write(path):
    try:
        os.close(os.open(path, os.O_WRONLY)); return "opened"
    except OSError as error:
        return errno.errorcode[error.errno]
masked, writes = {}, {}
for path in json.loads(${JSON.stringify(JSON.stringify(MASKED_PATHS.filter(covers)))}):
    masked[path] = os.listdir(path) if os.path.isdir(path) else open(path).read()
for top in json.loads(${JSON.stringify(JSON.stringify(READONLY_PATHS.filter(covers)))}):
    for directory, _, names in os.walk(top):
        for name in names:
            path = os.path.join(directory, name)
            if path not in masked and os.stat(path).st_mode & 0o222: writes.setdefault(write(path), []).append(path)
    if os.path.isfile(top): writes.setdefault(write(top), []).append(top)
print(json.dumps({"masked": masked, "writes": writes}))`;
    // An ordinary user may not have SYS_ADMIN beside a read-only root.
    const capabilities = ["--cap-add", "ALL", ...(caller === "nobody" ? ["--cap-drop", "SYS_ADMIN"] : [])];
    const seen = sandbox.python(caller, capabilities, code) as {
      masked: Record<string, string | string[]>;
      writes: Record<string, string[]>;
    };
    for (const [path, content] of Object.entries(seen.masked)) expect([path, content.length]).toEqual([path, 0]);
    expect(Object.keys(seen.writes).filter((name) => !["EROFS", "EACCES", "EPERM"].includes(name))).toEqual([]);
    expect(seen.writes["EROFS"]?.length).toBeGreaterThan(10);
  });

  test("/dev has OCI's nodes with the right numbers, its links, and terminals of its own", () => {
    const code = `
nodes = {name: [os.major(s.st_rdev), os.minor(s.st_rdev), s.st_mode & 0o170000] for name, s in ((n, os.stat("/dev/" + n)) for n in os.listdir("/dev") if not os.path.islink("/dev/" + n) and not os.path.isdir("/dev/" + n))}
links = {name: os.readlink("/dev/" + name) for name in os.listdir("/dev") if os.path.islink("/dev/" + name)}
before = os.listdir("/dev/pts")
master, slave = os.openpty()
with open("/dev/null", "wb") as null: null.write(b"x")
print(json.dumps({"nodes": nodes, "links": links, "before": before, "slave": os.ttyname(slave), "device": os.stat("/dev/pts").st_dev, "zero": open("/dev/zero", "rb").read(3).hex(), "random": len(open("/dev/urandom", "rb").read(8)), "shm": oct(os.stat("/dev/shm").st_mode & 0o7777), "all": sorted(os.listdir("/dev"))}))`;
    // Read-only roots show the host's file systems; /dev is ours all the same.
    const seen = sandbox.python(caller, [], code) as Record<string, unknown> & { nodes: Record<string, number[]> };
    const character = 0o020000;
    expect(seen.nodes).toEqual({
      null: [1, 3, character],
      zero: [1, 5, character],
      full: [1, 7, character],
      random: [1, 8, character],
      urandom: [1, 9, character],
      tty: [5, 0, character],
    });
    expect(seen["links"]).toEqual({
      fd: "/proc/self/fd",
      stdin: "/proc/self/fd/0",
      stdout: "/proc/self/fd/1",
      stderr: "/proc/self/fd/2",
      ptmx: "pts/ptmx",
    });
    expect(seen["before"]).toEqual(["ptmx"]);
    expect(seen).toMatchObject({ slave: "/dev/pts/0", zero: "000000", random: 8, shm: "0o1777" });
    expect(seen["device"]).not.toBe(statSync("/dev/pts").dev);
    expect((seen["all"] as string[]).length).toBe(DEVICES.length + 7);
  });

  test("a directory root is not changed by anything that is done to it", () => {
    const before = fingerprint(root);
    const mine = caller === "nobody" ? "" : "rm /bin/ls && echo x >> /etc/motd && mkdir /etc/new && ";
    const result = sandbox.run(caller, root, "sh", "-c", `${mine}echo x > /new && mkdir /a && rm -r /a && cat /new`);
    expect(sandbox.output(result)).toBe("x\n");
    expect(sandbox.output(sandbox.run(caller, root, "ls", "/")).split("\n")).not.toContain("new");
    expect(fingerprint(root)).toBe(before);
  });

  test.each([["scratch"], ["/"]])("--read-only %s cannot be written to, nor made writable", (what) => {
    const add = what === "scratch" ? ["--add", sandbox.need("busybox", "busybox-static")] : [];
    const busybox = sandbox.need("busybox", "busybox-static");
    const script = `${busybox} touch /x; ${busybox} mount -o remount,bind,rw /; ${busybox} touch /x; echo $?`;
    const seen = sandbox.run(caller, "--read-only", ...add, what, busybox, "sh", "-c", script);
    expect(seen.stderr).toMatch(/touch: \/x: Read-only file system/);
    expect(seen.stdout).toBe("1\n");
  });

  test("volumes: what they show, what may be written, with which options, in which order", async () => {
    const { folder, open } = makeData();
    const options = [
      ...["-v", `${folder}:/data:ro`, "-v", `${open}:/data/open`, "-v", `${folder}/file:/etc/one:ro,noexec`],
      ...["--tmpfs", "/tmp:size=64k,mode=700,noexec"],
    ];
    const before = fingerprint(join(folder, "file"));
    const script = "cat /data/file /etc/one; echo x > /data/new; echo y > /data/open/made; cat /data/open/made";
    {
      await using running = await sandbox.start(caller, options, root, script);
      const mounts = mountsOf(running.program);
      expect(mounts.get("/data")?.options).toEqual(expect.arrayContaining(["ro"]));
      expect(mounts.get("/data/open")?.options).toEqual(expect.arrayContaining(["rw"]));
      expect(mounts.get("/etc/one")?.options).toEqual(expect.arrayContaining(["ro", "noexec"]));
      expect(mounts.get("/tmp")).toMatchObject({ type: "tmpfs" });
      expect(mounts.get("/tmp")?.options).toEqual(expect.arrayContaining(["rw", "nosuid", "nodev", "noexec"]));
      expect(mounts.get("/tmp")?.superOptions).toEqual(expect.arrayContaining(["size=64k", "mode=700"]));
      expect(running.printed).toBe("content\ncontent\ny\n");
    }
    expect(existsSync(join(folder, "new"))).toBe(false);
    expect(readFileSync(join(open, "made"), "utf8")).toBe("y\n");
    expect(statSync(join(open, "made")).uid).toBe(sandbox.outsideIds(caller).uid);
    expect(fingerprint(join(folder, "file"))).toBe(before);
  });

  test("a link in the root cannot lead a target out of it", () => {
    const victim = sandbox.makeFolder();
    const evil = sandbox.makeRoot();
    symlinkSync(`../../../../../../..${victim}`, join(evil, "up"));
    symlinkSync(victim, join(evil, "absolute"));
    const { folder } = makeData();
    const before = [fingerprint(victim), fingerprint(evil)];
    for (const link of ["up", "absolute"]) {
      const seen = sandbox.run(caller, "-v", `${folder}:/${link}/made/deep:ro`, evil, "cat", `/${link}/made/deep/file`);
      if (seen.exitCode === 0) expect(seen.stdout).toBe("content\n");
      else expect([seen.exitCode, seen.stderr.trim().split("\n").length]).toEqual([125, 1]);
      expect([fingerprint(victim), fingerprint(evil)]).toEqual(before);
    }
  });

  test("nothing of a sandbox is ever mounted for the host, and what the host mounts is not seen", async () => {
    const before = sandbox.procFile("self", "mountinfo");
    await using running = await sandbox.start(caller, ["--tmpfs", "/tmp"], root);
    expect(sandbox.procFile("self", "mountinfo")).toBe(before);
    expect(sandbox.procFile(running.launcher, "mountinfo").length).toBeGreaterThan(0);
    await running.end();
    expect(sandbox.procFile("self", "mountinfo")).toBe(before);
  });

  test("mounting is refused without CAP_SYS_ADMIN, whatever the call", () => {
    const script =
      "mount -t tmpfs t /tmp; mount -o bind /etc /tmp; mount -o remount,rw /; umount /dev/shm; umount -l /proc/sys; cat /proc/mounts | wc -l";
    const count = sandbox.output(sandbox.run(caller, root, "sh", "-c", "cat /proc/mounts | wc -l"));
    const seen = sandbox.run(caller, root, "sh", "-c", script);
    expect(seen.stdout).toBe(count);
  });
});

describe.if(sandbox.CALLERS.includes("root"))("started by root, with all capabilities inside (needs root)", () => {
  const root = sandbox.makeRoot();

  test("a read-only volume stays so: its mount belongs to the host's user namespace", () => {
    const { folder, open } = makeData();
    const before = fingerprint(folder);
    const script = `
for options in remount,rw remount,bind,rw; do mount -o $options /data; echo $?; done
mkdir /tmp/again; mount -o bind /data /tmp/again; mount -o remount,bind,rw /tmp/again; echo $?
echo x > /data/open/inner; echo x > /tmp/again/open/inner; echo x > /data/new
mount -t tmpfs own /etc && echo own tmpfs
umount /data && echo x > /data/new`;
    const seen = sandbox.run("root", "--cap-add", "ALL", "-v", `${folder}:/data:ro`, root, "sh", "-c", script);
    const codes = seen.stdout.trim().split("\n");
    expect(codes.slice(0, 3).map((code) => code !== "0")).toEqual([true, true, true]);
    expect(codes.at(-1)).toBe("own tmpfs"); // so mounting as such was possible
    expect(fingerprint(folder)).toBe(before);
    expect(readFileSync(join(open, "inner"), "utf8")).toBe("inner\n");
  });

  test("root's files in a read-only volume are root's inside, in a writable one nobody's", () => {
    const { folder } = makeData();
    chmodSync(join(folder, "file"), 0o600);
    const seen = sandbox.run(
      "root",
      "-v",
      `${folder}:/ro:ro`,
      "-v",
      `${folder}:/rw`,
      root,
      "sh",
      "-c",
      "cat /ro/file; cat /rw/file",
    );
    expect(seen.stdout).toBe("content\n");
    expect(seen.stderr).toContain("Permission denied");
  });

  test("--writable is refused for a tree of the machine's root, and works for one of the range", () => {
    const refused = sandbox.run("root", "--writable", root, "sh", "-c", "echo x > /new");
    expect([refused.exitCode, refused.stderr.trim().split("\n").length]).toEqual([125, 1]);
    expect(refused.stderr).toContain("belongs to uid 0");
    const tree = sandbox.makeRoot();
    const { uid, gid } = sandbox.outsideIds("root");
    sandbox.output(
      sandbox.spawnToEnd(["chown", "-hR", `${uid}:${gid}`, join(tree, "data"), join(tree, "tmp"), join(tree, "etc")]),
    );
    sandbox.output(sandbox.spawnToEnd(["chown", `${uid}:${gid}`, tree]));
    sandbox.output(sandbox.run("root", "--writable", tree, "sh", "-c", "echo x > /data/new"));
    expect(readFileSync(join(tree, "data/new"), "utf8")).toBe("x\n");
    expect(statSync(join(tree, "data/new")).uid).toBe(uid);
  });
});
