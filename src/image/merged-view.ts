/**
 * What a stack of unpacked layers shows, name by name, as overlayfs would: without mounting anything. Paths are
 * canonical here: names joined by "/", no leading slash, no "." or "..", and no symbolic link before the last name; ""
 * is the root. Links are followed inside the root only, never by the host's kernel.
 */

import { HutchError } from "../errors.ts";
import { systemError } from "../libc/call.ts";
import { closeFile, listNames, O, openBeneath, readAll, readLink, S_IF, type Stat, statAt } from "../libc/file.ts";
import { isOpaque, isWhiteout } from "./overlay-marks.ts";

/** What is at a path: a directory with the layers that contribute to it, top first, or another file of one layer. */
export type Seen =
  | { readonly kind: "directory"; readonly layers: readonly number[]; readonly stat: Stat }
  | { readonly kind: "other"; readonly layer: number; readonly stat: Stat };

export type MergedView = {
  readonly roots: readonly number[];
  /** Look at a canonical path; undefined when there is nothing. */
  readonly look: (path: string) => Seen | undefined;
  /** Names in a directory by its canonical path, each once, in no order. */
  readonly names: (path: string) => readonly string[];
};

/** Split a path into its directory and last name. */
export function splitPath(path: string): [directory: string, name: string] {
  const slash = path.lastIndexOf("/");
  return slash < 0 ? ["", path] : [path.slice(0, slash), path.slice(slash + 1)];
}

export function joinPath(directory: string, name: string): string {
  return directory === "" ? name : `${directory}/${name}`;
}

/** A view of layers by descriptors of their directories, top first. They must not change while the view is in use. */
export function createMergedView(roots: readonly number[]): MergedView {
  const directories = new Map<string, Seen | undefined>();

  function look(path: string): Seen | undefined {
    if (directories.has(path)) return directories.get(path);
    const seen = path === "" ? lookRoot() : lookBelow(path);
    if (seen?.kind !== "other") directories.set(path, seen);
    return seen;
  }

  function lookRoot(): Seen | undefined {
    const layers: number[] = [];
    for (const [i, root] of roots.entries()) {
      layers.push(i);
      if (isOpaque(root, ".")) break;
    }
    const stat = roots[0] === undefined ? undefined : statAt(roots[0], "");
    return stat === undefined ? undefined : { kind: "directory", layers, stat };
  }

  function lookBelow(path: string): Seen | undefined {
    const [parentPath, name] = splitPath(path);
    const parent = look(parentPath);
    if (parent?.kind !== "directory") return undefined;
    const layers: number[] = [];
    let top: Stat | undefined;
    for (const layer of parent.layers) {
      const fd = openBeneath(roots[layer] ?? -1, parentPath, O.PATH | O.DIRECTORY);
      if (fd < 0) throw systemError(`layer ${layer}: open ${JSON.stringify(parentPath)}`, -fd);
      try {
        const stat = statAt(fd, name);
        if (stat === undefined) continue;
        if (stat.type !== S_IF.DIR) {
          if (top !== undefined || isWhiteout(fd, name, stat)) break;
          return { kind: "other", layer, stat };
        }
        top ??= stat;
        layers.push(layer);
        if (isOpaque(fd, name)) break;
      } finally {
        closeFile(fd);
      }
    }
    return top === undefined ? undefined : { kind: "directory", layers, stat: top };
  }

  function namesIn(path: string): readonly string[] {
    const names = new Set<string>();
    const seen = look(path);
    for (const layer of seen?.kind === "directory" ? seen.layers : []) {
      const fd = openBeneath(roots[layer] ?? -1, path, O.RDONLY | O.DIRECTORY);
      if (fd < 0) throw systemError(`layer ${layer}: open ${JSON.stringify(path)}`, -fd);
      for (const name of listNames(fd)) names.add(name);
      closeFile(fd);
    }
    return [...names].filter((name) => look(joinPath(path, name)) !== undefined);
  }

  return { roots, look, names: namesIn };
}

/** The names of a path as they are to be walked: ".." kept, "" and "." dropped. */
export function pathNames(path: string): string[] {
  return path.split("/").filter((name) => name !== "" && name !== ".");
}

