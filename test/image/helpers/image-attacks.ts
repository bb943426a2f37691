/**
 * The attack list, second half: what hostile sources say of an image, in manifests, indexes, configs and compression.
 * Every one is told in all ways that have words for it; `not` says why a way has none.
 */

import { digestOf } from "../../../src/image/digest.ts";
import { MEDIA } from "../../../src/image/manifest.ts";
import type { UnpackLimits } from "../../../src/image/unpack.ts";
import { concat, file, link, tar } from "../tar-maker.ts";
import {
  base,
  cut,
  DEEP,
  describe,
  forOthers,
  gzip,
  honest,
  indexBlob,
  LONG,
  nest,
  noise,
  OPEN,
  raw,
  smallBombs,
  window2GiB,
  withBlob,
  withConfig,
  withConfigBytes,
  withIndex,
  withLayer,
  withLayerBytes,
  withManifest,
  withSizeOf,
  wrapped,
  zeros,
  zstd,
} from "./image-lies.ts";
import { blobOf, imageOf, layerOf } from "./layout.ts";
import { dockerFiles, type Offer, offerOf, type WayName } from "./ways.ts";

export type ImageAttack = {
  /** Aimed at the absolute path of a directory with the file `victim`. */ readonly offer: (guard: string) => Offer;
  readonly refused: RegExp;
  /** Ways that cannot say this, with the reason. */ readonly not?: Readonly<Partial<Record<WayName, string>>>;
  readonly limits?: UnpackLimits;
};

const noManifest = "its manifest is ours, made from config and layers";
const noDigests = "it names no digest and no size: files are hashed here";
const noDocker = (why: string) => ({ "docker archive": why, "load of docker": why });
const noOci = (why: string) => ({ registry: why, "OCI layout": why, "OCI archive": why, "load of OCI": why });
const onlyManifests = { not: noDocker(noManifest) };
const onlyDigests = { not: noDocker(noDigests) };
const onlyArchives = { not: { registry: "nothing is around the image", "OCI layout": "nothing is around the image" } };

/** Bytes of the same length as the base layer's, and as good a layer. */
const other = layerOf(tar(file("etc/motd", "HELLO ".repeat(500))), "none");
const mixed = imageOf([{ ...base, diffId: other.diffId }]);

