/**
 * Writable layers that are kept by a name (`hutch run --persist NAME`): `persisted/NAME` in the store.
 *
 *   layer.json   whose layer it is, written once, before the directory has its name
 *   lock         locked by the launcher that writes to the layer, with its pid in it
 *   disk/        upper/ and work/ of the overlay: whatever the sandbox has made of them
 *
 * A layer belongs to one root: to an image by its id, or to a directory by its path. The image, and the layers of it, stay
 * in the store as long as the layer does.
 */

import { encodeBytes } from "../bytes.ts";
import { HutchError } from "../errors.ts";
import { call, rawCall, systemError } from "../libc/call.ts";
import { AT_FDCWD, closeFile, O, openAt, readAll, statAt, tryLock } from "../libc/file.ts";
import { directoryNames, isErrno, writeAll } from "../libc/files.ts";
import { type Digest, isDigest } from "./digest.ts";
import { readFileBounded, type Store, syncDirectory } from "./store.ts";

/** The root that a layer is over. */
export type PersistedRoot =
  | {
      readonly kind: "image";
      /** By what name it was run when the layer was made. */
      readonly name: string;
      /** The digests of its config, which is its id, and of its manifest. */
      readonly id: Digest;
      readonly manifest: Digest;
      readonly chain: readonly Digest[];
      /** Directories of its layers, lowest first, from the store on. */
      readonly lower: readonly string[];
    }
  /** The canonical path. */
  | { readonly kind: "directory"; readonly path: string };

export interface PersistedLayer {
  readonly name: string;
  readonly root: PersistedRoot;
  /** Whose the files are outside, as far as a run may differ in it: the id maps. */
  readonly ids: string;
  /** ISO 8601. */
  readonly created: string;
}

/** Of layer.json; changes with its members. */
const FORMAT = 1;
const LIMIT = 1024 * 1024;

export function persistedHome(store: Store, name: string): string {
  return `${store.persisted}/${name}`;
}

/** The directory with `upper` and `work`. */
export function persistedDisk(store: Store, name: string): string {
  return `${persistedHome(store, name)}/disk`;
}

/** Names of all layers, in order. */
export function persistedNames(store: Store): readonly string[] {
  const names = directoryNames(store.persisted);
  return typeof names === "number" ? [] : names.toSorted();
}

/** What is known of a layer; undefined when there is none of the name. @throws HutchError when its record is damaged */
export function readPersisted(store: Store, name: string): PersistedLayer | undefined {
  const path = `${persistedHome(store, name)}/layer.json`;
  let bytes = readFileBounded(path, LIMIT);
  // A layer has its record from the moment that it has its name: once more, for another may have got the name meanwhile.
  for (let times = 0; bytes === undefined && times < 3; times++) {
    if (statAt(AT_FDCWD, persistedHome(store, name)) === undefined) return undefined;
    bytes = readFileBounded(path, LIMIT);
  }
  const layer = bytes === undefined ? undefined : parseLayer(new TextDecoder().decode(bytes));
  if (layer === undefined)
    throw new HutchError(`${path} is missing or no record of this hutch's`, {
      hint: `hutch rm ${name} removes the layer`,
    });
  return { ...layer, name };
}

function parseLayer(text: string): Omit<PersistedLayer, "name"> | undefined {
  let value: (Partial<PersistedLayer> & { readonly format?: unknown }) | null;
  try {
    value = JSON.parse(text) as typeof value;
  } catch {
    return undefined;
  }
  if (value?.format !== FORMAT || typeof value.ids !== "string" || typeof value.created !== "string") return undefined;
  const { root, ids, created } = value;
  return isRoot(root) ? { root, ids, created } : undefined;
}

function isRoot(root: PersistedRoot | undefined): root is PersistedRoot {
  if (root?.kind === "directory") return typeof root.path === "string";
  if (root?.kind !== "image" || typeof root.name !== "string") return false;
  if (!Array.isArray(root.chain) || !Array.isArray(root.lower) || root.lower.length !== root.chain.length) return false;
  const digests = [root.id, root.manifest, ...root.chain].every((text) => typeof text === "string" && isDigest(text));
  return digests && root.lower.every((path) => typeof path === "string");
}

/**
 * Make the directory of a new layer at a path that nobody else knows, all of it on disk, for {@link publishPersisted}.
 * @param mode of the layer's root directory
 * @param owner whose the layer is to be outside, when that is not the caller
 * @throws SystemError, what of it is there is for the caller to remove
 */
