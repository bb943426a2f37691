/**
 * Every attack of the list as a whole image, by a registry, an OCI layout and a docker archive: refused or confined, the
 * same each way, and nothing outside of the store is changed.
 */

import { afterAll, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { chainIds, type Digest } from "../../src/image/digest.ts";
import { readImages } from "../../src/image/image-index.ts";
import { pull, type PullOptions } from "../../src/image/pull.ts";
import { loadImage } from "../../src/image/transfer.ts";
import { attacksOn } from "./helpers/attacks.ts";
import { type ImageMade, imageOf, layerOf, writeLayout } from "./helpers/layout.ts";
import { startRegistry } from "./helpers/registry.ts";
import { chunks, guardIn, listTree, removeScratch, run, scratch } from "./helpers/stack.ts";
import { freshStore } from "./helpers/stores.ts";
import { file, tar } from "./tar-maker.ts";

afterAll(removeScratch);

/** Bring an image into a store; `dir` is for what that takes. */
type Way = (image: ImageMade, tars: readonly Uint8Array[], dir: string, options: PullOptions) => Promise<unknown>;

const ways: Readonly<Record<string, Way>> = {
  registry: async (image, _, __, options) => {
    await using registry = startRegistry();
    registry.add(image);
    return await pull(`${registry.host}/test`, options);
  },
  "OCI layout": async (image, _, dir, options) => {
    writeLayout(join(dir, "layout"), image);
    return await pull(`oci:${join(dir, "layout")}`, options);
  },
  "docker archive": async (image, tars, _, options) => {
    const Layers = tars.map((__, i) => `${i}.tar`);
    const manifest = JSON.stringify([{ Config: "config.json", RepoTags: ["attack:1"], Layers }]);
    const archive = tar(
      ...[file("manifest.json", manifest), file("config.json", image.config.bytes)],
      ...tars.map((bytes, i) => file(`${i}.tar`, bytes)),
    );
    return await loadImage({ ...options, archive: chunks(archive), where: "archive" });
  },
};

test.each(Object.keys(attacksOn("/nowhere")))("A7: by every way: %s", async (name) => {
  const guard = guardIn(scratch());
  const attack = attacksOn(guard)[name];
  if (attack === undefined) throw new Error("no such attack");
  const before = await listTree(guard);
  const tars = attack.layers.map((layer) => tar(...layer));
  const layers = tars.map((bytes) => layerOf(bytes));
  const top =
    chainIds(layers.map(({ diffId }) => diffId as Digest))
      .at(-1)
      ?.slice(7) ?? "";
  for (const [way, bring] of Object.entries(ways)) {
    const { dir, options } = freshStore({ limits: { entries: 50, bytes: 2 ** 40 } });
    const outcome = await bring(imageOf(layers), tars, dir, options).then(
      () => "stored",
      (error: unknown) => (error as Error).message,
    );
    const { store } = options;
    if (attack.refused === undefined) expect(outcome, way).toBe("stored");
    else expect(outcome, way).toMatch(attack.refused);
    expect(readImages(store), way).toHaveLength(attack.refused === undefined ? 1 : 0);
    for (const path of attack.has ?? []) {
      const script = `test -e "$0" || test -L "$0" && echo yes`;
      expect(await run(["sh", "-c", script, path], join(store.layers, top, "diff")), way).toBe("yes\n");
    }
    const leavings = [store.layers, store.tmp]
      .flatMap((path) => readdirSync(path))
      .filter((one) => !/^[0-9a-f]{64}$/.test(one));
    expect(leavings, way).toEqual([]);
    expect(await listTree(guard), way).toBe(before);
    expect(readFileSync(join(guard, "victim"), "utf8"), way).toBe("untouched");
  }
});
