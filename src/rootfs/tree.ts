/** A closure as a directory of real files, for `hutch root`: what a scratch root would have, to be kept. */

import type { Closure } from "./closure.ts";
import { closureLayout } from "./closure-layout.ts";
import { directoryView } from "./directory-view.ts";
import { openTree, type Written } from "./tree-writer.ts";

/** What every root has beside the closure: empty directories to mount on, small files; what is there already stays. */
export interface Skeleton {
  readonly directories: readonly (readonly [path: string, mode: number])[];
  readonly files: readonly (readonly [path: string, content: string])[];
}

/**
 * Write a closure into the directory `output`, made when missing. Links that are there already are followed inside of it
 * (merged directories), never out of it.
 * @throws HutchError when the directory is not empty and `force` is not given, or something is in the way
 */
export function writeClosure(closure: Closure, skeleton: Skeleton, output: string, force: boolean): Written {
  const tree = openTree(output, force);
  try {
    for (const entry of closureLayout(closure, directoryView(output))) {
      if (entry.kind === "symlink") tree.link(entry.path, entry.to);
      else tree.copy(entry.source, entry.path);
    }
    for (const [path, mode] of skeleton.directories) tree.directory(path, mode);
    for (const [path, content] of skeleton.files) tree.text(path, content, 0o644);
    return tree.written;
  } finally {
    tree.close();
  }
}
