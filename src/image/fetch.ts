/** Blobs from a source into the store: one download for all processes, resumed, verified. */

import { fdatasync } from "node:fs";
import { join } from "node:path";
import { HutchError } from "../errors.ts";
import { call, rawCall, systemError } from "../libc/call.ts";
import { AT_FDCWD, closeFile, O, openAt, statAt } from "../libc/file.ts";
import { writeAll } from "../libc/files.ts";
import { blobPath, hasBlob, verifyBytes } from "./blobs.ts";
import { createHasher, type Digest, splitDigest } from "./digest.ts";
import { JSON_LIMIT } from "./json.ts";
import type { Descriptor } from "./manifest.ts";
import { RegistryError } from "./registry-error.ts";
import type { ImageSource, OnEvent } from "./source.ts";
import { acquire, explainWrite, rename, type Store, syncDirectory } from "./store.ts";

/** A config or other small blob from a source: inline data, else asked for. Verified, not kept. */
export async function fetchSmallBlob(source: ImageSource, descriptor: Descriptor, where: string): Promise<Uint8Array> {
  if (descriptor.size > JSON_LIMIT)
    throw new HutchError(`${where}: ${descriptor.size} bytes are more than ${JSON_LIMIT}`);
  if (descriptor.data !== undefined) {
    const inline = new Uint8Array(Buffer.from(descriptor.data, "base64"));
    verifyBytes(inline, descriptor, `${where} (inline)`);
    return inline;
  }
  const { stream } = await source.blob(descriptor, 0);
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of stream) {
    length += chunk.byteLength;
    if (length > descriptor.size)
      throw new HutchError(`${where}: more than the ${descriptor.size} bytes it should have`);
    parts.push(chunk);
  }
  const bytes = new Uint8Array(Buffer.concat(parts));
  verifyBytes(bytes, descriptor, where);
  return bytes;
}

export type FetchOptions = {
  readonly onEvent?: OnEvent | undefined;
  /** Tries in a row that bring no byte before giving up, and the first pause between tries in ms. */
  readonly attempts?: number | undefined;
  readonly pause?: number | undefined;
  readonly signal?: AbortSignal | undefined;
};

/**
 * Bring a blob into the store: one process downloads, others wait for it. A broken connection goes on where it
 * stopped, in this process or the next.
 * @throws HutchError when the content is not what the descriptor says; the partial file is then gone
 */
export async function fetchBlob(
  store: Store,
  source: ImageSource,
  descriptor: Descriptor,
  options: FetchOptions = {},
): Promise<void> {
  const { digest, size } = descriptor;
  const { onEvent } = options;
  if (hasBlob(store, descriptor)) return onEvent?.({ kind: "layer", digest, size, state: "exists" });
  const { hex } = splitDigest(digest);
  using lock = await acquire(store, `blob-${hex}`, "exclusive", onEvent, `another download of ${digest}`);
  void lock;
  if (hasBlob(store, descriptor)) return onEvent?.({ kind: "layer", digest, size, state: "exists" });
  onEvent?.({ kind: "layer", digest, size, state: "download" });
  if (await adopt(store, source, descriptor)) return onEvent?.({ kind: "downloaded", digest, size });
  const path = join(store.partial, hex);
  const fd = openAt(AT_FDCWD, path, O.CREAT | O.RDWR | O.NOFOLLOW, 0o600);
  try {
    const partial = await resume(fd, digest, size);
    const isResumed = partial.length > 0;
    await downloadAll(fd, source, descriptor, partial, options);
    let actual = partial.hasher.digest();
    if (actual !== digest && isResumed) {
      // What an earlier process left may be damaged (a crash of the machine): once more from the start.
      restart(fd, partial, digest);
      await downloadAll(fd, source, descriptor, partial, options);
      actual = partial.hasher.digest();
    }
    if (actual !== digest) {
      rawCall("unlinkat", AT_FDCWD, path, 0);
      throw new HutchError(`${source.name}: blob ${digest} came with digest ${actual}`);
    }
    await syncData(fd, digest);
    rename(path, blobPath(store, digest));
    syncDirectory(join(blobPath(store, digest), ".."));
  } catch (error) {
    if (statAt(fd, "")?.size === 0) rawCall("unlinkat", AT_FDCWD, path, 0); // nothing to go on from
    throw explainWrite(error, store);
  } finally {
    closeFile(fd);
  }
  onEvent?.({ kind: "downloaded", digest, size });
}

