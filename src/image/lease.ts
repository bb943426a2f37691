/**
 * Layers in use: for each stack of layers a file in leases/ that says which they are, locked (shared) by every sandbox
 * for as long as they must stay. A lock dies with whoever holds it, so that a killed sandbox leaves nothing to clean, and
 * only the first to use an image writes anything: a stored image runs on a full disk too.
 */

import { encodeBytes } from "../bytes.ts";
import { HutchError } from "../errors.ts";
import { call, rawCall } from "../libc/call.ts";
import { AT_FDCWD, closeFile, listNames, O, openAt, readAll, tryLock } from "../libc/file.ts";
import { writeAll } from "../libc/files.ts";
import { type Digest, isDigest, splitDigest } from "./digest.ts";
import { explainWrite, isDiskFull, type Store } from "./store.ts";

export type Lease = Disposable & {
  /** The open, locked file: as long as a process has it, the layers stay. */
  readonly fd: number;
  /** Let the descriptor live on over execve(2), so that the launcher holds the lease. */
  readonly inherit: () => void;
};

const F_SETFD = 2;
const SEEK_END = 2;
/** In the place of a ChainID, for images without layers. */
const NO_LAYER: Digest = "sha256:none";

/** Hold layers. The caller has the store's gc lock (shared) and has seen that they are there. */
export function createLease(store: Store, chain: readonly Digest[]): Lease {
  const path = `${store.leases}/${splitDigest(chain[chain.length - 1] ?? NO_LAYER).hex}`; // a ChainID stands for those below it, too
  const fd = openAt(AT_FDCWD, path, O.CREAT | O.RDWR | O.NOFOLLOW, 0o600);
  try {
    if (!tryLock(fd, "shared")) throw new HutchError(`${path} is locked by another program`);
    const text = encodeBytes(chain.join("\n"));
    if (call("lseek", fd, 0, SEEK_END) !== text.byteLength) {
      call("lseek", fd, 0, 0); // new, or its maker was killed or had no space
      writeOrLeave(fd, text);
    }
  } catch (error) {
    closeFile(fd);
    throw explainWrite(error, store);
  }
  return {
    fd,
    inherit: () => void call("fcntl", fd, F_SETFD, 0),
    [Symbol.dispose]: () => closeFile(fd),
  };
}

/** Write what is held. A full disk is no reason not to run: a locked file that does not say it holds all layers. */
function writeOrLeave(fd: number, text: Uint8Array): void {
  try {
    writeAll(fd, text);
  } catch (error) {
    if (!isDiskFull(error)) throw error;
  }
}

/**
 * ChainIDs that somebody holds, or "all" when one does not say which; files that nobody locks any more are removed. Only
 * under the exclusive gc lock.
 */
export function heldLayers(store: Store): Set<Digest> | "all" {
  const held = new Set<Digest>();
  let isAll = false;
  const directory = openAt(AT_FDCWD, store.leases, O.RDONLY | O.DIRECTORY);
  try {
    for (const name of listNames(directory)) {
      const fd = rawCall("openat", directory, name, O.RDWR | O.CLOEXEC | O.NOFOLLOW, 0);
      if (fd < 0) continue;
      if (tryLock(fd, "exclusive")) rawCall("unlinkat", directory, name, 0);
      else {
        const text = new TextDecoder().decode(readAll(fd, 1024 * 1024) ?? new Uint8Array());
        const lines = text.split("\n").filter(isDigest);
        for (const line of lines) held.add(line);
        isAll ||= lines.length === 0 ? name !== splitDigest(NO_LAYER).hex : !lines.at(-1)?.endsWith(`:${name}`);
      }
      closeFile(fd);
    }
  } finally {
    closeFile(directory);
  }
  return isAll ? "all" : held;
}
