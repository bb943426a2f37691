/**
 * What a plain run (cli/run-plain.ts) wants of an image, in one small file for each name that it was run by:
 * `plain/NAME` in the store. It stands for what index.json, the manifest and the config say, and holds as long as index.json
 * is the file that it was made from: every pull, load and removal puts another in its place. A lost or damaged one costs
 * a run those reads.
 */

import { decodeBytes } from "../bytes.ts";
import { rawCall } from "../libc/call.ts";
import { AT_SYMLINK_NOFOLLOW } from "../libc/constants.ts";
import { AT_FDCWD, closeFile, O } from "../libc/file.ts";
import { readAll, writeAll } from "../libc/files.ts";
import type { Digest } from "./digest.ts";
import { createLease, type Lease } from "./lease.ts";
import { makeDirectory, type Store, temporaryPath, tryAcquire } from "./store.ts";

/** What a plain run wants to know. Absent members are undefined, as in an image's config. */
interface PlainImage {
  /** ChainIDs, lowest layer first. */
  readonly chain: readonly Digest[];
  readonly entrypoint?: readonly string[] | undefined;
  readonly cmd?: readonly string[] | undefined;
  readonly env?: readonly string[] | undefined;
}

interface Kept extends PlainImage {
  readonly word: string;
  readonly list: string;
}

const LIMIT = 1024 * 1024;
/** Changes with what is in the files. */
const FORMAT = 1;

/**
 * Which index.json this is, and who reads it: another architecture may find another image in it. It is inode and size, and
 * the time of the last change, of struct statx as its bytes are: numbers of 64 bits cost a start a tenth of a millisecond.
 */
export function listState(store: Store): string | undefined {
  const buffer = new Uint8Array(256);
  const result = rawCall("statx", AT_FDCWD, `${store.images}/index.json`, AT_SYMLINK_NOFOLLOW, 0x7ff, buffer);
  if (result < 0) return undefined;
  const [inodeAndSize, mtime] = [buffer.subarray(32, 48), buffer.subarray(112, 124)];
  return `${FORMAT} ${process.arch} ${inodeAndSize.join(".")}-${mtime.join(".")}`;
}

/** A name holds slashes, and no percent sign. */
const pathOf = (store: Store, word: string): string => `${store.plain}/${word.replaceAll("/", "%")}`;

/**
 * The image that a plain run of this name last had, with its layers held, as far as the store still says the same. Whether
 * they are there the caller sees when it looks at their directories. undefined when anything is not as it was.
 */
export function openPlainImage(store: Store, word: string): { image: PlainImage; lease: Lease } | undefined {
  const fd = rawCall("openat", AT_FDCWD, pathOf(store, word), O.RDONLY | O.CLOEXEC | O.NOFOLLOW, 0);
  if (fd < 0) return undefined;
  let kept: Kept | null;
  try {
    kept = JSON.parse(decodeBytes(readAll(fd, LIMIT))) as Kept | null;
  } catch {
    return undefined; // a power cut may leave it empty
  } finally {
    closeFile(fd);
  }
  if (kept?.word !== word || !Array.isArray(kept.chain)) return undefined;
  using gc = tryAcquire(store, "gc", "shared");
  if (gc === undefined || kept.list !== listState(store)) return undefined;
  return { image: kept, lease: createLease(store, kept.chain) };
}

/** Keep it for the next run. `list` is {@link listState} from before the image was looked up. */
export function keepPlainImage(store: Store, word: string, list: string, image: PlainImage): void {
  if (word.includes("%")) return;
  const temporary = temporaryPath(store);
  const kept: Kept = { word, list, ...image };
  try {
    makeDirectory(store.plain, 0o700);
    const fd = rawCall("openat", AT_FDCWD, temporary, O.CREAT | O.EXCL | O.WRONLY | O.CLOEXEC, 0o600);
    if (fd < 0) return;
    try {
      writeAll(fd, new TextEncoder().encode(JSON.stringify(kept)));
    } finally {
      closeFile(fd);
    }
    if (rawCall("renameat2", AT_FDCWD, temporary, AT_FDCWD, pathOf(store, word), 0) >= 0) return;
  } catch {
    // a full disk is no reason not to run
  }
  rawCall("unlinkat", AT_FDCWD, temporary, 0);
}
