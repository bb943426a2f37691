/**
 * Manifests and indexes: OCI image-spec 1.1 (manifest.md, image-index.md, descriptor.md) and Docker's schema 2.
 */

import { HutchError } from "../errors.ts";
import { type Digest, parseDigest } from "./digest.ts";
import {
  asObject,
  asString,
  type JsonObject,
  optionalArray,
  optionalString,
  optionalStrings,
  parseJsonObject,
} from "./json.ts";
import type { Platform } from "./platform.ts";

export const MEDIA = {
  ociIndex: "application/vnd.oci.image.index.v1+json",
  ociManifest: "application/vnd.oci.image.manifest.v1+json",
  ociConfig: "application/vnd.oci.image.config.v1+json",
  ociLayer: "application/vnd.oci.image.layer.v1.tar",
  dockerList: "application/vnd.docker.distribution.manifest.list.v2+json",
  dockerManifest: "application/vnd.docker.distribution.manifest.v2+json",
  dockerConfig: "application/vnd.docker.container.image.v1+json",
  dockerLayer: "application/vnd.docker.image.rootfs.diff.tar",
} as const;

/** What a registry is asked for, all four at once. */
export const MANIFEST_TYPES: readonly string[] = [
  MEDIA.ociIndex,
  MEDIA.ociManifest,
  MEDIA.dockerList,
  MEDIA.dockerManifest,
];

const LAYER = new RegExp(
  "^(?:application/vnd\\.oci\\.image\\.layer(?:\\.nondistributable)?\\.v1\\.tar(?:\\+gzip|\\+zstd)?|" +
    "application/vnd\\.docker\\.image\\.rootfs(?:\\.foreign)?\\.diff\\.tar(?:\\.gzip|\\.zstd|\\+gzip|\\+zstd)?)$",
);

export type Descriptor = {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Length of the content in bytes. */
  readonly size: number;
  readonly urls?: readonly string[];
  readonly annotations?: Readonly<Record<string, string>>;
  readonly platform?: Platform;
  /** Inline content, base64, still to be verified. */
  readonly data?: string;
};

export type Index = {
  readonly kind: "index";
  readonly mediaType: string;
  readonly manifests: readonly Descriptor[];
  readonly annotations: Readonly<Record<string, string>>;
};

export type Manifest = {
  readonly kind: "manifest";
  readonly mediaType: string;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly annotations: Readonly<Record<string, string>>;
};

/** True when a layer's media type promises a tar file that we can unpack. */
export function isLayerType(mediaType: string): boolean {
  return LAYER.test(mediaType);
}

/** Layers that a registry may refuse to hold: their `urls` are tried too. */
export function isForeignLayer(mediaType: string): boolean {
  return mediaType.includes(".nondistributable.") || mediaType.includes(".foreign.");
}

function parsePlatformObject(object: JsonObject, where: string): Platform {
  const variant = optionalString(object, "variant", where);
  const features = optionalArray(object, "os.features", where, 100, asString);
  return {
    os: optionalString(object, "os", where) ?? "",
    architecture: optionalString(object, "architecture", where) ?? "",
    ...(variant === undefined ? {} : { variant }),
    ...(features === undefined ? {} : { osFeatures: features }),
  };
}

/** Read a descriptor. @throws HutchError on a missing digest, a negative size, a wrong type */
export function parseDescriptor(value: unknown, where: string): Descriptor {
  const object = asObject(value, where);
  const size = object["size"];
  if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0) {
    throw new HutchError(`${where}.size: must be a whole number of bytes, 0 or more`);
  }
  const urls = optionalArray(object, "urls", where, 100, asString);
  const annotations = optionalStrings(object, "annotations", where);
  const data = optionalString(object, "data", where);
  const platform = object["platform"];
  return {
    mediaType: optionalString(object, "mediaType", where) ?? "",
    digest: parseDigest(optionalString(object, "digest", where) ?? ""),
    size,
    ...(urls === undefined ? {} : { urls }),
    ...(annotations === undefined ? {} : { annotations }),
    ...(data === undefined ? {} : { data }),
    ...(platform === undefined || platform === null
      ? {}
      : { platform: parsePlatformObject(asObject(platform, `${where}.platform`), `${where}.platform`) }),
  };
}

