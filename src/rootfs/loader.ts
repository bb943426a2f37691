/**
 * Where a dynamic loader looks for a library: glibc's rules (ld.so(8), glibc's elf/dl-load.c, _dl_map_object) and
 * musl's (ldso/dynlink.c, load_library). Each loader is a function from a name to the paths it would try, in order.
 */

import { decodeBytes } from "../bytes.ts";
import type { Elf } from "./elf.ts";
import { type HostFiles, readWhole } from "./host-files.ts";
import { type LdCache, lookupLdCache, parseLdCache } from "./ld-cache.ts";
import { baseOf, parentOf } from "./walk.ts";

/** A file that a loader has mapped, or the program itself. */
export interface LoadedObject {
  /** As it was opened. */
  readonly path: string;
  readonly elf: Elf;
  /** What caused it to be loaded; undefined for the program. */
  readonly by: LoadedObject | undefined;
  /** $ORIGIN: directory of `path`, of the canonical path for the program. */
  readonly origin: string;
}

export interface Candidate {
  readonly path: string;
  /** For people: `RUNPATH of /usr/bin/x`, `ld.so.cache`, `default directories`. */
  readonly where: string;
  /** Made for newer processors only: a loader may pass it over on another machine. */
  readonly variant: boolean;
}

export interface Loader {
  /** Whether the loader itself answers for a name (musl's libc.so, libm.so.6, …). */
  readonly provides: (name: string) => boolean;
  /** Paths for a name without a slash, wanted by an object, best first. */
  readonly candidates: (name: string, by: LoadedObject) => Generator<Candidate, void, undefined>;
  /** A name with $ORIGIN and its like replaced. */
  readonly expand: (name: string, by: LoadedObject) => string;
  /** Files of its own that it reads, where they are there. */
  readonly config: readonly string[];
}

/** What {@link Candidate.where} says of a path that the cache gave. */
export const LD_CACHE = "ld.so.cache";

/** Beyond this no loader is read for its strings, and no cache read. */
const MAX_LOADER = 8 << 20;
const MAX_CACHE = 64 << 20;

/** The loader that PT_INTERP names (`path`, with canonical path `real`), by its name glibc's or musl's. */
export function createLoader(host: HostFiles, path: string, real: string, elf: Elf): Loader {
  return baseOf(path).startsWith("ld-musl-") ? muslLoader(host, path) : glibcLoader(host, real, elf);
}

/**
 * glibc's search for the libraries of `elf`'s machine. `real`: the loader's canonical path, undefined when there is no
 * loader (a library given as a program): then the usual directories of all distributions are searched.
 */
export function glibcLoader(host: HostFiles, real: string | undefined, elf: Elf): Loader {
  let cache: LdCache | undefined | null = null; // null: not read yet
  let facts: LoaderFacts | undefined;
  const about = (): LoaderFacts => (facts ??= loaderFacts(host, real, elf));
  const readCache = (): LdCache | undefined => {
    if (cache !== null) return cache;
    // A loader outside of the system's directories (Nix, Guix, a toolchain) was built with a cache of its own.
    const path =
      real === undefined || real.startsWith("/usr/lib") || real.startsWith("/lib") ? "/etc/ld.so.cache" : about().cache;
    const bytes = path === undefined ? undefined : readWhole(host, path, MAX_CACHE);
    cache = bytes === undefined ? undefined : parseLdCache(bytes);
    return cache;
  };
  const expand = (text: string, by: LoadedObject): string =>
    text.includes("$")
      ? text.replace(/\$(?:\{(ORIGIN|LIB|PLATFORM)\}|(ORIGIN|LIB|PLATFORM))/g, (_, braced, bare) => {
          const word = braced ?? bare;
          return word === "ORIGIN" ? by.origin : word === "LIB" ? about().lib : platformOf(elf);
        })
      : text;

  function* inDirectories(name: string, directories: readonly string[], where: string) {
    for (const directory of directories) {
      yield { path: `${directory}/${name}`, where, variant: false };
      // Only without a plain one beside it: the plain one runs everywhere.
      for (const level of host.list(`${directory}/glibc-hwcaps`)) {
        yield { path: `${directory}/glibc-hwcaps/${level}/${name}`, where, variant: true };
      }
    }
  }
  function* candidates(name: string, by: LoadedObject): Generator<Candidate, void, undefined> {
    if (by.elf.runpath === undefined) {
      for (let object: LoadedObject | undefined = by; object !== undefined; object = object.by) {
        // DT_RPATH is ignored in an object that has DT_RUNPATH too.
        if (object.elf.rpath === undefined || object.elf.runpath !== undefined) continue;
        yield* inDirectories(name, searchPath(expand(object.elf.rpath, object)), `RPATH of ${object.path}`);
      }
    } else {
      yield* inDirectories(name, searchPath(expand(by.elf.runpath, by)), `RUNPATH of ${by.path}`);
    }
    const cached = readCache();
    if (cached !== undefined) {
      for (const entry of lookupLdCache(cached, name, elf)) {
        if (by.elf.noDefaultLibraries && about().directories.some((one) => entry.path.startsWith(`${one}/`))) continue;
        yield { path: entry.path, where: LD_CACHE, variant: entry.hwcaps !== undefined };
      }
    }
    if (!by.elf.noDefaultLibraries) yield* inDirectories(name, about().directories, "default directories");
  }
  return { provides: () => false, candidates, expand, config: [] };
}

