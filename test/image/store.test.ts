/** The store under several processes, under SIGKILL, and with things gone wrong in it. */

import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { blobPath } from "../../src/image/blobs.ts";
import { readImages } from "../../src/image/image-index.ts";
import { inspectImage, listImages, pruneImages, removeImage } from "../../src/image/manage.ts";
import { pull } from "../../src/image/pull.ts";
import { resolveImage } from "../../src/image/resolve.ts";
import { acquire, openStore, storePath, tryAcquire } from "../../src/image/store.ts";
import { AT_FDCWD, O, openAt, removeTree } from "../../src/libc/file.ts";
import { failure } from "./helpers/failure.ts";
import { imageOf, layerOf } from "./helpers/layout.ts";
import { startRegistry } from "./helpers/registry.ts";
import { listTree, run, scratch, removeScratch } from "./helpers/stack.ts";
import { freshStore } from "./helpers/stores.ts";
import { dir, file, tar } from "./tar-maker.ts";

afterAll(removeScratch);

const layers = [0, 1, 2, 3].map((i) =>
  layerOf(
    tar(dir(`d${i}`), ...Array.from({ length: 40 }, (_, k) => file(`d${i}/f${k}`, `${i}${k}`.repeat(5000)))),
    "none",
  ),
);
const image = imageOf(layers, { Cmd: ["sh"] });
const child = new URL("./helpers/pull-child.ts", import.meta.url).pathname;

const start = (store: string, name: string) =>
  Bun.spawn([process.execPath, child, store, name], {
    stdout: "pipe",
    stderr: "pipe",
    env: { PATH: process.env["PATH"] ?? "" },
  });

test("ten processes that pull one image download it once", async () => {
  await using registry = startRegistry();
  registry.add(image);
  const store = join(scratch(), "store");
  const children = Array.from({ length: 10 }, () => start(store, `${registry.host}/test`));
  const outputs = await Promise.all(children.map((one) => new Response(one.stdout).text()));
  expect(await Promise.all(children.map((one) => one.exited))).toEqual(Array(10).fill(0));
  expect(outputs.filter((text) => text.includes("pulled")).length).toBe(1);
  expect(outputs.filter((text) => text.includes("had")).length).toBe(9);
  const blobs = registry.requests.filter(({ path, method }) => method === "GET" && path.includes("/blobs/"));
  expect(blobs.length).toBe(new Set(blobs.map(({ path }) => path)).size);
  expect(registry.requests.filter(({ path }) => path.includes("/manifests/")).length).toBe(1);
}, 30_000);

test("three layers are downloaded at a time", async () => {
  await using registry = startRegistry();
  const seven = Array.from({ length: 7 }, (_, index) => layerOf(tar(file(`f${index}`, `${index}`))));
  registry.add(imageOf(seven));
  const blobs = new Set(seven.map(({ blob }) => `/v2/test/blobs/${blob.digest}`));
  let [running, most] = [0, 0];
  const full = Promise.withResolvers<void>();
  registry.intercept = async ({ path }) => {
    if (!blobs.has(path)) return undefined;
    running += 1;
    most = Math.max(most, running);
    if (running === 3) full.resolve();
    await full.promise;
    await Bun.sleep(20); // for a fourth, if there were one
    running -= 1;
    return undefined;
  };
  const { options } = freshStore();
  await pull(`${registry.host}/test`, options);
  expect(most).toBe(3);
});

test("two images that share a layer, pulled at once, download it once", async () => {
  await using registry = startRegistry();
  registry.add(image, "a");
  registry.add(imageOf(layers.slice(0, 2), { Cmd: ["other"] }), "b");
  const { options } = freshStore();
  await Promise.all([pull(`${registry.host}/test:a`, options), pull(`${registry.host}/test:b`, options)]);
  for (const { blob } of layers) {
    expect(registry.requests.filter(({ path }) => path.endsWith(blob.digest)).length).toBe(1);
  }
  expect(listImages(options.store).images.length).toBe(2);
});

/** Listing of all unpacked layers with the names of the store. */
const layersOf = async (store: string): Promise<string[]> =>
  (await listTree(join(store, "layers")))
    .split("\n")
    .filter((line) => !line.includes("meta.json") && !/^(\/|[0-9a-f]+\|d|[0-9a-f]+\/diff\||\|)/.test(line));

