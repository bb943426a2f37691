/** Hostile input for what reads images: layers, manifests, configurations, references, a registry's answers. */

import fc from "fast-check";
import { decodeBytes, encodeBytes } from "../src/bytes.ts";
import { HutchError } from "../src/errors.ts";
import { parseDockerManifest } from "../src/image/archive.ts";
import { parseToken } from "../src/image/auth.ts";
import { parseChallenges } from "../src/image/challenge.ts";
import { mergeImageConfig, parseImageConfig } from "../src/image/config.ts";
import { parseManifest } from "../src/image/manifest.ts";
import { formatReference, parseReference } from "../src/image/reference.ts";
import { formatRegistryErrors } from "../src/image/registry-error.ts";
import { createTarReader } from "../src/image/tar-reader.ts";
import { type Made, tar } from "../test/image/tar-maker.ts";
import { type FuzzTarget, mutated, pieced, target } from "./fuzz-target.ts";
import { unpackTarget } from "./fuzz-unpack.ts";

const name = fc.oneof(
  fc.constantFrom(
    "a",
    "./a/b",
    "../x",
    "/abs",
    ".",
    "",
    "a/../../b",
    "\u0000",
    "n".repeat(300),
    "x/.wh.y",
    ".wh..wh..opq",
  ),
  fc.string({ unit: "binary", maxLength: 12 }),
);
const number = fc.oneof(fc.constantFrom(0, 1, 511, 512, 0o777777777, 2 ** 33, 2 ** 53), fc.nat(5000));
const made: fc.Arbitrary<Made> = fc.record(
  {
    name,
    link: name,
    prefix: name,
    type: fc.constantFrom("0", "1", "2", "3", "4", "5", "6", "7", "x", "g", "L", "K", "S", "Z", "\u0000"),
    size: number,
    mode: number,
    data: fc.uint8Array({ maxLength: 1500 }),
    pax: fc.dictionary(
      fc.constantFrom("path", "linkpath", "size", "mtime", "SCHILY.xattr.user.a", "GNU.sparse.map"),
      name,
    ),
  },
  { requiredKeys: [] },
);

/** Read an archive in pieces of `step` bytes, taking all data. */
function readTar(bytes: Uint8Array, step: number): void {
  let taken = 0;
  const reader = createTarReader(({ size }) => {
    if (!(size >= 0)) throw new Error(`an entry of ${size} bytes`);
    return { data: (piece) => void (taken += piece.length), end: () => {} };
  });
  for (let at = 0; at < bytes.length; at += step) reader.write(bytes.subarray(at, at + step));
  reader.end();
  if (taken > bytes.length) throw new Error("more data than there are bytes");
}

/** Archives whose fields are hostile, and good ones with bytes changed; and how much is read at a time. */
const archives = fc.tuple(
  fc.oneof(
    fc.array(made, { maxLength: 5 }).map((list) => makeOr(list)),
    mutated(tar({ name: "d", type: "5" }, { name: "d/f", data: "x".repeat(600) }, { name: "l", type: "2", link: "d" })),
  ),
  fc.constantFrom(1, 100, 512, 1 << 16),
);

/** What the maker itself cannot write (a name that fits no field) is no input. */
function makeOr(list: readonly Made[]): Uint8Array {
  try {
    return tar(...list);
  } catch {
    return new Uint8Array(1024);
  }
}

const digest = `sha256:${"0".repeat(64)}`;
const MANIFEST = JSON.stringify({
  schemaVersion: 2,
  mediaType: "application/vnd.oci.image.manifest.v1+json",
  config: { mediaType: "application/vnd.oci.image.config.v1+json", digest, size: 2 },
  layers: [{ mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", digest, size: 3 }],
});
const CONFIG = JSON.stringify({
  architecture: "amd64",
  os: "linux",
  config: { Env: ["A=b"], Cmd: ["sh"], WorkingDir: "/", User: "1:2" },
  rootfs: { type: "layers", diff_ids: [digest] },
  history: [{ created_by: "x", empty_layer: true }],
});

const INDEX = JSON.stringify({
  schemaVersion: 2,
  mediaType: "application/vnd.oci.image.index.v1+json",
  manifests: [
    {
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      digest,
      size: 7,
      platform: { os: "linux", architecture: "arm64", variant: "v8" },
      annotations: { "org.opencontainers.image.ref.name": "a:b" },
    },
  ],
});
const SAVED = JSON.stringify([{ Config: "c.json", RepoTags: ["a:b"], Layers: ["l/layer.tar"] }]);
const TOKEN = JSON.stringify({ token: "abc", access_token: "def", expires_in: 300 });
const ERRORS = JSON.stringify({ errors: [{ code: "DENIED", message: "no\n\u001b[2J" }, null, 7] });

/** A good document in which one value, at any depth, is any JSON value. */
function jsonOf(good: string): fc.Arbitrary<Uint8Array> {
  const places = good.match(/"[^"]*"|\d+|null/g)?.length ?? 1;
  return fc.tuple(fc.nat(places - 1), fc.json({ maxDepth: 3 })).map(([place, value]) => {
    let at = -1;
    return encodeBytes(good.replaceAll(/"[^"]*"|\d+|null/g, (old) => ((at += 1) === place ? value : old)));
  });
}

/** Whatever reads images. */
export function imageTargets(): readonly FuzzTarget[] {
  return [
    target("tar", archives, ([bytes, step]) => readTar(bytes, step)),
    unpackTarget(),
    target("manifests", mutated(encodeBytes(MANIFEST)), (bytes) => parseManifest(bytes, undefined, "m")),
    target("manifests, any JSON", fc.json(), (text) => parseManifest(encodeBytes(text), "application/json", "m")),
    target("manifests, indexes", fc.oneof(mutated(encodeBytes(INDEX)), jsonOf(INDEX)), (bytes) =>
      parseManifest(bytes, undefined, "m"),
    ),
    target("manifest.json of docker save", fc.oneof(mutated(encodeBytes(SAVED)), jsonOf(SAVED)), (bytes) =>
      parseDockerManifest(bytes, "manifest.json"),
    ),
    target("answers of token servers", fc.oneof(mutated(encodeBytes(TOKEN)), jsonOf(TOKEN)), (bytes) =>
      parseToken(bytes, "h", 0),
    ),
    target("errors of registries", fc.oneof(mutated(encodeBytes(ERRORS)), jsonOf(ERRORS)), (bytes) => {
      const text = formatRegistryErrors(decodeBytes(bytes));
      if (/\p{Cc}/u.test(text)) throw new Error("a control character");
    }),
    target("image configurations", fc.oneof(mutated(encodeBytes(CONFIG)), fc.json().map(encodeBytes)), (bytes) =>
      mergeImageConfig(parseImageConfig(bytes, "c").config),
    ),
    target(
      "image references",
      pieced("docker.io", "localhost:5000", "/", ":", "@", digest, "latest", "library", "..", "A"),
      (text) => {
        const reference = parseReference(text);
        if (formatReference(parseReference(formatReference(reference))) !== formatReference(reference))
          throw new HutchError("not the same");
      },
    ),
    target(
      "challenges of registries",
      pieced("Bearer ", "Basic ", "realm=", '"', ",", "=", "\\", "service", " ", "a"),
      (text) => parseChallenges(text),
    ),
  ];
}
