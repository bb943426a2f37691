/** From a source into the store: the manifest for a platform, its config and layers, each verified and unpacked. */

import { HutchError } from "../errors.ts";
import { verifyBytes, writeBlob } from "./blobs.ts";
import { type ImageConfig, parseImageConfig } from "./config.ts";
import type { Digest } from "./digest.ts";
import { fetchBlob, fetchSmallBlob } from "./fetch.ts";
import { unpackHere, type UnpackLayers } from "./layers.ts";
import { type Descriptor, type Index, type Manifest, MEDIA, parseManifest, requireImage } from "./manifest.ts";
import {
  acceptedPlatforms,
  choosePlatform,
  formatPlatform,
  hostPlatform,
  normalizePlatform,
  type Platform,
  requirePlatform,
} from "./platform.ts";
import type { ImageSource, OnEvent } from "./source.ts";
import type { Store } from "./store.ts";
import type { UnpackLimits } from "./unpack.ts";

export type StoreOptions = {
  /** A platform that was asked for by name is taken strictly; without one the host's and what it can run. */
  readonly platform?: Platform | undefined;
  readonly uid: number;
  /** Instead of unpacking here, by the user's one id or as root. */
  readonly unpack?: UnpackLayers | undefined;
  readonly onEvent?: OnEvent | undefined;
  readonly limits?: UnpackLimits | undefined;
  /** First pause between tries of a broken download, in ms. */
  readonly pause?: number | undefined;
};

export type Stored = {
  /** The image's own manifest, with its platform. */
  readonly manifest: Descriptor;
  /** What the source answered for the name: an index's digest when one was in between. */
  readonly sourceDigest: Digest;
  readonly config: ImageConfig;
};

const INDEX_DEPTH = 4;
/** Layers that are downloaded at the same time, as Docker does. */
const PARALLEL = 3;

type Chosen = {
  readonly bytes: Uint8Array;
  readonly manifest: Manifest;
  readonly descriptor: Descriptor;
  readonly fromIndex: boolean;
};

/** Bring an image in. Nothing names it yet: the caller holds the store's gc lock until something does. */
export async function storeImage(store: Store, source: ImageSource, options: StoreOptions): Promise<Stored> {
  const { platform, uid, unpack = unpackHere(uid), onEvent, limits, pause } = options;
  const accepted = acceptedPlatforms(platform ?? hostPlatform(), platform !== undefined);
  const root = await source.root();
  const { bytes, manifest, descriptor, fromIndex } = await chooseManifest(source, root, accepted);
  const where = `${source.name}: manifest ${descriptor.digest}`;
  requireImage(manifest, where);
  const configBytes = await fetchSmallBlob(source, manifest.config, `${source.name}: config ${manifest.config.digest}`);
  const config = parseImageConfig(configBytes, `${source.name}: config ${manifest.config.digest}`);
  if (!fromIndex) requirePlatform(config.platform, accepted, source.name);
  if (config.diffIds.length !== manifest.layers.length) {
    throw new HutchError(`${where}: ${manifest.layers.length} layers, but the config lists ${config.diffIds.length}`);
  }
  const fetchOptions = { onEvent, pause };
  const downloads = startDownloads(manifest.layers, (layer, signal) =>
    fetchBlob(store, source, layer, { ...fetchOptions, signal }),
  );
  const ready = (i: number): Promise<void> => downloads.layers[i] ?? Promise.resolve();
  try {
    await unpack(store, manifest.layers, config.diffIds, { onEvent, limits, ready });
  } finally {
    await downloads.stop();
  }
  // The manifest comes last: whoever finds it finds the rest.
  writeBlob(store, manifest.config.digest, configBytes);
  writeBlob(store, descriptor.digest, bytes);
  return {
    manifest: { ...descriptor, mediaType: manifest.mediaType, platform: normalizePlatform(config.platform) },
    sourceDigest: root.digest,
    config,
  };
}

