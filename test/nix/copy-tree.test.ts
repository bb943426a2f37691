import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { encodeBytes } from "../../src/bytes.ts";
import { rawCall } from "../../src/libc/call.ts";
import { copyTree } from "../../src/nix/copy-tree.ts";
import { compareTrees, formatChanges, formatPatch, isBuildProduct } from "../../src/nix/kept-diff.ts";
import { removeTree } from "../../src/sessions/remove-tree.ts";
import { needProgram, run } from "./builds.ts";

let top = "";
beforeAll(() => {
  top = fs.mkdtempSync(`${tmpdir()}/hutch-copy-`);
});
afterAll(() => removeTree(top));

let count = 0;
function fresh(): { readonly from: string; readonly to: string } {
  const directory = `${top}/${++count}`;
  fs.mkdirSync(`${directory}/from`, { recursive: true });
  return { from: `${directory}/from`, to: `${directory}/to` };
}

/** Everything that a copy shall keep, one line an entry, by the machine's own find. */
function listing(directory: string): string {
  const format = "%P|%y|%m|%s|%n|%l|%T@";
  const find = [needProgram("find", "findutils"), directory];
  // listing a directory and reading a link change their access times
  const { stdout, stderr } = run([
    ...find,
    "-type",
    "f",
    "-printf",
    `${format}|%A@\\n`,
    "-o",
    "-printf",
    `${format}\\n`,
  ]);
  expect(stderr).toBe("");
  return stdout.split("\n").toSorted().join("\n");
}

/** Enough for several threads: directories that are read-only and old, names of one file in two of them, large files. */
function makeMany(from: string): void {
  for (let i = 0; i < 40; i++) {
    fs.mkdirSync(`${from}/d${i}`);
    for (let j = 0; j < 50; j++) fs.writeFileSync(`${from}/d${i}/f${j}`, Buffer.alloc(3001 + i * j, `${i} ${j}`));
  }
  for (let i = 0; i < 10; i++) fs.linkSync(`${from}/d${i}/f${i}`, `${from}/d${39 - i}/link${i}`);
  for (const name of ["large", "larger"]) fs.writeFileSync(`${from}/d5/${name}`, Buffer.alloc(20_000_001, name));
  fs.writeFileSync(`${from}/sparse`, "x");
  fs.truncateSync(`${from}/sparse`, 30 << 20);
  for (let i = 0; i < 40; i++) {
    if (i % 3 === 0) fs.chmodSync(`${from}/d${i}`, 0o555);
    fs.utimesSync(`${from}/d${i}`, 1_000_000 + i, 2_000_000 + i);
  }
}

/** Run a shell script where its mounts are its own. */
function runWithMounts(script: string, ...args: readonly string[]) {
  return run(["unshare", "-rm", "--propagation", "private", "sh", "-c", script, "sh", ...args]);
}

