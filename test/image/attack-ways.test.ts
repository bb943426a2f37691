/**
 * Every attack of the lists as a whole image, by a registry, an OCI layout, and OCI and docker archives that are pulled
 * and loaded: refused or confined, the same each way, nothing half-used left in the store, and nothing outside changed.
 */

import { afterAll, expect, test } from "bun:test";
import { lstatSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { EXIT, HutchError } from "../../src/errors.ts";
import { chainIds, type Digest, digestOf } from "../../src/image/digest.ts";
import { readImages } from "../../src/image/image-index.ts";
import { pull } from "../../src/image/pull.ts";
import type { Store } from "../../src/image/store.ts";
import { AT_FDCWD, getXattr, openAt, O, closeFile } from "../../src/libc/file.ts";
import { fingerprint } from "../cli/tree.ts";
import { attacksOn } from "./helpers/attacks.ts";
import { imageAttacks } from "./helpers/image-attacks.ts";
import { honest } from "./helpers/image-lies.ts";
import { imageOf, layerOf, writeLayout } from "./helpers/layout.ts";
import { guardIn, removeScratch, scratch } from "./helpers/stack.ts";
import { freshStore } from "./helpers/stores.ts";
import { offerOf, WAYS, type WayName } from "./helpers/ways.ts";
import { tar } from "./tar-maker.ts";

afterAll(removeScratch);

const wayNames = Object.keys(WAYS) as WayName[];

/** Layers are there whole or not at all, blobs are what their names say, and nothing lies about. */
function expectWhole(store: Store, way: string): void {
  for (const name of readdirSync(store.layers)) {
    expect(name, way).toMatch(/^[0-9a-f]{64}$/);
    expect(readdirSync(join(store.layers, name)).toSorted(), way).toEqual(["diff", "meta.json"]);
  }
  expect(readdirSync(store.tmp), way).toEqual([]);
  const blobs = join(store.images, "blobs/sha256");
  for (const hex of readdirSync(blobs)) expect(digestOf(readFileSync(join(blobs, hex))), way).toBe(`sha256:${hex}`);
}

/** The error for the user, or that there was none; whatever else is thrown is a bug of hutch's. */
const outcomeOf = (bringing: Promise<unknown>): Promise<string> =>
  bringing.then(
    () => "stored",
    (error: unknown) => {
      if (!(error instanceof HutchError) || error.exitCode !== EXIT.failure) throw error;
      expect(error.message).not.toMatch(/(\b\w+ sha256:[0-9a-f]+): \1/);
      return error.message;
    },
  );

test.each(Object.keys(attacksOn("/nowhere")))("A7: by every way: %s", async (name) => {
  const outside = scratch();
  const guard = guardIn(outside);
  const attack = attacksOn(guard)[name];
  if (attack === undefined) throw new Error("no such attack");
  const before = fingerprint(outside);
  const layers = attack.layers.map((layer) => layerOf(tar(...layer)));
  const offer = offerOf(imageOf(layers), layers);
  const chain = chainIds(layers.map(({ diffId }) => diffId as Digest));
  const bring = async (way: WayName): Promise<void> => {
    const { dir, options } = freshStore({ limits: { entries: 50, bytes: 2 ** 40 } });
    mkdirSync(join(dir, "source"));
    const outcome = await outcomeOf(WAYS[way](offer, join(dir, "source"), options));
    const { store } = options;
    if (attack.refused === undefined) expect(outcome, way).toBe("stored");
    else expect(outcome, way).toMatch(attack.refused);
    expect(readImages(store), way).toHaveLength(attack.refused === undefined ? 1 : 0);
    const top = join(store.layers, chain.at(-1)?.slice(7) ?? "", "diff");
    for (const path of attack.has ?? [])
      expect(lstatSync(join(top, path), { throwIfNoEntry: false }), way).toBeDefined();
    for (const [path, wanted] of Object.entries(attack.xattrs ?? {})) {
      const fd = openAt(AT_FDCWD, top, O.PATH | O.DIRECTORY);
      for (const [key, value] of Object.entries(wanted)) expect(getXattr(fd, path, key), way).toEqual(value);
      closeFile(fd);
    }
    expectWhole(store, way);
    expect(readdirSync(join(dir, "home")), way).toEqual([]);
  };
  await Promise.all(wayNames.filter((way) => way !== "load of OCI").map(bring)); // the same archive as the one pulled
  expect(fingerprint(outside)).toEqual(before);
  expect(readFileSync(join(guard, "victim"), "utf8")).toBe("untouched");
});

test.each(Object.keys(imageAttacks))("A7: by every way that can say it: %s", async (name) => {
  const outside = scratch();
  const attack = imageAttacks[name];
  if (attack === undefined) throw new Error("no such attack");
  const guard = guardIn(outside);
  writeLayout(join(outside, "honest"), honest);
  const offer = attack.offer(guard);
  const before = fingerprint(outside);
  const able = wayNames.filter((way) => attack.not?.[way] === undefined);
  expect(able).not.toEqual([]);
  const bring = async (way: WayName): Promise<void> => {
    const { dir, options } = freshStore(attack.limits === undefined ? {} : { limits: attack.limits });
    mkdirSync(join(dir, "source"));
    expect(await outcomeOf(WAYS[way](offer, join(dir, "source"), options)), way).toMatch(attack.refused);
    expect(readImages(options.store), way).toEqual([]);
    expectWhole(options.store, way);
    const { store } = options;
    const left = [store.layers, store.partial, join(store.images, "blobs/sha256")].flatMap((path) => readdirSync(path));
    if (left.length === 0) return;
    // Parts to go on from, and whole files: they do not stand in the way of the image that this was said to be.
    expect(await outcomeOf(pull(`oci:${join(outside, "honest")}`, options)), way).toBe("stored");
    expectWhole(store, way);
    expect(readdirSync(store.partial), way).toEqual([]);
  };
  await Promise.all(able.map(bring));
  expect(fingerprint(outside)).toEqual(before);
});
