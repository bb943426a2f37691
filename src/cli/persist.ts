/**
 * `hutch run --persist NAME`: a sandbox whose writes go to a layer in the store, which the next run of the same root and name
 * goes on with. The layer is locked by the launcher; it is made whole, or not at all, before anything starts.
 */

import { HutchError, UsageError } from "../errors.ts";
import { type HostFacts, IDMAPPED_LAYERS } from "../facts.ts";
import { splitDigest } from "../image/digest.ts";
import { updateImages } from "../image/image-index.ts";
import {
  type Locked,
  lockLayer,
  makePersisted,
  type PersistedLayer,
  type PersistedRoot,
  persistedDisk,
  persistedHome,
  publishPersisted,
  readPersisted,
  signLock,
} from "../image/persisted.ts";
import { formatMaps } from "../image/ranged.ts";
import type { ResolvedImage } from "../image/resolve.ts";
import { explainWrite, makeDirectory, rename, type Store } from "../image/store.ts";
import type { Self } from "../launch/become.ts";
import { call, rawCall, systemError } from "../libc/call.ts";
import { F_SETFD } from "../libc/constants.ts";
import { AT_FDCWD, closeFile, O } from "../libc/file.ts";
import { isErrno, linkTarget, pathStatus } from "../libc/files.ts";
import { idPlan } from "../namespaces/user.ts";
import { checkName } from "../running/directory.ts";
import { removeTree } from "../sessions/remove-tree.ts";
import type { Spec } from "../spec.ts";
import { tryMark, layersDirectory, removeLayer, rootOwner } from "./disk-layer.ts";
import { guardPaths, removeGuarded } from "./guarded-directory.ts";
import { imageContext } from "./image-context.ts";
import { last, type Parsed } from "./options.ts";

/** What is asked for, and over which root. */
export interface Persist {
  readonly name: string;
  /** The user's words. */
  readonly from: string;
  readonly root: PersistedRoot;
}

/** @throws UsageError when --persist is given and is no name, or contradicts another option */
export function checkPersist(parsed: Parsed): void {
  const given = last(parsed, "persist");
  if (given === undefined) return;
  checkName(given.value, given.words);
  for (const [option, why] of [
    ["read-only", "nothing is written that could be kept"],
    ["writable", "ROOT itself is changed, and no layer is written"],
    ["rm", "it means that nothing is kept"],
  ] as const) {
    const other = last(parsed, option);
    if (other !== undefined)
      throw new UsageError(`--persist and --${option} contradict each other: with the latter ${why}`, {
        from: `${given.words} ${other.words}`,
      });
  }
}

/** There is no layer over nothing. */
export function refuseEmpty(parsed: Parsed, word: string): void {
  const given = last(parsed, "persist");
  if (given !== undefined)
    throw new UsageError(`${word} is empty, and a layer is kept only over a directory or an image`, {
      from: given.words,
      hint: "an empty directory does as ROOT",
    });
}

/** An image as what a layer is over. `word` is what it was called. */
export function imageRoot(
  word: string,
  { id, manifestDigest, chain, layers }: Omit<ResolvedImage, "config" | "image" | "lease" | "list" | keyof Disposable>,
): PersistedRoot {
  const { root } = imageContext().store;
  const lower = layers.map((path) => path.slice(root.length + 1));
  return { kind: "image", name: word, id, manifest: manifestDigest, chain, lower };
}

/** Canonical path of a directory. @throws UsageError when there is none, SystemError */
function canonicalPath(path: string, from: string): string {
  const fd = rawCall("openat", AT_FDCWD, path, O.PATH | O.CLOEXEC, 0);
  if (isErrno(fd, "ENOENT") || isErrno(fd, "ENOTDIR")) throw new UsageError(`root ${path} does not exist`, { from });
  if (fd < 0) throw systemError(`open ${path}`, -fd, { from });
  try {
    const target = linkTarget(`/proc/self/fd/${fd}`);
    if (typeof target === "number") throw systemError(`readlink /proc/self/fd/${fd}`, -target, { from });
    return target;
  } finally {
    closeFile(fd);
  }
}

/** A directory as what a layer is over. @throws UsageError when it is not there, or holds the layer itself */
export function directoryRoot(path: string, from: string): PersistedRoot {
  const real = canonicalPath(path, from);
  const store = canonicalPath(imageContext().store.root, from);
  if (store === real || store.startsWith(real === "/" ? "/" : `${real}/`))
    throw new UsageError(`${path} holds the store ${store}, and a layer cannot be kept below what it is over`, {
      from,
      hint: "set HUTCH_STORE to a directory elsewhere",
    });
  return { kind: "directory", path: real };
}

/**
 * What is asked for, and the directory in which the layer's files are, where it has been made already.
 * @throws UsageError when the layer is over another root
 */
