/**
 * Layers in use: a file in leases/ that says which, locked for as long as they must stay. The lock dies with whoever
 * holds it, so that a killed sandbox leaves nothing to clean but a file.
 */

import { call, rawCall } from "../libc/call.ts";
import { AT_FDCWD, closeFile, listNames, O, openAt, readAll, tryLock } from "../libc/file.ts";
import { writeAll } from "../libc/files.ts";
import { type Digest, isDigest } from "./digest.ts";
import type { Store } from "./store.ts";

export type Lease = Disposable & {
  /** The open, locked file: as long as a process has it, the layers stay. */
  readonly fd: number;
  /** Let the descriptor live on over execve(2), so that the launcher holds the lease. */
  readonly inherit: () => void;
};

const F_SETFD = 2;

/** Hold layers. The caller has the store's gc lock (shared) and has seen that they are there. */
export function createLease(store: Store, chain: readonly Digest[]): Lease {
  const path = `${store.leases}/${crypto.randomUUID()}`;
  const fd = openAt(AT_FDCWD, path, O.CREAT | O.EXCL | O.RDWR, 0o600);
  tryLock(fd, "exclusive");
  writeAll(fd, new TextEncoder().encode(chain.join("\n")));
  return {
    fd,
    inherit: () => void call("fcntl", fd, F_SETFD, 0),
    [Symbol.dispose]: () => {
      rawCall("unlinkat", AT_FDCWD, path, 0);
      closeFile(fd);
    },
  };
}

/** ChainIDs that somebody holds; files that nobody locks any more are removed. Only under the exclusive gc lock. */
export function heldLayers(store: Store): Set<Digest> {
  const held = new Set<Digest>();
  const directory = openAt(AT_FDCWD, store.leases, O.RDONLY | O.DIRECTORY);
  try {
    for (const name of listNames(directory)) {
      const fd = rawCall("openat", directory, name, O.RDWR | O.CLOEXEC | O.NOFOLLOW, 0);
      if (fd < 0) continue;
      if (tryLock(fd, "exclusive")) rawCall("unlinkat", directory, name, 0);
      else {
        const text = new TextDecoder().decode(readAll(fd, 1024 * 1024) ?? new Uint8Array());
        for (const line of text.split("\n")) if (isDigest(line)) held.add(line);
      }
      closeFile(fd);
    }
  } finally {
    closeFile(directory);
  }
  return held;
}
