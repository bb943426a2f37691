/** `hutch pull`, and what `hutch run` does before: an image by name into the store. */

import { HutchError } from "../errors.ts";
import {
  hasAllBlobs,
  isUnpacked,
  localSource,
  watchedFile,
  openImage,
  findLocalImage,
  findRegistryImage,
  type OpenImage,
} from "./lookup.ts";
import { createDockerSource, type DockerItem, openArchive, readDockerManifest } from "./archive.ts";
import { streamFile } from "./blobs.ts";
import { type Credentials, findCredentials } from "./credentials.ts";
import { digestOf } from "./digest.ts";
import type { RetryPolicy } from "./http.ts";
import { putImage, readImages, type StoredImage, updateImages } from "./image-index.ts";
import { unpackHere } from "./layers.ts";
import { chooseEntry, createLayoutSource, openDirectoryTree, readLayoutIndex } from "./layout.ts";
import type { Platform } from "./platform.ts";
import {
  formatReference,
  type ImageReference,
  type LocalReference,
  parseReference,
  type RegistryReference,
  sourcePlace,
} from "./reference.ts";
import { endpointsFor, readCertificates, readRegistries, type RegistryRule } from "./registries.ts";
import { createRegistrySource, type RegistrySource } from "./registry.ts";
import { RegistryError } from "./registry-error.ts";
import type { OnEvent } from "./source.ts";
import { type Stored, storeImage, type StoreOptions } from "./store-image.ts";
import { acquire, explainWrite, type Store } from "./store.ts";
import { forgetUnreachable, rememberUnreachable, refuseUnreachable } from "./unreachable.ts";

export type PullPolicy = "always" | "missing" | "never";

export type PullOptions = {
  readonly store: Store;
  /** Default "missing": no network when the name is known. */
  readonly policy?: PullPolicy | undefined;
  readonly platform?: Platform | undefined;
  /** The caller's environment (credential files, configuration, PATH of helpers) and user id. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly uid: number;
  readonly unpack?: StoreOptions["unpack"];
  readonly onEvent?: OnEvent | undefined;
  /** Milliseconds until the first byte of an answer; of silence; how often and after what pause to try again. */
  readonly firstByte?: number | undefined;
  /** Milliseconds until the registry's very first answer, without another try; default {@link firstByte}. */
  readonly firstAnswer?: number | undefined;
  readonly idle?: number | undefined;
  readonly retry?: RetryPolicy | undefined;
  readonly pause?: number | undefined;
  /** Milliseconds for which a registry that gave no answer is not asked again. */
  readonly rememberFor?: number | undefined;
  /** Instead of the configuration files. */
  readonly registries?: readonly RegistryRule[] | undefined;
  readonly credentials?: ((host: string, path: string) => Promise<Credentials | undefined>) | undefined;
  readonly limits?: StoreOptions["limits"];
};

export type Pulled = {
  readonly image: OpenImage;
  /** False when the store had it as it is. */ readonly changed: boolean;
};

/**
 * Bring an image into the store, unpacked, by its name as people write it or parsed.
 * @throws RegistryError (`connection` when nobody answered), HutchError when the image is refused
 */
export async function pull(name: string | ImageReference, options: PullOptions): Promise<Pulled> {
  const reference = typeof name === "string" ? parseReference(name) : name;
  const { store, onEvent } = options;
  using gc = await acquire(store, "gc", "shared", onEvent, "hutch prune");
  void gc;
  const key = digestOf(`${formatReference(reference)} ${JSON.stringify(options.platform ?? null)}`).slice(7, 39);
  using lock = await acquire(
    store,
    `pull-${key}`,
    "exclusive",
    onEvent,
    `another pull of ${formatReference(reference)}`,
  );
  void lock;
  const bring = reference.kind === "registry" ? pullRegistry(reference, options) : pullLocal(reference, options);
  const pulled = await bring.catch((error: unknown) => {
    throw explainWrite(error, store);
  });
  const { record } = pulled.image;
  onEvent?.({
    kind: "done",
    name: record.name ?? formatReference(reference),
    digest: record.manifest.digest,
    changed: pulled.changed,
  });
  return pulled;
}

/** What the store has of an image, unpacked again if only its blobs are left; undefined when it is not whole. */
export async function completeLocally(
  record: StoredImage | undefined,
  { store, uid, unpack = unpackHere(uid), onEvent }: PullOptions,
): Promise<OpenImage | undefined> {
  if (record === undefined) return undefined;
  let image: OpenImage;
  try {
    image = openImage(store, record);
  } catch (error) {
    if (error instanceof HutchError) return undefined; // a damaged store is mended by pulling
    throw error;
  }
  if (isUnpacked(store, image)) return image;
  if (!hasAllBlobs(store, image)) return undefined;
  await unpack(store, image.manifest.layers, image.config.diffIds, { onEvent });
  return image;
}