export function persistOver(
  parsed: Parsed,
  root: PersistedRoot,
): { readonly persist: Persist; readonly upper: string | undefined } | undefined {
  const given = last(parsed, "persist");
  if (given === undefined) return undefined;
  const persist = { name: given.value, from: given.words, root };
  const { store } = imageContext();
  const known = readPersisted(store, persist.name);
  if (known !== undefined) demandRoot(known, persist);
  return { persist, upper: known === undefined ? undefined : `${persistedDisk(store, persist.name)}/upper` };
}

/** `image alpine (91ef0af61f39)`, `directory /srv/root`. */
export function describeRoot(root: PersistedRoot): string {
  return root.kind === "image"
    ? `image ${root.name} (${splitDigest(root.id).hex.slice(0, 12)})`
    : `directory ${root.path}`;
}

function demandRoot(known: PersistedLayer, { name, from, root }: Persist): void {
  const before = known.root;
  const same =
    before.kind === "image"
      ? root.kind === "image" && root.id === before.id
      : root.kind === "directory" && root.path === before.path;
  if (same) return;
  const word = before.kind === "image" ? splitDigest(before.id).hex.slice(0, 12) : before.path;
  throw new UsageError(`layer ${name} is over ${describeRoot(before)}, not over ${describeRoot(root)}`, {
    from,
    hint: `ROOT ${word} goes on with it, another NAME begins anew, and hutch rm ${name} removes it`,
  });
}

/** Whose the files are outside: `1000:1000`, or the maps of a range. */
function idsOf(spec: Spec, host: HostFacts): string {
  const { kind, uidMappings, gidMappings } = idPlan(spec, host);
  return kind === "self" ? `${host.uid}:${host.gid}` : formatMaps({ uidMappings, gidMappings });
}

/** @throws HutchError when this machine cannot have an overlay that writes to the store */
function demandDisk(store: Store, host: HostFacts, from: string): void {
  if (host.root && host.kernel < IDMAPPED_LAYERS)
    throw new HutchError("root can have no overlay before Linux 5.19, and so no layer that is kept", { from });
  const marked = tryMark(store.root);
  if (marked >= 0) return;
  if (!isErrno(marked, "ENOTSUP"))
    throw explainWrite(systemError(`set an attribute of ${store.root}`, -marked, { from }), store);
  throw new HutchError(`the file system of ${store.root} cannot hold what an overlay notes of a layer that is kept`, {
    from,
    hint: "set HUTCH_STORE to a directory on ext4, xfs, btrfs or f2fs",
  });
}

/** The facts of a sandbox with this layer. */
const withLayer = (host: HostFacts, store: Store, name: string): HostFacts => ({
  ...host,
  disk: persistedDisk(store, name),
  kept: true,
});

/** The layer as it is, if it is there, is one for this run. @throws UsageError */
function demandSame(known: PersistedLayer | undefined, persist: Persist, ids: string): void {
  if (known === undefined) return;
  demandRoot(known, persist);
  if (known.ids === ids) return;
  const own = /^\d/.test(known.ids);
  throw new UsageError(
    `the files of layer ${persist.name} belong to other ids (${known.ids}) than this run has (${ids})`,
    {
      from: persist.from,
      hint: own
        ? "run it as it was begun: without --userns auto, by the same user and group"
        : "run it as it was begun: with the same ranges in /etc/subuid and /etc/subgid, and as an ordinary user with --userns auto",
    },
  );
}

/** The facts for a plan alone: nothing is made. @throws UsageError, HutchError as {@link openPersisted} */
export function planPersisted(spec: Spec, host: HostFacts, persist: Persist): HostFacts {
  const { store } = imageContext();
  demandDisk(store, host, persist.from);
  demandSame(readPersisted(store, persist.name), persist, idsOf(spec, host));
  return withLayer(host, store, persist.name);
}

/** A layer for a sandbox that is about to start. */
export interface OpenLayer {
  readonly host: HostFacts;
  /** For the launcher to hold. */
  readonly lockFd: number;
  /** When nothing has been started: let go of it, and remove it if it is new. */
  readonly giveBack: () => Promise<void>;
}

/** How often a lock is asked for again that somebody may only be looking at. */
const ATTEMPTS = 10;
const PAUSE_MS = 20;

/**
 * Lock the layer of a run, made when there is none.
 * @throws UsageError when it is over another root or its files have other ids, HutchError when another sandbox has it, or
 * it cannot be made
 */