const LINK_LIMIT = 40;

/** A file stands where a path goes on. */
export class NotDirectoryError extends HutchError {
  override name = "NotDirectoryError";
}

/**
 * Follow a path inside a root: what `kindOf` calls a link is followed, ".." stops at the root, and a name that does not
 * exist is kept (so that it can be made). Returns the canonical path.
 * @throws NotDirectoryError when a name on the way is a file, HutchError after 40 links
 */
export function resolveInRoot(
  names: readonly string[],
  kindOf: (path: string) => "directory" | "other" | "absent" | { readonly link: string },
): string {
  const rest = names.toReversed();
  let at: string[] = [];
  let links = 0;
  for (let name = rest.pop(); name !== undefined; name = rest.pop()) {
    if (name === "..") {
      at.pop();
      continue;
    }
    at.push(name);
    const path = at.join("/");
    const kind = kindOf(path);
    if (kind === "other") throw new NotDirectoryError(`${JSON.stringify(`/${path}`)} is not a directory`);
    if (typeof kind === "string") continue;
    links += 1;
    if (links > LINK_LIMIT) throw new HutchError(`too many symbolic links at ${JSON.stringify(`/${path}`)}`);
    if (kind.link.startsWith("/")) at = [];
    else at.pop();
    rest.push(...pathNames(kind.link).toReversed());
  }
  return at.join("/");
}

/** Where the link at a canonical path of one layer points. */
export function readLinkIn(root: number, path: string): string {
  const fd = openBeneath(root, path, O.PATH | O.NOFOLLOW);
  if (fd < 0) throw systemError(`open the link ${JSON.stringify(path)} of the image`, -fd);
  try {
    return readLink(fd, "");
  } finally {
    closeFile(fd);
  }
}

/** Content of a regular file of the image, links followed inside it; undefined when it is absent or no regular file. */
export function readInView(view: MergedView, path: string, limit: number): Uint8Array | undefined {
  let last: Seen | undefined;
  const canonical = resolveInRoot(pathNames(path), (at) => {
    last = view.look(at);
    if (last === undefined) return "absent";
    if (last.kind === "directory") return "directory";
    if (last.stat.type === S_IF.LNK) return { link: readLinkIn(view.roots[last.layer] ?? -1, at) };
    return last.stat.type === S_IF.REG ? "absent" : "other"; // a regular file may only be the last name
  });
  const seen = view.look(canonical);
  if (seen?.kind !== "other" || seen.stat.type !== S_IF.REG) return undefined;
  const fd = openBeneath(view.roots[seen.layer] ?? -1, canonical, O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
  if (fd < 0) throw systemError(`read ${JSON.stringify(path)} of the image`, -fd);
  try {
    const bytes = readAll(fd, limit);
    if (bytes === undefined) throw new HutchError(`${path} of the image is larger than ${limit} bytes`);
    return bytes;
  } finally {
    closeFile(fd);
  }
}

/**
 * Where a directory is that a path names, links followed inside the image, or where it would have to be made: the
 * canonical path. @throws HutchError when a file is in the way, or links never end
 */
export function placeInView(view: MergedView, path: string): string {
  return resolveInRoot(pathNames(path), (at) => {
    const seen = view.look(at);
    if (seen === undefined) return "absent";
    if (seen.kind === "directory") return "directory";
    return seen.stat.type === S_IF.LNK ? { link: readLinkIn(view.roots[seen.layer] ?? -1, at) } : "other";
  });
}

/** Whether something is at a path, links followed inside the image. */
export function existsInView(view: MergedView, path: string): boolean {
  let last: Seen | undefined;
  try {
    resolveInRoot(pathNames(path), (at) => {
      last = view.look(at);
      if (last === undefined) return "absent";
      if (last.kind === "directory") return "directory";
      return last.stat.type === S_IF.LNK ? { link: readLinkIn(view.roots[last.layer] ?? -1, at) } : "absent";
    });
  } catch (error) {
    if (error instanceof HutchError) return false; // links that never end
    throw error;
  }
  return last !== undefined;
}
