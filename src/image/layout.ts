/** An OCI image layout (image-spec image-layout.md) as a source: in a directory, or unpacked from an archive. */

import { HutchError } from "../errors.ts";
import { call, rawCall, systemError } from "../libc/call.ts";
import { AT_FDCWD, closeFile, O, openBeneath, readAll, S_IF, statAt } from "../libc/file.ts";
import { isErrno } from "../libc/files.ts";
import { verifyBytes } from "./blobs.ts";
import { type Digest, splitDigest } from "./digest.ts";
import { JSON_LIMIT, optionalString, parseJsonObject } from "./json.ts";
import { type Descriptor, type Index, parseManifest } from "./manifest.ts";
import type { BlobStream, ImageSource } from "./source.ts";

/** Files by relative path, of a directory or an archive. Only regular files are there. */
export type FileTree = {
  /** For errors: the path that the user gave. */
  readonly name: string;
  /** A whole file of at most `limit` bytes; undefined when it is absent. @throws HutchError when it is larger */
  readonly read: (path: string, limit: number) => Promise<Uint8Array | undefined>;
  readonly stream: (path: string, offset: number) => Promise<AsyncIterable<Uint8Array> | undefined>;
  /** A file of the archive by digest, where the tree has hashed all of them. */
  readonly adopt?: (digest: Digest) => Promise<string | undefined>;
};

/** Nothing of that name, a link or mount in the way, a socket. Any other error says nothing about what is there. */
const ABSENT = ["ENOENT", "ENOTDIR", "ELOOP", "EXDEV", "ENXIO", "ENAMETOOLONG"];

/** The files of a directory; links in it are not followed, FIFOs and devices are not opened for good. */
export function openDirectoryTree(path: string): FileTree & Disposable {
  const root = rawCall("openat", AT_FDCWD, path, O.PATH | O.DIRECTORY | O.CLOEXEC, 0);
  if (root < 0) throw systemError(`open ${path}`, -root, { hint: "oci: wants the directory of an OCI layout" });
  const open = (name: string): number | undefined => {
    const fd = openBeneath(root, name, O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
    if (ABSENT.some((error) => isErrno(fd, error))) return undefined;
    if (fd < 0) throw systemError(`open ${path}/${name}`, -fd);
    if (statAt(fd, "")?.type === S_IF.REG) return fd;
    closeFile(fd);
    return undefined;
  };
  async function* pieces(fd: number, offset: number): AsyncGenerator<Uint8Array> {
    try {
      call("lseek", fd, offset, 0);
      for (;;) {
        const buffer = new Uint8Array(1024 * 1024);
        const count = call("read", fd, buffer, buffer.byteLength);
        if (count === 0) return;
        yield buffer.subarray(0, count);
      }
    } finally {
      closeFile(fd);
    }
  }
  return {
    name: path,
    read: async (name, limit) => {
      const fd = open(name);
      if (fd === undefined) return undefined;
      try {
        const bytes = readAll(fd, limit);
        if (bytes === undefined) throw new HutchError(`${path}/${name}: larger than ${limit} bytes`);
        return bytes;
      } finally {
        closeFile(fd);
      }
    },
    stream: async (name, offset) => {
      const fd = open(name);
      return fd === undefined ? undefined : pieces(fd, offset);
    },
    [Symbol.dispose]: () => closeFile(root),
  };
}

const NAMES = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];

/** Read a layout's index. @throws HutchError when the tree is no layout */
export async function readLayoutIndex(tree: FileTree): Promise<Index> {
  const marker = await tree.read("oci-layout", JSON_LIMIT);
  const bytes = await tree.read("index.json", JSON_LIMIT);
  if (marker === undefined || bytes === undefined)
    throw new HutchError(`${tree.name}: not an OCI layout (no index.json and oci-layout)`);
  const version = optionalString(
    parseJsonObject(marker, `${tree.name}/oci-layout`),
    "imageLayoutVersion",
    "oci-layout",
  );
  if (version !== "1.0.0")
    throw new HutchError(`${tree.name}: OCI layout of unknown version ${JSON.stringify(version)}`);
  const index = parseManifest(bytes, undefined, `${tree.name}/index.json`);
  if (index.kind !== "index") throw new HutchError(`${tree.name}/index.json: not an index`);
  return index;
}

/** The names of an entry of an index: the full name first where a tool has kept it. */
export function entryNamesOf(descriptor: Descriptor): string[] {
  const values = NAMES.toReversed().map((key) => descriptor.annotations?.[key]);
  return values.filter((value) => value !== undefined && value !== "") as string[];
}

/** The entry that a name means; without a name the only one. @throws HutchError naming what there is */
export function chooseEntry(index: Index, name: string | undefined, where: string): Descriptor {
  const known = [...new Set(index.manifests.flatMap(entryNamesOf))];
  const hint = known.length === 0 ? {} : { hint: `it has ${known.slice(0, 10).join(", ")}` };
  if (name !== undefined) {
    const found = index.manifests.find((entry) => entryNamesOf(entry).includes(name));
    if (found === undefined) throw new HutchError(`${where}: no image named ${JSON.stringify(name)}`, hint);
    return found;
  }
  const [only, ...others] = index.manifests;
  if (only === undefined) throw new HutchError(`${where}: no image in it`);
  if (others.length > 0) throw new HutchError(`${where}: ${others.length + 1} images in it, and none was named`, hint);
  return only;
}

const blobName = (digest: Digest): string => {
  const { algorithm, hex } = splitDigest(digest);
  return `blobs/${algorithm}/${hex}`;
};

/** A layout's entry as a source. */
export function createLayoutSource(tree: FileTree, entry: Descriptor): ImageSource {
  const missing = (digest: Digest): never => {
    throw new HutchError(`${tree.name}: no blob ${digest}`);
  };
  async function manifest(descriptor: Descriptor): Promise<Uint8Array> {
    if (descriptor.size > JSON_LIMIT) throw new HutchError(`${tree.name}: manifest of ${descriptor.size} bytes`);
    return (await tree.read(blobName(descriptor.digest), JSON_LIMIT)) ?? missing(descriptor.digest);
  }
  async function blob({ digest }: Descriptor, offset: number): Promise<BlobStream> {
    return { stream: (await tree.stream(blobName(digest), offset)) ?? missing(digest), offset };
  }
  return {
    name: tree.name,
    head: async () => entry.digest,
    root: async () => {
      const bytes = await manifest(entry);
      verifyBytes(bytes, entry, `${tree.name}: manifest ${entry.digest}`);
      return { bytes, mediaType: entry.mediaType || undefined, digest: entry.digest };
    },
    manifest,
    blob,
    ...(tree.adopt === undefined ? {} : { adopt: tree.adopt }),
  };
}