test.each(["resolving", "layer", "bytes", "downloaded", "unpacking", "unpacked", "done"])(
  "killed at %s, the next pull just works",
  async (event) => {
    await using registry = startRegistry();
    registry.add(image);
    const name = `${registry.host}/test`;
    const whole = freshStore();
    await pull(name, whole.options);
    const { options } = freshStore();
    const victim = start(options.store.root, name);
    let seen = "";
    for await (const chunk of victim.stdout) {
      seen += new TextDecoder().decode(chunk);
      if (!seen.split("\n").includes(event)) continue;
      victim.kill("SIGKILL");
      break;
    }
    await victim.exited;
    expect(seen).toContain(event);
    const [record] = (await pull(name, options), readImages(options.store));
    expect(record?.manifest.digest).toBe(image.manifest.digest as `sha256:${string}`);
    expect(await layersOf(options.store.root)).toEqual(await layersOf(whole.options.store.root));
    await pruneImages(options.store);
    expect(readdirSync(options.store.tmp)).toEqual([]);
    expect(readdirSync(options.store.partial)).toEqual([]);
    expect(readdirSync(options.store.layers).filter((one) => one.endsWith(".tmp"))).toEqual([]);
    expect(listImages(options.store).images.length).toBe(1);
  },
);

test("layers that are gone are unpacked again from blobs, damaged blobs are fetched again", async () => {
  await using registry = startRegistry();
  registry.add(image);
  const { options } = freshStore();
  const { image: pulled } = await pull(`${registry.host}/test`, options);
  for (const name of readdirSync(options.store.layers)) rmSync(join(options.store.layers, name), { recursive: true });
  registry.requests.length = 0;
  using again = await resolveImage(`${registry.host}/test`, { ...options, policy: "never" });
  expect(again.layers.every((path) => existsSync(path))).toBe(true);
  expect(registry.requests).toEqual([]);
  truncateSync(blobPath(options.store, pulled.manifest.config.digest), 10);
  expect(listImages(options.store).broken.length).toBe(1);
  expect((await pull(`${registry.host}/test`, options)).changed).toBe(true);
  expect(listImages(options.store).broken).toEqual([]);
});

test("prune frees what nothing names, by name and by id", async () => {
  await using registry = startRegistry();
  registry.add(image, "a");
  registry.add(image, "b");
  registry.add(imageOf(layers.slice(0, 1), { Cmd: ["other"] }), "c");
  const { options } = freshStore();
  const { store } = options;
  for (const tag of ["a", "b", "c"]) await pull(`${registry.host}/test:${tag}`, options);
  const id = image.config.digest.slice(7, 19);
  expect((await failure(removeImage(store, id))).message).toMatch(/test:a, .*test:b/);
  expect((await removeImage(store, `${registry.host}/test:a`)).freed).toMatchObject({ layers: 0 });
  expect(inspectImage(store, id).record.name).toBe(`${registry.host}/test:b`);
  expect((await removeImage(store, id)).freed).toMatchObject({ layers: 3 });
  expect((await failure(removeImage(store, "nothing"))).message).toMatch(/no image "nothing"/);
  writeFileSync(join(store.partial, "ab"), "left");
  mkdirSync(join(store.layers, "cd.tmp/diff"), { recursive: true });
  expect(await pruneImages(store)).toMatchObject({ names: [], freed: { blobs: 0, bytes: 4 } }); // those of "left"
  expect((await pruneImages(store, { all: true })).names).toEqual([`${registry.host}/test:c`]);
  expect([store.partial, store.layers, store.tmp].flatMap((path) => readdirSync(path))).toEqual([]);
});

test("rmi does not wait for a pull, prune does", async () => {
  await using registry = startRegistry();
  registry.add(image);
  const { options, events } = freshStore();
  await pull(`${registry.host}/test`, options);
  const pulling = await acquire(options.store, "gc", "shared");
  expect((await removeImage(options.store, `${registry.host}/test`)).freed).toBeUndefined();
  const { promise, resolve } = Promise.withResolvers<void>();
  const pruned = pruneImages(options.store, { onEvent: (event) => (events.push(event), resolve()) });
  await promise;
  expect(events.at(-1)).toEqual({ kind: "waiting", what: "pulls under way" });
  pulling[Symbol.dispose]();
  expect((await pruned).freed).toMatchObject({ layers: 4 });
});

