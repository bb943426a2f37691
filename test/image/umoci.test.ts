/** The tree that overlayfs shows of our layers equals the one that umoci unpacks, rule by rule. Needs root and umoci. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, chownSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { imageOf, layerOf, writeLayout } from "./helpers/layout.ts";
import { listOverlay, listUmoci, run, scratch, unpackStack, removeScratch } from "./helpers/stack.ts";
import { cases, comparable } from "./helpers/umoci-cases.ts";
import { tar } from "./tar-maker.ts";

let work = "";
beforeAll(() => {
  if (Bun.which("umoci") === null) throw new Error("this test needs umoci (Debian: apt install umoci)");
  if (process.getuid?.() !== 0) throw new Error("this test needs root to mount overlayfs");
  work = scratch();
});
afterAll(removeScratch);

test.each(Object.keys(cases))("umoci agrees: %s", async (name) => {
  const tars = (cases[name] ?? []).map((layer) => tar(...layer));
  const dir = join(work, name.replaceAll(/[^a-z0-9]+/gi, "-"));
  mkdirSync(dir);
  const { dirs } = await unpackStack(dir, tars);
  writeLayout(join(dir, "layout"), imageOf(tars.map((bytes) => layerOf(bytes))));
  const [ours, theirs] = await Promise.all([listOverlay(dir, dirs), listUmoci(join(dir, "layout"), dir, false)]);
  expect(comparable(ours, name)).toEqual(comparable(theirs, name));
});

test("umoci --rootless agrees in every case, as uid 65534 with one id", async () => {
  const dir = join(work, "rootless");
  mkdirSync(dir);
  chmodSync(work, 0o755);
  chownSync(dir, 65534, 65534);
  const child = new URL("./helpers/rootless-child.ts", import.meta.url).pathname;
  const output = await run(
    [
      "setpriv",
      "--reuid",
      "65534",
      "--regid",
      "65534",
      "--clear-groups",
      "env",
      `HOME=${dir}`,
      process.execPath,
      child,
      dir,
    ],
    dir,
  );
  const results = JSON.parse(output) as Record<string, { ours: string; theirs: string }>;
  expect(Object.keys(results)).toEqual(Object.keys(cases));
  for (const [name, { ours, theirs }] of Object.entries(results)) {
    expect([name, ...comparable(ours, name)]).toEqual([name, ...comparable(theirs, name)]);
  }
}, 60_000);
