/**
 * The attack list: what hostile layers try, unpacked as the store does it. Each is refused or confined, and a guard
 * directory beside the layers is unchanged bit for bit.
 */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { applyLayer } from "../../src/image/apply.ts";
import { type DecompressLimits, decompress } from "../../src/image/decompress.ts";
import { digestOf } from "../../src/image/digest.ts";
import { createMergedView, readInView } from "../../src/image/merged-view.ts";
import { AT_FDCWD, closeFile, getXattr, O, openAt } from "../../src/libc/file.ts";
import { failure } from "./helpers/failure.ts";
import { chunks, guardIn, listTree, run, scratch, unpackStack, removeScratch } from "./helpers/stack.ts";
import { base256, concat, dir, entry, file, hard, header, link, type Made, tar } from "./tar-maker.ts";

type Layer = readonly (Made | Uint8Array)[];
type Attack = {
  readonly layers: readonly Layer[];
  readonly refused?: RegExp;
  /** Paths that must be there, in the last layer. */ readonly has?: readonly string[];
};

let work = "";
let guard = "";
beforeAll(() => {
  work = scratch();
  guard = guardIn(work);
});
afterAll(removeScratch);

/** Layers cannot know where they are unpacked: attacks aim at this many levels up and at absolute paths. */
const up = "../".repeat(12);
const at = (): string => guard.slice(1);

