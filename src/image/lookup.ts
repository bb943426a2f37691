/**
 * Images that are in the store already: found by name or id, read without a network and without node:fs, since this
 * is the way of every second run.
 */

import { HutchError } from "../errors.ts";
import { AT_FDCWD, statAt } from "../libc/file.ts";
import { hasBlob, readBlob } from "./blobs.ts";
import { type ImageConfig, parseImageConfig } from "./config.ts";
import { chainIds, type Digest, splitDigest } from "./digest.ts";
import type { StoredImage } from "./image-index.ts";
import { hasLayer } from "./layer-path.ts";
import { type Manifest, parseManifest } from "./manifest.ts";
import { acceptedPlatforms, choosePlatform, formatPlatform, hostPlatform, type Platform } from "./platform.ts";
import { pathNames } from "./merged-view.ts";
import { formatReference, sourcePlace, type LocalReference, type RegistryReference } from "./reference.ts";
import type { Store } from "./store.ts";

/** An image with its manifest and config read. */
export type OpenImage = {
  readonly record: StoredImage;
  readonly manifest: Manifest;
  readonly config: ImageConfig;
  /** ChainIDs, lowest layer first. */
  readonly chain: readonly Digest[];
};

/** Read an image's manifest and config from the store. @throws HutchError when a blob is missing or damaged */
export function openImage(store: Store, record: StoredImage): OpenImage {
  const where = `image ${record.name ?? record.manifest.digest}`;
  const manifest = parseManifest(readBlob(store, record.manifest), record.manifest.mediaType, where);
  if (manifest.kind !== "manifest") throw new HutchError(`${where}: an index, not a manifest`);
  const config = parseImageConfig(readBlob(store, manifest.config), `${where}: config`);
  return { record, manifest, config, chain: chainIds(config.diffIds) };
}

/** True when everything is there to run it. */
export function isUnpacked(store: Store, image: OpenImage): boolean {
  return image.chain.every((chainId) => hasLayer(store, chainId));
}

/** True when its blobs are there, so that it can be unpacked again and saved. */
export function hasAllBlobs(store: Store, image: OpenImage): boolean {
  return image.manifest.layers.every((layer) => hasBlob(store, layer));
}

/** True for the platform that the user wants, without one for those that the host can run. */
function fits(record: StoredImage, platform: Platform | "any" | undefined): boolean {
  if (platform === "any") return true;
  const own = record.manifest.platform;
  if (own === undefined || (own.os === "" && own.architecture === "")) return platform === undefined;
  return choosePlatform([own], acceptedPlatforms(platform ?? hostPlatform(), platform !== undefined)) !== undefined;
}

/** The image of a registry's name; a digest finds it under any tag of its repository. */
export function findRegistryImage(
  images: readonly StoredImage[],
  reference: RegistryReference,
  platform: Platform | "any" | undefined,
): StoredImage | undefined {
  const name = formatReference(reference);
  const { digest } = reference;
  const repository = `${reference.domain}/${reference.path}`;
  const isSame = (image: StoredImage): boolean => {
    if (image.name === name) return true;
    if (digest === undefined || image.name === undefined) return false;
    const sameRepository = image.name.startsWith(`${repository}:`) || image.name.startsWith(`${repository}@`);
    return sameRepository && (image.manifest.digest === digest || image.sourceDigest === digest);
  };
  return images.findLast((image) => isSame(image) && fits(image, platform));
}

/** A reference to the disk with its path made absolute by the working directory, the way it is remembered. */
export function absoluteReference(reference: LocalReference): LocalReference {
  const given = reference.file.startsWith("/") ? reference.file : `${process.cwd()}/${reference.file}`;
  return { ...reference, file: `/${pathNames(given).join("/")}` };
}

/** The file of a layout or archive on disk that changes when its images do. */
export function watchedFile(reference: LocalReference): string {
  const { file } = absoluteReference(reference);
  return reference.kind === "oci" ? `${file}/index.json` : file;
}

/** How a layout or archive on disk is remembered: its place, and what changes when it does. undefined when it is gone. */
export function localSource(reference: LocalReference): string | undefined {
  const stat = statAt(AT_FDCWD, watchedFile(reference));
  if (stat === undefined) return undefined;
  return `${formatReference(absoluteReference(reference))}#${stat.size}-${stat.mtime}-${stat.ino}`;
}

/**
 * The image that came from a layout or archive as it is now, by its {@link localSource}. Without one, for a place that is
 * gone or is not to be looked at: what the store has from there.
 */
export function findLocalImage(
  images: readonly StoredImage[],
  reference: LocalReference,
  source: string | undefined,
  platform: Platform | "any" | undefined,
): StoredImage | undefined {
  const place = formatReference(absoluteReference(reference));
  const isFrom = ({ source: from }: StoredImage): boolean =>
    source === undefined ? from !== undefined && sourcePlace(from) === place : from === source;
  return images.findLast((image) => isFrom(image) && fits(image, platform));
}

/** Whether records are all of one image: their ids are the digests of their configurations, which name the layers too. */
export function isOneImage(store: Store, records: readonly StoredImage[]): boolean {
  return new Set(records.map((record) => imageId(store, record))).size === 1;
}

/** The id; of an image that is damaged its manifest's digest. */
function imageId(store: Store, record: StoredImage): Digest {
  try {
    return openImage(store, record).manifest.config.digest;
  } catch (error) {
    if (error instanceof HutchError) return record.manifest.digest;
    throw error;
  }
}

/** Images of an id: the config's or manifest's digest, or four or more of its first hexadecimal digits. */
export function findById(store: Store, images: readonly StoredImage[], text: string): StoredImage[] {
  const hex = text.startsWith("sha256:") ? text.slice(7) : text;
  if (!/^[0-9a-f]{4,64}$/.test(hex)) return [];
  const starts = (digest: Digest): boolean => splitDigest(digest).hex.startsWith(hex);
  return images.filter((image) => starts(image.manifest.digest) || isOfConfig(store, image, starts));
}

/** Whether an image's id fits; one that is damaged has none, and must not be in the way of the others. */
function isOfConfig(store: Store, image: StoredImage, starts: (digest: Digest) => boolean): boolean {
  try {
    return starts(openImage(store, image).manifest.config.digest);
  } catch (error) {
    if (error instanceof HutchError) return false;
    throw error;
  }
}

/** An id that runs: fewer digits are too easily a name. */
export const RUNNABLE_ID = /^(sha256:)?([0-9a-f]{12,64})$/;

/**
 * The image to run by an id of 12 to 64 hexadecimal digits, as lists show it, or `sha256:` and these. undefined for all
 * else: also for 12 to 63 digits that begin no id here, which may be the name of a repository.
 * @throws HutchError when the store has no such image (and no repository is called so), several, or another platform
 */
export function findRunnable(
  store: Store,
  images: readonly StoredImage[],
  text: string,
  platform: Platform | undefined,
): StoredImage | undefined {
  const [, prefix, hex] = RUNNABLE_ID.exec(text) ?? [];
  if (hex === undefined) return undefined;
  const found = findById(store, images, hex);
  const [first] = found;
  if (first === undefined) {
    if (prefix === undefined && hex.length < 64) return undefined;
    throw new HutchError(`no image ${JSON.stringify(text)} in the store`, { hint: "hutch images lists them" });
  }
  if (!isOneImage(store, found))
    throw new HutchError(`${JSON.stringify(text)} begins the id of several images`, { hint: "write more of it" });
  if (platform !== undefined && !fits(first, platform))
    throw new HutchError(`image ${text} is not for ${formatPlatform(platform)}`, { from: text });
  return first;
}