/** Download some at a time, in order; each has its promise. `stop` ends what is under way and waits for it. */
function startDownloads(
  layers: readonly Descriptor[],
  fetchOne: (layer: Descriptor, signal: AbortSignal) => Promise<void>,
): { readonly layers: readonly Promise<void>[]; readonly stop: () => Promise<void> } {
  const abort = new AbortController();
  const running: Promise<void>[] = [];
  const same = new Map<Digest, Promise<void>>();
  for (const [i, layer] of layers.entries()) {
    const before = i < PARALLEL ? Promise.resolve() : Promise.allSettled([running[i - PARALLEL]]);
    const start = async (): Promise<void> => {
      await before;
      abort.signal.throwIfAborted();
      await fetchOne(layer, abort.signal);
    };
    const promise = same.get(layer.digest) ?? start();
    same.set(layer.digest, promise);
    promise.catch((error: unknown) => abort.abort(error)); // the others then fail for the same reason
    running.push(promise);
  }
  return {
    layers: running,
    stop: async () => {
      abort.abort(new HutchError("the pull has ended"));
      await Promise.allSettled(running);
    },
  };
}

/** Follow indexes to the manifest of the best platform. @throws HutchError when there is none */
async function chooseManifest(
  source: ImageSource,
  root: { readonly bytes: Uint8Array; readonly mediaType: string | undefined; readonly digest: Digest },
  accepted: readonly Platform[],
): Promise<Chosen> {
  const seen = new Set<Digest>([root.digest]);
  const offered: string[] = [];
  const top = parseManifest(root.bytes, root.mediaType, `${source.name}: manifest ${root.digest}`);
  if (top.kind === "manifest") {
    const descriptor = { mediaType: top.mediaType, digest: root.digest, size: root.bytes.byteLength };
    return { bytes: root.bytes, manifest: top, descriptor, fromIndex: false };
  }

  async function open(descriptor: Descriptor): Promise<{ bytes: Uint8Array; parsed: Index | Manifest }> {
    const bytes = await source.manifest(descriptor);
    const where = `${source.name}: manifest ${descriptor.digest}`;
    verifyBytes(bytes, descriptor, where);
    return { bytes, parsed: parseManifest(bytes, descriptor.mediaType || undefined, where) };
  }

  async function search(index: Index, depth: number): Promise<Chosen | undefined> {
    if (depth > INDEX_DEPTH) throw new HutchError(`${source.name}: indexes nested deeper than ${INDEX_DEPTH}`);
    const isIndex = ({ mediaType }: Descriptor): boolean =>
      mediaType === MEDIA.ociIndex || mediaType === MEDIA.dockerList;
    const direct = index.manifests.filter((entry) => !isIndex(entry));
    offered.push(...direct.flatMap(({ platform }) => (platform === undefined ? [] : [formatPlatform(platform)])));
    const position = choosePlatform(
      direct.map(({ platform }) => platform),
      accepted,
    );
    const only =
      direct.length === 1 && direct[0]?.platform === undefined && index.manifests.length === 1 ? direct[0] : undefined;
    const descriptor = (position === undefined ? undefined : direct[position]) ?? only;
    if (descriptor !== undefined) {
      const { bytes, parsed } = await open(descriptor);
      if (parsed.kind === "index")
        throw new HutchError(`${source.name}: ${descriptor.digest} is an index, not a manifest`);
      return { bytes, manifest: parsed, descriptor, fromIndex: descriptor !== only };
    }
    for (const nested of index.manifests.filter(isIndex)) {
      if (seen.has(nested.digest)) throw new HutchError(`${source.name}: index ${nested.digest} is nested in itself`);
      seen.add(nested.digest);
      const { parsed } = await open(nested);
      if (parsed.kind !== "index") throw new HutchError(`${source.name}: ${nested.digest} is a manifest, not an index`);
      const found = await search(parsed, depth + 1);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  const found = await search(top, 1);
  if (found !== undefined) return found;
  const wanted = accepted[0] === undefined ? "this platform" : formatPlatform(accepted[0]);
  const hint = `it has ${[...new Set(offered)].slice(0, 20).join(", ")}`;
  throw new HutchError(`${source.name}: no image for ${wanted}`, offered.length === 0 ? {} : { hint });
}