const attacks = (): Readonly<Record<string, Attack>> => ({
  "absolute path": { layers: [[file(`/${at()}/victim`, "bad")]], has: [`${at()}/victim`] },
  "dot dot": { layers: [[file(`${up}${at()}/victim`, "bad")]], has: [`${at()}/victim`] },
  "dot dot inside": { layers: [[file(`a/../../${up}${at()}/new`, "bad")]], has: [`${at()}/new`] },
  "absolute link, file through it": { layers: [[link("l", guard), file("l/victim", "bad")]], has: [`${at()}/victim`] },
  "relative link, file through it": {
    layers: [[link("l", `${up}${at()}`), file("l/victim", "bad")]],
    has: [`${at()}/victim`],
  },
  "chained links": {
    layers: [[link("a", "/"), link("b", `a/${at()}`), file("b/victim", "bad")]],
    has: [`${at()}/victim`],
  },
  "link through dot": { layers: [[link("l", `/./${at()}/.`), file("./l/./victim", "bad")]], has: [`${at()}/victim`] },
  "link in a lower layer, file above": {
    layers: [[link("l", guard)], [file("l/victim", "bad")]],
    has: [`${at()}/victim`],
  },
  "link over a directory, then through it": {
    layers: [[dir("d"), link("d", guard), file("d/victim", "bad")]],
    has: [`${at()}/victim`],
  },
  "link, then a file of the same name": { layers: [[link("l", `${guard}/victim`), file("l", "bad")]], has: ["l"] },
  "link below, then a file of the same name": {
    layers: [[link("l", `${guard}/victim`)], [file("l", "bad")]],
    has: ["l"],
  },
  "link, then a directory of the same name": {
    layers: [[link("l", guard), dir("l"), file("l/victim", "bad")]],
    has: ["l/victim"],
  },
  "link loop": { layers: [[link("a", "b"), link("b", "a"), file("a/x")]], refused: /too many symbolic links/ },
  "hard link to an absolute path": {
    layers: [[hard("h", `${guard}/victim`), file("h", "bad")]],
    refused: /the image has no/,
  },
  "hard link upward": { layers: [[hard("h", `${up}${at()}/victim`)]], refused: /the image has no/ },
  "hard link through a link": { layers: [[link("l", guard), hard("h", "l/victim")]], refused: /the image has no/ },
  "hard link to a link, then written": {
    layers: [[link("l", `${guard}/victim`), hard("h", "l"), file("h", "bad")]],
    has: ["l", "h"],
  },
  "hard link to a directory": { layers: [[dir("d"), hard("h", "d")]], refused: /to a directory/ },
  "hard link to a lower directory": { layers: [[dir("d")], [hard("h", "d")]], refused: /to a directory/ },
  "hard link to the root": { layers: [[hard("h", "/")]], refused: /to the root/ },
  "link named .": { layers: [[link(".", guard)], [file("victim", "bad")]], refused: /replace the root/ },
  "link named /.": { layers: [[link("/.", guard)], [file("victim", "bad")]], refused: /replace the root/ },
  "link named ..": { layers: [[link("a/..", guard)]], refused: /replace the root/ },
  "file named /": { layers: [[file("/", "x")]], refused: /replace the root/ },
  "whiteout of ..": { layers: [[file(".wh...", "")]], refused: /invalid whiteout/ },
  "whiteout of .": { layers: [[file(".wh..", "")]], refused: /invalid whiteout/ },
  "whiteout of nothing": { layers: [[file("a/.wh.", "")]], refused: /invalid whiteout/ },
  "whiteout through a link": { layers: [[link("l", guard), file("l/.wh.victim", "")]], has: ["l"] },
  "whiteout through a lower link": { layers: [[link("l", guard)], [file("l/.wh.victim", "")]] },
  "opaque on a link": { layers: [[link("l", guard)], [file("l/.wh..wh..opq", "")]] },
  "aufs metadata": {
    layers: [[dir(".wh..wh.plnk"), file(".wh..wh.plnk/1.2"), file(".wh..wh.aufs", ""), file("x")]],
    has: ["x"],
  },
  "directory to link and back": {
    layers: [[dir("d"), file("d/a")], [link("d", guard)], [dir("d"), file("d/victim", "bad")]],
    has: ["d/victim"],
  },
  "NUL in a PAX path": { layers: [[entry(file("x", "", { pax: { path: "a\0b" } }))]], refused: /NUL/ },
  "NUL in a PAX link": { layers: [[entry(link("x", "y", { pax: { linkpath: "a\0b" } }))]], refused: /NUL/ },
  "negative size": {
    layers: [[header({ name: "x", raw: [[124, base256(-1n, 12)]] })]],
    refused: /negative size|out of range/,
  },
  "size of 8 EiB": {
    layers: [[header({ name: "x", raw: [[124, base256(2n ** 63n, 12)]] })]],
    refused: /out of range|negative/,
  },
  "size of 4 PiB": {
    layers: [[header({ name: "x", raw: [[124, base256(2n ** 52n, 12)]] })]],
    refused: /bytes in one layer/,
  },
  "sparse file of 4 PiB": {
    layers: [
      [
        entry(
          file("x", "", {
            pax: { "GNU.sparse.map": "", "GNU.sparse.size": String(2 ** 52), "GNU.sparse.numblocks": "0" },
          }),
        ),
      ],
    ],
    refused: /bytes in one layer/,
  },
  "PAX size larger than the data": {
    layers: [[entry(file("x", "12345", { pax: { size: "999999" } }))]],
    refused: /cut short/,
  },
  "a header of a gigabyte": { layers: [[header({ name: "x", type: "x", size: 2 ** 30 })]], refused: /a header of/ },
  "overlapping sparse map": {
    layers: [[entry(file("x", "aaaabbbb", { pax: { "GNU.sparse.map": "0,4,2,4", "GNU.sparse.size": "10" } }))]],
    refused: /invalid sparse map/,
  },
  "1,500 levels": { layers: [[entry(file(`${"d/".repeat(1500)}x`))]], refused: /path too long/ },
  "path of 5,000 bytes": { layers: [[entry(file(`${"a/".repeat(2500)}x`))]], refused: /path too long/ },
  "name of 300 bytes": { layers: [[entry(file("n".repeat(300)))]], refused: /path too long/ },
  "a thousand levels": { layers: [[entry(file(`${"d/".repeat(1000)}x`))]], has: [`${"d/".repeat(1000)}x`] },
  "too many entries": {
    layers: [Array.from({ length: 60 }, (_, i) => file(`f${i}`, ""))],
    refused: /more than 50 entries/,
  },
  "unknown type": { layers: [[{ name: "x", type: "Z" }]], refused: /unknown entry type/ },
  "wrong checksum": { layers: [[header({ name: "x" }).with(0, 0x79)]], refused: /checksum/ },
  "file below a file": { layers: [[file("x"), file("x/y")]], refused: /is not a directory/ },
  "cut short": { layers: [[header({ name: "x", size: 100_000 })]], refused: /cut short/ },
});

