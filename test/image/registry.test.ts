/** The registry client against a registry that misbehaves in every way we could think of. */

import { afterAll, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer as createProxy, request } from "node:http";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { MEDIA } from "../../src/image/manifest.ts";
import { readImages } from "../../src/image/image-index.ts";
import { pull } from "../../src/image/pull.ts";
import { parsePlatform } from "../../src/image/platform.ts";
import { blobOf, imageOf, layerOf } from "./helpers/layout.ts";
import type { PullEvent } from "../../src/image/source.ts";
import { failure } from "./helpers/failure.ts";
import { get, image, layer, layerBlob, withRegistry } from "./helpers/pulling.ts";
import { startRegistry } from "./helpers/registry.ts";
import { removeScratch } from "./helpers/stack.ts";
import { freshStore } from "./helpers/stores.ts";
import { file, tar } from "./tar-maker.ts";

afterAll(removeScratch);

test("pulls an image once and asks nothing the second time", () =>
  withRegistry(async (registry) => {
    const { options, done } = get(registry);
    expect((await done).changed).toBe(true);
    const asked = registry.requests.length;
    expect((await pull(`${registry.host}/test`, options)).changed).toBe(false);
    expect(registry.requests.length).toBe(asked);
    const [stored] = readImages(options.store);
    expect(stored?.name).toBe(`${registry.host}/test:latest`);
  }));

test("always asks with HEAD only, and takes what has changed", () =>
  withRegistry(async (registry) => {
    const { options, done } = get(registry);
    await done;
    registry.requests.length = 0;
    expect((await pull(`${registry.host}/test`, { ...options, policy: "always" })).changed).toBe(false);
    expect(registry.requests.map(({ method }) => method)).toEqual(["HEAD"]);
    registry.add(imageOf([layer], { Cmd: ["new"] }));
    const { image: newer } = await pull(`${registry.host}/test`, { ...options, policy: "always" });
    expect(newer.config.config.Cmd).toEqual(["new"]);
    expect(readImages(options.store).length).toBe(1);
  }));

test("never asks nobody", () =>
  withRegistry(async (registry) => {
    const { done } = get(registry, { policy: "never" });
    expect((await failure(done)).message).toContain("in the store");
    expect(registry.requests).toEqual([]);
  }));

test("429 with seconds and with a date, then the answer", () =>
  withRegistry(async (registry) => {
    const waits = ["0", new Date(Date.now() - 1000).toUTCString()];
    registry.intercept = ({ path }) => {
      const wait = path.includes("manifests") ? waits.pop() : undefined;
      return wait === undefined ? undefined : new Response("", { status: 429, headers: { "retry-after": wait } });
    };
    expect((await get(registry).done).changed).toBe(true);
    expect(waits).toEqual([]);
  }));

test("a wait is told, and a pull does not wait for ever in all its requests", () =>
  withRegistry(async (registry) => {
    const asked = new Map<string, number>();
    registry.intercept = ({ path }) => {
      const count = (asked.get(path) ?? 0) + 1;
      asked.set(path, count);
      return count > 1
        ? undefined
        : Response.json({}, { status: 429, statusText: "Too Many Requests", headers: { "retry-after": "1" } });
    };
    const retry = { busy: 4, server: 1, transport: 1, delay: 1, total: 2500 };
    const { done, events } = get(registry, { retry });
    // The manifest and the config wait; the layers may not any more.
    expect((await failure(done)).message).toMatch(/blob sha256:[0-9a-f]+: 429 Too Many Requests/);
    const told = events.filter(({ kind }) => kind === "pause");
    expect(told).toEqual(
      Array.from({ length: 2 }, () => ({
        kind: "pause",
        text: `${registry.host} asks to wait 1 s (429 Too Many Requests)`,
      })),
    );
  }));

test("one 503, then the answer", () =>
  withRegistry(async (registry) => {
    let failures = 1;
    registry.intercept = ({ path }) =>
      path.includes("blobs") && failures-- > 0 ? new Response("", { status: 503 }) : undefined;
    expect((await get(registry).done).changed).toBe(true);
  }));