describe("copyTree", () => {
  test("types, modes, times to the nanosecond, hard links, links, fifos, odd names", async () => {
    const { from, to } = fresh();
    fs.mkdirSync(`${from}/d/e`, { recursive: true });
    fs.writeFileSync(`${from}/d/file`, "text");
    fs.linkSync(`${from}/d/file`, `${from}/d/e/other name`);
    fs.linkSync(`${from}/d/file`, `${from}/third`);
    fs.writeFileSync(`${from}/empty`, "");
    fs.writeFileSync(`${from}/-rf`, "x");
    fs.writeFileSync(Buffer.concat([Buffer.from(`${from}/bad`), Buffer.from(encodeBytes("\udcff\udcfe\n'"))]), "bytes");
    fs.symlinkSync("/etc/passwd", `${from}/out-of-it`);
    fs.symlinkSync("nowhere", `${from}/dangling`);
    fs.symlinkSync(".", `${from}/loop`);
    fs.linkSync(`${from}/dangling`, `${from}/dangling-too`);
    expect(run([needProgram("mkfifo", "coreutils"), `${from}/fifo`]).code).toBe(0);
    fs.writeFileSync(`${from}/big`, Buffer.alloc(3_000_001, "pattern"));
    fs.chmodSync(`${from}/d/file`, 0o640);
    fs.chmodSync(`${from}/empty`, 0o444);
    fs.chmodSync(`${from}/fifo`, 0o622);
    fs.mkdirSync(`${from}/closed`);
    fs.writeFileSync(`${from}/closed/in`, "in");
    fs.chmodSync(`${from}/closed`, 0o1555);
    expect(run(["touch", "-h", "-d", "2001-02-03 04:05:06.123456789", `${from}/d/file`, `${from}/dangling`]).code).toBe(
      0,
    );
    expect(run(["touch", "-d", "1969-12-31 23:59:58.5 UTC", `${from}/empty`, `${from}/d`, from]).code).toBe(0);
    const before = listing(from);
    const result = await copyTree(from, to);
    expect(result.skipped).toEqual([]);
    expect(listing(to)).toBe(before);
    expect(listing(from)).toBe(before);
    expect(run(["diff", "-r", "--no-dereference", "-x", "fifo", from, to]).stdout).toBe("");
    expect(compareTrees(from, to)).toEqual([]);
  });

  test("thousands of files, by several threads, as they are", async () => {
    const { from, to } = fresh();
    makeMany(from);
    const before = listing(from);
    const { entries, bytes, skipped } = await copyTree(from, to);
    expect(skipped).toEqual([]);
    expect(listing(to)).toBe(before);
    expect(listing(from)).toBe(before);
    expect(compareTrees(from, to)).toEqual([]);
    expect(run(["diff", "-r", "--no-dereference", from, to]).stdout).toBe("");
    // 40 directories of 50 files, one more name for ten of those, two large files, one with holes
    expect(entries).toBe(40 * 51 + 10 + 3);
    expect(bytes).toBeGreaterThan(40 * 50 * 3000 + 40_000_000);
    for (let i = 0; i < 10; i++)
      expect(fs.statSync(`${to}/d${39 - i}/link${i}`).ino).toBe(fs.statSync(`${to}/d${i}/f${i}`).ino);
    expect(fs.statSync(`${to}/sparse`).blocks).toBeLessThan(100);
  });

  test("holes stay holes", async () => {
    const { from, to } = fresh();
    const fd = fs.openSync(`${from}/sparse`, "w");
    fs.writeSync(fd, "start", 0);
    fs.writeSync(fd, "middle", 5 << 20);
    fs.ftruncateSync(fd, 64 << 20);
    fs.closeSync(fd);
    fs.writeFileSync(`${from}/hole-only`, "");
    fs.truncateSync(`${from}/hole-only`, 10 << 20);
    await copyTree(from, to);
    for (const name of ["sparse", "hole-only"]) {
      expect(fs.statSync(`${to}/${name}`).blocks).toBeLessThanOrEqual(fs.statSync(`${from}/${name}`).blocks + 16);
      expect(Buffer.compare(fs.readFileSync(`${to}/${name}`), fs.readFileSync(`${from}/${name}`))).toBe(0);
    }
  });

  test("user attributes of files and directories", async () => {
    const { from, to } = fresh();
    fs.writeFileSync(`${from}/file`, "x");
    const value = Uint8Array.of(1, 0, 255);
    const set = (path: string) => {
      const fd = fs.openSync(path, "r");
      expect(rawCall("fsetxattr", fd, "user.note", value, 3, 0)).toBe(0);
      fs.closeSync(fd);
    };
    set(`${from}/file`);
    set(from);
    await copyTree(from, to);
    for (const path of [to, `${to}/file`]) {
      const fd = fs.openSync(path, "r");
      const got = new Uint8Array(10);
      expect(rawCall("fgetxattr", fd, "user.note", got, 10)).toBe(3);
      expect(got.subarray(0, 3)).toEqual(value);
      fs.closeSync(fd);
    }
  });

  test("a socket is left out with a word", async () => {
    const { from, to } = fresh();
    using _server = Bun.listen({ unix: `${from}/socket`, socket: { data() {} } });
    const { skipped } = await copyTree(from, to);
    expect(skipped).toEqual([{ path: "socket", why: "a socket" }]);
    expect(fs.readdirSync(to)).toEqual([]);
  });

  test("set-id bits stay only where the owner stays", async () => {
    const { from, to } = fresh();
    fs.writeFileSync(`${from}/mine`, "x");
    fs.chmodSync(`${from}/mine`, 0o4755);
    const isRoot = process.getuid?.() === 0;
    if (isRoot) {
      fs.writeFileSync(`${from}/other`, "x");
      fs.chownSync(`${from}/other`, 65534, 65534);
      fs.chmodSync(`${from}/other`, 0o6755);
    }
    await copyTree(from, to);
    expect(fs.statSync(`${to}/mine`).mode & 0o7777).toBe(0o4755);
    if (!isRoot) return;
    expect(fs.statSync(`${to}/other`).mode & 0o7777).toBe(0o755);
    expect(fs.statSync(`${to}/other`).uid).toBe(0);
    await copyTree(from, `${to}-owned`, { owner: { uid: 65534, gid: 65534 } });
    expect(fs.statSync(`${to}-owned/other`)).toMatchObject({ uid: 65534, gid: 65534 });
    expect(fs.statSync(`${to}-owned/other`).mode & 0o7777).toBe(0o6755);
  });

  test("an unreadable file is an error, or is left out with a word; nothing stays of a failure", () => {
    const { from, to } = fresh();
    fs.writeFileSync(`${from}/env-vars`, "x");
    fs.writeFileSync(`${from}/other`, "y");
    fs.chmodSync(`${from}/env-vars`, 0);
    fs.chmodSync(`${from}/..`, 0o777);
    fs.chmodSync(top, 0o755);
    // as an ordinary user, in a process of its own
    const module = `${import.meta.dir}/../../src/nix/copy-tree.ts`;
    const program = `const { copyTree } = await import(${JSON.stringify(module)});
      const [from, to, unreadable] = process.argv.slice(-3);
      await copyTree(from, to, { unreadable }).then((r) => console.log(JSON.stringify(r.skipped)), (e) => console.log(e.message));`;
    const isRoot = process.getuid?.() === 0;
    const attempt = (how: string) =>
      run([process.execPath, "-e", program, from, to, how], { ...(isRoot ? { uid: 65534 } : {}), env: {}, cwd: "/" })
        .stdout;
    expect(attempt("fail")).toBe("open env-vars: EACCES permission denied\n");
    expect(fs.existsSync(to)).toBe(false);
    expect(attempt("skip")).toBe('[{"path":"env-vars","why":"permission denied"}]\n');
    expect(fs.readdirSync(to)).toEqual(["other"]);
    fs.rmSync(to, { recursive: true });
    makeMany(from); // and now in any of several threads
    fs.chmodSync(`${from}/d38/f7`, 0);
    fs.chmodSync(`${from}/env-vars`, 0o644);
    expect(attempt("fail")).toBe("open d38/f7: EACCES permission denied\n");
    expect(fs.existsSync(to)).toBe(false);
    expect(attempt("skip")).toBe('[{"path":"d38/f7","why":"permission denied"}]\n');
    expect(fs.existsSync(`${to}/d38/f8`)).toBe(true);
  });

  test("a full disk is one line, and leaves nothing", () => {
    const { from, to } = fresh();
    for (let i = 0; i < 40; i++) fs.writeFileSync(`${from}/${i}`, Buffer.alloc(100_000, "x"));
    fs.mkdirSync(to);
    const module = `${import.meta.dir}/../../src/nix/copy-tree.ts`;
    const program = `const { copyTree } = await import(${JSON.stringify(module)});
      const [from, to] = process.argv.slice(-2);
      await copyTree(from, to + "/copy").then(() => console.log("done"), (e) => console.log(e.message, "|", e.hint));`;
    const attempt = (size: string) => {
      const script = 'mount -t tmpfs -o "size=$5" none "$1" && "$2" -e "$3" "$4" "$1" && ls "$1" && echo end';
      const { stdout, stderr } = runWithMounts(script, to, process.execPath, program, from, size);
      expect(stderr).toBe("");
      expect(stdout).toMatch(/^copy .*\/from to .*\/copy: disk full \| set TMPDIR .*\nend\n$/);
    };
    attempt("1m");
    makeMany(from); // and now in any of several threads
    for (const size of ["6m", "9m", "20m"]) attempt(size);
  });

  test.each([0, 1500])("an abort behind %i entries removes the partial copy", async (least) => {
    const { from, to } = fresh();
    for (let i = 0; i < 6000; i++) fs.writeFileSync(`${from}/${i}`, "x".repeat(5000));
    const controller = new AbortController();
    const reports: number[] = [];
    const failure: unknown = await copyTree(from, to, {
      signal: controller.signal,
      progress: ({ entries }) => {
        reports.push(entries);
        if (entries > least) controller.abort(new Error("stopped by the test"));
      },
    }).catch((error: unknown) => error);
    expect(String(failure)).toContain("stopped by the test");
    expect(fs.existsSync(to)).toBe(false);
    expect(reports[0]).toBeGreaterThan(0);
  });

  test("an existing destination, a source that is no directory", async () => {
    const { from, to } = fresh();
    fs.mkdirSync(to);
    fs.writeFileSync(`${to}/precious`, "x");
    expect(copyTree(from, to)).rejects.toThrow("EEXIST");
    expect(copyTree(`${to}/precious`, `${to}/copy`)).rejects.toThrow("ENOTDIR");
    await Promise.resolve();
    expect(fs.readdirSync(to)).toEqual(["precious"]);
  });
});

