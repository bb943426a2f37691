/** Real files through system calls, beside node:fs. */

import { afterAll, describe, expect, test } from "bun:test";
import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { decodeBytes } from "../../src/bytes.ts";
import { call, rawCall } from "../../src/libc/call.ts";
import * as c from "../../src/libc/constants.ts";
import * as files from "../../src/libc/files.ts";

const folder = fs.mkdtempSync(join(tmpdir(), "hutch-files-"));
const at = (name: string) => join(folder, name);
fs.writeFileSync(at("text"), "hello ä\n", { mode: 0o640 });
fs.writeFileSync(at("raw"), Uint8Array.of(0x61, 0xff, 0x00, 0x62));
fs.writeFileSync(at("empty"), "");
const large = new Uint8Array(3_000_000).map((_, i) => (i * 7919) >> 5);
fs.writeFileSync(at("large"), large);
fs.mkdirSync(at("root/etc"), { recursive: true });
fs.writeFileSync(at("root/etc/passwd"), "inside\n");
fs.symlinkSync("/etc/passwd", at("root/etc/link"));
fs.symlinkSync("../../../../../../../../etc/passwd", at("root/etc/up"));
fs.symlinkSync("/proc/self/root/etc/passwd", at("root/etc/magic"));
fs.symlinkSync("nowhere", at("dangling"));
fs.symlinkSync("text", at("link"));
afterAll(() => fs.rmSync(folder, { recursive: true }));

describe("status", () => {
  test.each(["text", "large", "empty", "root", "link"])("of %s is stat's", (name) => {
    const { size, uid, gid, mode } = fs.statSync(at(name));
    const kind = name === "root" ? "directory" : "file";
    expect(files.pathStatus(at(name))).toMatchObject({ kind, mode: mode & 0o7777, uid, gid, size });
  });

  test("of what is not there or is no file", () => {
    expect(files.pathStatus(at("absent"))).toBe(-2);
    expect(files.pathStatus(at("dangling"))).toBe(-2);
    expect(files.pathStatus(at("text/x"))).toBe(-20);
    expect(files.pathStatus("/dev/null")).toMatchObject({ kind: "other", size: 0 });
    expect(files.isErrno(files.pathStatus(at("absent")), "ENOENT")).toBe(true);
    expect(files.isErrno(files.pathStatus(at("text/x")), "ENOENT")).toBe(false);
  });

  test("of an open file", () => {
    const fd = call("openat", c.AT_FDCWD, at("text"), c.O_RDONLY | c.O_CLOEXEC);
    expect(files.descriptorStatus(fd)).toEqual(files.pathStatus(at("text")) as files.FileStatus);
    files.closeDescriptor(fd);
    expect(() => files.descriptorStatus(fd)).toThrow(expect.objectContaining({ code: "EBADF" }));
  });
});

describe("reading", () => {
  test("whole files, of any size and content", () => {
    expect(files.readText(at("text"))).toBe("hello ä\n");
    expect(files.readText(at("raw"))).toBe("a\udcff\0b");
    expect(files.readText(at("empty"))).toBe("");
    expect(Buffer.from(files.readFile(at("large")) as Uint8Array).equals(Buffer.from(large))).toBe(true);
    expect(files.readFile(at("absent"))).toBe(-2);
    expect(files.readText(at("absent"))).toBeUndefined();
  });

  test("files of /proc, which have no size", () => {
    expect(files.readText("/proc/self/cmdline")).toBe(decodeBytes(fs.readFileSync("/proc/self/cmdline")));
    expect(files.readText("/proc/self/status")).toStartWith("Name:");
  });

  test("no more than the limit", () => {
    const fd = call("openat", c.AT_FDCWD, at("large"), c.O_RDONLY | c.O_CLOEXEC);
    expect(files.readAll(fd, 100_000).length).toBe(100_000);
    files.closeDescriptor(fd);
  });

  test("a part, and less at the end", () => {
    const fd = files.openForReading(at("text"));
    expect(decodeBytes(files.readAt(fd, 6, 2))).toBe("ä");
    expect(decodeBytes(files.readAt(fd, 6, 99))).toBe("ä\n");
    expect(files.readAt(fd, 99, 1).length).toBe(0);
    files.closeDescriptor(fd);
  });

  test("a pipe that nobody writes to does not hold the opener up", () => {
    const made = Bun.spawnSync(["mkfifo", at("fifo")]);
    expect(made.exitCode).toBe(0);
    const fd = files.openForReading(at("fifo"));
    expect(fd).toBeGreaterThan(2);
    files.closeDescriptor(fd);
  });
});

