/** OCI layouts made by hand, so that every field can be wrong. */

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { digestOf } from "../../../src/image/digest.ts";
import { MEDIA } from "../../../src/image/manifest.ts";

export type Blob = { readonly digest: string; readonly bytes: Uint8Array };
export type LayerMade = { readonly blob: Blob; readonly diffId: string; readonly mediaType: string };

export const blobOf = (content: Uint8Array | string): Blob => {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  return { digest: digestOf(bytes), bytes };
};

/** A layer from a tar file, gzip by default. */
export function layerOf(tar: Uint8Array, compression: "gzip" | "zstd" | "none" = "gzip"): LayerMade {
  const packed =
    compression === "none" ? tar : compression === "gzip" ? gzipSync(tar, { level: 1 }) : Bun.zstdCompressSync(tar);
  const suffix = compression === "none" ? "" : `+${compression}`;
  return { blob: blobOf(new Uint8Array(packed)), diffId: digestOf(tar), mediaType: `${MEDIA.ociLayer}${suffix}` };
}

export type ImageMade = {
  readonly manifest: Blob;
  readonly config: Blob;
  readonly blobs: readonly Blob[];
  readonly mediaType: string;
};

/** A whole image; `docker` uses schema 2's media types. */
export function imageOf(
  layers: readonly LayerMade[],
  config: Readonly<Record<string, unknown>> = {},
  options: { readonly docker?: boolean; readonly arch?: string; readonly history?: unknown } = {},
): ImageMade {
  const docker = options.docker === true;
  const configBlob = blobOf(
    JSON.stringify({
      architecture: options.arch ?? (process.arch === "arm64" ? "arm64" : "amd64"),
      os: "linux",
      config,
      rootfs: { type: "layers", diff_ids: layers.map((layer) => layer.diffId) },
      history: "history" in options ? options.history : layers.map((_, i) => ({ created_by: `layer ${i}` })),
    }),
  );
  const mediaType = docker ? MEDIA.dockerManifest : MEDIA.ociManifest;
  const manifest = blobOf(
    JSON.stringify({
      schemaVersion: 2,
      mediaType,
      config: {
        mediaType: docker ? MEDIA.dockerConfig : MEDIA.ociConfig,
        digest: configBlob.digest,
        size: configBlob.bytes.byteLength,
      },
      layers: layers.map(({ blob, mediaType: own }) => ({
        mediaType: docker ? `${MEDIA.dockerLayer}.gzip` : own,
        digest: blob.digest,
        size: blob.bytes.byteLength,
      })),
    }),
  );
  return { manifest, config: configBlob, blobs: [configBlob, manifest, ...layers.map(({ blob }) => blob)], mediaType };
}

/** Write a layout's directory with one image named `ref`. */
export function writeLayout(dir: string, image: ImageMade, ref = "latest"): void {
  mkdirSync(join(dir, "blobs/sha256"), { recursive: true });
  writeFileSync(join(dir, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  for (const { digest, bytes } of image.blobs) writeFileSync(join(dir, "blobs/sha256", digest.slice(7)), bytes);
  const descriptor = {
    mediaType: image.mediaType,
    digest: image.manifest.digest,
    size: image.manifest.bytes.byteLength,
    annotations: { "org.opencontainers.image.ref.name": ref },
  };
  writeFileSync(join(dir, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: [descriptor] }));
}
