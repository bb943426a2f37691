/** An image of two layers, a registry of our own that has it, and a pull from there into a fresh store. */

import { pull, type PullOptions } from "../../../src/image/pull.ts";
import { dir, file, tar } from "../tar-maker.ts";
import { imageOf, layerOf } from "./layout.ts";
import { type FakeRegistry, startRegistry } from "./registry.ts";
import { freshStore } from "./stores.ts";

export const layer = layerOf(tar(dir("etc"), file("etc/motd", "hello ".repeat(5000))), "none");
export const image = imageOf([layer, layerOf(tar(file("x")))], { Cmd: ["sh"] });
export const layerBlob = `/v2/test/blobs/${layer.blob.digest}`;

export async function withRegistry<T>(work: (registry: FakeRegistry) => Promise<T>): Promise<T> {
  await using registry = startRegistry();
  registry.add(image);
  return await work(registry);
}

/** A pull of `test` under way, and its store. */
export const get = (registry: FakeRegistry, more: Partial<PullOptions> = {}, tag = "") => {
  const store = freshStore(more);
  return { ...store, done: pull(`${registry.host}/test${tag}`, store.options) };
};