test("a connection that breaks is resumed where it stopped", () =>
  withRegistry(async (registry) => {
    const { bytes } = layer.blob;
    const head = `HTTP/1.1 200 OK\r\nContent-Length: ${bytes.byteLength}\r\nConnection: close\r\n\r\n`;
    // Closed only when the client has what was sent: Bun may drop what it has not handed out when a connection ends.
    let cutOff = (): void => undefined;
    const cut = createServer((socket) => {
      cutOff = () => void socket.destroy();
      socket.once("data", () =>
        socket.write(new Uint8Array([...new TextEncoder().encode(head), ...bytes.subarray(0, 10_000)])),
      );
    });
    await new Promise<void>((resolve) => void cut.listen(0, "127.0.0.1", resolve));
    const onEvent = (event: PullEvent): void => {
      if (event.kind === "bytes" && event.done === 10_000) cutOff();
    };
    let breaks = 1;
    const location = `http://127.0.0.1:${(cut.address() as AddressInfo).port}/cut`;
    registry.intercept = ({ path }) =>
      path === layerBlob && breaks-- > 0 ? new Response(null, { status: 307, headers: { location } }) : undefined;
    expect((await get(registry, { onEvent }).done).changed).toBe(true);
    cut.close();
    const ranges = registry.requests.filter(({ path }) => path === layerBlob).map(({ range }) => range);
    expect(ranges).toEqual([null, "bytes=10000-"]);
  }));

test("a partial file of a killed process is resumed by the next", () =>
  withRegistry(async (registry) => {
    const { options, done } = ((): ReturnType<typeof get> => {
      const store = freshStore();
      writeFileSync(join(store.options.store.partial, layer.blob.digest.slice(7)), layer.blob.bytes.subarray(0, 7777));
      return { ...store, done: pull(`${registry.host}/test`, store.options) };
    })();
    await done;
    expect(registry.requests.filter(({ path }) => path === layerBlob).map(({ range }) => range)).toEqual([
      "bytes=7777-",
    ]);
    expect(readdirSync(options.store.partial)).toEqual([]);
  }));

test.each(["ignored", "wrong", "damaged", "416"])("ranges %s: begins again and is right in the end", (how) =>
  withRegistry(async (registry) => {
    const store = freshStore();
    const kept =
      how === "damaged" ? layer.blob.bytes.subarray(0, 5000).toReversed() : layer.blob.bytes.subarray(0, 5000);
    writeFileSync(join(store.options.store.partial, layer.blob.digest.slice(7)), kept);
    registry.intercept = ({ path, range }) => {
      if (path !== layerBlob || range === null || how === "damaged") return undefined;
      if (how === "416") return new Response(null, { status: 416 });
      if (how === "ignored") return new Response(layer.blob.bytes);
      return new Response(layer.blob.bytes.subarray(9), {
        status: 206,
        headers: { "content-range": `bytes 9-${layer.blob.bytes.byteLength - 1}/${layer.blob.bytes.byteLength}` },
      });
    };
    expect((await pull(`${registry.host}/test`, store.options)).changed).toBe(true);
  }),
);

test("content-encoding is not undone", () =>
  withRegistry(async (registry) => {
    const zipped = layerOf(tar(file("a")), "gzip");
    registry.add(imageOf([zipped]));
    registry.intercept = ({ path }) =>
      path.endsWith(zipped.blob.digest)
        ? new Response(zipped.blob.bytes, { headers: { "content-encoding": "gzip" } })
        : undefined;
    expect((await get(registry).done).changed).toBe(true);
  }));

test("silence is an unreachable registry, remembered for a while", () =>
  withRegistry(async (registry) => {
    registry.intercept = ({ path }) => (path === "/v2/" ? undefined : new Promise<Response>(() => undefined));
    const quick = {
      firstByte: 60,
      rememberFor: 60_000,
      retry: { busy: 0, server: 0, transport: 0, delay: 1, total: 1000 },
    };
    const { options, done } = get(registry, quick);
    const error = await failure(done);
    expect([error.connection, error.message]).toEqual([
      "unreachable",
      expect.stringContaining("no answer within 60 ms"),
    ]);
    const asked = registry.requests.length;
    const again = await failure(pull(`${registry.host}/test`, options));
    expect([again.connection, again.message]).toEqual(["unreachable", expect.stringContaining("gave no answer")]);
    expect(registry.requests.length).toBe(asked);
  }));

