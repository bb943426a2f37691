/** Layers at random, always the same ones: what overlayfs shows of ours is what umoci unpacks. Needs root and umoci. */

import { afterAll, expect, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { imageOf, layerOf, writeLayout } from "./helpers/layout.ts";
import { listOverlay, listUmoci, removeScratch, scratch, unpackStack } from "./helpers/stack.ts";
import { dir, file, hard, link, type Made, tar } from "./tar-maker.ts";

afterAll(removeScratch);

const NAMES = ["a", "b", "a/x", "a/y", "b/x", "a/x/z", "b/x/z", "c"] as const;
const TARGETS = ["a", "b", "/a", "../b", "c", "x"] as const;
const IMAGES = 80;

/** A number below `n`, the same ones in every run (a linear congruential generator). */
function createRandom(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return Math.floor((state / 0x80000000) * n);
  };
}

function anyEntry(below: (n: number) => number): Made {
  const name = NAMES[below(NAMES.length)] ?? "a";
  const slash = name.lastIndexOf("/") + 1;
  const [parent, last] = [name.slice(0, slash), name.slice(slash)];
  switch (below(9)) {
    case 0:
    case 1:
    case 2:
      return dir(name, { mode: 0o700 + below(8) * 8 });
    case 3:
    case 4:
      return file(name, String(below(100)));
    case 5:
      return link(name, TARGETS[below(TARGETS.length)] ?? "a");
    case 6:
      return file(`${parent}.wh.${last}`, "");
    case 7:
      return file(`${parent || "a/"}.wh..wh..opq`, "");
    default:
      return below(3) > 0 ? file(name, "h") : hard(name, ["a", "b", "c"][below(3)] ?? "a");
  }
}

/** Times of directories are umoci's own when it removes something from them; link counts depend on the file system. */
const comparable = (listing: string): string[] =>
  listing.split("\n").map((line) => line.replace(/^([^|]*\|d\|.*)\|\d+\.\d+\|\|$/, "$1").replace(/\|\d+\|$/, ""));

test("random layers", async () => {
  if (Bun.which("umoci") === null) throw new Error("this test needs umoci (Debian: apt install umoci)");
  if (process.getuid?.() !== 0) throw new Error("this test needs root to mount overlayfs");
  const below = createRandom(7);
  const work = scratch();
  let compared = 0;
  for (let i = 0; i < IMAGES; i++) {
    const layers = Array.from({ length: 2 + below(2) }, () => [
      dir(".", { name: "./" }),
      ...Array.from({ length: 2 + below(4) }, () => anyEntry(below)),
    ]);
    const tars = layers.map((layer) => tar(...layer));
    const place = join(work, String(i));
    mkdirSync(place);
    const stack = await unpackStack(place, tars).catch((error: unknown) => error as Error);
    writeLayout(join(place, "layout"), imageOf(tars.map((bytes) => layerOf(bytes, "none"))));
    const theirs = await listUmoci(join(place, "layout"), place, false).catch(() => undefined);
    if (theirs === undefined) continue; // files where directories should be, links to nothing
    const words = layers.map((layer) =>
      layer.map(({ type = "0", name = "", link: to = "" }) => `${type} ${name} ${to}`),
    );
    if (stack instanceof Error)
      throw new Error(`refused, but not by umoci: ${stack.message}: ${JSON.stringify(words)}`);
    expect({ words, tree: comparable(await listOverlay(place, stack.dirs)) }).toEqual({
      words,
      tree: comparable(theirs),
    });
    compared += 1;
  }
  expect(compared).toBeGreaterThan(IMAGES / 4);
}, 60_000);
