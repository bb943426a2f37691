/** The kinds of ROOT. */

import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { BUSYBOX, eachCaller, expectFailure, expectSuccess } from "./hutch.ts";
import { fingerprint } from "./tree.ts";

eachCaller("roots", (bench) => {
  const busybox = (options: readonly string[], root: string, script: string, cwd = "/") =>
    bench.hutch(["run", ...BUSYBOX, ...options, root, "/bin/busybox", "sh", "-c", script], { cwd });

  test("scratch has what every program expects, and nothing of the host", async () => {
    const result = await busybox(
      [],
      "scratch",
      "for d in /tmp /var/tmp /run /root /home /etc; do stat -c '%n %a %u:%g' $d; done",
    );
    expectSuccess(
      result,
      "/tmp 1777 0:0\n/var/tmp 1777 0:0\n/run 755 0:0\n/root 700 0:0\n/home 755 0:0\n/etc 755 0:0\n",
    );
    expectSuccess(await busybox([], "scratch", "echo /*"), "/bin /dev /etc /home /proc /root /run /tmp /var\n");
    expectSuccess(
      await busybox([], "scratch", "find /tmp /home /root /run /var | wc -l; test -e /sys || echo none"),
      "6\nnone\n",
    );
  });

  test("scratch has files of /etc that name hutch's host, and root and nobody", async () => {
    const shown = await busybox(
      ["--hostname", "box"],
      "scratch",
      "cd /etc; echo *; cat hostname; hostname; grep -c . hosts",
    );
    expectSuccess(shown, "group hostname hosts nsswitch.conf passwd\nbox\nbox\n3\n");
    expectSuccess(
      await busybox([], "scratch", "id -un; grep -o '^nobody:x:65534' /etc/passwd; grep localhost /etc/hosts"),
      /^root\nnobody:x:65534\n127\.0\.0\.1\tlocalhost\n::1/,
    );
  });

  test("scratch is writable, gone afterwards, and --read-only otherwise", async () => {
    expectSuccess(await busybox([], "scratch", "echo x > /made; mkdir /bin/d /etc/e; cat /made"), "x\n");
    expectSuccess(await busybox([], "scratch", "test -e /made || echo gone"), "gone\n");
    const sealed = await busybox(
      ["--read-only", "--tmpfs", "/tmp"],
      "scratch",
      "echo x > /tmp/a && echo x > /dev/shm/a && cat /tmp/a; echo x > /made",
    );
    expect(sealed.stdout).toBe("x\n");
    expect(sealed.stderr).toContain("Read-only file system");
  });

  test("a directory can be changed by the program, and is not changed", async () => {
    const root = bench.folder({
      "etc/kept": "old\n",
      "gone/file": "",
      "bin/tool": { executable: "#!/bin/busybox sh\necho tool\n" },
      link: { link: "etc/kept" },
    });
    const before = fingerprint(root);
    const script =
      "tool; echo new > /etc/kept; cat /link; rm -r /gone; chmod 700 /etc; mkdir /made; mv /link /moved; ln /etc/kept /hard; ls -d /*; touch /etc";
    expectSuccess(await busybox([], root, script), "tool\nnew\n/bin\n/dev\n/etc\n/hard\n/made\n/moved\n/proc\n");
    expect(fingerprint(root)).toEqual(before);
    expectSuccess(await busybox([], root, "cat /link; ls -d /gone"), "old\n/gone\n"); // nor does another run see it
  });

  test("a directory by every way to write it", async () => {
    const parent = bench.folder({ "root/mark": "here", "root/sub/x": "", link: { link: "root" } });
    for (const [word, cwd] of [
      ["./root", parent],
      [".", `${parent}/root`],
      ["..", `${parent}/root/sub`],
      ["../root", `${parent}/root`],
      ["./", `${parent}/root`],
      [`${parent}/root/`, "/"],
      [`${parent}//root/./sub/..`, "/"],
      [`${parent}/link`, "/"],
    ] as const) {
      expectSuccess(await busybox([], word, "cat /mark", cwd), "here");
      expectSuccess(
        await busybox(["--read-only", "--tmpfs", "/dev", "--tmpfs", "/bin"].slice(0, 0), word, "cat /mark", cwd),
        "here",
      );
    }
  });

  test("names of directories that mean something to overlayfs", async () => {
    for (const name of ["co:lon", "com,ma", "back\\slash", "sp ace", "new\nline", 'quo"te', "lowerdir=x"]) {
      const parent = bench.folder({ [`${name}/mark`]: name });
      expectSuccess(await busybox([], `./${name}`, "cat /mark", parent), name);
    }
  });

  test("--read-only / is the host, with what is mounted below it, and cannot be changed", async () => {
    const own = bench.folder({ mark: "seen" });
    const run = (script: string) => bench.hutch(["run", "--read-only", "/", "sh", "-c", script]);
    expectSuccess(await run(`cat ${own}/mark`), "seen");
    const write = await run(`echo x > ${own}/new; touch /tmp/hutch-was-here /etc/hutch /dev/shm/fine; ls /dev/shm`);
    expect(write.stdout).toBe("fine\n");
    expect(write.stderr).toContain("Read-only file system");
    expect(existsSync(`${own}/new`)).toBe(false);
    expectSuccess(
      await run("id -u; cat /proc/sys/kernel/hostname; ls /proc | grep -c '^[0-9]'"),
      /^0\nhutch\n[1-5]\n$/,
    );
  });

  test("/dev is hutch's own in every root", async () => {
    const root = bench.folder({ "dev/of-the-root": "" });
    const names = "fd\nfull\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n";
    for (const [options, where] of [
      [[], "scratch"],
      [[], root],
    ] as const) {
      expectSuccess(
        await busybox(options, where, "ls /dev; echo x > /dev/null; head -c 3 /dev/zero | wc -c"),
        `${names}3\n`,
      );
    }
    expectSuccess(await bench.hutch(["run", "--read-only", "/", "ls", "/dev"]), names);
  });

  test("/proc is fresh, and hides what tells about the machine", async () => {
    const script =
      "cat /proc/kmsg /proc/keys /proc/timer_list; echo 1 > /proc/sys/kernel/domainname; ls -d /sys; cat /proc/1/comm";
    const result = await busybox(["--cap-add", "ALL"], "scratch", script);
    expect(result.stdout).toBe("hutch-init\n");
    expect(result.stderr).toMatch(/domainname: Read-only file system/);
    expect(result.stderr).toMatch(/\/sys: No such file/);
  });

  test("the host's processes are not to be seen, nor PID 1's environment and command line", async () => {
    const script =
      "ls /proc | grep '^[0-9]' | wc -l; tr '\\0' ' ' < /proc/1/cmdline; ls -l /proc/1/exe /proc/1/fd /proc/1/root 2>&1 | grep -c denied; cat /proc/1/environ";
    const result = await busybox(["-e", "SECRET_OF_THE_COMMAND_LINE=1"], "scratch", script);
    expect(result.stdout).not.toContain("SECRET");
    expect(result.stdout).not.toContain(bench.binary);
    expect(Number(result.stdout.split("\n")[0])).toBeLessThan(7);
  });

  test("--writable changes the directory itself, but for root only when it belongs to the sandbox", async () => {
    const root = bench.folder({ "etc/file": "old", "bin/busybox": "", "proc/x": "", "dev/x": "" });
    const args = [
      "run",
      "--writable",
      ...BUSYBOX,
      root,
      "/bin/busybox",
      "sh",
      "-c",
      "echo new > /etc/file; touch /made",
    ];
    const result = await bench.hutch(args);
    if (!bench.caller.root) {
      expectSuccess(result, "");
      expect(readFileSync(`${root}/etc/file`, "utf8")).toBe("new\n");
      return;
    }
    expectFailure(result, 125, root, `--writable ${root}`, "chown");
    const start = /ids inside are (\d+)/.exec(result.stderr)?.[1];
    expect(readFileSync(`${root}/etc/file`, "utf8")).toBe("old");
    await bench.shell(`chown -R ${start}:${start} ${root}`);
    expectSuccess(await bench.hutch(args), "");
    expect(readFileSync(`${root}/etc/file`, "utf8")).toBe("new\n");
  });

  test("a bound root without /proc or /dev: who asked for it, and what to do", async () => {
    const root = bench.folder({ "bin/x": "" });
    const options = bench.caller.root ? ["--read-only"] : ["--read-only", "--writable"]; // root's must belong to the sandbox
    const refused = async (missing: string) => {
      for (const option of options) {
        const result = await bench.hutch(["run", option, root, "/bin/x"]);
        const hint = `the root lacks this directory: make it there (mkdir), or leave --read-only or --writable out`;
        expectFailure(result, 125, ` → ${missing} `, "ENOENT", `(from ${option} ${root}); hint: ${hint}`);
      }
    };
    await refused("/proc");
    await bench.shell(`mkdir ${root}/proc`);
    await refused("/dev");
    expectSuccess(await bench.hutch(["run", ...BUSYBOX, root, "/bin/busybox", "true"]), "");
  });

  test("owners: the caller's files are root's inside", async () => {
    const root = bench.folder({ "etc/file": "x" });
    expectSuccess(await busybox([], root, "stat -c '%u:%g %U' /etc/file /etc"), /^0:0 .*\n0:0 .*\n$/);
  });
});
