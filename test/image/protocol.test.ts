/** The pure parts of talking to registries: challenges, tokens, retries, platforms, manifests, configuration files. */

import { expect, test } from "bun:test";
import fc from "fast-check";
import { parseToken } from "../../src/image/auth.ts";
import { bestChallenge, parseChallenges } from "../../src/image/challenge.ts";
import { authFiles, credentialKeys, parseAuthFile } from "../../src/image/credentials.ts";
import { chainIds, digestFault, digestOf } from "../../src/image/digest.ts";
import { connectionError, isLoopback, parseRetryAfter } from "../../src/image/http.ts";
import { isLayerType, MEDIA, parseManifest } from "../../src/image/manifest.ts";
import {
  acceptedPlatforms,
  choosePlatform,
  formatPlatform,
  normalizePlatform,
  parsePlatform,
} from "../../src/image/platform.ts";
import { parseReference, type RegistryReference } from "../../src/image/reference.ts";
import { endpointsFor, parseRegistries } from "../../src/image/registries.ts";
import { formatRegistryErrors } from "../../src/image/registry-error.ts";

const encode = (value: unknown): Uint8Array =>
  new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value));

test.each([
  [
    'Bearer realm="https://a/t",service="r",scope="repository:x:pull,push"',
    [{ scheme: "bearer", parameters: { realm: "https://a/t", service: "r", scope: "repository:x:pull,push" } }],
  ],
  [
    'bearer scope="a \\"b\\" \\\\", REALM=token',
    [{ scheme: "bearer", parameters: { scope: 'a "b" \\', realm: "token" } }],
  ],
  [
    'Basic realm="x", Bearer realm="y"',
    [
      { scheme: "basic", parameters: { realm: "x" } },
      { scheme: "bearer", parameters: { realm: "y" } },
    ],
  ],
  [
    "Negotiate, Basic realm = z",
    [
      { scheme: "negotiate", parameters: {} },
      { scheme: "basic", parameters: { realm: "z" } },
    ],
  ],
  ["", []],
  [',, Bearer realm="unterminated', [{ scheme: "bearer", parameters: {} }]],
] as const)("challenge %j", (header, expected) => {
  expect(parseChallenges(header)).toEqual(expected as never);
});

test("challenges never throw or hang; bearer with a realm goes first", () => {
  fc.assert(fc.property(fc.string(), (text) => Array.isArray(parseChallenges(text))));
  expect(bestChallenge(parseChallenges('Basic realm="x", Bearer realm="y"'))?.scheme).toBe("bearer");
  expect(bestChallenge(parseChallenges("Bearer, Basic"))?.scheme).toBe("basic");
  expect(bestChallenge(parseChallenges("Negotiate"))).toBeUndefined();
});

test("tokens: either name, at least a minute, no header injection", () => {
  expect(parseToken(encode({ token: "t", expires_in: 300 }), "h", 0)).toEqual({ header: "Bearer t", expires: 270_000 });
  expect(parseToken(encode({ access_token: "u" }), "h", 0)).toEqual({ header: "Bearer u", expires: 54_000 });
  expect(() => parseToken(encode({ token: "a\r\nX: y" }), "h", 0)).toThrow("without a token");
  expect(() => parseToken(encode({}), "h", 0)).toThrow("without a token");
});

test.each([
  ["3", 3000],
  ["600", 60_000],
  ["Thu, 01 Jan 1970 00:00:10 GMT", 9000],
  ["Thu, 01 Jan 1970 00:00:00 GMT", 0],
  ["soon", undefined],
  [null, undefined],
] as const)("Retry-After %j", (value, expected) => {
  expect(parseRetryAfter(value, 1000)).toBe(expected);
});

test.each(["localhost", "127.0.0.1", "127.9.9.9", "[::1]", "a.localhost"])("%s is loopback", (host) =>
  expect(isLoopback(host)).toBe(true),
);
test.each(["128.0.0.1", "127.0.0.1.example.com", "localhost.example.com", "10.0.0.1"])("%s is not loopback", (host) =>
  expect(isLoopback(host)).toBe(false),
);

test("registry errors are shown as code: message, without control characters", () => {
  expect(formatRegistryErrors('{"errors":[{"code":"DENIED","message":"no\\u001b[2J"},{"code":"X"}]}')).toBe(
    "DENIED: no [2J; X",
  );
  expect(formatRegistryErrors("<html>")).toBe("");
  expect(formatRegistryErrors('{"errors":{}}')).toBe("");
});

