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
import { attacksOn } from "./helpers/attacks.ts";
import { failure } from "./helpers/failure.ts";
import { chunks, guardIn, listTree, run, scratch, unpackStack, removeScratch } from "./helpers/stack.ts";
import { dir, entry, file, link, tar, concat } from "./tar-maker.ts";

let work = "";
let guard = "";
beforeAll(() => {
  work = scratch();
  guard = guardIn(work);
});
afterAll(removeScratch);

const snapshot = (): Promise<string> => listTree(guard);

test.each(Object.keys(attacksOn("/nowhere")))("A7: %s", async (name) => {
  const attack = attacksOn(guard)[name];
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