async function pullRegistry(reference: RegistryReference, options: PullOptions): Promise<Pulled> {
  const { store, policy = "missing", platform, onEvent, rememberFor = 0 } = options;
  const name = formatReference(reference);
  const record = findRegistryImage(readImages(store), reference, platform);
  const known = await completeLocally(record, options);
  if (known !== undefined && (policy !== "always" || record?.sourceDigest === reference.digest)) {
    return { image: known, changed: false };
  }
  if (policy === "never")
    throw new HutchError(`no image ${name} in the store`, { hint: `pull it first: hutch pull ${name}` });
  refuseUnreachable(store, reference.domain, rememberFor);
  onEvent?.({ kind: "resolving", name });
  const source = openRegistry(reference, options);
  try {
    if (known !== undefined && (await source.head()) === known.record.sourceDigest)
      return { image: known, changed: false };
    const stored = await storeImage(store, source, options);
    forgetUnreachable(store, reference.domain);
    return { image: await nameImage(store, stored, { name }, onEvent), changed: true };
  } catch (error) {
    if (!(error instanceof RegistryError) || error.connection !== "unreachable") throw error;
    // One that falls silent half-way has answered: nobody may go on as if there were no network.
    if (source.hasAnswered()) throw asBroken(error);
    if (rememberFor > 0) rememberUnreachable(store, reference.domain);
    throw error;
  }
}

/** The same error, of a registry that can be reached. */
function asBroken(error: RegistryError): RegistryError {
  const { message, from, hint } = error;
  return new RegistryError(message, {
    connection: "broken",
    cause: error,
    ...(from === undefined ? {} : { from }),
    ...(hint === undefined ? {} : { hint }),
  });
}

/** A registry's source with the user's configuration and credentials. */
export function openRegistry(reference: RegistryReference, options: Omit<PullOptions, "store">): RegistrySource {
  const { env, uid, onEvent, firstByte, firstAnswer, idle, retry } = options;
  return createRegistrySource(reference, {
    endpoints: endpointsFor(reference, options.registries ?? readRegistries(env)),
    certificates: (host) => readCertificates(host, env),
    credentials: options.credentials ?? ((host, path) => findCredentials(host, path, env, uid)),
    onEvent,
    firstByte,
    firstAnswer,
    idle,
    retry,
  });
}

/** Give a stored image its name (or remember its source), in the place of what had it. */
export async function nameImage(
  store: Store,
  { manifest, sourceDigest }: Stored,
  by: { readonly name?: string; readonly source?: string },
  onEvent?: OnEvent,
): Promise<OpenImage> {
  const record: StoredImage = { ...by, manifest, sourceDigest, stored: new Date().toISOString() };
  await updateImages(store, (images) => ({ images: putImage(images, record), result: undefined }), onEvent);
  return openImage(store, record);
}

async function pullLocal(reference: LocalReference, options: PullOptions): Promise<Pulled> {
  const { store, policy = "missing", onEvent, platform } = options;
  const source = policy === "never" ? undefined : localSource(reference);
  if (source !== undefined || policy !== "always") {
    const known = await completeLocally(findLocalImage(readImages(store), reference, source, platform), options);
    if (known !== undefined) return { image: known, changed: false };
  }
  const name = formatReference(reference);
  if (policy === "never")
    throw new HutchError(`no image ${name} in the store`, { hint: `pull it first: hutch pull ${name}` });
  if (source === undefined) throw new HutchError(`${name}: no such file`, { from: watchedFile(reference) });
  const stored = await storeLocal(reference, options);
  const image = await nameImage(store, stored, { source }, onEvent);
  const place = sourcePlace(source);
  // The same place as it was before is not found again: forget it.
  const isStale = (other: StoredImage): boolean =>
    other.name === undefined &&
    other.source !== undefined &&
    other.source !== source &&
    sourcePlace(other.source) === place;
  await updateImages(store, (images) => ({ images: images.filter((other) => !isStale(other)), result: undefined }));
  return { image, changed: true };
}

async function storeLocal(reference: LocalReference, options: PullOptions): Promise<Stored> {
  const { store } = options;
  const { kind, file, name } = reference;
  if (kind === "oci") {
    using tree = openDirectoryTree(file);
    const entry = chooseEntry(await readLayoutIndex(tree), name, file);
    return await storeImage(store, createLayoutSource(tree, entry), options);
  }
  using archive = await openArchive(store, streamFile(file), file, options.limits?.compression);
  if (kind === "oci-archive") {
    const entry = chooseEntry(await readLayoutIndex(archive), name, file);
    return await storeImage(store, createLayoutSource(archive, entry), options);
  }
  const items = await readDockerManifest(archive);
  if (items === undefined) throw new HutchError(`${file}: not a docker archive (no manifest.json)`);
  return await storeImage(store, createDockerSource(archive, chooseItem(items, name, file)), options);
}

/** The image of a docker archive by `@INDEX` or by name; without either the only one. */
function chooseItem(items: readonly DockerItem[], name: string | undefined, file: string): DockerItem {
  const tags = items.flatMap((item) => item.tags);
  const hint = tags.length === 0 ? {} : { hint: `it has ${tags.slice(0, 10).join(", ")}` };
  const number = /^@(\d+)$/.exec(name ?? "")?.[1];
  const full = (tag: string): string => formatReference(parseReference(tag));
  const found =
    number !== undefined
      ? items[Number(number)]
      : name !== undefined
        ? items.find((item) => item.tags.some((tag) => full(tag) === full(name)))
        : items[0];
  if (found === undefined) throw new HutchError(`${file}: no image ${JSON.stringify(name ?? "")}`, hint);
  if (name === undefined && items.length > 1)
    throw new HutchError(`${file}: ${items.length} images in it, and none was named`, hint);
  return found;
}