export function makePersisted(
  path: string,
  layer: Omit<PersistedLayer, "name">,
  mode: number,
  owner: { readonly uid: number; readonly gid: number } | undefined,
): void {
  writeSynced(`${path}/layer.json`, encodeBytes(`${JSON.stringify({ format: FORMAT, ...layer }, undefined, 1)}\n`));
  writeSynced(`${path}/lock`, new Uint8Array());
  const disk = `${path}/disk`;
  for (const [directory, bits] of [
    [disk, 0o700],
    [`${disk}/upper`, mode],
    [`${disk}/work`, 0o755],
  ] as const) {
    call("mkdirat", AT_FDCWD, directory, 0o700);
    if (owner !== undefined) call("fchownat", AT_FDCWD, directory, owner.uid, owner.gid, 0);
    call("fchmodat", AT_FDCWD, directory, bits); // whatever the umask
  }
  for (const directory of [`${disk}/upper`, disk, path]) syncDirectory(directory);
}

function writeSynced(path: string, bytes: Uint8Array): void {
  const fd = openAt(AT_FDCWD, path, O.CREAT | O.EXCL | O.RDWR | O.NOFOLLOW, 0o600);
  try {
    writeAll(fd, bytes, path);
    call("fsync", fd);
  } finally {
    closeFile(fd);
  }
}

const RENAME_NOREPLACE = 1;

/** Give a new layer its name; false when another has it by now. @throws SystemError */
export function publishPersisted(store: Store, path: string, name: string): boolean {
  const renamed = rawCall("renameat2", AT_FDCWD, path, AT_FDCWD, persistedHome(store, name), RENAME_NOREPLACE);
  if (isErrno(renamed, "EEXIST")) return false;
  if (renamed < 0) throw systemError(`rename ${path} to ${persistedHome(store, name)}`, -renamed);
  syncDirectory(store.persisted);
  return true;
}

/** A lock that is held, or who holds it. `absent`: there is no such layer (any more). */
export type Locked =
  | { readonly kind: "held"; readonly fd: number }
  | { readonly kind: "busy"; readonly pid: number | undefined }
  | { readonly kind: "absent" };

/**
 * Try to take the lock of a layer by its directory; it is held as long as the descriptor, which is close-on-exec, is open,
 * whatever name the layer gets meanwhile. @throws SystemError
 */
export function lockLayer(directory: string): Locked {
  const path = `${directory}/lock`;
  const fd = rawCall("openat", AT_FDCWD, path, O.RDWR | O.CLOEXEC | O.NOFOLLOW, 0);
  if (isErrno(fd, "ENOENT")) return { kind: "absent" };
  if (fd < 0) throw systemError(`open ${path}`, -fd);
  let held = false;
  try {
    if (!tryLock(fd, "exclusive")) return { kind: "busy", pid: lockingPid(fd) };
    held = statAt(AT_FDCWD, path)?.ino === statAt(fd, "")?.ino; // else it was removed between open and flock
    return held ? { kind: "held", fd } : { kind: "absent" };
  } finally {
    if (!held) closeFile(fd);
  }
}

function lockingPid(fd: number): number | undefined {
  const pid = Number.parseInt(new TextDecoder().decode(readAll(fd, 64) ?? new Uint8Array()), 10);
  return Number.isNaN(pid) ? undefined : pid;
}

/** Say in a lock that is held who holds it. A full disk is no reason not to run: then it does not say. */
export function signLock(fd: number, pid: number): void {
  rawCall("ftruncate", fd, 0);
  const text = encodeBytes(`${pid}\n`);
  rawCall("pwrite64", fd, text, text.byteLength, 0);
}

/** Who writes to a layer just now: its pid, where it could say so; undefined when nobody does. */
export function persistedUser(store: Store, name: string): { readonly pid: number | undefined } | undefined {
  const locked = lockLayer(persistedHome(store, name));
  if (locked.kind === "held") closeFile(locked.fd);
  return locked.kind === "busy" ? { pid: locked.pid } : undefined;
}

/** What layers need of the store. */
export interface Needed {
  /** Digests of the manifests of their images, each with the layers' names. */
  readonly manifests: ReadonlyMap<Digest, readonly string[]>;
  /** ChainIDs. */
  readonly chain: readonly Digest[];
  /** Names of layers of which that cannot be told: anything may be needed. */
  readonly unknown: readonly string[];
}

/** What must stay in the store for the layers that are kept. */
export function neededBy(store: Store): Needed {
  const manifests = new Map<Digest, string[]>();
  const chain: Digest[] = [];
  const unknown: string[] = [];
  for (const name of persistedNames(store)) {
    try {
      const root = readPersisted(store, name)?.root;
      if (root?.kind !== "image") continue;
      manifests.set(root.manifest, [...(manifests.get(root.manifest) ?? []), name]);
      chain.push(...root.chain);
    } catch (error) {
      if (!(error instanceof HutchError)) throw error;
      unknown.push(name);
    }
  }
  return { manifests, chain, unknown };
}
