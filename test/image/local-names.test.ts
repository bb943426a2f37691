/** Images of a layout on disk and by id: the words that pulled one, and the id that a list shows, find it again. */

import { afterAll, expect, test } from "bun:test";
import { join } from "node:path";
import { inspectImage, listImages, removeImage } from "../../src/image/manage.ts";
import { pull } from "../../src/image/pull.ts";
import { resolveImage } from "../../src/image/resolve.ts";
import { saveImage } from "../../src/image/transfer.ts";
import { imageJson } from "../../src/image/views.ts";
import { failure } from "./helpers/failure.ts";
import { imageOf, layerOf, writeLayout } from "./helpers/layout.ts";
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
