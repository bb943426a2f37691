/** The failed builds that are still kept on this machine. */

import { lstatSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { rawCall } from "../libc/call.ts";
import {
  allocatedOf,
  AT,
  closeQuietly,
  deviceOf,
  FILE_TYPE,
  inodeOf,
  linksOf,
  modeOf,
  OPEN,
  readEntries,
  readStatus,
  statusBuffer,
} from "../libc/walk.ts";
import { failedPhase, readBuildLog } from "./build-log.ts";
import { findKeptBuild, type KeptBuild, readBuildVariables } from "./kept-build.ts";
import { findDerivation } from "./kept-derivation.ts";
import { onHost, type Store } from "./store-path.ts";

/** One kept build. What cannot be known, as of another user's build, is undefined. */
export interface ListedBuild {
  /** The path to give to nix-build-shell. */
  readonly path: string;
  readonly build: KeptBuild;
  readonly name: string | undefined;
  readonly phase: string | undefined;
  /** When the build directory was last changed, in milliseconds since the epoch. */
  readonly modified: number;
  /** Bytes on disk; undefined when part of it may not be read. */
  readonly size: number | undefined;
  /** When systemd-tmpfiles will remove it, in milliseconds since the epoch; undefined where nobody does. */
  readonly expires: number | undefined;
}

const WEEK = 7 * 24 * 3600 * 1000; // nix's own tmpfiles.d line for its builds directory
const NAMES = /^(?:nix-build-(.+)\.drv(?:-\d+)?-\d+|nix-\d+-\d+)$/;

/** Kept builds in the temporary directories and in the store's own build directories, the latest first. */
export function listKeptBuilds(
  store: Store,
  temporary: readonly string[] = [tmpdir(), "/tmp"],
): readonly ListedBuild[] {
  const builds = onHost(store, `${store.stateDir}/builds`);
  const places = [...new Set([...temporary, builds, onHost(store, `${store.stateDir}/b`)])];
  const found: ListedBuild[] = [];
  for (const place of places) {
    for (const base of namesIn(place)) {
      const isLix = place.endsWith("/b");
      if (!isLix && !NAMES.test(base)) continue;
      const listed = describe(store, `${place}/${base}`, place === builds);
      if (listed !== undefined) found.push(listed);
    }
  }
  return found.toSorted((a, b) => b.modified - a.modified);
}

function namesIn(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch {
    return []; // not there, or not for this user
  }
}

function describe(store: Store, path: string, cleaned: boolean): ListedBuild | undefined {
  try {
    if (!lstatSync(path).isDirectory()) return undefined; // links in /tmp may be anybody's
    const build = findKeptBuild(path);
    const modified = lstatSync(build.directory).mtimeMs;
    const fromPath = NAMES.exec(path.split("/").at(-1) ?? "")?.[1];
    const facts = build.envVars === "readable" ? attempt(() => readBuildVariables(build, store)) : undefined;
    const phase = facts && attempt(() => failedPhaseOf(store, facts.out));
    return {
      path,
      build,
      name: facts?.name ?? fromPath,
      phase,
      modified,
      size: sizeOnDisk(build.directory),
      expires: cleaned ? modified + WEEK : undefined,
    };
  } catch {
    return undefined; // removed while it was looked at
  }
}

function failedPhaseOf(store: Store, out: string | undefined): string | undefined {
  const log = readBuildLog(store, findDerivation(store, { out }).path);
  return log && failedPhase(log);
}

/** A list shows what it can: what is wrong with one build is said when that build is entered. */
function attempt<Result>(read: () => Result): Result | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

/** Bytes that a directory and all below take on disk, links not followed; undefined when part may not be read. */
export function sizeOnDisk(path: string): number | undefined {
  const status = statusBuffer();
  const flags = OPEN.readOnly | OPEN.directory | OPEN.noFollow | OPEN.closeOnExec;
  const counted = new Set<string>();
  let total = 0;
  const walk = (parent: number, name: Uint8Array | string): boolean => {
    const fd = rawCall("openat", parent, name, flags);
    if (fd < 0) return false;
    try {
      for (const entry of readEntries(fd)) {
        if (readStatus(fd, entry.name, status) < 0) return false;
        const id = `${deviceOf(status)}:${inodeOf(status)}`;
        if (!counted.has(id)) total += allocatedOf(status);
        if (linksOf(status) > 1) counted.add(id);
        const isDirectory = (modeOf(status) & FILE_TYPE.mask) === FILE_TYPE.directory;
        if (isDirectory && !walk(fd, entry.name)) return false;
      }
      return true;
    } finally {
      closeQuietly(fd);
    }
  };
  return walk(AT.fdcwd, path) ? total : undefined;
}

const DAY = 24 * 3600 * 1000;

/** The list as a table; `now` in milliseconds since the epoch. What is not known is a hyphen. */
export function formatKeptBuilds(builds: readonly ListedBuild[], now: number): string {
  const rows = builds.map(({ path, name, phase, modified, size, expires }) => [
    name ?? "-",
    phase ?? "-",
    formatAge(now - modified),
    size === undefined ? "-" : formatBytes(size),
    expires === undefined ? "-" : `in ${Math.max(0, Math.ceil((expires - now) / DAY))} d`,
    path,
  ]);
  const table = [["PACKAGE", "PHASE", "AGE", "SIZE", "REMOVED", "BUILD_DIR"], ...rows];
  const widths = table[0]?.map((_, column) => Math.max(...table.map((row) => (row[column] ?? "").length))) ?? [];
  return table
    .map((row) => row.map((cell, column) => (column === 5 ? cell : cell.padEnd(widths[column] ?? 0))).join("  "))
    .map((line) => `${line}\n`)
    .join("");
}

function formatAge(milliseconds: number): string {
  const minutes = Math.max(0, Math.floor(milliseconds / 60_000));
  if (minutes < 60) return `${minutes} min`;
  return minutes < 48 * 60 ? `${Math.floor(minutes / 60)} h` : `${Math.floor(minutes / 1440)} d`;
}

function formatBytes(bytes: number): string {
  if (bytes < 1024 ** 2) return `${Math.ceil(bytes / 1024)} KiB`;
  return bytes < 1024 ** 3 ? `${Math.round(bytes / 1024 ** 2)} MiB` : `${(bytes / 1024 ** 3).toFixed(1)} GiB`;
}