describe("inside a root", () => {
  test.each([
    ["/etc/passwd", "inside\n"],
    ["etc/passwd", "inside\n"],
    ["/etc/link", "inside\n"], // an absolute link starts at the root
    ["/etc/up", "inside\n"], // and .. ends there
    ["/../../etc/passwd", "inside\n"],
    ["/etc/magic", undefined],
    ["/etc/absent", undefined],
    ["/etc", undefined],
  ])("%s", (path, expected) => {
    if (path === "/etc") expect(() => files.readTextInside(at("root"), path)).toThrow(/EISDIR/);
    else expect(files.readTextInside(at("root"), path)).toBe(expected as string);
  });

  test("that is not there", () => {
    expect(files.readTextInside(at("absent"), "/etc/passwd")).toBeUndefined();
    expect(files.readTextInside(at("text"), "/etc/passwd")).toBeUndefined();
  });
});

describe("names", () => {
  test("links", () => {
    expect(files.linkTarget(at("link"))).toBe("text");
    expect(files.linkTarget(at("dangling"))).toBe("nowhere");
    expect(files.linkTarget(at("text"))).toBe(-22);
    expect(files.linkTarget(at("absent"))).toBe(-2);
  });

  test("directories, with names that are not UTF-8, and more than one buffer holds", () => {
    const many = at("many");
    fs.mkdirSync(many);
    const names = Array.from({ length: 2000 }, (_, i) => `file-with-a-longer-name-${i}`);
    for (const name of names) fs.writeFileSync(join(many, name), "");
    fs.writeFileSync(Buffer.concat([Buffer.from(`${many}/`), Buffer.of(0xff)]), "");
    const found = files.directoryNames(many);
    expect(typeof found === "number" ? found : found.toSorted()).toEqual([...names, "\udcff"].toSorted());
    expect(files.directoryNames(at("absent"))).toBe(-2);
    expect(files.directoryNames(at("text"))).toBe(-20);
  });
});

describe("writing", () => {
  test("all of it into a pipe that somebody has made non-blocking", async () => {
    const script = `cat | { read first; sleep 0; cat; } | wc -c`;
    const code = `
      import { writeAll } from ${JSON.stringify(join(import.meta.dir, "../../src/libc/files.ts"))};
      import { call } from ${JSON.stringify(join(import.meta.dir, "../../src/libc/call.ts"))};
      call("fcntl", 1, 4, 0o4000);
      writeAll(1, new Uint8Array(2_000_000).fill(10));
    `;
    fs.writeFileSync(at("write.ts"), code);
    const child = Bun.spawn(["sh", "-c", `"$0" "$1" | { ${script}; }`, process.execPath, at("write.ts")], {
      stdout: "pipe",
      stderr: "inherit",
    });
    expect((await new Response(child.stdout).text()).trim()).toBe("1999999");
    expect(await child.exited).toBe(0);
  });

  test("says when nobody reads", () => {
    const pair = new Uint8Array(8);
    call("pipe2", pair, c.O_CLOEXEC);
    const [read = -1, write = -1] = new Int32Array(pair.buffer);
    call("close", read);
    expect(() => files.writeAll(write, Uint8Array.of(1))).toThrow(expect.objectContaining({ code: "EPIPE" }));
    call("close", write);
  });
});

test("a terminal is one, a file and a closed descriptor are none", () => {
  const master = call("openat", c.AT_FDCWD, "/dev/ptmx", c.O_RDWR | c.O_NOCTTY | c.O_CLOEXEC);
  expect(files.isTerminal(master)).toBe(true);
  call("close", master);
  const fd = call("openat", c.AT_FDCWD, "/dev/null", c.O_RDWR | c.O_CLOEXEC);
  expect(files.isTerminal(fd)).toBe(false);
  call("close", fd);
  expect(files.isTerminal(rawCall("close", -1))).toBe(false);
});

test("names of a directory that can be opened and not be read are an error's number", () => {
  fs.mkdirSync(at("removed"));
  const fd = call("openat", c.AT_FDCWD, at("removed"), c.O_RDONLY | c.O_CLOEXEC);
  fs.rmdirSync(at("removed"));
  expect(files.directoryNames(`/proc/self/fd/${fd}`)).toBe(-2);
  files.closeDescriptor(fd);
});
