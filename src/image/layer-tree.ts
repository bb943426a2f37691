/**
 * The directory of one layer while it is being unpacked: resolves parents against this layer and those below, makes
 * directories on the way, keeps overlay's marks right, and sets what must come last at the end.
 *
 * Nothing is opened by a path with more than one name that the archive chose: parents are resolved name by name against
 * what the layers show, and opened beneath the layer's directory without following links. Paths are canonical
 * (src/image/merged-view.ts).
 */

import { call, rawCall, systemError } from "../libc/call.ts";
import { errnoNumber } from "../libc/errno.ts";
import { closeFile, listXattrs, O, openAt, openBeneath, removeTree, S_IF, type Stat, statAt } from "../libc/file.ts";
import {
  applyToFd,
  type Attributes,
  finishDirectory,
  type IdMode,
  readAttributes,
  type Refusals,
} from "./attributes.ts";
import { joinPath, type MergedView, readLinkIn, resolveInRoot, type Seen, splitPath } from "./merged-view.ts";
import { isReservedXattr, isWhiteout, makeWhiteout, markOpaque, statVisible } from "./overlay-marks.ts";

const DEFAULT_DIRECTORY: Attributes = { uid: 0, gid: 0, mode: 0o755, mtime: 0n, xattrs: new Map() };

export type LayerTree = {
  /** Attributes that were refused so far. */
  readonly refused: Refusals;
  /** What this layer's own tree has at a path; whiteouts are nothing. */
  readonly own: (path: string) => Stat | undefined;
  /** What the layers below show at a path that this layer does not hide. */
  readonly below: (path: string) => Seen | undefined;
  readonly attributesBelow: (layer: number, path: string, stat: Stat) => Attributes;
  /** The canonical path of a directory by the names of an entry. @throws HutchError when a file is on the way */
  readonly resolve: (names: readonly string[]) => string;
  /** Open a directory, made when it is missing; the descriptor is good until the next call. */
  readonly open: (path: string) => number;
  /** Take away what is at a name. `parent` is its directory's descriptor. */
  readonly clear: (parent: number, path: string, name: string) => void;
  /** Make a file in the place of whatever is at the name; open for writing, mode 0600. */
  readonly createFile: (parent: number, path: string, name: string) => number;
  /** A directory's entry: a new directory, or new attributes for the one that is there. "" is the root. */
  readonly putDirectory: (path: string, attributes: Attributes) => void;
  /** Hide a name of the layers below, or all of them in a directory of this layer. */
  readonly hide: (path: string) => void;
  /** Hide all that the layers below have in a directory. */
  readonly hideContent: (path: string) => void;
  /** Say that an entry has put what is at a path: it and its directories count as added by this layer. */
  readonly claim: (path: string) => void;
  /** Say that what is at a path is no entry's: a whiteout still hides it. */
  readonly imply: (path: string) => void;
  /** Set marks, modes and times that must come last. */
  readonly finish: () => void;
  /** Close what is open. */
  readonly close: () => void;
};

