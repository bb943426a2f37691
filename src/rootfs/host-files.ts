/**
 * What the closure needs to see of the host's files, and nothing more: tests give a table instead. The real one makes
 * system calls itself (src/libc), as a `hutch run --add` waits for it.
 */

import {
  closeDescriptor,
  descriptorStatus,
  directoryNames,
  isErrno,
  linkTarget,
  openForReading,
  pathStatus,
  readAt,
} from "../libc/files.ts";
import type { ByteSource } from "./elf.ts";

/** Why a path could not be opened as a regular file. `denied`: the caller lacks permission. */
export type OpenFailure = "absent" | "denied" | "not-a-file";

/** An open regular file. `mode` has the permission bits; `size` is in bytes. */
export interface HostFile extends ByteSource {
  readonly mode: number;
  close(): void;
}

export interface HostFiles {
  /** Target of the link at a path whose parents hold no link; null: something else is there; undefined: nothing is. */
  readLink(path: string): string | null | undefined;
  /** Open what a path leads to, links followed, when it is a regular file. */
  open(path: string): HostFile | OpenFailure;
  /** What a path leads to, links followed; `size` in bytes. */
  status(path: string): { readonly kind: "absent" | "directory" | "file" | "other"; readonly size: number };
  /** Names in a directory, sorted; none when it is absent or unreadable. */
  list(path: string): readonly string[];
}

/** The host's own files. */
export function realHostFiles(): HostFiles {
  const scratch = new Uint8Array(4096);
  return {
    readLink(path) {
      const target = linkTarget(path, scratch);
      if (typeof target === "string") return target;
      return isErrno(target, "EINVAL") ? null : undefined;
    },
    open(path) {
      const fd = openForReading(path);
      // ENXIO: a socket or a FIFO; ELOOP, ENOTDIR and ENAMETOOLONG lead nowhere, as ld.so and execve see it.
      if (fd < 0) return isErrno(fd, "EACCES") ? "denied" : isErrno(fd, "ENXIO") ? "not-a-file" : "absent";
      const { kind, mode, size } = descriptorStatus(fd);
      if (kind !== "file") {
        closeDescriptor(fd);
        return "not-a-file";
      }
      return { size, mode, read: (offset, length) => readAt(fd, offset, length), close: () => closeDescriptor(fd) };
    },
    status(path) {
      const status = pathStatus(path);
      if (typeof status === "number") return { kind: "absent", size: 0 };
      return { kind: status.kind === "symlink" ? "other" : status.kind, size: status.size };
    },
    list(path) {
      const names = directoryNames(path);
      return typeof names === "number" ? [] : names.toSorted();
    },
  };
}

/** All bytes of a regular file up to `limit` bytes; undefined when it cannot be opened. */
export function readWhole(host: HostFiles, path: string, limit: number): Uint8Array | undefined {
  const file = host.open(path);
  if (typeof file === "string") return undefined;
  try {
    return file.read(0, Math.min(file.size, limit));
  } finally {
    file.close();
  }
}