/** Names that musl's loader answers itself: `lib` + one of these (ldso/dynlink.c, load_library). */
const MUSL_OWN = /^lib(c|pthread|rt|m|dl|util|xnet)\./;

/** musl's search: RPATH or RUNPATH of the object and of all that caused it, then /etc/ld-musl-ARCH.path or its default. */
function muslLoader(host: HostFiles, path: string): Loader {
  // For /lib/ld-musl-x86_64.so.1 the file is /etc/ld-musl-x86_64.path; a prefix before /lib stays.
  const architecture = baseOf(path).replace(/\.so\.1$/, "");
  const prefix = parentOf(parentOf(path)).replace(/\/$/, "");
  const config = `${prefix}/etc/${architecture}.path`;
  let directories: readonly string[] | undefined;
  const system = (): readonly string[] => {
    if (directories !== undefined) return directories;
    const bytes = readWhole(host, config, 1 << 20);
    const text = bytes === undefined ? "/lib:/usr/local/lib:/usr/lib" : decodeBytes(bytes);
    directories = text.split(/[:\n]/).filter((directory) => directory.startsWith("/"));
    return directories;
  };
  const expand = (text: string, by: LoadedObject): string => text.replace(/\$ORIGIN|\$\{ORIGIN\}/g, () => by.origin);
  function* candidates(name: string, by: LoadedObject): Generator<Candidate, void, undefined> {
    for (let object: LoadedObject | undefined = by; object !== undefined; object = object.by) {
      const text = object.elf.runpath ?? object.elf.rpath;
      // Any other $ makes musl ignore the whole path.
      if (text === undefined || text.replace(/\$ORIGIN|\$\{ORIGIN\}/g, "").includes("$")) continue;
      for (const directory of searchPath(expand(text, object))) {
        yield { path: `${directory}/${name}`, where: `RPATH of ${object.path}`, variant: false };
      }
    }
    for (const directory of system()) yield { path: `${directory}/${name}`, where: config, variant: false };
  }
  return { provides: (name) => MUSL_OWN.test(name), candidates, expand, config: [config] };
}

/**
 * Directories of a colon-separated list. Relative ones count from wherever the program will be started, which nobody
 * can know: they are left out, and what only they hold is reported as missing.
 */
function searchPath(text: string): string[] {
  return text
    .split(":")
    .filter((directory) => directory.startsWith("/"))
    .map((directory) => (directory.length > 1 ? directory.replace(/\/+$/, "") : ""));
}

interface LoaderFacts {
  /** Default directories, without a final slash. */
  readonly directories: readonly string[];
  /** What $LIB stands for: `lib/x86_64-linux-gnu`, `lib64`, `lib`. */
  readonly lib: string;
  /** Path of its cache. */
  readonly cache: string | undefined;
}

const TRIPLES: Readonly<Record<string, string>> = {
  "x86-64/64": "x86_64-linux-gnu",
  "x86-64/32": "x86_64-linux-gnux32",
  "i386/32": "i386-linux-gnu",
  "aarch64/64": "aarch64-linux-gnu",
  "arm/32": "arm-linux-gnueabihf",
  "riscv/64": "riscv64-linux-gnu",
  "powerpc64/64": "powerpc64le-linux-gnu",
  "s390/64": "s390x-linux-gnu",
  "loongarch/64": "loongarch64-linux-gnu",
};

function loaderFacts(host: HostFiles, real: string | undefined, elf: Elf): LoaderFacts {
  const bytes = real === undefined ? undefined : readWhole(host, real, MAX_LOADER);
  const own = bytes === undefined ? undefined : parseLoaderStrings(bytes);
  if (own !== undefined && own.directories.length > 0) {
    const first = own.directories[0] ?? "/lib";
    const system = /^(?:\/usr)?\/(lib.*)$/.exec(first)?.[1];
    return { directories: own.directories, lib: system ?? baseOf(first), cache: own.cache };
  }
  const triple = TRIPLES[`${elf.machine}/${elf.class}`];
  const names = [
    triple === undefined ? [] : [`lib/${triple}`],
    elf.class === 64 ? ["lib64"] : ["lib32"],
    ["lib"],
  ].flat();
  return {
    directories: names.flatMap((name) => [`/${name}`, `/usr/${name}`]),
    lib: names[0] ?? "lib",
    cache: "/etc/ld.so.cache",
  };
}

/**
 * The default directories that a build of glibc's ld.so holds, and its cache's path. Every distribution chooses its
 * own; they stand in its read-only data as `/lib/x86_64-linux-gnu/\0/usr/lib/x86_64-linux-gnu/\0/lib/\0/usr/lib/\0`
 * (system_dirs in elf/dl-load.c), the longest such row. No directories when there is none.
 */
export function parseLoaderStrings(bytes: Uint8Array): { directories: readonly string[]; cache: string | undefined } {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
  let best: string[] = [];
  for (const [row] of text.matchAll(/(?<=\0)(?:\/[!-~]{1,255}\/\0){1,16}/g)) {
    const directories = row.split("\0").slice(0, -1);
    if (directories.length > best.length && directories.every((one) => /\/lib/.test(one))) best = directories;
  }
  const cache = /(?<=\0)\/[!-~]{1,255}\/ld\.so\.cache(?=\0)/.exec(text)?.[0];
  return { directories: best.map((directory) => directory.slice(0, -1)), cache };
}

function platformOf(elf: Elf): string {
  return elf.machine === "x86-64" ? "x86_64" : elf.machine === "i386" ? "i686" : elf.machine;
}
