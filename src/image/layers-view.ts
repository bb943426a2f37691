/** What a run asks of an image's layers before they are mounted: texts, and what is at a path. */

import { decodeBytes } from "../bytes.ts";
import { HutchError } from "../errors.ts";
import { AT_FDCWD, O, openAt, S_IF } from "../libc/file.ts";
import { createMergedView, existsInView, pathNames, placeInView, readInView, readLinkIn } from "./merged-view.ts";

const TEXT_LIMIT = 16 * 1024 * 1024;

export interface LayersView {
  /** Text of a regular file, links followed inside the image; "" when there is none. */
  readonly read: (path: string) => string;
  /** Whether there is something at a path, links followed inside the image. */
  readonly has: (path: string) => boolean;
  /**
   * Where a directory must be made for a path to lead to one, links followed inside the image: an absolute path without
   * links. undefined when it is there, when it is missing at its own name, and when it cannot be made or looked for.
   */
  readonly missingBehindLinks: (path: string) => string | undefined;
  /** What is at an absolute path none of whose parents is a link. */
  readonly look: (
    path: string,
  ) => { readonly kind: "absent" | "directory" | "file" } | { readonly kind: "symlink"; readonly to: string };
}

/** A view of unpacked layers, lowest first. Its descriptors are close-on-exec and live as long as the process. */
export function openLayers(layers: readonly string[]): LayersView {
  const view = createMergedView(layers.toReversed().map((path) => openAt(AT_FDCWD, path, O.PATH | O.DIRECTORY)));
  return {
    read: (path) => decodeBytes(readInView(view, path, TEXT_LIMIT) ?? new Uint8Array()),
    has: (path) => existsInView(view, path),
    missingBehindLinks: (path) => {
      try {
        const place = placeInView(view, path);
        return place === pathNames(path).join("/") || view.look(place) !== undefined ? undefined : `/${place}`;
      } catch (error) {
        if (error instanceof HutchError) return undefined; // whoever makes the directory says it better
        throw error;
      }
    },
    look: (path) => {
      const name = pathNames(path).join("/");
      const seen = view.look(name);
      if (seen === undefined) return { kind: "absent" };
      if (seen.kind === "directory") return { kind: "directory" };
      if (seen.stat.type !== S_IF.LNK) return { kind: "file" };
      return { kind: "symlink", to: readLinkIn(view.roots[seen.layer] ?? -1, name) };
    },
  };
}