const snapshot = (): Promise<string> => listTree(guard);

test.each(Object.keys(attacks()))("attack: %s", async (name) => {
  const attack = attacks()[name];
  if (attack === undefined) throw new Error("no such attack");
  const before = await snapshot();
  const place = join(work, digestOf(name).slice(7, 23));
  mkdirSync(place);
  const limits = { entries: 50, bytes: 2 ** 40 };
  const tars = attack.layers.map((layer) => tar(...layer));
  const outcome = await unpackStack(place, tars, "one", { limits }).then(
    () => "unpacked",
    (error: unknown) => (error as Error).message,
  );
  if (attack.refused === undefined) expect(outcome).toBe("unpacked");
  else expect(outcome).toMatch(attack.refused);
  const top = join(place, String(attack.layers.length - 1));
  for (const path of attack.has ?? [])
    expect(await run(["sh", "-c", `test -e '${path}' || test -L '${path}' && echo yes`], top)).toBe("yes\n");
  expect(await snapshot()).toBe(before);
  expect(readFileSync(join(guard, "victim"), "utf8")).toBe("untouched");
});

test("overlay's own attributes cannot be forged, others come byte for byte", async () => {
  const value = new Uint8Array([0, 0xff, 0x80, 10, 0x3d]);
  const pax = {
    "SCHILY.xattr.user.kept": value,
    "LIBARCHIVE.xattr.user.encoded": Buffer.from(value).toString("base64"),
    "SCHILY.xattr.user.overlay.opaque": "y",
    "SCHILY.xattr.trusted.overlay.redirect": "/etc",
    "SCHILY.xattr.user.containers.override_stat": "0:0:0777",
  };
  const place = join(work, "xattrs");
  mkdirSync(place);
  await unpackStack(
    place,
    [tar(entry(file("x", "", { pax, uid: 7, gid: 8, mode: 0o640 })), entry(dir("d", { pax })))],
    "one",
  );
  const fd = openAt(AT_FDCWD, join(place, "0"), O.RDONLY | O.DIRECTORY);
  for (const name of ["x", "d"]) {
    expect(getXattr(fd, name, "user.kept")).toEqual(value);
    expect(getXattr(fd, name, "user.encoded")).toEqual(value);
    expect(getXattr(fd, name, "user.overlay.opaque")).toBeUndefined();
    expect(getXattr(fd, name, "trusted.overlay.redirect")).toBeUndefined();
  }
  expect(new TextDecoder().decode(getXattr(fd, "x", "user.containers.override_stat"))).toBe("7:8:0640");
  expect(getXattr(fd, "d", "user.containers.override_stat")).toBeUndefined();
  closeFile(fd);
});

test("security.capability is kept for root", async () => {
  const place = join(work, "capability");
  mkdirSync(place);
  const value = new Uint8Array([1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]); // cap_net_raw=ep, version 2
  await unpackStack(place, [tar(entry(file("ping", "", { pax: { "SCHILY.xattr.security.capability": value } })))]);
  const fd = openAt(AT_FDCWD, join(place, "0"), O.RDONLY | O.DIRECTORY);
  expect(getXattr(fd, "ping", "security.capability")).toEqual(value);
  closeFile(fd);
});

test("a device 0:0 in a layer deletes nothing below", async () => {
  const place = join(work, "forged-whiteout");
  mkdirSync(place);
  const stack = await unpackStack(
    place,
    [tar(file("keep", "kept")), tar({ name: "keep", type: "3", device: [0, 0] })],
    "real",
  );
  const view = stack.view();
  expect(view.look("keep")).toMatchObject({ kind: "other", layer: 0 });
  expect(stack.warnings).toEqual(["device nodes are empty files"]);
});

