/** What a writable layer changes, read from directories made by hand, as hostile as a program can make them. */

import { afterEach, expect, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Change, inChunks, readChanges } from "../../src/image/changes.ts";
import { makeWhiteout, markOpaque } from "../../src/image/overlay-marks.ts";
import { call } from "../../src/libc/call.ts";
import { AT_FDCWD, closeFile, O, openAt } from "../../src/libc/file.ts";
import { removeTree } from "../../src/sessions/remove-tree.ts";

const made: string[] = [];
afterEach(() => {
  for (const path of made.splice(0)) removeTree(path);
});

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), "hutch-changes-"));
  made.push(path);
  return path;
}

/** A tree: text of a file, names of a directory, or null for a whiteout; `.opaque` marks a directory. */
type Tree = { readonly [name: string]: string | null | true | Tree };

function write(path: string, tree: Tree): string {
  mkdirSync(path, { recursive: true });
  const fd = openAt(AT_FDCWD, path, O.RDONLY | O.DIRECTORY);
  for (const [name, content] of Object.entries(tree)) {
    if (name === ".opaque") markOpaque(fd);
    else if (content === null) makeWhiteout(fd, name);
    else if (typeof content === "string") writeFileSync(join(path, name), content);
    else if (content !== true) write(join(path, name), content);
  }
  closeFile(fd);
  return path;
}

/** As `A /path` lines. */
function changes(upper: Tree, ...lower: readonly Tree[]): readonly string[] {
  const base = folder();
  const layers = lower.map((tree, index) => write(join(base, `${index}`), tree));
  return [...readChanges(write(join(base, "upper"), upper), layers)].map((change) => change.join(" "));
}

test("letters are docker's: added, changed with all directories above, deleted", () => {
  const lower = { a: "1", d: { f: "1", g: "1", h: { i: "1" } }, e: {} };
  expect(changes({}, lower)).toEqual([]);
  expect(changes({ a: "2", b: "1", d: { f: null, h: { i: "2", j: { k: "" } } }, e: null }, lower)).toEqual([
    ...["C /a", "A /b", "C /d", "D /d/f", "C /d/h", "C /d/h/i", "A /d/h/j", "A /d/h/j/k", "D /e"],
  ]);
});

test("what a directory hides that was removed and made again is deleted, at any depth", () => {
  const lower = { d: { f: "1", g: { h: "1", i: "1" }, j: { k: "1" } } };
  expect(changes({ d: { ".opaque": true, g: { h: "2" }, n: "" } }, lower)).toEqual([
    ...["C /d", "D /d/f", "C /d/g", "C /d/g/h", "D /d/g/i", "D /d/j", "A /d/n"],
  ]);
});

test("several layers are one: what one of them hides was not there", () => {
  const low: Tree = { a: "1", b: "1", d: { x: "1" } };
  const middle: Tree = { a: null, d: { ".opaque": true, y: "1" } };
  expect(changes({ a: "2", b: null, d: { x: "2", y: null } }, low, middle)).toEqual([
    ...["A /a", "D /b", "C /d", "A /d/x", "D /d/y"],
  ]);
});

test("a file in a directory's place and the other way round; a whiteout of nothing is nothing", () => {
  expect(changes({ d: "now a file", f: { x: "" }, none: null, n: { m: null } }, { d: { a: "" }, f: "1" })).toEqual([
    ...["C /d", "C /f", "A /f/x", "A /n"],
  ]);
});

test("links are never followed, nothing but directories is opened, whatever they are called", async () => {
  const [base, outside] = [folder(), folder()];
  writeFileSync(join(outside, "secret"), "");
  const upper = write(join(base, "upper"), { d: {} });
  const lower = write(join(base, "lower"), { d: { l: { secret: "" } }, l: { x: "" } });
  for (const name of ["l", "d/l", "up", "loop"])
    symlinkSync(name === "loop" ? "loop" : name === "up" ? "../../.." : outside, join(upper, name));
  Bun.spawnSync(["mkfifo", join(upper, "fifo")]);
  const server = createServer().listen(join(upper, "socket"));
  await new Promise((resolve) => server.once("listening", resolve));
  writeFileSync(join(upper, "\u001b[2J\n"), "");
  try {
    expect([...readChanges(upper, [lower])].map((change) => change.join(" "))).toEqual([
      ...["A /\u001b[2J\n", "C /d", "C /d/l", "A /fifo", "C /l", "A /loop", "A /socket", "A /up"],
    ]);
  } finally {
    server.close();
  }
});

/** Do something while so few files may be open (RLIMIT_NOFILE, getrlimit(2)). */
function withFewFiles(soft: bigint, action: () => void): void {
  const before = new BigUint64Array(2);
  call("prlimit64", 0, 7, null, before);
  call("prlimit64", 0, 7, new BigUint64Array([soft, before[1] ?? soft]), null);
  try {
    action();
  } finally {
    call("prlimit64", 0, 7, before, null);
  }
}

test("a tree that is deeper than any path may be, and than files may be open, is read, and removed", () => {
  const base = folder();
  const upper = write(join(base, "upper"), {});
  const [depth, mode] = [3000, 0o755];
  let fd = openAt(AT_FDCWD, upper, O.RDONLY | O.DIRECTORY);
  for (let i = 0; i < depth; i++) {
    call("mkdirat", fd, "deep", mode);
    const next = openAt(fd, "deep", O.RDONLY | O.DIRECTORY);
    closeFile(fd);
    fd = next;
  }
  call("mkdirat", fd, ".hutch-raised-0", 0o500);
  closeFile(fd);
  mkdirSync(join(upper, ".hutch-raised-0"));
  chmodSync(upper, 0o500);
  let count = 0;
  let last: Change | undefined;
  const lower = write(join(base, "lower"), {});
  withFewFiles(800n, () => {
    for (const some of inChunks(readChanges(upper, [lower]))) {
      count += some.length;
      last = some.at(-1);
    }
    removeTree(upper);
  });
  expect(count).toBe(depth + 2);
  expect(last?.[1]).toBe(`${"/deep".repeat(depth)}/.hutch-raised-0`);
  expect(() => openAt(AT_FDCWD, upper, O.PATH)).toThrow("ENOENT");
});

test("a directory that is moved away while it is read is told, not followed", () => {
  const base = folder();
  const upper = write(join(base, "upper"), { a: { b: { c: {} } }, z: {} });
  const read = readChanges(upper, [write(join(base, "lower"), {})]);
  for (const expected of ["/a", "/a/b", "/a/b/c"]) expect(read.next().value?.[1]).toBe(expected);
  call("renameat2", AT_FDCWD, join(upper, "a/b"), AT_FDCWD, join(base, "b"), 0);
  expect(() => [...read]).toThrow("was changed while it was read");
  rmSync(join(base, "b"), { recursive: true });
});
