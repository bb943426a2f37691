/**
 * Archives of images: an OCI layout in a tar file, or what `docker save` writes, old and new. An archive is read once,
 * from a file or a pipe, compressed or not: its files go into the store's tmp/ and are hashed on the way; nothing is
 * ever opened by a name that the archive chose.
 */

import { join } from "node:path";
import { HutchError } from "../errors.ts";
import { call } from "../libc/call.ts";
import { AT_FDCWD, closeFile, O, openAt } from "../libc/file.ts";
import { writeAll } from "../libc/files.ts";
import { streamFile } from "./blobs.ts";
import { decompress, type DecompressLimits, sniffCompression } from "./decompress.ts";
import { createHasher, type Digest, digestOf } from "./digest.ts";
import { asObject, asString, JSON_LIMIT, optionalArray, requiredString } from "./json.ts";
import { removeByPath } from "./layers.ts";
import type { FileTree } from "./layout.ts";
import { type Descriptor, MEDIA } from "./manifest.ts";
import { pathNames, resolveInRoot } from "./merged-view.ts";
import type { ImageSource } from "./source.ts";
import { explainWrite, readFileBounded, type Store, temporaryPath } from "./store.ts";
import { createTarReader, type TarEntry, type TarSink } from "./tar-reader.ts";
import { entryNames } from "./unpack.ts";

type Spooled = { readonly kind: "file"; readonly file: string; readonly size: number; digest: Digest };
type Item =
  Spooled | { readonly kind: "link"; readonly target: string } | { readonly kind: "alias"; readonly target: string };

export type Archive = FileTree &
  Disposable & {
    /** Size, digest and first bytes of a file, links in the archive followed. */
    readonly describe: (path: string) => { size: number; digest: Digest; head: Uint8Array } | undefined;
  };

const ENTRY_LIMIT = 200_000;
/** Bytes of names and of links' targets, which are kept in memory. */
const NAMES_LIMIT = 64 * 1024 * 1024;

/** Read an archive into the store's tmp/; disposing of it removes what was not taken. @throws HutchError */
export async function openArchive(
  store: Store,
  source: AsyncIterable<Uint8Array>,
  name: string,
  compression?: DecompressLimits,
): Promise<Archive> {
  const directory = temporaryPath(store);
  call("mkdirat", AT_FDCWD, directory, 0o700);
  const items = new Map<string, Item>();
  let entries = 0;
  let names = 0;
  const dispose = (): void => removeByPath(directory);
  let isTar = false;
  try {
    const reader = createTarReader((entry) => {
      isTar = true;
      entries += 1;
      names += entry.name.length + entry.link.length;
      if (entries > ENTRY_LIMIT) throw new HutchError(`more than ${ENTRY_LIMIT} files`);
      if (names > NAMES_LIMIT) throw new HutchError(`names of more than ${NAMES_LIMIT} bytes`);
      // By its number in the archive: a file that comes twice must not write into one that has been hashed.
      return spool(entry, join(directory, String(entries)), items);
    });
    for await (const chunk of decompress(source, name, compression)) reader.write(chunk);
    reader.end();
  } catch (error) {
    dispose();
    if (error instanceof HutchError && !error.message.startsWith(name) && error.name === "HutchError") {
      const hint = isTar ? {} : { hint: "is this an archive of images?" };
      throw new HutchError(`${name}: ${error.message}`, { cause: error, ...hint });
    }
    throw explainWrite(error, store);
  }
  const byDigest = new Map<Digest, Spooled>();
  for (const item of items.values()) if (item.kind === "file") byDigest.set(item.digest, item);

  function find(path: string): Spooled | undefined {
    const kindOf = (at: string) => {
      const item = items.get(at);
      return item !== undefined && item.kind !== "file"
        ? { link: item.kind === "link" ? item.target : `/${item.target}` }
        : "absent";
    };
    const item = items.get(resolveInRoot(pathNames(path), kindOf));
    return item?.kind === "file" ? item : undefined;
  }

  return {
    name,
    describe: (path) => {
      const item = find(path);
      if (item === undefined) return undefined;
      const head = new Uint8Array(8);
      const fd = openAt(AT_FDCWD, item.file, O.RDONLY);
      const count = call("read", fd, head, 8);
      closeFile(fd);
      return { size: item.size, digest: item.digest, head: head.subarray(0, count) };
    },
    read: async (path, limit) => {
      const item = find(path);
      return item === undefined ? undefined : readFileBounded(item.file, limit);
    },
    stream: async (path, offset) => {
      const item = find(path);
      return item === undefined ? undefined : streamFile(item.file, offset);
    },
    adopt: async (digest) => byDigest.get(digest)?.file,
    [Symbol.dispose]: dispose,
  };
}