export async function openPersisted(spec: Spec, host: HostFacts, persist: Persist, self: Self): Promise<OpenLayer> {
  const { store } = imageContext();
  const { name, from } = persist;
  demandDisk(store, host, from);
  const ids = idsOf(spec, host);
  for (let attempt = 1; ; attempt++) {
    const known = readPersisted(store, name);
    demandSame(known, persist, ids);
    const isNew = known === undefined;
    const locked = isNew
      ? await makeLayer(store, spec, host, persist, ids, self)
      : lockLayer(persistedHome(store, name));
    if (locked.kind === "held") {
      if (!isNew) demandSame(readPersisted(store, name), persist, ids); // it may be another than the one that was read
      signLock(locked.fd, process.pid);
      call("fcntl", locked.fd, F_SETFD, 0); // it is the launcher's
      const giveBack = async () => {
        if (isNew) await discard(store, name, self);
        closeFile(locked.fd);
      };
      return { host: withLayer(host, store, name), lockFd: locked.fd, giveBack };
    }
    if (attempt < ATTEMPTS) await Bun.sleep(PAUSE_MS);
    else if (locked.kind === "busy") throw inUse(name, locked.pid, from);
    else throw new HutchError(`layer ${name} was made and removed meanwhile, again and again`, { from });
  }
}

/** That only one may have a layer at a time. */
export function inUse(name: string, pid: number | undefined, from?: string, hint = ONE_AT_A_TIME): HutchError {
  const who = pid === undefined ? "another sandbox" : `another sandbox (its hutch is process ${pid})`;
  return new HutchError(`layer ${name} is in use by ${who}`, {
    ...(from === undefined ? {} : { from }),
    hint,
  });
}

const ONE_AT_A_TIME = "one at a time writes to a layer: wait for it or end it, or use another NAME";

/** Make the layer, locked before it has its name. `absent` when somebody else has made one meanwhile. @throws HutchError */
async function makeLayer(
  store: Store,
  spec: Spec,
  host: HostFacts,
  persist: Persist,
  ids: string,
  self: Self,
): Promise<Locked> {
  const { name, root, from } = persist;
  makeDirectory(store.persisted, 0o700);
  const top = spec.root.kind === "overlay" ? pathStatus(spec.root.lower.at(-1) ?? "") : 0;
  const mode = typeof top === "number" ? 0o755 : top.mode;
  const owner = host.root ? rootOwner(spec, host) : undefined;
  const { path, remover } = guarded(store, self);
  let locked: Locked = { kind: "absent" };
  let made = false;
  try {
    makeDirectory(path, 0o700);
    makePersisted(path, { root, ids, created: new Date().toISOString() }, mode, owner);
    locked = lockLayer(path);
    // Under the list's lock: whoever takes the image off it has seen the layer, or the image is not there now.
    if (root.kind === "directory") made = publishPersisted(store, path, name);
    else
      made = await updateImages(store, (images) => {
        if (!images.some(({ manifest }) => manifest.digest === root.manifest))
          throw new HutchError(`${describeRoot(root)} was removed meanwhile`, { from });
        return { images, result: publishPersisted(store, path, name) };
      });
    return made ? locked : { kind: "absent" };
  } catch (error) {
    throw explainWrite(error, store);
  } finally {
    if (!made && locked.kind === "held") closeFile(locked.fd);
    await removeGuarded([remover], () => removeTree(path)); // which is somewhere else when it has been made
  }
}

/** A path where what is made, or is to be removed, is removed also when this process is killed. */
function guarded(store: Store, self: Self): { readonly path: string; readonly remover: number } {
  const parent = layersDirectory(store);
  makeDirectory(parent, 0o700);
  const { paths, remover } = guardPaths([parent], self);
  return { path: paths[0] ?? "", remover };
}

/** Take a layer's name away first, so that no half of it is ever left under it, and then remove it. */
async function discard(store: Store, name: string, self: Self): Promise<void> {
  const { path, remover } = guarded(store, self);
  try {
    rename(persistedHome(store, name), path);
  } catch (error) {
    await removeGuarded([remover], () => undefined);
    throw error;
  }
  await removeGuarded([remover], async () => removeLayer(path));
}

/** `hutch rm`: remove a layer. @throws HutchError when there is none, or a sandbox has it, or it cannot be removed */
export async function removePersisted(store: Store, name: string, self: Self): Promise<void> {
  const home = persistedHome(store, name);
  let locked = lockLayer(home);
  // Without a lock it is gone, or damaged; or another layer has just got its name, whose lock is to be asked for.
  for (let attempt = 1; locked.kind === "absent" && attempt < ATTEMPTS; attempt++) {
    if (typeof pathStatus(home) === "number")
      throw new HutchError(`there is no layer ${name}`, { hint: "hutch layers lists them" });
    await Bun.sleep(PAUSE_MS);
    locked = lockLayer(home);
  }
  if (locked.kind === "busy") throw inUse(name, locked.pid, undefined, "wait for it, or end that process");
  try {
    await discard(store, name, self);
  } finally {
    if (locked.kind === "held") closeFile(locked.fd);
  }
}