test("locks exclude and come free", () => {
  const { store } = freshStore().options;
  const first = tryAcquire(store, "x", "exclusive");
  expect(tryAcquire(store, "x", "shared")).toBeUndefined();
  first?.[Symbol.dispose]();
  using one = tryAcquire(store, "x", "shared");
  using two = tryAcquire(store, "x", "shared");
  expect([one === undefined, two === undefined]).toEqual([false, false]);
});

test("a full disk is one clear line and leaves nothing half used", async () => {
  await using registry = startRegistry();
  registry.add(image);
  const place = scratch();
  const script = `mount -t tmpfs -o size=1m tmpfs '${place}' && '${process.execPath}' '${child}' '${place}/store' '${registry.host}/test'; code=$?; ls '${place}/store/layers'; cat '${place}/store/images/index.json'; exit $code`;
  const full = Bun.spawn(["unshare", "-m", "--propagation", "private", "sh", "-c", script], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err, code] = await Promise.all([
    new Response(full.stdout).text(),
    new Response(full.stderr).text(),
    full.exited,
  ]);
  expect(code).toBe(1);
  expect(err).toContain(`no space left in ${place}/store`);
  expect(out).toContain('"manifests":[]');
});

test("removal does not cross a mount", async () => {
  const place = scratch();
  const script = `mkdir -p '${place}/tree/mounted' && mount -t tmpfs tmpfs '${place}/tree/mounted' && touch '${place}/tree/mounted/precious' && '${process.execPath}' -e '
    const { removeTree, openAt, O, AT_FDCWD } = await import("${join(import.meta.dir, "../../src/libc/file.ts")}");
    try { removeTree(openAt(AT_FDCWD, "${place}", O.RDONLY | O.DIRECTORY), "tree"); } catch (error) { console.log(error.message); }
  '; ls '${place}/tree/mounted'`;
  const out = await run(["unshare", "-m", "--propagation", "private", "sh", "-c", script], "/");
  expect(out).toContain("EXDEV");
  expect(out).toContain("precious");
});

test("removal follows no link and opens closed directories", () => {
  const place = scratch();
  mkdirSync(join(place, "tree/closed"), { recursive: true });
  mkdirSync(join(place, "outside"));
  writeFileSync(join(place, "outside/kept"), "");
  Bun.spawnSync(["ln", "-s", join(place, "outside"), join(place, "tree/link")]);
  Bun.spawnSync(["chmod", "000", join(place, "tree/closed")]);
  const fd = openAt(AT_FDCWD, place, O.RDONLY | O.DIRECTORY);
  removeTree(fd, "tree");
  removeTree(fd, "tree");
  expect(readdirSync(place)).toEqual(["outside"]);
  expect(readdirSync(join(place, "outside"))).toEqual(["kept"]);
});

test("where the store is", () => {
  expect(storePath({ HUTCH_STORE: "/x" }, 1)).toBe("/x");
  expect(storePath({}, 0)).toBe("/var/lib/hutch");
  expect(storePath({ HOME: "/home/me" }, 1, () => 1)).toBe("/home/me/.local/share/hutch");
  expect(storePath({ HOME: "/home/me" }, 1, () => 0)).toBe("/var/tmp/hutch-1");
  expect(storePath({ HOME: "/home/me", XDG_DATA_HOME: "/data" }, 1)).toBe("/data/hutch");
  expect(storePath({}, 1)).toBe("/var/tmp/hutch-1");
  expect(() => storePath({ HUTCH_STORE: "x" }, 1)).toThrow("not absolute");
  const place = scratch();
  Bun.spawnSync(["chown", "65534", place]);
  expect(() => openStore(place)).toThrow("belongs to user 65534");
});

test("a store that cannot be made is an error that names the place, not a loop", () => {
  const place = scratch();
  const link = join(place, "dangling");
  symlinkSync("/nowhere/at/all", link);
  writeFileSync(join(place, "file"), "");
  const bad = ["/proc/x", "/proc/x/y/z", link, join(link, "x"), join(link, "x/y"), join(place, "file/x")];
  for (const path of bad) expect(() => openStore(path), path).toThrow(/^mkdir .*: (ENOENT|ENOTDIR) /);
  expect(openStore(join(place, "a/b/c")).root).toBe(join(place, "a/b/c"));
});
