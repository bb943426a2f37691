/** A folder of the machine, bit for bit, to be compared with itself later. */

import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";

/** Paths of everything below a folder, links not followed (readdir's own `recursive` follows them in Bun 1.4.5). */
export function namesBelow(folder: string): readonly string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => [
    entry.name,
    ...(entry.isDirectory() ? namesBelow(join(folder, entry.name)).map((name) => join(entry.name, name)) : []),
  ]);
}

/** One line for each file below a folder and itself: identity, owner, mode, times, links, and the content's hash. */
export function fingerprint(folder: string): readonly string[] {
  return ["", ...namesBelow(folder)].toSorted().map((name) => {
    const path = join(folder, name);
    const status = lstatSync(path, { bigint: true });
    const content = status.isFile()
      ? Bun.hash(readFileSync(path)).toString(16)
      : status.isSymbolicLink()
        ? readlinkSync(path)
        : readdirSync(path).toSorted().join(" ");
    const { dev, ino, mode, uid, gid, nlink, size, mtimeNs, ctimeNs } = status;
    return [name, dev, ino, mode.toString(8), uid, gid, nlink, size, mtimeNs, ctimeNs, content].join(" | ");
  });
}