/**
 * Read a manifest or an index. `contentType` is what the source says it is (an HTTP header or a descriptor's
 * mediaType), parameters ignored, or undefined when it does not say. A body that says otherwise, or that could be read
 * as both kinds, is refused (CVE-2021-41190).
 * @throws HutchError
 */
export function parseManifest(bytes: Uint8Array, contentType: string | undefined, where: string): Index | Manifest {
  const object = parseJsonObject(bytes, where);
  const said = contentType?.split(";")[0]?.trim().toLowerCase() ?? "";
  const own = optionalString(object, "mediaType", where);
  if (
    /docker\.distribution\.manifest\.v1\+(json|prettyjws)$/.test(said) ||
    (object["schemaVersion"] === 1 && own === undefined)
  ) {
    throw new HutchError(`${where}: a Docker schema 1 manifest, which is not supported`, {
      hint: "push the image again with a tool of the last years",
    });
  }
  if (object["schemaVersion"] !== 2) throw new HutchError(`${where}: schemaVersion must be 2`);
  const known = MANIFEST_TYPES.includes(said);
  if (known && own !== undefined && own !== said) {
    throw new HutchError(`${where}: served as ${said} but calls itself ${own}`);
  }
  const mediaType = known ? said : (own ?? guessType(object));
  if (!MANIFEST_TYPES.includes(mediaType)) {
    throw new HutchError(`${where}: ${JSON.stringify(mediaType || said)} is neither an image nor an index`);
  }
  const isIndex = mediaType === MEDIA.ociIndex || mediaType === MEDIA.dockerList;
  const foreign = isIndex ? ["layers", "config", "fsLayers"] : ["manifests", "fsLayers"];
  const stray = foreign.find((key) => key in object);
  if (stray !== undefined) throw new HutchError(`${where}: ambiguous: ${mediaType} with a member ${stray}`);
  return isIndex ? parseIndex(object, mediaType, where) : parseImageManifest(object, mediaType, where);
}

function guessType(object: JsonObject): string {
  if ("manifests" in object) return MEDIA.ociIndex;
  return "config" in object && "layers" in object ? MEDIA.ociManifest : "";
}

function parseIndex(object: JsonObject, mediaType: string, where: string): Index {
  const manifests = optionalArray(object, "manifests", where, 10_000, parseDescriptor);
  if (manifests === undefined) throw new HutchError(`${where}.manifests: is missing`);
  return { kind: "index", mediaType, manifests, annotations: optionalStrings(object, "annotations", where) ?? {} };
}

function parseImageManifest(object: JsonObject, mediaType: string, where: string): Manifest {
  const layers = optionalArray(object, "layers", where, 1000, parseDescriptor);
  if (layers === undefined) throw new HutchError(`${where}.layers: is missing`);
  return {
    kind: "manifest",
    mediaType,
    config: parseDescriptor(object["config"], `${where}.config`),
    layers,
    annotations: optionalStrings(object, "annotations", where) ?? {},
  };
}

/** Refuse what cannot be run: artifacts, and layers in formats that are not tar. @throws HutchError */
export function requireImage(manifest: Manifest, where: string): void {
  const { config, layers } = manifest;
  if (config.mediaType !== MEDIA.ociConfig && config.mediaType !== MEDIA.dockerConfig) {
    throw new HutchError(`${where}: not an image but an artifact (config of type ${JSON.stringify(config.mediaType)})`);
  }
  const odd = layers.find((layer) => !isLayerType(layer.mediaType));
  if (odd !== undefined) throw new HutchError(`${where}: layer of unsupported type ${JSON.stringify(odd.mediaType)}`);
}
