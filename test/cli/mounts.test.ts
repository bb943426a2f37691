/** Volumes, mounts and tmpfs: what the program sees of them, and what it may do. */

import { expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { BUSYBOX, eachCaller, expectFailure, expectSuccess, needs } from "./hutch.ts";

eachCaller("mounts", (bench) => {
  /** Run a script of busybox's shell in a scratch root. */
  const inScratch = (options: readonly string[], script: string, cwd = "/") =>
    bench.hutch(["run", ...BUSYBOX, ...options, "scratch", "busybox", "sh", "-c", script], { cwd });
  /** Mount options of a path, as the program sees them. */
  const attributes = async (options: readonly string[], path: string) => {
    const result = await inScratch(options, `grep ' ${path} ' /proc/self/mountinfo | tail -n 1`);
    return result.stdout.split(" ")[5]?.split(",") ?? [];
  };

  test("a volume is writable unless it says :ro", async () => {
    const data = bench.folder({ "read me": "text" });
    await bench.shell(`chmod -R a+rwX ${data}`);
    expectSuccess(await inScratch(["-v", `${data}:/data`], "cat '/data/read me'; echo new > /data/made"), "text");
    expect(readFileSync(`${data}/made`, "utf8")).toBe("new\n");
    expectSuccess(await inScratch(["-v", `${data}:/data:rw`], "rm /data/made"), "");
    expect(readdirSync(data)).toEqual(["read me"]);
    const refused = await inScratch(["-v", `${data}:/data:ro`], "cat '/data/read me'; echo x > /data/made");
    expect(refused).toMatchObject({ stdout: "text", code: 1 });
    expect(refused.stderr).toContain("Read-only file system");
    expect(existsSync(`${data}/made`)).toBe(false);
  });

  test("attributes are those that were asked for", async () => {
    const data = bench.folder();
    const has = async (options: readonly string[], wanted: readonly string[], unwanted: readonly string[]) => {
      const found = await attributes(options, "/data");
      for (const word of wanted) expect(found).toContain(word);
      for (const word of unwanted) expect(found).not.toContain(word);
    };
    await has(["-v", `${data}:/data`], ["rw"], ["ro", "noexec"]);
    await has(["-v", `${data}:/data:ro,nosuid,nodev,noexec`], ["ro", "nosuid", "nodev", "noexec"], ["rw"]);
    await has(["--mount", `type=bind,src=${data},dst=/data,readonly,noexec`], ["ro", "noexec"], ["rw"]);
    await has(["--mount", `type=bind,source=${data},target=/data`], ["rw"], ["ro"]);
    await has(["--mount", `type=bind,source=${data},target=/data,readonly=true`], ["ro"], ["rw"]);
    await has(["--tmpfs", "/data"], ["rw", "nosuid", "nodev"], ["ro", "noexec"]);
    await has(["--tmpfs", "/data:ro,noexec"], ["ro", "nosuid", "nodev", "noexec"], ["rw"]);
    await has(["--mount", "type=tmpfs,target=/data,tmpfs-size=1m,readonly"], ["ro"], ["rw"]);
  });

  const REMOUNT =
    "mkdir /m; mount --bind /data /m; for d in /data /m; do mount -o remount,rw,bind $d; echo changed > $d/file; done; umount /data; echo end";

  test("a read-only volume cannot be made writable again from inside", async () => {
    const data = bench.folder({ file: "kept" });
    expect((await inScratch(["-v", `${data}:/data:ro`], `${REMOUNT}; cat /data/file`)).stdout).toBe("end\nkept");
    expect(readFileSync(`${data}/file`, "utf8")).toBe("kept");
  });

  // Started by an ordinary user, the sandbox's own user namespace owns the mount, and CAP_SYS_ADMIN in it may remount.
  test("nor with all capabilities, which an ordinary user cannot have beside it", async () => {
    const data = bench.folder({ file: "kept" });
    const result = await inScratch(["--cap-add", "ALL", "-v", `${data}:/data:ro`], REMOUNT);
    if (bench.caller.root) expect(result.stdout).toBe("end\n");
    else expectFailure(result, 125, "CAP_SYS_ADMIN", "--cap-add ALL");
    expect(readFileSync(`${data}/file`, "utf8")).toBe("kept");
  });

  test("files, links on the host, relative paths, and a colon by --mount", async () => {
    const data = bench.folder({ "dir/file": "one", "a:b": "colon", link: { link: "dir" } });
    expectSuccess(await inScratch(["-v", "./dir/file:/one/two/three:ro"], "cat /one/two/three", data), "one");
    expectSuccess(await inScratch(["-v", "../dir:/d:ro"], "ls /d", `${data}/dir`), "file\n");
    expectSuccess(await inScratch(["-v", ".:/d:ro"], "ls /d", `${data}/dir`), "file\n");
    expectSuccess(await inScratch(["-v", `${data}/link:/d:ro`], "ls /d", data), "file\n");
    expectSuccess(await inScratch(["--mount", `type=bind,src=${data}/a:b,dst=/c:d,ro`], "cat /c:d"), "colon");
  });

  test("a working directory that has been removed", async () => {
    const inRemoved = (...words: readonly string[]) =>
      bench.shell(`mkdir "$1"; cd "$1"; rmdir "$1"; shift; exec "$HUTCH" run "$@"`, [
        `${bench.folder()}/gone`,
        ...words,
      ]);
    const gone = "the working directory has been removed";
    expectFailure(await inRemoved("-v", ".:/x", "scratch", "/x"), 125, gone, "(from -v .:/x)");
    expectFailure(await inRemoved("--read-only", "-v", ".:/x", "/", "true"), 125, gone, "(from -v .:/x)");
    expectFailure(await inRemoved("-v", "./a:/x", "scratch", "/x"), 125, "a does not exist", "(from -v ./a:/x)");
    expectFailure(await inRemoved(".", "true"), 125, gone, "(from .)");
    expectFailure(await inRemoved("--read-only", ".", "true"), 125, gone, "(from --read-only .)");
    expectSuccess(await inRemoved(...BUSYBOX, "scratch", "busybox", "pwd"), "/\n");
  });

  test("mounts lie over what the root has, and deeper ones in others, in whatever order", async () => {
    const [first, second] = [bench.folder({ "sub/in": "", name: "first" }), bench.folder({ name: "second" })];
    const [outer, inner] = [
      ["-v", `${first}:/d:ro`],
      ["-v", `${second}:/d/sub:ro`],
    ] as const;
    for (const options of [
      [...outer, ...inner],
      [...inner, ...outer],
    ])
      expectSuccess(await inScratch(options, "cat /d/name /d/sub/name"), "firstsecond");
    expectSuccess(await inScratch(["--tmpfs", "/d", "-v", `${first}:/d/e/f:ro`], "cat /d/e/f/name; ls /d"), "firste\n");
    expectSuccess(
      await inScratch(["--tmpfs", "/dev/shm:size=1m", "-v", `${first}/name:/etc/passwd:ro`], "cat /etc/passwd"),
      "first",
    );
  });

  test("below /dev/shm", async () => {
    const data = bench.folder({ name: "data" });
    const options = ["-v", `${data}:/dev/shm/x:ro`, "--tmpfs", "/dev/shm/y/z:size=1m"];
    expectSuccess(
      await inScratch(options, "cat /dev/shm/x/name; ls /dev/shm /dev/shm/y"),
      "data/dev/shm:\nx\ny\n\n/dev/shm/y:\nz\n",
    );
  });

  test("a target is never made in a volume", async () => {
    const data = bench.folder({ "sub/in": "" });
    const result = await inScratch(["-v", `${data}:/d`, "-v", `${data}:/d/new`], "true");
    expectFailure(result, 125, "/d/new", `-v ${data}:/d/new`, "ENOENT");
    expect(readdirSync(data)).toEqual(["sub"]);
  });

  test("targets behind links are found inside of the root, never outside", async () => {
    const outside = bench.folder();
    const root = bench.folder({
      absolute: { link: "/inner" },
      relative: { link: "../../../../inner" },
      escape: { link: `../../../../../../../..${outside}` },
      chain: { link: "absolute/deep" },
      "inner/deep/file": "covered",
    });
    const data = bench.folder({ file: "shown" });
    const show = (target: string, path: string) =>
      bench.hutch(["run", ...BUSYBOX, "-v", `${data}:${target}:ro`, root, "/bin/busybox", "cat", path]);
    expectSuccess(await show("/absolute", "/inner/file"), "shown");
    expectSuccess(await show("/relative", "/inner/file"), "shown");
    expectSuccess(await show("/chain", "/inner/deep/file"), "shown");
    expectSuccess(await show("/absolute/new/folder", "/inner/new/folder/file"), "shown");
    // Its target does not exist inside: whatever becomes of it, nothing appears outside.
    await show("/escape/made", "/x");
    await show("/escape", "/x");
    expect(readdirSync(outside)).toEqual([]);
    expect(readdirSync(root).toSorted()).toEqual(["absolute", "chain", "escape", "inner", "relative"]);
  });

  test("magic links of /proc lead nowhere", async () => {
    const root = bench.folder({ out: { link: "/proc/self/root" }, here: { link: "/proc/self/cwd" } });
    for (const name of ["out", "here"]) {
      const result = await bench.hutch(["run", "-v", `/tmp:/${name}/x`, root, "true"]);
      expectFailure(result, 125, `/${name}/x`, `-v /tmp:/${name}/x`);
    }
  });

  test("the sandbox's own /proc stays as it is, but for files that lxcfs and its like replace", async () => {
    const data = bench.folder({ file: "ours\n" });
    for (const options of [
      ["-v", `${data}:/proc`],
      ["-v", `${data}:/proc/sys:ro`],
      ["--mount", `type=bind,src=${data}/file,dst=/proc/version`],
      ["--tmpfs", "/proc/irq"],
    ]) {
      const refused = await inScratch(options, "true");
      expectFailure(refused, 125, "is in the sandbox's own /proc", `(from ${options.join(" ")})`, "hint: mount it");
    }
    expectSuccess(await inScratch(["-v", `${data}/file:/proc/cpuinfo:ro`], "cat /proc/cpuinfo"), "ours\n");
  });

  test("a tmpfs has the size, mode and number of files that were asked for", async () => {
    const sized = await inScratch(["--tmpfs", "/t:size=64k"], "head -c 100000 /dev/zero > /t/f; wc -c < /t/f");
    expect(sized.stdout).toBe("65536\n");
    expect(sized.code).toBe(0);
    expect(sized.stderr).not.toBe("");
    const few = await inScratch(["--tmpfs", "/t:nr_inodes=3"], "touch /t/a /t/b /t/c /t/d; ls /t");
    expect(few.stdout).toBe("a\nb\n");
    expectSuccess(await inScratch(["--tmpfs", "/t:mode=0750"], "stat -c %a:%u:%g /t"), "750:0:0\n");
    expectSuccess(await inScratch(["--tmpfs", "/t"], "stat -c %a /t; ls -A /t"), "1777\n");
  });

  test("a working directory is made where that is hutch's to do", async () => {
    expectSuccess(await inScratch(["-w", "/made/for/me"], "pwd; ls -d /made/for/me"), "/made/for/me\n/made/for/me\n");
    expectSuccess(await inScratch(["-w", "/tmp//x/./y/"], "pwd"), "/tmp/x/y\n");
    const data = bench.folder();
    const result = await inScratch(["-v", `${data}:/data`, "-w", "/data/new"], "pwd");
    expectFailure(result, 125, "/data/new", "-w /data/new");
    expect(readdirSync(data)).toEqual([]);
  });

  // Only root can mount something below it.
  if (process.getuid?.() === 0)
    test("what is mounted below a volume comes along, and is read-only as well", () => {
      const data = bench.folder({ "sub/under": "" });
      const inner = [...bench.caller.prefix, bench.binary, "run", ...BUSYBOX, "-v", `${data}:/data:ro`, "scratch"];
      const script = 'mount -t tmpfs below "$0/sub" && echo text > "$0/sub/file" && exec "$@"';
      const program = ["busybox", "sh", "-c", "cat /data/sub/file; echo x > /data/sub/other"];
      const argv = [needs("unshare"), "-m", "--propagation", "private", "sh", "-c", script, data, ...inner, ...program];
      const child = Bun.spawnSync(argv);
      expect(child.stdout.toString()).toBe("text\n");
      expect(child.stderr.toString()).toContain("Read-only file system");
    });
});
