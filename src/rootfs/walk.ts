/**
 * Paths as the kernel walks them (path_resolution(7)), with a note of every symbolic link on the way: a sandbox in
 * which the same name shall lead to the same file needs those links too.
 */

/** A symbolic link of the host: where it stands (no link in its own parents) and its target, word for word. */
export interface Link {
  readonly path: string;
  readonly to: string;
}

export interface Walked {
  /** Canonical path: absolute, without links, `.`, `..`. */
  readonly real: string;
  /** Links followed, in order. */
  readonly links: readonly Link[];
}

/** The kernel's limit on links in one walk (MAXSYMLINKS). */
const MAX_LINKS = 40;

/**
 * A walker over files that `readLink` shows (see HostFiles.readLink), which asks for each place once.
 * The result is undefined when a component is absent or the links never end. Relative paths count from `/`.
 */
export function createWalker(
  readLink: (path: string) => string | null | undefined,
): (path: string) => Walked | undefined {
  const known = new Map<string, string | null | undefined>();
  const look = (path: string): string | null | undefined => {
    if (known.has(path)) return known.get(path);
    const target = readLink(path);
    known.set(path, target);
    return target;
  };
  return (path) => {
    const links: Link[] = [];
    const left = path.split("/").toReversed();
    let real = "";
    while (left.length > 0) {
      const name = left.pop() ?? "";
      if (name === "" || name === ".") continue;
      if (name === "..") {
        real = real.slice(0, Math.max(real.lastIndexOf("/"), 0));
        continue;
      }
      const place = `${real}/${name}`;
      const to = look(place);
      if (to === undefined) return undefined;
      if (to === null) {
        real = place;
        continue;
      }
      if (links.length === MAX_LINKS || to === "") return undefined;
      links.push({ path: place, to });
      if (to.startsWith("/")) real = "";
      left.push(...to.split("/").toReversed());
    }
    return { real: real === "" ? "/" : real, links };
  };
}

/** Parent of an absolute path: `/a` for `/a/b`, `/` for `/a`. */
export function parentOf(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash <= 0 ? "/" : path.slice(0, slash);
}

/** Last component of a path. */
export function baseOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** Whether a canonical path is a directory or lies below it. */
export function isWithin(path: string, directory: string): boolean {
  return path === directory || directory === "/" || path.startsWith(`${directory}/`);
}
