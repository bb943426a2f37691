/** Hostile input for what reads images: layers, manifests, configurations, references, a registry's answers. */

import fc from "fast-check";
import { encodeBytes } from "../src/bytes.ts";
import { HutchError } from "../src/errors.ts";
import { parseChallenges } from "../src/image/challenge.ts";
import { mergeImageConfig, parseImageConfig } from "../src/image/config.ts";
import { parseManifest } from "../src/image/manifest.ts";
import { formatReference, parseReference } from "../src/image/reference.ts";
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

/** Whatever reads images. */
export function imageTargets(): readonly FuzzTarget[] {
  return [
    target("tar", archives, ([bytes, step]) => readTar(bytes, step)),
    unpackTarget(),
    target("manifests", mutated(encodeBytes(MANIFEST)), (bytes) => parseManifest(bytes, undefined, "m")),
    target("manifests, any JSON", fc.json(), (text) => parseManifest(encodeBytes(text), "application/json", "m")),
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
