/** Sizes of a closure's directories, which nothing else needs: `hutch closure` asks for them, `hutch run` does not. */

import type { Closure } from "./closure.ts";
import type { HostFiles } from "./host-files.ts";
import { isWithin } from "./walk.ts";

/** The closure with the sizes of its directories filled in: bytes of all regular files below, links not followed. */
export function measureDirectories(host: HostFiles, closure: Closure): Closure {
  const sizes = new Map<string, number>();
  for (const { real, kind } of closure.files) {
    if (kind === "directory" && !sizes.has(real)) sizes.set(real, sizeBelow(host, real));
  }
  const files = closure.files.map((file) => ({ ...file, size: sizes.get(file.real) ?? file.size }));
  // A file inside of a directory that is there anyway is not counted twice.
  const inside = (path: string) =>
    [...sizes.keys()].some((directory) => directory !== path && isWithin(path, directory));
  const counted = new Map(files.filter((file) => !inside(file.real)).map((file) => [file.real, file.size]));
  return { ...closure, files, size: [...counted.values()].reduce((sum, size) => sum + size, 0) };
}

function sizeBelow(host: HostFiles, directory: string): number {
  let sum = 0;
  const left = [directory];
  for (let at = left.pop(); at !== undefined; at = left.pop()) {
    for (const name of host.list(at)) {
      const path = `${at}/${name}`;
      if (host.readLink(path) !== null) continue;
      const { kind, size } = host.status(path);
      if (kind === "directory") left.push(path);
      else if (kind === "file") sum += size;
    }
  }
  return sum;
}
