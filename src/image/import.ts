/** `hutch import`: a tar archive of a root file system as an image of one layer. */

import { HutchError } from "../errors.ts";
import { AT_FDCWD, closeFile, O, openAt } from "../libc/file.ts";
import { writeAll } from "../libc/files.ts";
import { rawCall } from "../libc/call.ts";
import { streamFile } from "./blobs.ts";
import { decompress, sniffCompression } from "./decompress.ts";
import { createHasher, type Digest, digestOf } from "./digest.ts";
import type { InstructedConfig } from "./instructions.ts";
import type { OpenImage } from "./lookup.ts";
import { type Descriptor, MEDIA } from "./manifest.ts";
import { hostPlatform } from "./platform.ts";
import { nameImage } from "./pull.ts";
import type { ImageSource } from "./source.ts";
import { storeImage, type StoreOptions } from "./store-image.ts";
import { acquire, explainWrite, type Store, temporaryPath } from "./store.ts";
import { createTarReader } from "./tar-reader.ts";
import { entryNames } from "./unpack.ts";

export type ImportOptions = StoreOptions & {
  readonly store: Store;
  /** The archive, plain or compressed by gzip or zstd, and what to call it in errors. */
  readonly archive: AsyncIterable<Uint8Array>;
  readonly where: string;
  /** The full name that the image gets. */
  readonly name: string;
  readonly config: InstructedConfig;
  /** The comment of its one step of history. */
  readonly message: string;
};

/** A layer as it is on disk, in the store's tmp/. */
type Spooled = { readonly file: string; readonly layer: Descriptor; readonly diffId: Digest };

const OTHERS: readonly (readonly [tool: string, magic: readonly number[]])[] = [
  ["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ["bzip2", [0x42, 0x5a, 0x68]],
  ["lzip", [0x4c, 0x5a, 0x49, 0x50]],
  ["lz4", [0x04, 0x22, 0x4d, 0x18]],
];

/**
 * Read an archive once, into the store, and unpack it there as any other layer, byte for byte the one that was given. Nothing
 * names it before it is whole. @throws HutchError when it is refused
 */
export async function importImage(options: ImportOptions): Promise<OpenImage> {
  const { store, name, onEvent } = options;
  using gc = await acquire(store, "gc", "shared", onEvent, "hutch prune");
  void gc;
  const file = temporaryPath(store);
  try {
    const spooled = await spool(file, options);
    const stored = await storeImage(store, sourceOf(spooled, options), options).catch((error: unknown) => {
      throw explainLayer(error, options.where);
    });
    return await nameImage(store, stored, { name }, onEvent);
  } catch (error) {
    throw explainWrite(error, store);
  } finally {
    rawCall("unlinkat", AT_FDCWD, file, 0);
  }
}

/**
 * Write the archive as it comes into a file, hashed as it is and as what it holds. Nobody says what its digest must be, so one
 * that may have been cut short is refused: a tar archive ends with two blocks of zeros (pax(1), "ustar Interchange Format").
 */
async function spool(file: string, { archive, where, limits, onEvent }: ImportOptions): Promise<Spooled> {
  const fd = openAt(AT_FDCWD, file, O.CREAT | O.EXCL | O.WRONLY | O.NOFOLLOW, 0o600);
  const [packed, unpacked] = [createHasher(), createHasher()];
  let [head, size] = [new Uint8Array(), 0];
  const top = new Set<string>();
  async function* kept(): AsyncGenerator<Uint8Array> {
    for await (const chunk of archive) {
      if (head.length < 8) head = new Uint8Array(Buffer.concat([head, chunk.subarray(0, 8)]));
      writeAll(fd, chunk, file);
      packed.update(chunk);
      size += chunk.byteLength;
      yield chunk;
    }
  }
  try {
    const reader = createTarReader((entry) => {
      const [first, second] = entryNames(entry.name);
      if (first !== undefined && second === undefined) top.add(first);
      return undefined;
    });
    for await (const chunk of decompress(kept(), where, limits?.compression)) {
      unpacked.update(chunk);
      reader.write(chunk);
    }
    reader.end();
    if (!reader.hasEnded())
      throw new HutchError("tar: no end of the archive", { hint: "it was cut short, or is no tar archive" });
  } catch (error) {
    throw explainArchive(error, head, where);
  } finally {
    closeFile(fd);
  }
  if (top.has("oci-layout") || (top.has("manifest.json") && top.has("repositories")))
    onEvent?.({ kind: "warning", text: `${where} looks like an archive of images, which hutch load reads` });
  const kind = sniffCompression(head);
  const mediaType = kind === "none" ? MEDIA.ociLayer : `${MEDIA.ociLayer}+${kind}`;
  return { file, layer: { mediaType, digest: packed.digest(), size }, diffId: unpacked.digest() };
}

/** A layer that is refused is the user's archive. */
function explainLayer(error: unknown, where: string): unknown {
  if (!(error instanceof HutchError) || error.name !== "HutchError") return error;
  const hint = error.hint === undefined ? {} : { hint: error.hint };
  return new HutchError(error.message, { from: where, ...hint, cause: error });
}

/** What is wrong with an archive, with the tool for one that hutch does not decompress. */
function explainArchive(error: unknown, head: Uint8Array, where: string): unknown {
  const [tool] = OTHERS.find(([, magic]) => magic.every((byte, i) => head[i] === byte)) ?? [];
  if (!(error instanceof HutchError) || error.name !== "HutchError") return error;
  if (tool !== undefined)
    return new HutchError(`${where}: compressed by ${tool}, which hutch does not read`, {
      hint: `${tool} -dc FILE | hutch import - NAME`,
      cause: error,
    });
  const message = error.message.startsWith(where) ? error.message : `${where}: ${error.message}`;
  return new HutchError(message, { hint: error.hint ?? "is this a tar archive of a root file system?", cause: error });
}

/** The image around a layer: its config and manifest are made here, and stored as those of any other source. */
function sourceOf({ file, layer, diffId }: Spooled, { where, config, message, platform }: ImportOptions): ImageSource {
  const encode = (value: object): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
  const created = new Date().toISOString();
  const { os, architecture, variant } = platform ?? hostPlatform();
  const configBytes = encode({
    created,
    architecture,
    os,
    ...(variant === undefined ? {} : { variant }),
    config,
    rootfs: { type: "layers", diff_ids: [diffId] },
    history: [{ created, created_by: "hutch import", comment: message }],
  });
  const configDigest = digestOf(configBytes);
  const manifestBytes = encode({
    schemaVersion: 2,
    mediaType: MEDIA.ociManifest,
    config: { mediaType: MEDIA.ociConfig, digest: configDigest, size: configBytes.byteLength },
    layers: [layer],
  });
  const digest = digestOf(manifestBytes);
  async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
    yield bytes;
  }
  return {
    name: where,
    head: async () => digest,
    root: async () => ({ bytes: manifestBytes, mediaType: MEDIA.ociManifest, digest }),
    manifest: async () => manifestBytes,
    blob: async (wanted, offset) =>
      wanted.digest === configDigest
        ? { stream: once(configBytes), offset: 0 }
        : { stream: streamFile(file, offset), offset },
    adopt: async (wanted) => (wanted === layer.digest ? file : undefined),
  };
}