test.each([
  ["linux/amd64", "linux/amd64"],
  ["Linux/x86_64", "linux/amd64"],
  ["aarch64", "linux/arm64"],
  ["linux/arm64/v8", "linux/arm64"],
  ["linux/arm", "linux/arm/v7"],
  ["linux/armhf", "linux/arm/v7"],
  ["linux/armel", "linux/arm/v6"],
  ["linux/arm/6", "linux/arm/v6"],
  ["linux/i386", "linux/386"],
  ["linux/amd64/v1", "linux/amd64"],
  ["linux/amd64/v3", "linux/amd64/v3"],
  ["macos/arm64", "darwin/arm64"],
])("platform %s", (text, expected) => {
  const platform = parsePlatform(text);
  expect(formatPlatform(platform)).toBe(expected);
  expect(normalizePlatform(platform)).toEqual(platform);
});
test.each(["", "a/b/c/d", "linux/", "linux/am d64"])("platform %j is refused", (text) =>
  expect(() => parsePlatform(text)).toThrow("invalid platform"),
);

test("the best accepted platform wins, the first of equals, never an attestation", () => {
  const platforms = ["linux/386", "linux/amd64/v2", "linux/amd64", "linux/amd64", "linux/arm64"].map(parsePlatform);
  expect(choosePlatform(platforms, acceptedPlatforms(parsePlatform("linux/amd64")))).toBe(2);
  expect(choosePlatform(platforms, acceptedPlatforms(parsePlatform("linux/amd64/v3")))).toBe(1);
  expect(choosePlatform(platforms.slice(0, 2), acceptedPlatforms(parsePlatform("linux/amd64")))).toBe(0);
  expect(choosePlatform(platforms, acceptedPlatforms(parsePlatform("linux/amd64/v4"), true))).toBeUndefined();
  expect(
    choosePlatform([parsePlatform("unknown/unknown"), undefined], acceptedPlatforms(parsePlatform("linux/amd64"))),
  ).toBeUndefined();
  expect(
    choosePlatform(
      [{ os: "linux", architecture: "amd64", osFeatures: ["x"] }],
      acceptedPlatforms(parsePlatform("linux/amd64")),
    ),
  ).toBeUndefined();
  expect(acceptedPlatforms(parsePlatform("linux/arm64")).map(formatPlatform)).toEqual([
    "linux/arm64",
    "linux/arm/v8",
    "linux/arm/v7",
    "linux/arm/v6",
    "linux/arm/v5",
  ]);
});

const digest = digestOf("x");
const descriptor = { mediaType: MEDIA.ociConfig, digest, size: 1 };
const manifest = { schemaVersion: 2, config: descriptor, layers: [] };
const index = { schemaVersion: 2, manifests: [] };

/** Body, Content-Type, kind or what is wrong. After image-spec's schema tests and CVE-2021-41190. */
const manifests: readonly (readonly [string, unknown, string | undefined, string | RegExp])[] = [
  ["manifest without mediaType", manifest, MEDIA.ociManifest, "manifest"],
  ["parameters of the type", manifest, `${MEDIA.ociManifest}; charset=utf-8`, "manifest"],
  ["untyped manifest", manifest, "application/json", "manifest"],
  ["untyped index", index, undefined, "index"],
  ["docker list", { ...index, mediaType: MEDIA.dockerList }, MEDIA.dockerList, "index"],
  ["type of the other kind", { ...manifest, mediaType: MEDIA.ociManifest }, MEDIA.ociIndex, /calls itself/],
  ["index with layers", { ...index, layers: [] }, MEDIA.ociIndex, /ambiguous/],
  ["manifest with manifests", { ...manifest, manifests: [] }, MEDIA.ociManifest, /ambiguous/],
  ["schema 1", { schemaVersion: 1, fsLayers: [] }, undefined, /schema 1/],
  ["schemaVersion missing", { config: descriptor, layers: [] }, MEDIA.ociManifest, /schemaVersion/],
  ["layers missing", { schemaVersion: 2, config: descriptor }, MEDIA.ociManifest, /layers: is missing/],
  ["config missing", { schemaVersion: 2, layers: [] }, MEDIA.ociManifest, /config: must be an object/],
  ["size a string", { ...manifest, config: { ...descriptor, size: "1" } }, MEDIA.ociManifest, /size/],
  ["size negative", { ...manifest, config: { ...descriptor, size: -1 } }, MEDIA.ociManifest, /size/],
  ["size a fraction", { ...manifest, config: { ...descriptor, size: 1.5 } }, MEDIA.ociManifest, /size/],
  [
    "digest upward",
    { ...manifest, config: { ...descriptor, digest: "sha256:../../../../etc/passwd" } },
    MEDIA.ociManifest,
    /invalid digest/,
  ],
  [
    "digest md5",
    { ...manifest, config: { ...descriptor, digest: `md5:${"a".repeat(32)}` } },
    MEDIA.ociManifest,
    /unsupported/,
  ],
  ["manifests null entry", { ...index, manifests: [null] }, MEDIA.ociIndex, /must be an object/],
  ["another type", { schemaVersion: 2, mediaType: "text/plain" }, "text/plain", /neither/],
  ["a number", 3, MEDIA.ociIndex, /must be an object/],
];
test.each(manifests)("manifest: %s", (_, body, type, expected) => {
  if (typeof expected === "string") expect(parseManifest(encode(body), type, "m").kind).toBe(expected as "index");
  else expect(() => parseManifest(encode(body), type, "m")).toThrow(expected);
});

