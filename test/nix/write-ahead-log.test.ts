/** A database and its log in memory, against SQLite's own reading of the files. */

import { Database } from "bun:sqlite";
import { afterAll, expect, test } from "bun:test";
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { withLog } from "../../src/nix/write-ahead-log.ts";

const folder = mkdtempSync(join(tmpdir(), "hutch-wal-"));
afterAll(() => rmSync(folder, { recursive: true }));

const read = (name: string): Buffer => readFileSync(join(folder, name));
const copy = (name: string): void => {
  for (const end of ["", "-wal"]) copyFileSync(join(folder, `live${end}`), join(folder, `${name}${end}`));
};
const rows = (database: Database): unknown => database.query("select * from t order by a").all();
const inMemory = (main: Uint8Array, log: Uint8Array): unknown => {
  using database = Database.deserialize(withLog(main, log), { readonly: true });
  expect(database.query("pragma integrity_check").get()).toEqual({ integrity_check: "ok" });
  return rows(database);
};

test.each([512, 4096, 65_536])("every committed transaction counts, with pages of %d bytes", (size) => {
  for (const name of readdirSync(folder)) rmSync(join(folder, name));
  using live = new Database(join(folder, "live"));
  live.run(`pragma page_size = ${size}`);
  live.run("pragma journal_mode = wal");
  live.run("pragma wal_autocheckpoint = 0");
  live.run("create table t (a integer primary key, b text)");
  const insert = live.prepare("insert into t (b) values (?)");
  for (let i = 0; i < 300; i++) insert.run(`row ${i} ${"x".repeat(i)}`);

  copy("one");
  const { length } = read("one-wal");
  using reference = new Database(join(folder, "one"));
  expect(inMemory(read("live"), read("live-wal"))).toEqual(rows(reference));
  expect(rows(reference)).toHaveLength(300);

  // Cut in the middle of the last frame: the last transaction has never happened.
  expect(inMemory(read("live"), read("live-wal").subarray(0, length - 8))).toHaveLength(299);
  // One bit of the last page differs: the same.
  const torn = read("live-wal");
  torn[length - 1] = (torn[length - 1] ?? 0) ^ 1;
  expect(inMemory(read("live"), torn)).toHaveLength(299);

  // A log that begins anew over an old one, whose frames are still behind; and the database gets smaller.
  live.run("pragma wal_checkpoint(restart)");
  live.run("delete from t where a > 20");
  live.run("pragma incremental_vacuum");
  copy("two");
  using second = new Database(join(folder, "two"));
  expect(inMemory(read("live"), read("live-wal"))).toEqual(rows(second));
  expect(rows(second)).toHaveLength(20);
  live.run("vacuum");
  expect(inMemory(read("live"), read("live-wal"))).toHaveLength(20);
  expect(readdirSync(folder)).toContain("live-wal");
});

/** A log of one frame whose checksums are right (https://www.sqlite.org/fileformat2.html#checksum_algorithm). */
function forged(page: number, commit: number): Uint8Array {
  const log = new Uint8Array(32 + 24 + 512);
  const view = new DataView(log.buffer);
  let [a, b] = [0, 0];
  const sum = (from: number, to: number) => {
    for (let at = from; at < to; at += 8) {
      a = (a + view.getUint32(at) + b) >>> 0;
      b = (b + view.getUint32(at + 4) + a) >>> 0;
    }
  };
  const put = (at: number, ...words: readonly number[]) => words.forEach((word, i) => view.setUint32(at + 4 * i, word));
  put(0, 0x377f0683, 3_007_000, 512, 0, 7, 9);
  sum(0, 24);
  put(24, a, b);
  put(32, page, commit, 7, 9);
  sum(32, 40);
  sum(56, 568);
  put(48, a, b);
  return log;
}

test("numbers of pages that cannot be are refused, or pass over nothing", () => {
  const main = new Uint8Array(512).fill(5);
  expect(withLog(main, forged(1, 1))).toEqual(new Uint8Array(512).fill(1, 18, 20));
  expect(() => withLog(main, forged(1, 0xffffffff))).toThrow("many more pages than there are");
  for (const page of [0, 2, 0xffffffff]) {
    expect(withLog(main, forged(page, 1))).toEqual(new Uint8Array(512).fill(5).fill(1, 18, 20));
  }
});

test("an empty log changes nothing, and one of another form is refused", () => {
  const database = new Database(":memory:");
  database.run("create table t (a integer primary key)");
  expect(inMemory(database.serialize(), new Uint8Array())).toEqual([]);
  expect(() => withLog(database.serialize(), new Uint8Array(64))).toThrow("of an unknown form");
});
