/**
 * From a closure to what must be made in a sandbox's root, so that every name by which the loader or the user opens a
 * file leads to it. Pure: what the root has already comes in as a function.
 *
 * Each name is walked through the root as it will be, one component at a time. Where the root has something, that is
 * taken as it is: a directory is entered even if the host has a link there, a link is followed inside the root. Where
 * it has nothing, the host's link is made again, or a directory. The file is bound where the walk ends.
 */

import { UsageError } from "../errors.ts";
import type { Closure, ClosureFile } from "./closure.ts";
import { baseOf, isWithin, parentOf } from "./walk.ts";

/** What a root has at a path none of whose parents is a link. Anything that is no directory or link is a "file". */
export type RootEntry =
  { readonly kind: "absent" | "directory" | "file" } | { readonly kind: "symlink"; readonly to: string };
export type RootView = (path: string) => RootEntry;

/** One thing to make, in this order. Paths are absolute inside the root, and no parent of `path` is a link. */
export type LayoutEntry =
  | { readonly kind: "symlink"; readonly path: string; readonly to: string }
  /** Bind the host's file or directory `source` (canonical) at `path`, where parents and target may have to be made. */
  | {
      readonly kind: "file" | "directory";
      readonly path: string;
      readonly source: string;
      /** Configuration that programs do without where the root leaves no room for it. */
      readonly optional?: true;
    };

/** A root with nothing in it. */
export const emptyRoot: RootView = () => ({ kind: "absent" });

const MAX_LINKS = 40;
/** Where loaders of the usual distributions look without a cache: `/usr/lib/x86_64-linux-gnu`, `/lib64`. */
const DEFAULT_DIRECTORY = /^(\/usr)?\/lib(32|64|x32)?(\/[a-z0-9_]+-linux-gnu[a-z0-9_]*)?$/;

/**
 * The entries for a closure in a root.
 * @throws UsageError when the root has a file where a directory is needed or the other way round, or when two files of
 * the host would come to lie at one place.
 */
export function closureLayout(closure: Closure, root: RootView): LayoutEntry[] {
  const entries: LayoutEntry[] = [];
  const made = new Map<string, LayoutEntry>();
  const hostLinks = new Map(closure.symlinks.map(({ path, to }) => [path, to]));
  const put = (entry: LayoutEntry) => {
    made.set(entry.path, entry);
    entries.push(entry);
  };

  /** Where a name ends in the root; makes the links on the way. "covered": inside a bound directory of the host. */
  function walk(name: string): string | "covered" {
    const left = name.split("/").toReversed();
    let at = "";
    /** The host's place that `at` shows, below a bound directory. */
    let inside: string | undefined;
    let links = 0;
    const follow = (to: string) => {
      if (++links > MAX_LINKS) throw new UsageError(`${name}: symbolic links in the root never end`);
      if (to.startsWith("/")) {
        at = "";
        inside = undefined;
      }
      left.push(...to.split("/").toReversed());
    };
    while (left.length > 0) {
      const component = left.pop() ?? "";
      if (component === "" || component === ".") continue;
      if (component === "..") {
        inside = inside === undefined || made.has(at) ? undefined : parentOf(inside);
        at = at.slice(0, Math.max(at.lastIndexOf("/"), 0));
        continue;
      }
      const next = `${at}/${component}`;
      const last = left.every((one) => one === "" || one === ".");
      if (inside !== undefined) {
        const hostPlace = `${inside === "/" ? "" : inside}/${component}`;
        const to = hostLinks.get(hostPlace);
        if (to !== undefined) follow(to);
        else {
          at = next;
          inside = hostPlace;
        }
        continue;
      }
      const own = made.get(next);
      if (own?.kind === "symlink") {
        follow(own.to);
        continue;
      }
      if (own !== undefined) {
        if (own.kind === "file" && !last) throw new UsageError(`${name}: ${next} is a file, not a directory`);
        if (own.kind === "directory") inside = own.source;
        at = next;
        continue;
      }
      const there = root(next);
      if (there.kind === "symlink") {
        follow(there.to);
        continue;
      }
      const hostLink = hostLinks.get(next);
      if (there.kind === "absent" && hostLink !== undefined) {
        put({ kind: "symlink", path: next, to: hostLink });
        follow(hostLink);
        continue;
      }
      if (there.kind === "file" && !last)
        throw new UsageError(`${name}: the root has a file at ${next}, not a directory`);
      at = next;
    }
    return inside !== undefined && !made.has(at) ? "covered" : at;
  }

  function place(file: ClosureFile, name: string, instead: "replace" | "keep"): void {
    const at = walk(name);
    if (at === "covered" || at === "") return;
    const kind = file.kind === "directory" ? "directory" : "file";
    const own = made.get(at);
    if (own !== undefined && own.kind !== "symlink") {
      if (own.source === file.real || instead === "keep") return;
      throw new UsageError(`${name}: both ${own.source} and ${file.real} would be at ${at} of the root`);
    }
    const there = root(at);
    if (there.kind !== "absent" && instead === "keep") return;
    if (there.kind !== "absent" && there.kind !== kind) {
      throw new UsageError(`${name}: the root has a ${there.kind} at ${at}, the host a ${kind}`);
    }
    put({ kind, path: at, source: file.real, ...(file.yields ? { optional: true } : {}) });
  }

  /**
   * The root's own ld.so.cache does not know libraries that only the host's names (from /etc/ld.so.conf.d). They get a
   * link beside libc, which lies in a directory that the loader searches without a cache.
   */
  function aliasCached(): void {
    const libc = closure.files.find((file) => file.kind === "library" && baseOf(file.path) === "libc.so.6");
    for (const file of closure.files) {
      if (!file.cached || libc === undefined || DEFAULT_DIRECTORY.test(parentOf(file.path))) continue;
      const at = walk(`${parentOf(libc.path)}/${baseOf(file.path)}`);
      if (at === "covered" || made.has(at) || root(at).kind !== "absent") continue;
      put({ kind: "symlink", path: at, to: file.path });
    }
  }

  // Directories first: what lies in them needs no place of its own. Short ones before those inside them.
  const directories = closure.files.filter((file) => file.kind === "directory");
  for (const file of directories.toSorted((a, b) => a.path.length - b.path.length)) {
    place(file, file.path, file.yields ? "keep" : "replace");
  }
  const files = closure.files.filter((file) => file.kind !== "directory");
  for (const file of files) place(file, file.path, file.yields ? "keep" : "replace");
  for (const file of files) {
    if (file.kind !== "program" && file.kind !== "script") continue;
    if (file.real !== file.path) place(file, file.real, "keep");
    // The host names it by its merged directories too (/bin/sh and /usr/bin/sh); a root with a real /bin has no link.
    for (const link of closure.symlinks) {
      const target = link.to.startsWith("/") ? link.to : `${parentOf(link.path).replace(/\/$/, "")}/${link.to}`;
      if (root(link.path).kind !== "directory" || target === "/" || !isWithin(parentOf(file.path), target)) continue;
      place(file, link.path + file.path.slice(target.length), "keep");
    }
  }
  if (root("/etc/ld.so.cache").kind !== "absent") aliasCached();
  // Merged directories that no name went through yet.
  for (const link of closure.symlinks) walk(`${parentOf(link.path)}/${baseOf(link.path)}`);
  return entries;
}