test("layer types", () => {
  for (const type of [
    MEDIA.ociLayer,
    `${MEDIA.ociLayer}+gzip`,
    `${MEDIA.ociLayer}+zstd`,
    MEDIA.dockerLayer,
    `${MEDIA.dockerLayer}.gzip`,
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
  ])
    expect([type, isLayerType(type)]).toEqual([type, true]);
  for (const type of [
    "",
    `${MEDIA.ociLayer}+gzip+encrypted`,
    "application/vnd.erofs",
    "application/vnd.in-toto+json",
    `x${MEDIA.ociLayer}`,
  ])
    expect([type, isLayerType(type)]).toEqual([type, false]);
});

test("digests and chains", () => {
  expect(digestFault(digest)).toBeUndefined();
  for (const bad of [
    "",
    "sha256:",
    `sha256:${"g".repeat(64)}`,
    `sha256:${"a".repeat(63)}`,
    "../x",
    `sha256:${"A".repeat(64)}`,
  ])
    expect(digestFault(bad)).toBeDefined();
  const [a, b] = [digestOf("a"), digestOf("b")];
  expect(chainIds([a, b])).toEqual([a, digestOf(`${a} ${b}`)]);
  expect(chainIds([])).toEqual([]);
});

const registries = parseRegistries(
  `unqualified-search-registries = ["docker.io"]
[[registry]]
prefix = "example.com/foo"
location = "internal.test/bar"
[[registry.mirror]]
location = "mirror.test:5000/m"
insecure = true
[[registry.mirror]]
location = "tags.test/m"
pull-from-mirror = "tag-only"
[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "hub.test"
[[registry]]
prefix = "*.wild.test"
blocked = true
[[registry]]
location = "insecure.test:5000"
insecure = true
`,
  "registries.conf",
);
const places = (name: string): string[] =>
  endpointsFor(parseReference(name) as RegistryReference, registries).map(
    ({ host, path, insecure }) => `${host} ${path}${insecure ? " insecure" : ""}`,
  );

test("registries.conf: longest prefix, mirrors first, rewriting, blocked, insecure", () => {
  expect(places("example.com/foo/x")).toEqual([
    "mirror.test:5000 m/x insecure",
    "tags.test m/x",
    "internal.test bar/x",
  ]);
  expect(places(`example.com/foo/x@${digest}`)).toEqual(["mirror.test:5000 m/x insecure", "internal.test bar/x"]);
  expect(places("example.com/foobar/x")).toEqual(["example.com foobar/x"]);
  expect(places("alpine")).toEqual(["hub.test library/alpine", "registry-1.docker.io library/alpine"]);
  expect(places("insecure.test:5000/x")).toEqual(["insecure.test:5000 x insecure"]);
  expect(() => places("a.wild.test/x")).toThrow("blocked");
  expect(places("wild.test/x")).toEqual(["wild.test x"]);
});
test.each([
  ["[[registry]]\n", /neither prefix/],
  ["[[registry]]\nlocation = 3\n", /must be a string/],
  ["x = [", /c:/],
  ["[registries.search]\n", /version 1/],
  ["[[registry]]\nlocation='a'\ninsecure='yes'\n", /true or false/],
] as const)("registries.conf %j is refused", (text, message) => {
  expect(() => parseRegistries(text, "c")).toThrow(message);
});