test("a registry that has answered is none without an answer: waited for and tried again, not remembered", () =>
  withRegistry(async (registry) => {
    let silent = true;
    registry.intercept = ({ path }) =>
      silent && path.includes("/blobs/") ? new Promise<Response>(() => undefined) : undefined;
    const retry = { busy: 0, server: 0, transport: 1, delay: 1, total: 1000 };
    const { options, done } = get(registry, { firstAnswer: 20_000, firstByte: 60, rememberFor: 60_000, retry });
    const error = await failure(done);
    expect([error.connection, error.message]).toEqual(["broken", expect.stringContaining("no answer within 60 ms")]);
    expect(registry.requests.filter(({ path }) => path.includes("/blobs/"))).toHaveLength(2);
    silent = false;
    expect((await pull(`${registry.host}/test`, options)).changed).toBe(true);
    // Before the first answer its own time holds, and nothing is tried again.
    registry.intercept = ({ path }) => (path === "/v2/" ? undefined : new Promise<Response>(() => undefined));
    const asked = registry.requests.length;
    const first = { ...options, firstAnswer: 50, firstByte: 20_000 };
    const refused = await failure(pull(`${registry.host}/test:other`, first));
    expect([refused.connection, refused.message]).toEqual([
      "unreachable",
      expect.stringContaining("no answer within 50 ms"),
    ]);
    expect(registry.requests.length - asked).toBe(1);
  }));

test.each(["127.0.0.1:1", "registry.invalid"])("%s is unreachable", async (host) => {
  const { options } = freshStore({ retry: { busy: 0, server: 0, transport: 0, delay: 1, total: 1000 } });
  expect((await failure(pull(`${host}/test`, options))).connection).toBe("unreachable");
});

test("redirects lose the authorization at another origin and keep it at the same", () =>
  withRegistry(async (registry) => {
    await using other = startRegistry();
    other.add(image);
    registry.intercept = ({ path, authorization }) => {
      if (path === "/v2/") return undefined;
      if (authorization === null)
        return new Response("", { status: 401, headers: { "www-authenticate": "Basic realm=x" } });
      if (path.startsWith("/v2/test/blobs/"))
        return new Response(null, { status: 307, headers: { location: `/same${path}` } });
      return path.startsWith("/same/")
        ? new Response(null, { status: 302, headers: { location: `${other.url}${path.slice(5)}` } })
        : undefined;
    };
    const credentials = async () => ({ kind: "password", username: "bob", password: "secret" }) as const;
    expect((await get(registry, { credentials }).done).changed).toBe(true);
    const same = registry.requests.filter(({ path }) => path.startsWith("/same/"));
    expect(same.length).toBeGreaterThan(0);
    expect(same.every(({ authorization }) => authorization !== null)).toBe(true);
    expect(other.requests.length).toBe(3);
    expect(other.requests.every(({ authorization }) => authorization === null)).toBe(true);
  }));

test("proxies are used for others' registries, with NO_PROXY, and never for this machine's", () =>
  withRegistry(async (registry) => {
    const asked: string[] = [];
    const proxy = createProxy((incoming, outgoing) => {
      const url = new URL(incoming.url ?? "");
      asked.push(url.host);
      const { port } = new URL(registry.url);
      const onward = {
        host: "127.0.0.1",
        port,
        path: url.pathname,
        method: incoming.method,
        headers: incoming.headers,
      };
      request(onward, (answer) => {
        outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
        answer.pipe(outgoing);
      }).end();
    });
    proxy.on("connect", (_, socket) => socket.end("HTTP/1.1 403 Forbidden\r\n\r\n"));
    await new Promise<void>((resolve) => void proxy.listen(0, "127.0.0.1", resolve));
    const { dir: place, options } = freshStore();
    const conf = join(place, "registries.conf");
    writeFileSync(conf, '[[registry]]\nlocation = "far.test:5000"\ninsecure = true\n');
    const address = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
    const child = new URL("./helpers/pull-child.ts", import.meta.url).pathname;
    const pullThrough = async (name: string, more: Record<string, string> = {}): Promise<string> => {
      const env = {
        PATH: process.env["PATH"] ?? "",
        HTTP_PROXY: address,
        HTTPS_PROXY: address,
        CONTAINERS_REGISTRIES_CONF: conf,
        ...more,
      };
      const pulling = Bun.spawn([process.execPath, child, options.store.root, name], {
        env,
        stdout: "pipe",
        stderr: "pipe",
      });
      return (await new Response(pulling.stdout).text()) + (await new Response(pulling.stderr).text());
    };
    expect(await pullThrough("far.test:5000/test")).toContain("pulled sha256:");
    expect(new Set(asked)).toEqual(new Set(["far.test:5000"]));
    asked.length = 0;
    expect(await pullThrough("far.test:5000/test:2", { NO_PROXY: "far.test" })).toContain(
      "far.test:5000: no such host (no network?)",
    );
    expect(await pullThrough(`${registry.host}/test`)).toContain("pulled sha256:");
    expect(asked).toEqual([]);
    proxy.close();
  }));

