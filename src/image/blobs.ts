/** Blobs of the store: whole, verified, named by their digest. */

import { HutchError } from "../errors.ts";
import { rawCall, systemError } from "../libc/call.ts";
import { AT_FDCWD, closeFile, O, statAt } from "../libc/file.ts";
import { type Digest, digestOf, splitDigest } from "./digest.ts";
import { JSON_LIMIT } from "./json.ts";
import { readFileBounded, type Store, writeFileAtomic } from "./store.ts";

/** Where a blob is, or will be. */
export function blobPath(store: Store, digest: Digest): string {
  const { algorithm, hex } = splitDigest(digest);
  return `${store.images}/blobs/${algorithm}/${hex}`;
}

/** True when the store has the blob whole. What has its name was verified before it got it. */
export function hasBlob(store: Store, { digest, size }: { readonly digest: Digest; readonly size: number }): boolean {
  return statAt(AT_FDCWD, blobPath(store, digest))?.size === size;
}

/** Check bytes against a descriptor. @throws HutchError on a wrong size or digest */
export function verifyBytes(
  bytes: Uint8Array,
  { digest, size }: { readonly digest: Digest; readonly size: number },
  where: string,
): void {
  if (bytes.byteLength !== size) throw new HutchError(`${where}: ${bytes.byteLength} bytes instead of ${size}`);
  const actual = digestOf(bytes, splitDigest(digest).algorithm);
  if (actual !== digest) throw new HutchError(`${where}: content has digest ${actual}, not ${digest}`);
}

/** Keep bytes whose digest is known to be right. */
export function writeBlob(store: Store, digest: Digest, bytes: Uint8Array): void {
  if (!hasBlob(store, { digest, size: bytes.byteLength })) writeFileAtomic(store, blobPath(store, digest), bytes);
}

/** A small blob's bytes, verified again. @throws HutchError when it is missing */
export function readBlob(store: Store, descriptor: { readonly digest: Digest; readonly size: number }): Uint8Array {
  const bytes = readFileBounded(blobPath(store, descriptor.digest), JSON_LIMIT);
  if (bytes === undefined) {
    throw new HutchError(`the store lacks ${descriptor.digest}`, { hint: "pull or load the image again" });
  }
  verifyBytes(bytes, descriptor, `blob ${descriptor.digest}`);
  return bytes;
}

const PIECE = 1024 * 1024;

/** Which of the user's words named a file, and what to do when it cannot be had. */
type Asked = { readonly from?: string; readonly hint?: string };

/** The bytes of an open file or pipe from where it stands, in pieces of up to a mebibyte. It is not closed. @throws SystemError */
export async function* streamDescriptor(
  fd: number,
  what = "standard input",
  asked: Asked = {},
): AsyncGenerator<Uint8Array> {
  for (;;) {
    const buffer = new Uint8Array(PIECE); // its own memory: zlib may still hold the last one
    const count = rawCall("read", fd, buffer, PIECE);
    if (count < 0) throw systemError(`read ${what}`, -count, asked);
    if (count === 0) return;
    yield buffer.subarray(0, count);
  }
}

/** The bytes of a file. @throws SystemError */
export async function* streamFile(path: string, asked: Asked = {}): AsyncGenerator<Uint8Array> {
  const fd = rawCall("openat", AT_FDCWD, path, O.RDONLY | O.CLOEXEC, 0);
  if (fd < 0) throw systemError(`open ${path}`, -fd, asked);
  try {
    yield* streamDescriptor(fd, path, asked);
  } finally {
    closeFile(fd);
  }
}

/** A blob as a stream. */
export function streamBlob(store: Store, digest: Digest): AsyncIterable<Uint8Array> {
  return streamFile(blobPath(store, digest));
}
