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

test("an empty log changes nothing, and one of another form is refused", () => {
  const database = new Database(":memory:");
  database.run("create table t (a integer primary key)");
  expect(inMemory(database.serialize(), new Uint8Array())).toEqual([]);
  expect(() => withLog(database.serialize(), new Uint8Array(64))).toThrow("of an unknown form");
});