test("a mirror is asked first, and the registry when the mirror lacks the image", () =>
  withRegistry(async (registry) => {
    await using mirror = startRegistry();
    const rule = {
      prefix: "example.com/ns",
      location: registry.host,
      insecure: false,
      blocked: false,
      mirrors: [{ location: mirror.host, insecure: false, pull: "all" }],
    } as const;
    const store = freshStore({ registries: [rule] });
    await pull("example.com/ns/test", store.options);
    expect(mirror.requests.some(({ path }) => path.includes("manifests"))).toBe(true);
    expect(readImages(store.options.store)[0]?.name).toBe("example.com/ns/test:latest");
    mirror.add(image);
    const other = freshStore({ registries: [rule] });
    const asked = registry.requests.length;
    await pull("example.com/ns/test", other.options);
    expect(registry.requests.length).toBe(asked);
  }));

test("an index gives the host's platform; nested ones are followed; loops are refused", () =>
  withRegistry(async (registry) => {
    const arch = process.arch === "arm64" ? "arm64" : "amd64";
    const other = imageOf([layer], { Cmd: ["s390x"] }, { arch: "s390x" });
    const entry = (made: typeof image, platform: object) => ({
      mediaType: made.mediaType,
      digest: made.manifest.digest,
      size: made.manifest.bytes.byteLength,
      platform,
    });
    const putIndex = (tag: string, manifests: object[]) => {
      const blob = blobOf(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests }));
      for (const key of [tag, blob.digest])
        registry.content.set(`manifests/${key}`, { bytes: blob.bytes, mediaType: MEDIA.ociIndex });
      return { mediaType: MEDIA.ociIndex, digest: blob.digest, size: blob.bytes.byteLength };
    };
    registry.add(other, "other");
    registry.add(image, "own");
    const attestation = entry(other, { os: "unknown", architecture: "unknown" });
    const inner = putIndex("inner", [
      attestation,
      entry(other, { os: "linux", architecture: "s390x" }),
      entry(image, { os: "linux", architecture: arch }),
    ]);
    putIndex("outer", [inner]);
    const { options, done } = get(registry, {}, ":outer");
    expect((await done).image.config.config.Cmd).toEqual(["sh"]);
    const { image: chosen } = await pull(`${registry.host}/test:outer`, {
      ...options,
      platform: parsePlatform("linux/s390x"),
    });
    expect(chosen.config.config.Cmd).toEqual(["s390x"]);
    expect(
      (await failure(pull(`${registry.host}/test:outer`, { ...options, platform: parsePlatform("linux/riscv64") })))
        .hint,
    ).toContain("linux/s390x");
    expect((await failure(pull(`${registry.host}/test:other`, options))).message).toContain("is for linux/s390x");
    let deep = putIndex("d0", []);
    for (let i = 1; i < 7; i++) deep = putIndex(`d${i}`, [deep]);
    expect((await failure(pull(`${registry.host}/test:d6`, options))).message).toContain("nested deeper");
  }));

test("a digest names the image whatever the tag", () =>
  withRegistry(async (registry) => {
    const { options, done } = get(registry, {}, `:ignored@${image.manifest.digest}`);
    await done;
    expect(registry.requests.some(({ path }) => path.endsWith(`manifests/${image.manifest.digest}`))).toBe(true);
    registry.requests.length = 0;
    await pull(`${registry.host}/test@${image.manifest.digest}`, { ...options, policy: "always" });
    expect(registry.requests).toEqual([]);
    registry.content.set(`manifests/${image.manifest.digest}`, {
      bytes: imageOf([layer]).manifest.bytes,
      mediaType: image.mediaType,
    });
    expect((await failure(get(registry, {}, `@${image.manifest.digest}`).done)).message).toContain("has digest");
  }));

test("a failed layer leaves what was whole, and nothing half", () =>
  withRegistry(async (registry) => {
    const bad = layerOf(tar({ name: "x", type: "?" }));
    registry.add(imageOf([layer, bad]));
    const { options, done } = get(registry);
    expect((await failure(done)).message).toContain("unknown entry type");
    expect(readdirSync(options.store.layers).length).toBe(1);
    expect(existsSync(join(options.store.layers, layer.diffId.slice(7), "diff/etc/motd"))).toBe(true);
    expect(JSON.parse(readFileSync(join(options.store.images, "index.json"), "utf8")).manifests).toEqual([]);
  }));
