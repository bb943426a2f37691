/** Layers that are kept over images (`hutch run --persist NAME IMAGE`), which then stay in the store. */

import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { imageOf, layerOf, writeLayout } from "../image/helpers/layout.ts";
import { dir, file, tar } from "../image/tar-maker.ts";
import { eachCaller, expectFailure, expectSuccess, needs, start } from "./hutch.ts";
import { withRanges } from "./ranges.ts";

const busybox = new Uint8Array(readFileSync(needs("busybox")));

const one = imageOf([
  layerOf(tar(dir("bin"), file("bin/busybox", busybox, { mode: 0o755 }), dir("home"))),
  layerOf(
    tar(
      dir("home/ada", { uid: 1000, gid: 1001, mode: 0o700 }),
      file("home/ada/file", "one", { uid: 1000 }),
      file("etc/gone"),
    ),
  ),
]);
const two = imageOf([layerOf(tar(dir("bin"), file("bin/busybox", busybox, { mode: 0o755 }), file("second")))]);

eachCaller("a layer over an image", (bench) => {
  const places = () => {
    const folder = bench.folder();
    writeLayout(`${folder}/lay`, one, "box");
    const store = bench.folder();
    const hutch = (...args: readonly string[]) => bench.hutch(args, { env: { HUTCH_STORE: store } });
    return { folder, word: `oci:${folder}/lay:box`, store, hutch };
  };
  const id = one.config.digest.slice(7, 19);

  test("keeps the image in the store, whatever is pulled, pruned or removed, until it is removed itself", async () => {
    const { folder, word, store, hutch } = places();
    const sh = (root: string, script: string) =>
      hutch("run", "--persist", "w", root, "/bin/busybox", "sh", "-c", script.replaceAll("@", "/bin/busybox"));
    expectSuccess(await sh(word, "@ rm /etc/gone; echo two >> /home/ada/file"), "");
    expectSuccess(await sh(word, "@ cat /home/ada/file; @ ls /etc"), /^onetwo\n/);
    expect((await hutch("diff", "w")).stdout).toContain("C /home\nC /home/ada\nC /home/ada/file\n");
    expect((await hutch("diff", "w")).stdout).toContain("D /etc/gone\n");
    for (const words of [
      ["rmi", id],
      ["rmi", "--force", word],
    ])
      expectFailure(await hutch(...words), 125, "is needed by the layer w", "hutch rm w");
    expectSuccess(await hutch("prune", "--all"), /^freed 0 B/);
    expectSuccess(await sh(id, "@ cat /home/ada/file"), "onetwo\n");
    // The name gets another image: the layer stays with the one it is over, which can be had by its id.
    writeLayout(`${folder}/lay`, two, "box");
    const moved = await hutch("run", "--persist", "w", "--pull", "always", word, "/bin/busybox", "true");
    expectFailure(
      moved,
      125,
      `layer w is over image ${word} (${id}), not over image ${word}`,
      `ROOT ${id} goes on with it`,
    );
    expectSuccess(await hutch("prune"), new RegExp(`^${word}\nfreed `)); // the other one, which has no name
    expectSuccess(await sh(id, "@ cat /home/ada/file"), "onetwo\n");
    expectSuccess(await hutch("diff", "w"), /^A \/dev\nC \/etc\n/);
    expect(JSON.parse((await hutch("layers", "--format", "json")).stdout)).toMatchObject([
      { name: "w", root: { kind: "image", name: word, id: one.config.digest } },
    ]);
    expectSuccess(await hutch("rm", "w"), "w\n");
    expectSuccess(await hutch("prune", "--all"), /layers\n$/);
    expect(readdirSync(join(store, "layers"))).toEqual([]);
    expect(readdirSync(join(store, "sessions"))).toEqual([]);
  });

  test("an image of several names loses all but the last", async () => {
    const { word, hutch } = places();
    expectSuccess(await hutch("run", "--persist", "w", word, "/bin/busybox", "true"), "");
    expectSuccess(await hutch("tag", id, "other:1"), /other:1/);
    expectSuccess(await hutch("rmi", "other:1"), /other:1/);
    expectFailure(await hutch("rmi", word), 125, "is needed by the layer w");
  });

  if (bench.caller.root) return;
  test.if(process.getuid?.() === 0)(
    "with a range the files have ids of it, and no other run may have them (needs root to set /etc/subuid)",
    async () => {
      const { folder, word, store } = places();
      for (const name of ["newuidmap", "newgidmap"]) needs(name);
      const ranged = [...withRanges(folder, "nobody:300000:65536\n"), ...bench.caller.prefix, bench.binary];
      const hutch = (...args: readonly string[]) =>
        start([...ranged, ...args], { stdin: "", env: { HUTCH_STORE: store } }).ended;
      const run = ["run", "--userns", "auto", "--persist", "w", word, "/bin/busybox", "sh", "-c"];
      const write =
        "cd /home/ada; busybox mkdir -m 700 shut; echo two > shut/new; busybox chown -R 5:6 shut; busybox rm file";
      expectSuccess(await hutch(...run, `PATH=/bin; busybox --install -s /bin; ${write}`), "");
      expectSuccess(await hutch(...run, "busybox stat -c %u:%g /home/ada/shut/new"), "5:6\n");
      const outside = await bench.shell('stat -c %u "$1"/persisted/w/disk/upper/home/ada/shut', [store]);
      expect(outside.stdout + outside.stderr).toMatch(/^300004\n$|Permission denied/);
      const changes = (await hutch("diff", "w")).stdout;
      expect(changes).toContain("D /home/ada/file\nA /home/ada/shut\nA /home/ada/shut/new\n");
      const own = await hutch("run", "--persist", "w", word, "/bin/busybox", "true");
      expectFailure(own, 125, "the files of layer w belong to other ids", "--userns auto");
      expectSuccess(await hutch("rm", "w"), "w\n");
      expect(readdirSync(join(store, "sessions"))).toEqual([]);
    },
  );
});
