/**
 * What an overlay's writable layer changes of what is below it, as docker's `diff` lists it. The layer is whatever a
 * sandboxed program has made: only directories are opened, by descriptor and never through a link, one at a time, so that
 * a tree of any depth can be read; names are passed on as the bytes that they are.
 */

import { HutchError } from "../errors.ts";
import { rawCall, systemError } from "../libc/call.ts";
import { AT_FDCWD, closeFile, listNames, O, openAt, S_IF, statAt } from "../libc/file.ts";
import { isErrno } from "../libc/files.ts";
import { createMergedView, joinPath, type MergedView } from "./merged-view.ts";
import { isOpaque, isWhiteout } from "./overlay-marks.ts";

/** `A` added, `C` changed (a directory also when only something in it was), `D` deleted; an absolute path. */
export type Change = readonly [kind: "A" | "C" | "D", path: string];

/** What the layers below have at a directory: one that shows through, one that is hidden, or no directory. */
type Below = "shown" | "hidden" | "none";

interface Level {
  /** As merged-view.ts has it: without a leading slash. */
  readonly path: string;
  readonly below: Below;
  /** Which directory it is. */
  readonly identity: string;
  /** Names still to be looked at, the last one next. */
  readonly names: string[];
}

/**
 * The changes, each directory before what is in it, names in order.
 * @param upper the layer's directory
 * @param lower directories of what is below it, lowest first
 * @throws HutchError when the layer changes too much meanwhile, SystemError
 */
export function* readChanges(upper: string, lower: readonly string[]): Generator<Change> {
  const roots = lower.toReversed().map((path) => openAt(AT_FDCWD, path, O.PATH | O.DIRECTORY));
  let fd = openAt(AT_FDCWD, upper, O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
  try {
    const view = createMergedView(roots);
    const levels: Level[] = [levelOf(fd, "", "shown", view)];
    for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
      const name = level.names.pop();
      if (name === undefined) {
        levels.pop();
        const above = levels.at(-1);
        if (above !== undefined) fd = replace(fd, openAbove(fd, above));
        continue;
      }
      const path = joinPath(level.path, name);
      const hides = level.below === "none" ? undefined : view.look(path);
      const stat = statAt(fd, name);
      if (stat === undefined || isWhiteout(fd, name, stat)) {
        if (hides !== undefined) yield ["D", `/${path}`];
        continue;
      }
      yield [hides === undefined ? "A" : "C", `/${path}`];
      if (stat.type !== S_IF.DIR) continue;
      const child = rawCall("openat", fd, name, O.RDONLY | O.DIRECTORY | O.NOFOLLOW | O.CLOEXEC);
      if (["ENOENT", "ENOTDIR", "ELOOP"].some((error) => isErrno(child, error))) continue; // gone since
      if (child < 0) throw systemError(`open ${name} in a layer`, -child);
      fd = replace(fd, child);
      levels.push(levelOf(fd, path, hides?.kind === "directory" ? level.below : "none", view));
    }
  } finally {
    for (const open of [fd, ...roots]) closeFile(open);
  }
}

function replace(fd: number, other: number): number {
  closeFile(fd);
  return other;
}

function identityOf(fd: number): string {
  const stat = statAt(fd, "");
  return `${stat?.dev} ${stat?.ino}`;
}

/** A directory of the layer that is open; what an opaque one hides is among its names. */
function levelOf(fd: number, path: string, around: Below, view: MergedView): Level {
  const below = around === "shown" && isOpaque(fd, "") ? "hidden" : around;
  const names = new Set(listNames(fd));
  if (below === "hidden") for (const name of view.names(path)) names.add(name);
  return { path, below, identity: identityOf(fd), names: [...names].toSorted().toReversed() };
}

/** The directory above, which must be the one that was come from: a running sandbox may have moved it. */
function openAbove(fd: number, { identity }: Level): number {
  const above = openAt(fd, "..", O.RDONLY | O.DIRECTORY);
  if (identityOf(above) === identity) return above;
  closeFile(above);
  throw new HutchError("the layer was changed while it was read", { hint: "try again, or when its sandbox has ended" });
}

/** As many as are worth passing on at once. */
const CHUNK = 256;

/** The same in lists, none of them empty. */
export function* inChunks(changes: Iterable<Change>): Generator<readonly Change[]> {
  let some: Change[] = [];
  for (const change of changes) {
    some.push(change);
    if (some.length < CHUNK) continue;
    yield some;
    some = [];
  }
  if (some.length > 0) yield some;
}