const auth = (text: string): string => Buffer.from(text).toString("base64");
test("credential files: docker's keys, tokens, helpers", () => {
  const file = parseAuthFile(
    JSON.stringify({
      auths: {
        "https://index.docker.io/v1/": { auth: auth("hub:pw:with:colons") },
        "quay.io/ns": { auth: auth("ns:x\0\0") },
        "token.test": { identitytoken: "refresh" },
        "bearer.test": { registrytoken: "tok" },
        "empty.test": {},
      },
      credHelpers: { "gcr.io": "gcloud" },
      credsStore: "pass",
    }),
    "config.json",
  );
  expect(Object.fromEntries(file.entries)).toEqual({
    "docker.io": { kind: "password", username: "hub", password: "pw:with:colons" },
    "quay.io/ns": { kind: "password", username: "ns", password: "x" },
    "token.test": { kind: "identity", token: "refresh" },
    "bearer.test": { kind: "registry", token: "tok" },
  });
  expect([...file.helpers, file.store]).toEqual([["gcr.io", "gcloud"], "pass"]);
  expect(credentialKeys("quay.io", "ns/x")).toEqual(["quay.io/ns/x", "quay.io/ns", "quay.io"]);
  expect(credentialKeys("registry-1.docker.io", "library/x").at(-1)).toBe("docker.io");
  expect(() => parseAuthFile('{"auths":{"x":{"auth":c2VjcmV0}}}', "f")).toThrow(/^f: not JSON$/);
  expect(() => parseAuthFile('{"auths":{"x":{"auth":"bm8="}}}', "f")).toThrow("not base64 of user:password");
  expect(parseAuthFile(JSON.stringify({ "old.test": { auth: auth("a:b") } }), "/h/.dockercfg").entries.size).toBe(1);
});

test("credential files in their order", () => {
  expect(authFiles({ HOME: "/h" }, 5)).toEqual([
    "/run/containers/5/auth.json",
    "/h/.config/containers/auth.json",
    "/h/.docker/config.json",
    "/h/.dockercfg",
  ]);
  expect(authFiles({ XDG_RUNTIME_DIR: "/r", XDG_CONFIG_HOME: "/c", DOCKER_CONFIG: "/d" }, 5)).toEqual([
    "/r/containers/auth.json",
    "/c/containers/auth.json",
    "/d/config.json",
  ]);
  expect(authFiles({ REGISTRY_AUTH_FILE: "/a", HOME: "/h" }, 5)).toEqual(["/a"]);
  // Of nothing, and of the working directory.
  const nowhere = { XDG_RUNTIME_DIR: "", XDG_CONFIG_HOME: "", DOCKER_CONFIG: "here", HOME: "." };
  expect(authFiles(nowhere, 5)).toEqual(["/run/containers/5/auth.json"]);
});

test.each([
  [
    { code: "ENOTFOUND", hostname: "far.test", message: "getaddrinfo ENOTFOUND far.test" },
    "no such host (no network?)",
  ],
  [{ code: "EAI_AGAIN", hostname: "far.test", message: "x" }, "no name server answers (no network?)"],
  [{ code: "ECONNREFUSED", message: "ECONNREFUSED: Unable to connect." }, "connection refused"],
  [{ code: "ENETUNREACH", message: "x" }, "no route to it (no network?)"],
  [{ code: "EHOSTUNREACH", message: "x" }, "no route to it (no network?)"],
  [{ code: "EADDRNOTAVAIL", message: "x" }, "no address of this machine's to ask it from (no network?)"],
  [{ code: "ENOTFOUND", hostname: "proxy.test", message: "x" }, "proxy proxy.test: no such host (no network?)"],
])("no connection, plainly: %o", (cause, message) => {
  const error = connectionError(new URL("https://far.test:5000/v2/"), cause);
  expect(error).toMatchObject({ message: `far.test:5000: ${message}`, connection: "unreachable", cause });
  expect(error.hint).toContain("runs without a network");
});

test("other failures of a connection keep their own words, have no hint, and are not that nobody is there", () => {
  const error = connectionError(new URL("https://far.test/v2/"), { code: "CERT_HAS_EXPIRED", message: "expired" });
  expect(error).toMatchObject({
    message: "far.test: CERT_HAS_EXPIRED: expired",
    connection: "broken",
    hint: undefined,
  });
});