test("whiteouts by attribute hide as devices do", async () => {
  const place = join(work, "attribute-whiteouts");
  mkdirSync(place);
  const tars = [tar(dir("a"), file("a/x"), file("a/y")), tar(file("a/.wh.x", ""))];
  const stack = await unpackStack(place, tars, "one", { whiteouts: "attribute" });
  expect(stack.view().look("a/x")).toBeUndefined();
  expect(stack.view().look("a/y")).toBeDefined();
});

test("passwd of an image is read inside it, whatever its links say", async () => {
  const place = join(work, "passwd");
  mkdirSync(place);
  const stack = await unpackStack(place, [
    tar(
      dir("etc"),
      link("etc/passwd", `${guard}/victim`),
      link("etc/group", "../../../up"),
      file("up", "in the image"),
    ),
  ]);
  const view = stack.view();
  expect(readInView(view, "etc/passwd", 100)).toBeUndefined();
  expect(new TextDecoder().decode(readInView(view, "etc/group", 100))).toBe("in the image");
  expect(() => readInView(view, "up", 5)).toThrow("larger than 5 bytes");
});

const bombs: Readonly<Record<string, { bytes: () => Uint8Array; message: RegExp; limits?: DecompressLimits }>> = {
  "gzip bomb": {
    bytes: () => new Uint8Array(gzipSync(new Uint8Array(8 * 1024 * 1024))),
    message: /more than 200 times/,
    limits: { floor: 1024 * 1024, ratio: 200 },
  },
  "zstd bomb": {
    bytes: () => Bun.zstdCompressSync(new Uint8Array(8 * 1024 * 1024)),
    message: /more than 200 times/,
    limits: { floor: 1024 * 1024, ratio: 200 },
  },
  "zstd window of 2 GiB": {
    bytes: () => new Uint8Array([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00]),
    message: /too much memory/,
  },
  "truncated gzip": {
    bytes: () => new Uint8Array(gzipSync(crypto.getRandomValues(new Uint8Array(50_000)))).subarray(0, 30_000),
    message: /unexpected end/,
  },
  "junk after gzip": {
    bytes: () => concat([new Uint8Array(gzipSync("x")), new TextEncoder().encode("junk")]),
    message: /incorrect header/,
  },
};

test.each(Object.keys(bombs))("decompression: %s", async (name) => {
  const bomb = bombs[name];
  const read = async (): Promise<number> => {
    let length = 0;
    for await (const chunk of decompress(chunks(bomb?.bytes() ?? new Uint8Array()), "layer", bomb?.limits))
      length += chunk.byteLength;
    return length;
  };
  expect((await failure(read())).message).toMatch(bomb?.message ?? /^$/);
});

test("truncated zstd is caught by the DiffID", async () => {
  const plain = tar(file("x", "y".repeat(100_000)));
  const place = join(work, "zstd-cut");
  mkdirSync(place);
  const target = openAt(AT_FDCWD, place, O.RDONLY | O.DIRECTORY);
  const packed = Bun.zstdCompressSync(plain);
  const apply = applyLayer(
    chunks(packed.subarray(0, packed.byteLength - 20)),
    target,
    createMergedView([]),
    digestOf(plain),
    "layer",
    { ids: "one" },
  );
  expect((await failure(apply)).message).toMatch(/layer/);
  closeFile(target);
});

test("several gzip members are one layer", async () => {
  const plain = tar(file("x", "y".repeat(3000)));
  const members = concat([
    new Uint8Array(gzipSync(plain.subarray(0, 700))),
    new Uint8Array(gzipSync(plain.subarray(700))),
  ]);
  const parts: Uint8Array[] = [];
  for await (const chunk of decompress(chunks(members), "layer")) parts.push(new Uint8Array(chunk));
  expect(digestOf(concat(parts))).toBe(digestOf(plain));
});
