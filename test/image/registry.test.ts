/** The registry client against a registry that misbehaves in every way we could think of. */

import { afterAll, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { digestOf } from "../../src/image/digest.ts";
import { MEDIA } from "../../src/image/manifest.ts";
import { readImages } from "../../src/image/image-index.ts";
import { pull, type PullOptions } from "../../src/image/pull.ts";
import type { RegistryError } from "../../src/image/registry-error.ts";
import { parsePlatform } from "../../src/image/platform.ts";
import { blobOf, imageOf, layerOf } from "./helpers/layout.ts";
import { type FakeRegistry, startRegistry } from "./helpers/registry.ts";
import { removeScratch } from "./helpers/stack.ts";
import { freshStore } from "./helpers/stores.ts";
import { dir, file, tar } from "./tar-maker.ts";

afterAll(removeScratch);

const layer = layerOf(tar(dir("etc"), file("etc/motd", "hello ".repeat(5000))), "none");
const image = imageOf([layer, layerOf(tar(file("x")))], { Cmd: ["sh"] });
const layerBlob = `/v2/test/blobs/${layer.blob.digest}`;

async function failure(promise: Promise<unknown>): Promise<RegistryError> {
  try {
    await promise;
  } catch (error) {
    return error as RegistryError;
  }
  throw new Error("it should have failed");
}

async function withRegistry<T>(work: (registry: FakeRegistry) => Promise<T>): Promise<T> {
  await using registry = startRegistry();
  registry.add(image);
  return await work(registry);
}

const get = (registry: FakeRegistry, more: Partial<PullOptions> = {}, tag = "") => {
  const store = freshStore(more);
  return { ...store, done: pull(`${registry.host}/test${tag}`, store.options) };
};

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

const answers: Readonly<
  Record<string, { answer: (registry: FakeRegistry) => void; message: RegExp; status?: number }>
> = {
  "404 with the registry's own words": {
    answer: (r) => r.content.clear(),
    message: /manifest latest: 404.*MANIFEST_UNKNOWN: manifest unknown/,
    status: 404,
  },
  "429 without end": {
    answer: (r) =>
      (r.intercept = (q) =>
        q.path.includes("manifests")
          ? new Response("slow down", { status: 429, headers: { "retry-after": "0" } })
          : undefined),
    message: /429/,
    status: 429,
  },
  "500 without end": {
    answer: (r) =>
      (r.intercept = (q) => (q.path.includes("manifests") ? new Response("", { status: 500 }) : undefined)),
    message: /500/,
    status: 500,
  },
  "401 without a challenge": {
    answer: (r) => (r.intercept = (q) => (q.path === "/v2/" ? undefined : new Response("", { status: 401 }))),
    message: /401/,
    status: 401,
  },
  "manifest of another digest than its header": {
    answer: (r) =>
      (r.intercept = (q) =>
        q.path.includes("manifests")
          ? new Response(image.manifest.bytes, {
              headers: { "content-type": image.mediaType, "docker-content-digest": digestOf("x") },
            })
          : undefined),
    message: /has digest/,
  },
  "manifest that calls itself an index": {
    answer: (r) => r.content.set("manifests/latest", { bytes: image.manifest.bytes, mediaType: MEDIA.ociIndex }),
    message: /calls itself/,
  },
  "manifest that is both": {
    answer: (r) =>
      r.content.set("manifests/latest", {
        bytes: new TextEncoder().encode(
          JSON.stringify({ ...JSON.parse(new TextDecoder().decode(image.manifest.bytes)), manifests: [] }),
        ),
        mediaType: image.mediaType,
      }),
    message: /ambiguous/,
  },
  "schema 1": {
    answer: (r) =>
      r.content.set("manifests/latest", {
        bytes: new TextEncoder().encode('{"schemaVersion":1,"fsLayers":[]}'),
        mediaType: "application/vnd.docker.distribution.manifest.v1+prettyjws",
      }),
    message: /schema 1/,
  },
  "manifest that is not JSON": {
    answer: (r) =>
      r.content.set("manifests/latest", { bytes: new TextEncoder().encode("<html>"), mediaType: image.mediaType }),
    message: /not JSON/,
  },
  "manifest nested a hundred thousand deep": {
    answer: (r) =>
      r.content.set("manifests/latest", {
        bytes: new TextEncoder().encode("[".repeat(100_000)),
        mediaType: image.mediaType,
      }),
    message: /not JSON|must be an object/,
  },
  "manifest of five megabytes": {
    answer: (r) =>
      r.content.set("manifests/latest", {
        bytes: new TextEncoder().encode(`{"x":"${"y".repeat(5 * 1024 * 1024)}"}`),
        mediaType: image.mediaType,
      }),
    message: /larger than/,
  },
  "an artifact": { answer: (r) => r.add(withConfigType("application/vnd.oci.empty.v1+json")), message: /artifact/ },
  "layers of an unknown type": {
    answer: (r) => r.add(withLayerType("application/vnd.oci.image.layer.v1.tar+gzip+encrypted")),
    message: /unsupported type/,
  },
  "wrong content of a layer": {
    answer: (r) => r.content.set(`blobs/${layer.blob.digest}`, { bytes: layer.blob.bytes.toReversed(), mediaType: "" }),
    message: /came with digest/,
  },
  "short layer": {
    answer: (r) =>
      r.content.set(`blobs/${layer.blob.digest}`, { bytes: layer.blob.bytes.subarray(100), mediaType: "" }),
    message: /ended after|came with digest/,
  },
  "long layer": {
    answer: (r) =>
      r.content.set(`blobs/${layer.blob.digest}`, { bytes: new Uint8Array([...layer.blob.bytes, 1]), mediaType: "" }),
    message: /longer than/,
  },
  "wrong config": {
    answer: (r) =>
      r.content.set(`blobs/${image.config.digest}`, { bytes: image.config.bytes.toReversed(), mediaType: "" }),
    message: /digest/,
  },
  "wrong DiffID": {
    answer: (r) => r.add(imageOf([{ ...layer, diffId: digestOf("other") }])),
    message: /the config says/,
  },
  "fewer diff_ids than layers": { answer: (r) => r.add(withDiffIds([])), message: /lists 0/ },
  "negative size": { answer: (r) => r.add(withSize(-1)), message: /size: must be/ },
  "size beyond numbers": { answer: (r) => r.add(withSize(2 ** 60)), message: /size: must be/ },
  "redirect without end": {
    answer: (r) =>
      (r.intercept = (q) =>
        q.path.includes("manifests") ? new Response(null, { status: 307, headers: { location: q.path } }) : undefined),
    message: /redirects/,
  },
  "redirect to a file": {
    answer: (r) =>
      (r.intercept = (q) =>
        q.path.includes("manifests")
          ? new Response(null, { status: 307, headers: { location: "file:///etc/passwd" } })
          : undefined),
    message: /redirect to/,
  },
  "redirect to plain http elsewhere": {
    answer: (r) =>
      (r.intercept = (q) =>
        q.path.includes("manifests")
          ? new Response(null, { status: 307, headers: { location: "http://192.0.2.1/x" } })
          : undefined),
    message: /plain http is not allowed/,
  },
  "token server in plain text elsewhere": {
    answer: (r) =>
      (r.intercept = (q) =>
        q.path.includes("manifests")
          ? new Response("", { status: 401, headers: { "www-authenticate": 'Bearer realm="http://192.0.2.1/token"' } })
          : undefined),
    message: /plain http is not allowed/,
  },
};

function change(edit: (manifest: Readonly<Record<string, unknown>>) => unknown) {
  const manifest = blobOf(JSON.stringify(edit(JSON.parse(new TextDecoder().decode(image.manifest.bytes)))));
  return { ...image, manifest, blobs: [...image.blobs, manifest] };
}
const withConfigType = (mediaType: string) =>
  change((m) => ({ ...m, config: { ...(m["config"] as object), mediaType } }));
const withLayerType = (mediaType: string) =>
  change((m) => ({ ...m, layers: (m["layers"] as object[]).map((one) => ({ ...one, mediaType })) }));
const withSize = (size: number) =>
  change((m) => ({ ...m, layers: (m["layers"] as object[]).map((one) => ({ ...one, size })) }));
function withDiffIds(diffIds: string[]) {
  const config = blobOf(
    JSON.stringify({
      ...JSON.parse(new TextDecoder().decode(image.config.bytes)),
      rootfs: { type: "layers", diff_ids: diffIds },
    }),
  );
  const changed = change((m) => ({
    ...m,
    config: { mediaType: MEDIA.ociConfig, digest: config.digest, size: config.bytes.byteLength },
  }));
  return { ...changed, config, blobs: [...changed.blobs, config] };
}

test.each(Object.keys(answers))("refuses: %s", async (name) => {
  const { answer, message, status } = answers[name] ?? { answer: () => undefined, message: /^$/ };
  await withRegistry(async (registry) => {
    answer(registry);
    const { options, done } = get(registry);
    const error = await failure(done);
    expect(error.message).toMatch(message);
    if (status !== undefined) expect(error.status).toBe(status);
    expect(error.unreachable ?? false).toBe(name === "short layer");
    expect(readImages(options.store)).toEqual([]);
    expect(readdirSync(options.store.tmp)).toEqual([]);
  });
});

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
    const cut = createServer((socket) => {
      socket.once("data", () =>
        socket.end(new Uint8Array([...new TextEncoder().encode(head), ...bytes.subarray(0, 10_000)])),
      );
    });
    await new Promise<void>((resolve) => void cut.listen(0, "127.0.0.1", resolve));
    let breaks = 1;
    const location = `http://127.0.0.1:${(cut.address() as AddressInfo).port}/cut`;
    registry.intercept = ({ path }) =>
      path === layerBlob && breaks-- > 0 ? new Response(null, { status: 307, headers: { location } }) : undefined;
    expect((await get(registry).done).changed).toBe(true);
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
    const quick = { firstByte: 60, rememberFor: 60_000, retry: { busy: 0, server: 0, transport: 0, delay: 1 } };
    const { options, done } = get(registry, quick);
    const error = await failure(done);
    expect([error.unreachable, error.message]).toEqual([true, expect.stringContaining("no answer within 60 ms")]);
    const asked = registry.requests.length;
    const again = await failure(pull(`${registry.host}/test`, options));
    expect([again.unreachable, again.message]).toEqual([true, expect.stringContaining("gave no answer")]);
    expect(registry.requests.length).toBe(asked);
  }));

test.each(["127.0.0.1:1", "registry.invalid"])("%s is unreachable", async (host) => {
  const { options } = freshStore({ retry: { busy: 0, server: 0, transport: 0, delay: 1 } });
  expect((await failure(pull(`${host}/test`, options))).unreachable).toBe(true);
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

test("a mirror is asked first, and the registry when the mirror lacks the image", () =>
  withRegistry(async (registry) => {
    await using mirror = startRegistry();
    const rule = {
      prefix: "example.com/ns",
      location: `${registry.host}`,
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
