/** Hostile layouts and archives: refused, with the store and what lies beside it unchanged. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { readdirSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { openArchive } from "../../src/image/archive.ts";
import { digestOf } from "../../src/image/digest.ts";
import { pull } from "../../src/image/pull.ts";
import { loadImage } from "../../src/image/transfer.ts";
import { failure } from "./helpers/failure.ts";
import { imageOf, layerOf, writeLayout } from "./helpers/layout.ts";
import { chunks, guardIn, listTree, removeScratch, run, scratch } from "./helpers/stack.ts";
import { freshStore } from "./helpers/stores.ts";
import { file, link, type Made, tar } from "./tar-maker.ts";

type Layer = readonly (Made | Uint8Array)[];

let work = "";
let guard = "";
beforeAll(() => {
  work = scratch();
  guard = guardIn(work);
});
afterAll(removeScratch);

const snapshot = (): Promise<string> => listTree(guard);

test("a layout whose blobs are links or FIFOs is not followed", async () => {
  const { options } = freshStore();
  const place = join(work, "layout-links");
  const image = imageOf([layerOf(tar(file("x")))]);
  writeLayout(place, image);
  const blob = join(place, "blobs/sha256", image.config.digest.slice(7));
  await run(["sh", "-c", `cp '${blob}' '${place}/elsewhere' && rm '${blob}'`], "/");
  symlinkSync(join(place, "elsewhere"), blob);
  expect((await failure(pull(`oci:${place}`, options))).message).toMatch(/no blob/);
  await run(["sh", "-c", `rm '${blob}' && mkfifo '${blob}'`], "/");
  expect((await failure(pull(`oci:${place}`, options))).message).toMatch(/no blob/);
});

const manifestJson = (config: string, layers: string[]): string =>
  JSON.stringify([{ Config: config, RepoTags: ["x:1"], Layers: layers }]);
const plain = tar(file("x"));
const config = JSON.stringify({
  os: "linux",
  architecture: process.arch === "arm64" ? "arm64" : "amd64",
  rootfs: { type: "layers", diff_ids: [digestOf(plain)] },
});

const archives: Readonly<Record<string, { layer: Layer; message: RegExp }>> = {
  "links out of the archive": {
    layer: [
      file("manifest.json", manifestJson("c.json", ["l.tar"])),
      file("c.json", config),
      link("l.tar", "/etc/passwd"),
    ],
    message: /no file "l.tar"/,
  },
  "config upward": {
    layer: [file("manifest.json", manifestJson("../../../../etc/passwd", ["l.tar"]))],
    message: /no file/,
  },
  "null manifest": { layer: [file("manifest.json", "null")], message: /must be an array/ },
  "no manifest": { layer: [file("x")], message: /neither an OCI layout/ },
  "bad tag": {
    layer: [
      file("manifest.json", manifestJson("c.json", ["l.tar"]).replace("x:1", "../x:1")),
      file("c.json", config),
      file("l.tar", plain),
    ],
    message: /invalid image name/,
  },
  "layers fewer than diff_ids": {
    layer: [file("manifest.json", manifestJson("c.json", [])), file("c.json", config)],
    message: /0 layers, but the config lists 1/,
  },
  "layer of another DiffID": {
    layer: [
      file("manifest.json", manifestJson("c.json", ["l.tar"])),
      file("c.json", config),
      file("l.tar", "", { data: tar(file("other")) }),
    ],
    message: /the config says/,
  },
  "link loop": {
    layer: [file("manifest.json", manifestJson("a", ["l.tar"])), link("a", "b"), link("b", "a")],
    message: /too many symbolic links/,
  },
};

test.each(Object.keys(archives))("archive: %s", async (name) => {
  const { options } = freshStore();
  const { layer, message } = archives[name] ?? { layer: [], message: /^$/ };
  const before = await snapshot();
  const failed = await loadImage({ ...options, archive: chunks(tar(...layer)), where: "archive" }).then(
    () => "loaded",
    (error: unknown) => (error as Error).message,
  );
  expect(failed).toMatch(message);
  expect(readdirSync(options.store.tmp)).toEqual([]);
  expect(await snapshot()).toBe(before);
});

test("files that come twice do not write into each other: content is what its digest says", async () => {
  const { options } = freshStore();
  const twice = tar(file("a", "first"), file("a", "again"), file("b", "other"));
  using archive = await openArchive(options.store, chunks(twice), "archive");
  for (const [name, content] of [
    ["a", "again"],
    ["b", "other"],
  ] as const) {
    const digest = digestOf(content);
    expect(archive.describe(name)?.digest).toBe(digest);
    expect(readFileSync((await archive.adopt?.(digest)) ?? "", "utf8")).toBe(content);
  }
});

test("names and links of an archive are bounded in all", async () => {
  const { options } = freshStore();
  const links = tar(...Array.from({ length: 70 }, (_, i) => link(String(i), "x".repeat(1024 * 1024 - 100))));
  const open = openArchive(options.store, chunks(links), "archive");
  expect((await failure(open)).message).toBe("archive: names of more than 67108864 bytes");
  expect(readdirSync(options.store.tmp)).toEqual([]);
});

test("an archive's files never get the archive's names", async () => {
  const { options } = freshStore();
  using archive = await openArchive(
    options.store,
    chunks(tar(file("../../escape", "x"), link("l", "../escape"), file("a/b", "y"))),
    "archive",
  );
  expect(new TextDecoder().decode(await archive.read("l", 10))).toBe("x");
  expect(readdirSync(options.store.tmp).length).toBe(1);
});