type Partial = { length: number; hasher: ReturnType<typeof createHasher> };

/** Take a file that the source has already put into the store's file system and hashed. */
async function adopt(store: Store, source: ImageSource, { digest, size }: Descriptor): Promise<boolean> {
  const file = await source.adopt?.(digest);
  if (file === undefined) return false;
  const fd = openAt(AT_FDCWD, file, O.RDONLY);
  const actual = statAt(fd, "")?.size;
  try {
    await syncData(fd, digest);
  } finally {
    closeFile(fd);
  }
  if (actual !== size) throw new HutchError(`${source.name}: blob ${digest} has ${actual} bytes instead of ${size}`);
  call("linkat", AT_FDCWD, file, AT_FDCWD, blobPath(store, digest), 0);
  syncDirectory(join(blobPath(store, digest), ".."));
  return true;
}

/** fdatasync(2) while other layers are downloaded and unpacked. @throws SystemError */
function syncData(fd: number, digest: Digest): Promise<void> {
  return new Promise((resolve, reject) => {
    fdatasync(fd, (error) =>
      error === null ? resolve() : reject(systemError(`sync blob ${digest}`, Math.abs(error.errno ?? 5))),
    );
  });
}

/** Throw away what is there. */
function restart(fd: number, partial: Partial, digest: Digest): void {
  call("ftruncate", fd, 0);
  partial.length = 0;
  partial.hasher = createHasher(splitDigest(digest).algorithm);
}

/** Hash what an earlier try has left; too much of it is thrown away. */
async function resume(fd: number, digest: Digest, size: number): Promise<Partial> {
  const partial: Partial = { length: 0, hasher: createHasher(splitDigest(digest).algorithm) };
  const kept = statAt(fd, "")?.size ?? 0;
  if (kept > size) restart(fd, partial, digest);
  const buffer = new Uint8Array(1024 * 1024);
  while (kept <= size && partial.length < kept) {
    const count = call("pread64", fd, buffer, buffer.byteLength, partial.length);
    if (count === 0) break;
    partial.hasher.update(buffer.subarray(0, count));
    partial.length += count;
    await Promise.resolve();
  }
  return partial;
}

/** Try until the file has its length; a try that brings something costs nothing. */
async function downloadAll(
  fd: number,
  source: ImageSource,
  descriptor: Descriptor,
  partial: Partial,
  options: FetchOptions,
): Promise<void> {
  const { attempts = 3, pause = 500 } = options;
  for (let failures = 0; partial.length < descriptor.size;) {
    const before = partial.length;
    try {
      await download(fd, source, descriptor, partial, options);
    } catch (error) {
      if (!(error instanceof RegistryError) || error.connection === undefined) throw error;
      failures = partial.length > before ? 1 : failures + 1;
      if (failures >= attempts) throw error;
      await Bun.sleep(pause * 2 ** (failures - 1));
    }
  }
}

async function download(
  fd: number,
  source: ImageSource,
  descriptor: Descriptor,
  partial: Partial,
  { onEvent, signal }: FetchOptions,
): Promise<void> {
  const { digest, size } = descriptor;
  const { stream, offset } = await source.blob(descriptor, partial.length);
  if (offset !== partial.length) {
    if (offset !== 0) throw new HutchError(`${source.name}: blob ${digest} came from byte ${offset}`);
    restart(fd, partial, digest); // the source cannot skip
  }
  call("lseek", fd, partial.length, 0);
  for await (const chunk of stream) {
    signal?.throwIfAborted();
    if (partial.length + chunk.byteLength > size) {
      call("ftruncate", fd, 0);
      throw new HutchError(`${source.name}: blob ${digest} is longer than the ${size} bytes that its manifest says`);
    }
    writeAll(fd, chunk);
    partial.hasher.update(chunk);
    partial.length += chunk.byteLength;
    onEvent?.({ kind: "bytes", digest, done: partial.length, size });
  }
  if (partial.length < size) {
    // A connection that ends early and a registry that lies about sizes look the same: another try tells.
    throw new RegistryError(`${source.name}: blob ${digest} ended after ${partial.length} of ${size} bytes`, {
      connection: "broken",
    });
  }
}