describe("removeTree", () => {
  test("removes read-only and closed directories, and no target of a link", () => {
    const { from } = fresh();
    fs.mkdirSync(`${from}/a/b`, { recursive: true });
    fs.writeFileSync(`${from}/a/b/c`, "x");
    fs.writeFileSync(`${from}-precious`, "x");
    fs.symlinkSync(`${from}-precious`, `${from}/a/link`);
    fs.symlinkSync(top, `${from}/a/up`);
    fs.chmodSync(`${from}/a/b`, 0);
    fs.chmodSync(`${from}/a`, 0o555);
    removeTree(from);
    expect(fs.existsSync(from)).toBe(false);
    expect(fs.existsSync(`${from}-precious`)).toBe(true);
    removeTree(from);
  });

  test("never walks into a mount, not even a bind of the same device", () => {
    const { from, to } = fresh();
    fs.mkdirSync(`${from}/mounted`);
    fs.mkdirSync(to);
    fs.writeFileSync(`${to}/precious`, "x");
    const module = `${import.meta.dir}/../../src/sessions/remove-tree.ts`;
    const program = `const { removeTree } = await import(${JSON.stringify(module)});
      try { removeTree(process.argv.at(-1)); console.log("removed"); } catch (e) { console.log(e.message); }`;
    const script = 'mount --bind "$1" "$2/mounted" && "$3" -e "$4" "$2"';
    const { stdout, stderr } = runWithMounts(script, to, from, process.execPath, program);
    expect(stderr).toBe("");
    expect(stdout).toContain("something is mounted here");
    expect(fs.readdirSync(to)).toEqual(["precious"]);
  });
});

