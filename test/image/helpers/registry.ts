/** A registry of our own that can misbehave: every answer may be replaced. Bun.serve on 127.0.0.1. */

import type { ImageMade } from "./layout.ts";

export type FakeRequest = {
  readonly method: string;
  readonly path: string;
  readonly authorization: string | null;
  readonly range: string | null;
  readonly headers: Headers;
};

type Content = { readonly bytes: Uint8Array; readonly mediaType: string };

export type FakeRegistry = AsyncDisposable & {
  /** `127.0.0.1:PORT` */
  readonly host: string;
  readonly url: string;
  readonly requests: FakeRequest[];
  /** Content by path below /v2/NAME/, for example `manifests/latest`. */
  readonly content: Map<string, Content>;
  /** Serve an image under a tag of repository `test`. */
  readonly add: (image: ImageMade, tag?: string) => void;
  /** Answers before all else; undefined lets the usual answer through. */
  intercept: (request: FakeRequest, url: URL) => Response | undefined | Promise<Response | undefined>;
};

export function startRegistry(tls?: { readonly cert: string; readonly key: string }): FakeRegistry {
  const requests: FakeRequest[] = [];
  const content = new Map<string, Content>();
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    ...(tls === undefined ? {} : { tls }),
    async fetch(request) {
      const url = new URL(request.url);
      const seen: FakeRequest = {
        method: request.method,
        path: url.pathname,
        authorization: request.headers.get("authorization"),
        range: request.headers.get("range"),
        headers: request.headers,
      };
      requests.push(seen);
      return (await registry.intercept(seen, url)) ?? answer(seen);
    },
  });
  const host = `127.0.0.1:${server.port}`;

  function answer({ method, path, range }: FakeRequest): Response {
    if (path === "/v2/") return new Response("{}");
    const found = content.get(path.replace(/^\/v2\/test\//, ""));
    if (found === undefined) {
      return Response.json({ errors: [{ code: "MANIFEST_UNKNOWN", message: "manifest unknown" }] }, { status: 404 });
    }
    const { bytes, mediaType } = found;
    const digest = `sha256:${new Bun.CryptoHasher("sha256").update(bytes).digest("hex")}`;
    const headers: Record<string, string> = { "content-type": mediaType, "docker-content-digest": digest };
    if (method === "HEAD")
      return new Response(null, { headers: { ...headers, "content-length": String(bytes.byteLength) } });
    const start = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? -1);
    if (start < 0) return new Response(bytes, { headers });
    if (start >= bytes.byteLength)
      return new Response(null, { status: 416, headers: { "content-range": `bytes */${bytes.byteLength}` } });
    const range206 = `bytes ${start}-${bytes.byteLength - 1}/${bytes.byteLength}`;
    return new Response(bytes.subarray(start), { status: 206, headers: { ...headers, "content-range": range206 } });
  }

  const registry: FakeRegistry = {
    host,
    url: server.url.origin,
    requests,
    content,
    add: (image, tag = "latest") => {
      const manifest = { bytes: image.manifest.bytes, mediaType: image.mediaType };
      content.set(`manifests/${tag}`, manifest);
      content.set(`manifests/${image.manifest.digest}`, manifest);
      for (const { digest, bytes } of image.blobs)
        content.set(`blobs/${digest}`, { bytes, mediaType: "application/octet-stream" });
    },
    intercept: () => undefined,
    [Symbol.asyncDispose]: () => server.stop(true),
  };
  return registry;
}
