/** A directory as a root that is to be shown. */

import { linkTarget, pathStatus } from "../libc/files.ts";
import type { RootView } from "./closure-layout.ts";

/**
 * What a directory has, for layouts only: targets are resolved again, safely, when they are mounted. To be asked for
 * paths none of whose parents is a link.
 */
export function directoryView(root: string): RootView {
  return (path) => {
    const place = `${root}${path}`;
    const to = linkTarget(place);
    if (typeof to === "string") return { kind: "symlink", to };
    const found = pathStatus(place);
    if (typeof found === "number") return { kind: "absent" };
    return { kind: found.kind === "directory" ? "directory" : "file" };
  };
}