describe("kept-diff", () => {
  test("added, removed, changed; patch that applies; products told apart", async () => {
    const { from, to } = fresh();
    fs.mkdirSync(`${from}/src/gone`, { recursive: true });
    const write = (path: string, content: string) => fs.writeFileSync(path, content);
    write(`${from}/env-vars`, "x");
    write(`${from}/src/main.c`, "one\ntwo\nthree\n");
    write(`${from}/src/same-size`, "aaaa");
    write(`${from}/src/gone/old`, "old\n");
    write(`${from}/src/script`, "#!/bin/sh\n");
    fs.symlinkSync("a", `${from}/src/link`);
    await copyTree(from, to);
    write(`${to}/env-vars`, "y");
    write(`${to}/src/main.c`, "one\n2\nthree\n");
    write(`${to}/src/same-size`, "bbbb");
    write(`${to}/src/new.c`, "new\n");
    write(`${to}/src/main.o`, "\x7fELF\0");
    removeTree(`${to}/src/gone`);
    fs.chmodSync(`${to}/src/script`, 0o755);
    fs.unlinkSync(`${to}/src/link`);
    fs.symlinkSync("b", `${to}/src/link`);
    fs.utimesSync(`${to}/src`, 1, 1);
    const changes = compareTrees(from, to);
    expect(formatChanges(changes)).toBe(
      "D src/gone/\nD src/gone/old\nM src/link\nM src/main.c\nA src/main.o\nA src/new.c\nM src/same-size\nM src/script (mode)\n",
    );
    expect(changes.filter(isBuildProduct).map(({ path }) => path)).toEqual(["src/main.o"]);
    const patch = await formatPatch(from, to, changes, "src");
    expect(patch).toContain("--- a/main.c\n+++ b/main.c\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n");
    expect(patch).toContain("--- /dev/null\n+++ b/new.c");
    expect(patch).toContain("Only listed: M link\n");
    write(`${top}/patch`, patch);
    expect(run([needProgram("patch", "patch"), "-p1", "-d", `${from}/src`, "-i", `${top}/patch`]).code).toBe(0);
    expect(fs.readFileSync(`${from}/src/main.c`, "utf8")).toBe("one\n2\nthree\n");
    expect(fs.existsSync(`${from}/src/gone/old`)).toBe(false);
    expect(formatChanges(compareTrees(from, to))).toBe("M src/link\nA src/main.o\nM src/script (mode)\n");
  });
});
