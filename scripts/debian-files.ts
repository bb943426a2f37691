/**
 * Single files of Debian packages that would bring hundreds of others with them, were they installed: the package is
 * fetched and the file taken out of it. scripts/system-packages.ts does it before tests; tests only read.
 */

import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { ROOT, run } from "./run.ts";

/** A file by its package and its path in it. */
interface DebianFile {
  readonly name: string;
  readonly path: string;
  /** Where it is kept when the package is not installed. */
  readonly kept: string;
}

/** docker's profile as docker publishes it: the daemon has it compiled in, the package of its source as a file. */
export const DOCKER_PROFILE: DebianFile = {
  name: "golang-github-docker-docker-dev",
  path: "/usr/share/gocode/src/github.com/docker/docker/profiles/seccomp/default.json",
  kept: join(ROOT, ".cache/docker-seccomp.json"),
};

/** Where the file is. @throws Error that says how to get it */
export function debianFile({ name, path, kept }: DebianFile): string {
  const found = [path, kept].find((place) => existsSync(place));
  if (found !== undefined) return found;
  throw new Error(`${path} is missing: bun scripts/system-packages.ts fetches it, or install ${name}`);
}

/** Fetch the package and keep the file, unless it is here. Returns what went wrong, undefined when nothing did. */
export async function fetchDebianFile({ name, path, kept }: DebianFile): Promise<string | undefined> {
  if ([path, kept].some((place) => existsSync(place))) return undefined;
  if (Bun.which("apt-get") === null) return `no apt-get: ${path} of Debian's ${name} cannot be fetched`;
  const folder = mkdtempSync(join(tmpdir(), "hutch-deb-"));
  try {
    const fetched = await run(["sh", "-c", 'cd "$1" && apt-get -q download "$2"', "sh", folder, name]);
    const archive = readdirSync(folder).find((file) => file.endsWith(".deb"));
    if (fetched.exitCode !== 0 || archive === undefined) return fetched.output;
    const unpacked = await run(["dpkg-deb", "-x", join(folder, archive), join(folder, "tree")]);
    if (unpacked.exitCode !== 0) return unpacked.output;
    mkdirSync(dirname(kept), { recursive: true });
    const copied = await run(["cp", join(folder, "tree", path), `${kept}.new`]);
    if (copied.exitCode !== 0) return copied.output;
    renameSync(`${kept}.new`, kept);
    return undefined;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
