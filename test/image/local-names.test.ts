/** Images of a layout on disk and by id: the words that pulled one, and the id that a list shows, find it again. */

import { afterAll, expect, test } from "bun:test";
import { join } from "node:path";
import { existsSync, readdirSync, rmSync, truncateSync } from "node:fs";
import { blobPath } from "../../src/image/blobs.ts";
import { inspectImage, listImages, removeImage } from "../../src/image/manage.ts";
import { pull } from "../../src/image/pull.ts";
import { resolveImage } from "../../src/image/resolve.ts";
import { saveImage } from "../../src/image/transfer.ts";
import { imageJson } from "../../src/image/views.ts";
import { failure } from "./helpers/failure.ts";
import { imageOf, layerOf, writeLayout } from "./helpers/layout.ts";
import { startRegistry } from "./helpers/registry.ts";
import { removeScratch, scratch } from "./helpers/stack.ts";
import { freshStore } from "./helpers/stores.ts";
import { file, tar } from "./tar-maker.ts";

afterAll(removeScratch);

const layer = layerOf(tar(file("x", "1")));
const image = imageOf([layer], { Cmd: ["x"] });

/** Call with another working directory. */
async function within(place: string, body: () => Promise<void>): Promise<void> {
  const before = process.cwd();
  process.chdir(place);
  try {
    await body();
  } finally {
    process.chdir(before);
  }
}

test.each(["lay", "odd#name"])("a relative layout %s is found again by all words for its place", async (name) => {
  const { options } = freshStore();
  const { store } = options;
  const place = scratch();
  writeLayout(join(place, name), image, "box");
  await within(place, async () => {
    await pull(`oci:${name}:box`, options);
    const words = [`oci:${name}:box`, `oci:./${name}/:box`, `oci:${place}/${name}:box`];
    for (const word of words) {
      expect(inspectImage(store, word).record.manifest.digest).toBe(image.manifest.digest as `sha256:${string}`);
      using held = await resolveImage(word, { ...options, policy: "never" });
      expect(held.layers.length).toBe(1);
      expect((await Array.fromAsync(saveImage(store, [word]))).length).toBeGreaterThan(0);
    }
    const [listed] = listImages(store).images;
    expect(listed && imageJson(listed)).toMatchObject({ source: `oci:${place}/${name}:box` });
    for (const word of [`oci:${name}`, `oci:${name}:other`, `oci-archive:${name}:box`])
      expect((await failure(removeImage(store, word))).message).toContain(`no image "${word}"`);
    writeLayout(join(place, name), imageOf([layer], { Cmd: ["changed"] }), "box");
    await pull(`oci:${name}:box`, options);
    expect(listImages(store).images.length).toBe(1);
  });
  await within("/", async () =>
    expect((await failure(removeImage(store, `oci:${name}:box`))).message).toContain("no image"),
  );
  await within(place, async () =>
    expect((await removeImage(store, `oci:./${name}:box`)).names).toEqual([`oci:${place}/${name}:box`]),
  );
});

test("what has been pulled from a place runs when the place is gone, and not when it must be looked at", async () => {
  const { options } = freshStore();
  const place = scratch();
  const word = `oci:${place}/lay:box`;
  const never = { ...options, policy: "never" } as const;
  writeLayout(join(place, "lay"), image, "box");
  expect((await failure(resolveImage(word, never))).message).toBe(`no image ${word} in the store`);
  expect(listImages(options.store).images).toEqual([]);
  await pull(word, options);
  writeLayout(join(place, "lay"), imageOf([layer], { Cmd: ["changed"] }), "box");
  const command = async (policy: "always" | "missing" | "never") => {
    using held = await resolveImage(word, { ...options, policy });
    return held.config.Cmd;
  };
  expect(await command("never")).toEqual(["x"]);
  expect(await command("missing")).toEqual(["changed"]);
  rmSync(join(place, "lay"), { recursive: true });
  expect(await command("missing")).toEqual(["changed"]);
  expect(await command("never")).toEqual(["changed"]);
  expect((await failure(command("always"))).message).toBe(`${word}: no such file`);
  expect((await failure(pull(word, { ...options, policy: "always" }))).message).toBe(`${word}: no such file`);
});

test("two manifests of one configuration are one image", async () => {
  const { options } = freshStore();
  const place = scratch();
  const twin = imageOf([layer], { Cmd: ["x"] }, { docker: true });
  expect(twin.config.digest).toBe(image.config.digest);
  writeLayout(join(place, "a"), image, "box");
  writeLayout(join(place, "b"), twin, "box");
  for (const name of ["a", "b"]) await pull(`oci:${place}/${name}:box`, options);
  const digests = listImages(options.store).images.map(({ record }) => record.manifest.digest);
  expect(new Set(digests).size).toBe(2);
  for (const id of [image.config.digest.slice(7), image.config.digest.slice(7, 19)]) {
    using held = await resolveImage(id, options);
    expect(held.config.Cmd).toEqual(["x"]);
    expect(inspectImage(options.store, id).manifest.config.digest).toBe(image.config.digest as `sha256:${string}`);
    expect((await Array.fromAsync(saveImage(options.store, [id]))).length).toBeGreaterThan(0);
  }
});

test("an id runs from the store without a network, whatever the policy", async () => {
  await using registry = startRegistry();
  const other = imageOf([layer], { Cmd: ["other"] });
  registry.add(image, "1");
  registry.add(image, "2");
  registry.add(other, "other");
  const { options } = freshStore();
  for (const tag of ["1", "2", "other"]) await pull(`${registry.host}/test:${tag}`, options);
  registry.requests.length = 0;
  const id = image.config.digest.slice(7);
  const words = [id, id.slice(0, 12), id.slice(0, 40), `sha256:${id}`, `sha256:${id.slice(0, 12)}`];
  for (const word of [...words, image.manifest.digest])
    for (const policy of ["always", "missing", "never"] as const) {
      using held = await resolveImage(word, { ...options, policy });
      expect(held.config.Cmd).toEqual(["x"]);
    }
  // Unpacked again from its blobs.
  for (const name of readdirSync(options.store.layers)) rmSync(join(options.store.layers, name), { recursive: true });
  using again = await resolveImage(id.slice(0, 12), options);
  expect(again.layers.every((path) => existsSync(path))).toBe(true);
  // A damaged image is not in the way of another.
  truncateSync(blobPath(options.store, other.config.digest as `sha256:${string}`), 10);
  using beside = await resolveImage(id.slice(0, 12), options);
  expect(beside.config.Cmd).toEqual(["x"]);
  const foreign = { os: "linux", architecture: "s390x" };
  expect((await failure(resolveImage(id, { ...options, platform: foreign }))).message).toContain("linux/s390x");
  expect(registry.requests).toEqual([]);
});

test("what is no id of the store is a name, where it can be one", async () => {
  const { options } = freshStore();
  const offline = { ...options, policy: "never" } as const;
  const ids = ["f".repeat(64), `sha256:${"f".repeat(64)}`, `sha256:${"f".repeat(12)}`];
  for (const id of ids)
    expect((await failure(resolveImage(id, options))).message).toBe(`no image "${id}" in the store`);
  const names = ["f".repeat(12), "f".repeat(63), "cafe"];
  for (const name of names)
    expect((await failure(resolveImage(name, offline))).message).toBe(
      `no image docker.io/library/${name}:latest in the store`,
    );
});