function spool(entry: TarEntry, file: string, items: Map<string, Item>): TarSink | undefined {
  const path = entryNames(entry.name).join("/");
  if (entry.type === "symlink") return void items.set(path, { kind: "link", target: entry.link });
  if (entry.type === "hardlink")
    return void items.set(path, { kind: "alias", target: entryNames(entry.link).join("/") });
  if (entry.type !== "file") return undefined;
  const fd = openAt(AT_FDCWD, file, O.CREAT | O.EXCL | O.WRONLY | O.NOFOLLOW, 0o600);
  const hasher = createHasher();
  let length = 0;
  return {
    data: (chunk, offset) => {
      if (offset !== length) throw new HutchError(`sparse file ${JSON.stringify(path)}`);
      writeAll(fd, chunk);
      hasher.update(chunk);
      length += chunk.byteLength;
    },
    end: () => {
      closeFile(fd);
      items.set(path, { kind: "file", file, size: length, digest: hasher.digest() });
    },
  };
}

/** One image of a docker archive (manifest.json). */
export type DockerItem = {
  readonly config: string;
  readonly tags: readonly string[];
  readonly layers: readonly string[];
};

/** Read manifest.json; undefined when there is none. @throws HutchError */
export async function readDockerManifest(archive: Archive): Promise<DockerItem[] | undefined> {
  const bytes = await archive.read("manifest.json", JSON_LIMIT);
  return bytes === undefined ? undefined : parseDockerManifest(bytes, `${archive.name}/manifest.json`);
}

/** The bytes of a manifest.json, as `docker save` writes it. @throws HutchError */
export function parseDockerManifest(bytes: Uint8Array, where: string): DockerItem[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder().decode(bytes));
  } catch (error) {
    throw new HutchError(`${where}: not JSON`, { cause: error });
  }
  if (!Array.isArray(parsed)) throw new HutchError(`${where}: must be an array`);
  return parsed.slice(0, 10_000).map((value, i) => {
    const at = `${where}[${i}]`;
    const object = asObject(value, at);
    return {
      config: requiredString(object, "Config", at),
      tags: optionalArray(object, "RepoTags", at, 1000, asString) ?? [],
      layers: optionalArray(object, "Layers", at, 1000, asString) ?? [],
    };
  });
}

/** The image of a docker archive as a source: its manifest is made from what the files really are. */
export function createDockerSource(archive: Archive, item: DockerItem): ImageSource {
  const describe = (path: string, mediaType: (head: Uint8Array) => string): Descriptor => {
    const found = archive.describe(path);
    if (found === undefined) throw new HutchError(`${archive.name}: no file ${JSON.stringify(path)}`);
    return { mediaType: mediaType(found.head), digest: found.digest, size: found.size };
  };
  const config = describe(item.config, () => MEDIA.ociConfig);
  const layers = item.layers.map((path) =>
    describe(path, (head) => {
      const compression = sniffCompression(head);
      return compression === "none" ? MEDIA.ociLayer : `${MEDIA.ociLayer}+${compression}`;
    }),
  );
  const manifest = { schemaVersion: 2, mediaType: MEDIA.ociManifest, config, layers };
  const bytes = new TextEncoder().encode(JSON.stringify(manifest));
  const digest = digestOf(bytes);
  return {
    name: archive.name,
    head: async () => digest,
    root: async () => ({ bytes, mediaType: MEDIA.ociManifest, digest }),
    manifest: async () => {
      throw new HutchError(`${archive.name}: no further manifests`);
    },
    blob: async (descriptor, offset) => {
      const file = await archive.adopt?.(descriptor.digest);
      if (file === undefined || offset !== 0) throw new HutchError(`${archive.name}: no blob ${descriptor.digest}`);
      return { stream: streamFile(file), offset: 0 };
    },
    ...(archive.adopt === undefined ? {} : { adopt: archive.adopt }),
  };
}
