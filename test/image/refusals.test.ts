/** What a registry must not answer: each is refused in words, and the store is as it was. */

import { afterAll, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { digestOf } from "../../src/image/digest.ts";
import { readImages } from "../../src/image/image-index.ts";
import { MEDIA } from "../../src/image/manifest.ts";
import { failure } from "./helpers/failure.ts";
import { blobOf, imageOf } from "./helpers/layout.ts";
import { get, image, layer, withRegistry } from "./helpers/pulling.ts";
import type { FakeRegistry } from "./helpers/registry.ts";
import { removeScratch } from "./helpers/stack.ts";

afterAll(removeScratch);

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
    expect(error.connection).not.toBe("unreachable"); // it has answered
    expect(readImages(options.store)).toEqual([]);
    expect(readdirSync(options.store.tmp)).toEqual([]);
  });
});