export const imageAttacks: Readonly<Record<string, ImageAttack>> = {
  // Bombs
  "gzip bomb": {
    offer: () => withLayer(layerOf(tar(zeros), "gzip")),
    refused: /more than 100 times/,
    limits: smallBombs,
  },
  "zstd bomb": {
    offer: () => withLayer(layerOf(tar(zeros), "zstd")),
    refused: /more than 100 times/,
    limits: smallBombs,
  },
  "zstd window of 2 GiB": { offer: () => withLayer(raw(window2GiB, "zstd")), refused: /too much memory/ },
  "gzip bomb around the archive": {
    offer: () => wrapped(gzip),
    refused: /more than 100 times/,
    limits: smallBombs,
    ...onlyArchives,
  },
  "zstd bomb around the archive": {
    offer: () => wrapped(zstd),
    refused: /more than 100 times/,
    limits: smallBombs,
    ...onlyArchives,
  },
  "zstd window of 2 GiB around the archive": {
    offer: () => wrapped(() => window2GiB),
    refused: /too much memory/,
    ...onlyArchives,
  },
  "archive cut short": { offer: () => wrapped(cut), refused: /cut short/, ...onlyArchives },
  "gzip cut short": { offer: () => withLayer(raw(cut(gzip(noise)), "gzip")), refused: /unexpected end/ },
  "zstd cut short": {
    offer: () => withLayer(raw(cut(zstd(noise)), "zstd")),
    refused: /cut short|unexpected end|the config says/,
  },
  "junk after gzip": {
    offer: () => withLayer(raw(concat([gzip(noise), blobOf("junk").bytes]), "gzip")),
    refused: /incorrect header/,
  },
  // Types
  "manifest said to be an index": {
    offer: () => withManifest({}, MEDIA.ociIndex),
    refused: /calls itself/,
    ...onlyManifests,
  },
  "index said to be a manifest": {
    offer: () => {
      const offer = withIndex([forOthers]);
      return { ...offer, root: { ...offer.root, mediaType: MEDIA.ociManifest } };
    },
    refused: /calls itself/,
    ...onlyManifests,
  },
  "manifest that does not say what it is, said to be an index": {
    offer: () => withManifest({ mediaType: undefined }, MEDIA.ociIndex),
    refused: /ambiguous/,
    ...onlyManifests,
  },
  "both manifest and index": { offer: () => withManifest({ manifests: [] }), refused: /ambiguous/, ...onlyManifests },
  "neither manifest nor index": {
    offer: () => withManifest({ mediaType: "text/plain" }, "text/plain"),
    refused: /neither an image nor an index/,
    ...onlyManifests,
  },
  "schema 1": {
    offer: () =>
      withManifest('{"schemaVersion":1,"fsLayers":[]}', "application/vnd.docker.distribution.manifest.v1+prettyjws"),
    refused: /schema 1/,
    ...onlyManifests,
  },
  "an index's manifest that is an index": {
    offer: () => {
      const inner = indexBlob([forOthers]);
      return withIndex([describe(inner, MEDIA.ociManifest)], [inner]);
    },
    refused: /calls itself/,
    ...onlyManifests,
  },
  "an index's index that is a manifest": {
    offer: () => withIndex([describe(honest.manifest, MEDIA.ociIndex)]),
    refused: /calls itself/,
    ...onlyManifests,
  },
  "config of an artifact": {
    offer: () => withManifest({ config: describe(honest.config, "application/vnd.oci.empty.v1+json") }),
    refused: /artifact/,
    ...onlyManifests,
  },
  "layer of an unknown type, with escapes for the terminal": {
    offer: () => withManifest({ layers: [describe(base.blob, "tar\n\u001b[31m")] }),
    refused: /unsupported type/,
    ...onlyManifests,
  },
  "layer that is a manifest": {
    offer: () => withManifest({ layers: [describe(honest.manifest, MEDIA.ociLayer)] }),
    refused: /tar: /,
    ...onlyManifests,
  },
  // Digests and sizes
  "manifest of another digest": {
    offer: () => {
      const offer = offerOf(honest, [base]);
      return { ...offer, root: { ...offer.root, bytes: honest.manifest.bytes.toReversed() }, blobs: new Map() };
    },
    refused: /has digest/,
    ...onlyDigests,
  },
  "manifest of another size": {
    offer: () => {
      const offer = offerOf(honest, [base]);
      return { ...offer, root: { ...offer.root, size: 3 } };
    },
    refused: /instead of 3/,
    not: { ...noDocker(noDigests), registry: "the answer to a name has no descriptor" },
  },
  "an index's manifest of another digest": {
    offer: () => {
      const offer = withIndex([describe(honest.manifest, MEDIA.ociManifest)]);
      return { ...offer, blobs: withBlob(honest.manifest.digest, honest.manifest.bytes.toReversed()) };
    },
    refused: /has digest/,
    ...onlyDigests,
  },
  "an index's manifest of another size": {
    offer: () => withIndex([{ ...describe(honest.manifest, MEDIA.ociManifest), size: 1 }]),
    refused: /instead of 1|longer than|more than/,
    ...onlyDigests,
  },
  "config of another digest": {
    offer: () => withConfigBytes(honest.config.bytes.toReversed()),
    refused: /has digest/,
    ...onlyDigests,
  },
  "config too long": {
    offer: () => withConfigBytes(concat([honest.config.bytes, blobOf(" ").bytes])),
    refused: /it should have/,
    ...onlyDigests,
  },
  "config too short": {
    offer: () => withConfigBytes(honest.config.bytes.subarray(1)),
    refused: /bytes instead of/,
    ...onlyDigests,
  },
  "layer of another digest": {
    offer: () => withLayerBytes(base.blob.bytes.toReversed()),
    refused: /came with digest/,
    ...onlyDigests,
  },
  "layer too long": {
    offer: () => withLayerBytes(concat([base.blob.bytes, new Uint8Array(1)])),
    refused: /longer than/,
    ...onlyDigests,
  },
  "layer too short": {
    offer: () => withLayerBytes(base.blob.bytes.subarray(1)),
    refused: /ended after|came with digest/,
    ...onlyDigests,
  },
  "layer said to be longer": {
    offer: () => withSizeOf(base.blob.bytes.byteLength + 1),
    refused: /ended after|instead of/,
    ...onlyDigests,
  },
  "layer said to be shorter": { offer: () => withSizeOf(100), refused: /longer than|instead of/, ...onlyDigests },
  "negative size": { offer: () => withSizeOf(-1), refused: /size: must be/, ...onlyDigests },
  "size beyond numbers": { offer: () => withSizeOf(2 ** 60), refused: /size: must be/, ...onlyDigests },
  "digest that is a path": {
    offer: (guard) => ({
      ...withManifest({
        layers: [{ ...describe(base.blob, base.mediaType), digest: `sha256:../../../..${guard}/victim` }],
      }),
      docker: dockerFiles(
        honest.config.bytes,
        [],
        JSON.stringify([{ Config: "config.json", RepoTags: null, Layers: [`../../../..${guard}/victim`] }]),
      ),
    }),
    refused: /invalid digest format|no file/,
  },
  "layer that is a link out of the source": {
    offer: (guard) => {
      const secret = { blob: blobOf("untouched"), diffId: digestOf("untouched"), mediaType: MEDIA.ociLayer };
      const image = imageOf([secret]);
      const blobs = new Map([image.config, image.manifest].map(({ digest, bytes }) => [digest, bytes]));
      const links = new Map([[secret.blob.digest, `${guard}/victim`]]);
      const docker = [
        ...dockerFiles(image.config.bytes, [secret.blob.bytes]).slice(0, 2),
        link("0.tar", `${guard}/victim`),
      ];
      return offerOf(image, [secret], { blobs, links, docker });
    },
    refused: /no blob|no file/,
    not: { registry: "it has no links; redirects are in refusals.test.ts" },
  },
  "file that comes twice, to be written over after it was hashed": {
    offer: () =>
      offerOf(mixed, [base], {
        extra: [file(`blobs/sha256/${base.blob.digest.slice(7)}`, base.blob.bytes), file("last", other.blob.bytes)],
        docker: [
          ...dockerFiles(mixed.config.bytes, [base.blob.bytes]),
          file("0.tar", base.blob.bytes),
          file("last", other.blob.bytes),
        ],
      }),
    refused: /the config says/,
    not: { registry: "one content by a name", "OCI layout": "one content by a name" },
  },
  // DiffIDs
  "another DiffID": { offer: () => offerOf(mixed, [base]), refused: /the config says/ },
  "no diff_ids": {
    offer: () => withConfig({ rootfs: { type: "layers", diff_ids: [] } }),
    refused: /1 layers, but the config lists 0/,
  },
  "no rootfs": { offer: () => withConfig({ rootfs: undefined }), refused: /rootfs: must be an object/ },
  "more diff_ids than layers": {
    offer: () => withConfig({ rootfs: { type: "layers", diff_ids: [base.diffId, base.diffId] } }),
    refused: /1 layers, but the config lists 2/,
  },
  "DiffID that is a path": {
    offer: (guard) => withConfig({ rootfs: { type: "layers", diff_ids: [`sha256:../../../..${guard}`] } }),
    refused: /invalid digest format/,
  },
  "NUL in the config's command": {
    offer: () => withConfig({ config: { Cmd: ["/bin/sh\0/evil"] } }),
    refused: /NUL/,
  },
  // Documents
  "manifest nested without end": { offer: () => withManifest(OPEN), refused: /not JSON/, ...onlyManifests },
  "manifest nested 100,000 deep": {
    offer: () => withManifest(DEEP),
    refused: /not JSON|must be an object/,
    ...onlyManifests,
  },
  "manifest of five megabytes": {
    offer: () => withManifest(LONG),
    refused: /larger than|manifest of \d+ bytes/,
    ...onlyManifests,
  },
  "manifest that is no JSON": { offer: () => withManifest("<html>"), refused: /not JSON/, ...onlyManifests },
  "config nested without end": { offer: () => withConfig(OPEN), refused: /not JSON/ },
  "config nested 100,000 deep": {
    offer: () => withConfig(`{"rootfs":{"type":"layers","diff_ids":${DEEP}}}`),
    refused: /not JSON|must be a string/,
  },
  "config of five megabytes": { offer: () => withConfig(LONG), refused: /more than 4194304/ },
  "config that is no JSON": { offer: () => withConfig("<html>"), refused: /not JSON/ },
  "index.json nested 100,000 deep": {
    offer: () => offerOf(honest, [base], { files: { "index.json": DEEP } }),
    refused: /not JSON|must be an object/,
    not: { ...noDocker("it has none"), registry: "it has none" },
  },
  "index.json of five megabytes": {
    offer: () => offerOf(honest, [base], { files: { "index.json": LONG } }),
    refused: /larger than/,
    not: { ...noDocker("it has none"), registry: "it has none" },
  },
  "manifest.json nested 100,000 deep": {
    offer: () => offerOf(honest, [base], { docker: dockerFiles(honest.config.bytes, [base.blob.bytes], DEEP) }),
    refused: /not JSON|must be an object/,
    not: noOci("it has none"),
  },
  "manifest.json of five megabytes": {
    offer: () => offerOf(honest, [base], { docker: dockerFiles(honest.config.bytes, [base.blob.bytes], LONG) }),
    refused: /larger than/,
    not: noOci("it has none"),
  },
  // Indexes
  "indexes nested seven deep": { offer: () => nest(7), refused: /nested deeper/, ...onlyManifests },
  "index in itself": {
    // A digest cannot hold itself: one of the two lies.
    offer: () => {
      const named = describe(blobOf("any"), MEDIA.ociIndex);
      const offer = withIndex([named]);
      return {
        ...offer,
        root: { ...offer.root, digest: String(named["digest"]) },
        blobs: new Map([...offer.blobs, [String(named["digest"]), offer.root.bytes]]),
      };
    },
    refused: /has digest/,
    ...onlyManifests,
  },
  "index that names another over and over": {
    offer: () => {
      const inner = indexBlob([forOthers]);
      return withIndex(
        Array.from({ length: 1000 }, () => describe(inner, MEDIA.ociIndex)),
        [inner],
      );
    },
    refused: /nested in itself/,
    ...onlyManifests,
  },
  "index of 20,000 manifests": {
    offer: () => withIndex(Array.from({ length: 20_000 }, () => forOthers)),
    refused: /more than 10000 items|larger than/,
    ...onlyManifests,
  },
};
