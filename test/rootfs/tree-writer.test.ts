/** Writing trees: copies are faithful, and nothing outside of the output directory is ever touched. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { openTree, type Written } from "../../src/rootfs/tree-writer.ts";

let base: string;
let source: string;
let output: string;
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), "hutch-tree-"));
  source = join(base, "source");
  output = join(base, "output");
  mkdirSync(source);
});
afterEach(() => rmSync(base, { recursive: true, force: true }));

function copy(path = source, to = "/copy", force = false): Written {
  const tree = openTree(output, force);
  try {
    tree.copy(path, to);
    return tree.written;
  } finally {
    tree.close();
  }
}

describe("copies", () => {
  test("content, modes, times and links; never setuid", () => {
    mkdirSync(join(source, "directory"));
    writeFileSync(join(source, "directory/file"), "content");
    chmodSync(join(source, "directory/file"), 0o4751);
    utimesSync(join(source, "directory/file"), 1, 1234567.5);
    symlinkSync("../nowhere", join(source, "directory/link"));
    symlinkSync("/etc/passwd", join(source, "absolute"));
    chmodSync(join(source, "directory"), 0o1700);
    const written = copy();
    expect(written).toEqual({ files: 1, directories: 2, links: 2, bytes: 7, leftOut: [] });
    const made = statSync(join(output, "copy/directory/file"));
    expect([made.mode & 0o7777, made.mtimeMs]).toEqual([0o751, 1234567500]);
    expect(statSync(join(output, "copy/directory")).mode & 0o7777).toBe(0o1700);
    expect(readlinkSync(join(output, "copy/directory/link"))).toBe("../nowhere");
    expect(readlinkSync(join(output, "copy/absolute"))).toBe("/etc/passwd");
  });

  test("any content, whatever its length", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600_000 }), (bytes) => {
        writeFileSync(join(source, "file"), bytes);
        expect(copy(join(source, "file"), "/file", true).bytes).toBe(bytes.length);
        expect(Buffer.compare(readFileSync(join(output, "file")), bytes)).toBe(0);
      }),
      { numRuns: 15 },
    );
  });

  test("a file of /proc, whose size is 0", () => {
    copy("/proc/version", "/version");
    expect(readFileSync(join(output, "version"), "utf8")).toBe(readFileSync("/proc/version", "utf8"));
  });

  test("no directory of /proc: some of its files have no end", () => {
    for (const path of ["/proc", "/proc/self/task"])
      expect(() => copy(path)).toThrow(`${path} cannot be copied: the kernel's answers about processes`);
    expect(readdirSync(output)).toEqual([]);
  });

  test("names that are not UTF-8", () => {
    const name = Buffer.from([0x61, 0xff, 0x62]);
    writeFileSync(Buffer.concat([Buffer.from(`${source}/`), name]), "x");
    copy();
    expect(readdirSync(join(output, "copy"), { encoding: "buffer" })).toEqual([name]);
  });

  test("sockets and FIFOs are left out, and said so", async () => {
    expect(Bun.spawnSync(["mkfifo", join(source, "fifo")]).exitCode).toBe(0);
    const server = createServer().listen(join(source, "socket"));
    await new Promise((resolve) => server.once("listening", resolve));
    try {
      const { leftOut, files } = copy();
      expect(files).toBe(0);
      expect(leftOut).toEqual([
        { path: join(source, "fifo"), why: "neither a file nor a directory" },
        { path: join(source, "socket"), why: "neither a file nor a directory" },
      ]);
    } finally {
      server.close();
    }
  });

  test("another file system below is left out", () => {
    const tree = openTree(output, false);
    try {
      // Whatever machine this is, /proc is another file system than /.
      expect(() => tree.copy("/proc/self/nothing", "/x")).toThrow(/cannot be copied: no such file/);
      tree.copy("/dev/null", "/null");
    } catch (error) {
      expect(String(error)).toContain("/dev/null cannot be copied: neither a file nor a directory");
    } finally {
      tree.close();
    }
  });

  test("the output inside of what is copied", () => {
    output = join(source, "output");
    expect(() => copy()).toThrow(`${output} lies inside of what is to be copied`);
  });
});

describe("the output directory", () => {
  test("must be empty without force", () => {
    mkdirSync(output);
    writeFileSync(join(output, "mine"), "mine");
    expect(() => copy()).toThrow("is not empty");
    expect(readdirSync(output)).toEqual(["mine"]);
    copy(source, "/copy", true);
    expect(readdirSync(output).toSorted()).toEqual(["copy", "mine"]);
  });

  test("must be a directory, below one that is there", () => {
    writeFileSync(output, "");
    expect(() => copy()).toThrow("ENOTDIR");
    output = join(base, "absent/output");
    expect(() => copy()).toThrow("ENOENT");
  });

  test("what is there already stays with text and link, and is replaced with copy", () => {
    mkdirSync(join(output, "etc"), { recursive: true });
    writeFileSync(join(output, "etc/passwd"), "mine");
    writeFileSync(join(source, "passwd"), "theirs");
    const tree = openTree(output, true);
    tree.text("/etc/passwd", "new", 0o644);
    tree.text("/etc/group", "group", 0o640);
    tree.link("/etc/passwd", "x");
    expect(readFileSync(join(output, "etc/passwd"), "utf8")).toBe("mine");
    expect(statSync(join(output, "etc/group")).mode & 0o777).toBe(0o640);
    tree.copy(join(source, "passwd"), "/etc/passwd");
    tree.directory("/etc", 0o700);
    tree.close();
    expect(readFileSync(join(output, "etc/passwd"), "utf8")).toBe("theirs");
    expect(statSync(join(output, "etc")).mode & 0o777).toBe(0o755);
  });

  test("a file with another name is not written through", () => {
    mkdirSync(output);
    const outside = join(base, "outside");
    writeFileSync(outside, "untouched");
    linkSync(outside, join(output, "file"));
    writeFileSync(join(source, "file"), "new");
    copy(join(source, "file"), "/file", true);
    expect(readFileSync(outside, "utf8")).toBe("untouched");
    expect(readFileSync(join(output, "file"), "utf8")).toBe("new");
  });
});

describe("links in the output directory are never followed", () => {
  let outside: string;
  beforeEach(() => {
    outside = join(base, "outside");
    mkdirSync(outside);
    mkdirSync(output);
    mkdirSync(join(source, "sub"));
    writeFileSync(join(source, "sub/file"), "new");
  });
  afterEach(() => expect(existsSync(outside) ? readdirSync(outside) : []).toEqual([]));

  test("as a directory on the way", () => {
    symlinkSync(outside, join(output, "etc"));
    expect(() => copy(join(source, "sub/file"), "/etc/file", true)).toThrow("/etc is in the way");
    expect(() => copy(join(source, "sub/file"), "/etc/a/b/file", true)).toThrow("/etc is in the way");
  });

  test("as a directory that is copied to", () => {
    symlinkSync(outside, join(output, "sub"));
    expect(() => copy(join(source, "sub"), "/sub", true)).toThrow("/sub is in the way");
    mkdirSync(join(output, "copy"));
    symlinkSync(outside, join(output, "copy/sub"));
    expect(() => copy(source, "/copy", true)).toThrow("/copy/sub is in the way");
  });

  test("as a file: the link itself is replaced", () => {
    symlinkSync(join(outside, "file"), join(output, "file"));
    copy(join(source, "sub/file"), "/file", true);
    expect(lstatSync(join(output, "file")).isSymbolicLink()).toBe(false);
    expect(readFileSync(join(output, "file"), "utf8")).toBe("new");
  });

  test("as a file that is only made when nothing is there", () => {
    symlinkSync(join(outside, "file"), join(output, "file"));
    const tree = openTree(output, true);
    tree.text("/file", "new", 0o644);
    tree.close();
    expect(readlinkSync(join(output, "file"))).toBe(join(outside, "file"));
  });
});