/** Start a tree in the empty directory open as `target`; its root gets the attributes of the root below. */
export function createLayerTree(
  target: number,
  view: MergedView,
  ids: IdMode,
  form: "device" | "attribute",
): LayerTree {
  const refused: Refusals = new Set();
  /** Mode and time of directories made here, set at the end. */
  const directories = new Map<string, { mode: number; mtime: bigint | undefined }>();
  const opaque = new Set<string>();
  const whiteouts = new Set<string>();
  /** What is here without an entry of its own or below it: made for whiteouts, or copied to be linked to. */
  const implied = new Set<string>();
  /** Resolved parents by their raw names, and every path that such a resolution went through. */
  const resolved = new Map<string, string>();
  const passed = new Set<string>();
  let current: { path: string; fd: number } | undefined;

  makeRoot();

  function makeRoot(): void {
    const seen = view.look("");
    const lower = view.roots[0];
    const from = seen === undefined || lower === undefined ? DEFAULT_DIRECTORY : readAttributes(lower, ".", seen.stat);
    applyToFd(target, from, ids, "directory", refused);
    directories.set("", { mode: from.mode, mtime: seen === undefined ? undefined : from.mtime });
  }

  /** What the layer's own tree has at a canonical path (whiteouts are nothing). */
  function own(path: string): Stat | undefined {
    if (path === "") return statAt(target, "");
    const [parent, name] = splitPath(path);
    const fd = openBeneath(target, parent, O.PATH | O.DIRECTORY);
    if (fd < 0) return undefined;
    try {
      return statVisible(fd, name);
    } finally {
      closeFile(fd);
    }
  }

  /** True when this layer hides what is below at the path: an own whiteout, file, or opaque directory on the way. */
  function hidesBelow(path: string): boolean {
    let at = "";
    for (const name of path.split("/")) {
      if (opaque.has(at)) return true;
      at = joinPath(at, name);
      if (whiteouts.has(at)) return true;
    }
    return false;
  }

  const below = (path: string): Seen | undefined => (path !== "" && hidesBelow(path) ? undefined : view.look(path));

  function kindOf(path: string): "directory" | "absent" | "other" | { link: string } {
    passed.add(path);
    const mine = own(path);
    if (mine !== undefined) {
      if (mine.type === S_IF.DIR) return "directory";
      return mine.type === S_IF.LNK ? { link: readLinkIn(target, path) } : "other";
    }
    const seen = below(path);
    if (seen === undefined) return "absent";
    if (seen.kind === "directory") return "directory";
    if (seen.stat.type !== S_IF.LNK) return "other";
    return { link: readLinkIn(view.roots[seen.layer] ?? -1, path) };
  }

  function resolve(names: readonly string[]): string {
    const raw = names.join("/");
    const known = resolved.get(raw);
    if (known !== undefined) return known;
    const path = resolveInRoot(names, kindOf);
    resolved.set(raw, path);
    return path;
  }

  /** Open a directory of this layer, made on the way with the attributes it has below, else 0755 of root. */
  function open(path: string): number {
    if (current?.path === path) return current.fd;
    let fd = openBeneath(target, path, O.RDONLY | O.DIRECTORY);
    // ENOTDIR: a whiteout of this layer stands on the way; whatever else would, resolve() has refused.
    if (path !== "" && (fd === -(errnoNumber("ENOENT") ?? 0) || fd === -(errnoNumber("ENOTDIR") ?? 0))) {
      makeDirectory(path);
      fd = openBeneath(target, path, O.RDONLY | O.DIRECTORY);
    }
    if (fd < 0) throw systemError(`open ${path}`, -fd);
    if (current !== undefined) closeFile(current.fd);
    current = { path, fd };
    return fd;
  }

  function makeDirectory(path: string): void {
    const [parentPath, name] = splitPath(path);
    const seen = below(path);
    const parent = open(parentPath);
    const startsEmpty = clearWhiteout(parent, path, name) && view.look(path)?.kind === "directory";
    call("mkdirat", parent, name, 0o700);
    implied.add(path);
    if (startsEmpty) makeOpaque(parent, path, name);
    const layer = seen?.kind === "directory" ? seen.layers[0] : undefined;
    const from = layer === undefined || seen === undefined ? undefined : attributesBelow(layer, path, seen.stat);
    const fd = openAt(parent, name, O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
    applyToFd(fd, from ?? DEFAULT_DIRECTORY, ids, "directory", refused);
    closeFile(fd);
    directories.set(path, { mode: (from ?? DEFAULT_DIRECTORY).mode, mtime: from?.mtime });
  }

  function attributesBelow(layer: number, path: string, stat: Stat): Attributes {
    const [parent, name] = splitPath(path);
    const fd = openBeneath(view.roots[layer] ?? -1, parent, O.PATH | O.DIRECTORY);
    if (fd < 0) throw systemError(`open ${parent}`, -fd);
    try {
      return readAttributes(fd, name, stat);
    } finally {
      closeFile(fd);
    }
  }

  /** Take an own whiteout away before something is put in its place; a directory there then starts empty. */
  function clearWhiteout(parent: number, path: string, name: string): boolean {
    if (!whiteouts.delete(path)) return false;
    const stat = statAt(parent, name);
    if (stat === undefined || !isWhiteout(parent, name, stat)) return false; // gone with the directory it was in
    call("unlinkat", parent, name, 0);
    return true;
  }

  /** Make room for a non-directory at a name. */
  function clear(parent: number, path: string, name: string): void {
    if (passed.has(path)) {
      // What was resolved through here may lead elsewhere from now on; the parent stays the same.
      resolved.clear();
      passed.clear();
    }
    clearWhiteout(parent, path, name);
    const stat = statAt(parent, name);
    if (stat === undefined) return;
    removeTree(parent, name);
    if (stat.type !== S_IF.DIR) return;
    // What was noted of names below stays: it is checked against the disk before use, and hides nothing that the new
    // directory, which is opaque, does not hide anyway.
    directories.delete(path);
    opaque.delete(path);
  }

  function putDirectory(path: string, attributes: Attributes): void {
    if (path === "") applyToFd(target, attributes, ids, "directory", refused);
    else placeDirectory(path, attributes);
    directories.set(path, { mode: attributes.mode, mtime: attributes.mtime });
  }

  function placeDirectory(path: string, attributes: Attributes): void {
    const [parentPath, name] = splitPath(path);
    const parent = open(parentPath);
    const found = statAt(parent, name);
    const hadWhiteout = found !== undefined && isWhiteout(parent, name, found);
    const before = hadWhiteout ? undefined : found;
    const isKept = before?.type === S_IF.DIR;
    if (!isKept) {
      // A file, link or whiteout of this layer stood here: what the layers below have in this directory is gone.
      const startsEmpty = (hadWhiteout || before !== undefined) && view.look(path)?.kind === "directory";
      clear(parent, path, name);
      call("mkdirat", parent, name, 0o700);
      if (startsEmpty) makeOpaque(parent, path, name);
    }
    const fd = openAt(parent, name, O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
    if (isKept) clearXattrs(fd);
    applyToFd(fd, attributes, ids, "directory", refused);
    closeFile(fd);
  }

  /** A repeated directory has the attributes of its last entry only. */
  function clearXattrs(fd: number): void {
    for (const attribute of listXattrs(fd, ".")) {
      if (!isReservedXattr(attribute)) rawCall("lremovexattr", `/proc/self/fd/${fd}/.`, attribute);
    }
  }

  function makeOpaque(parent: number, path: string, name: string): void {
    const fd = openAt(parent, name, O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
    markOpaque(fd);
    closeFile(fd);
    opaque.add(path);
  }

  function createFile(parent: number, path: string, name: string): number {
    const flags = O.CREAT | O.EXCL | O.WRONLY | O.NOFOLLOW | O.CLOEXEC;
    // Nearly always nothing is there: a call less for every file of an image.
    const fd = passed.has(path) || whiteouts.has(path) ? -1 : rawCall("openat", parent, name, flags, 0o600);
    if (fd >= 0) return fd;
    clear(parent, path, name);
    return openAt(parent, name, flags, 0o600);
  }

  function hide(path: string): void {
    const [parentPath, name] = splitPath(path);
    const mine = own(path);
    const seen = below(path);
    if (mine !== undefined && !implied.has(path)) {
      // What this layer adds stays; a directory of its own then shows nothing of those below.
      if (mine.type === S_IF.DIR && seen?.kind === "directory") makeOpaque(open(parentPath), path, name);
      return;
    }
    if (seen === undefined) return;
    const parent = open(parentPath);
    clear(parent, path, name);
    implied.delete(path);
    makeWhiteout(parent, name, form);
    whiteouts.add(path);
  }

  function hideContent(path: string): void {
    if (below(path)?.kind !== "directory") return;
    if (path !== "") markOpaque(open(path));
    resolved.clear(); // a link may be among what is hidden
    opaque.add(path); // overlay heeds no mark on a layer's root: finish() hides what is in it name by name
  }

  function finish(): void {
    dropHiddenImplied();
    if (opaque.has("")) hideRoot();
    dropHiddenWhiteouts();
    close();
    const deepestFirst = [...directories].toSorted(([a], [b]) => b.length - a.length);
    for (const [path, { mode, mtime }] of deepestFirst) {
      const fd = openBeneath(target, path, O.RDONLY | O.DIRECTORY);
      if (fd < 0) continue; // replaced since
      finishDirectory(fd, mode, mtime, ids);
      closeFile(fd);
    }
  }

  function close(): void {
    if (current !== undefined) closeFile(current.fd);
    current = undefined;
  }

  function claim(path: string): void {
    for (let at = path; implied.delete(at) || at === path; at = splitPath(at)[0]) if (at === "") return;
  }

  /** What was made without an entry, inside a directory that became opaque later, would be seen as added. */
  function dropHiddenImplied(): void {
    for (const path of implied) {
      const names = path.split("/");
      if (!names.some((_, i) => opaque.has(names.slice(0, i).join("/")))) continue;
      const [parentPath, name] = splitPath(path);
      const parent = openBeneath(target, parentPath, O.RDONLY | O.DIRECTORY);
      if (parent < 0) continue; // gone with its directory
      removeTree(parent, name);
      closeFile(parent);
      directories.delete(path);
    }
    close();
  }

  /** An opaque root: every name below gets a whiteout, or an opaque directory where this layer has one. */
  function hideRoot(): void {
    opaque.delete("");
    const root = open("");
    for (const name of view.names("")) {
      const mine = own(name);
      if (mine === undefined && !whiteouts.has(name)) {
        makeWhiteout(root, name, form);
        whiteouts.add(name);
      } else if (mine?.type === S_IF.DIR && !opaque.has(name) && view.look(name)?.kind === "directory") {
        makeOpaque(root, name, name);
      }
    }
  }

  /** Whiteouts inside an opaque directory hide nothing, and overlay would list them as files. */
  function dropHiddenWhiteouts(): void {
    for (const path of whiteouts) {
      const names = path.split("/");
      const isHidden = names.some((_, i) => opaque.has(names.slice(0, i).join("/")));
      if (!isHidden) continue;
      const [parentPath, name] = splitPath(path);
      const parent = openBeneath(target, parentPath, O.RDONLY | O.DIRECTORY);
      if (parent < 0) continue; // replaced since
      const stat = statAt(parent, name);
      if (stat !== undefined && isWhiteout(parent, name, stat)) call("unlinkat", parent, name, 0);
      closeFile(parent);
    }
  }

  return {
    refused,
    own,
    below,
    attributesBelow,
    resolve,
    open,
    clear,
    createFile,
    putDirectory,
    hide,
    hideContent,
    claim,
    imply: (path) => void implied.add(path),
    finish,
    close,
  };
}
