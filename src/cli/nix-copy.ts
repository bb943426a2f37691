/** The copy of a kept build directory, with a progress line where it takes long. */

import { chmodSync, lchownSync, lstatSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { encodeBytes, fsPath } from "../bytes.ts";
import { EXIT, HutchError } from "../errors.ts";
import { SIGNALS } from "../libc/constants.ts";
import { isTerminal, writeAll } from "../libc/files.ts";
import type { Skipped } from "../nix/copy-entry.ts";
import { type CopyOptions, type CopyProgress, copyTree } from "../nix/copy-tree.ts";
import { removeTree } from "../sessions/remove-tree.ts";
import type { BuildSource } from "./nix-build-source.ts";

const PATIENCE_MS = 1000;
const ENDING = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * Make `build` the copy of the source's kept directory, or a fresh one, with what the source says must be in it. A
 * signal that asks hutch to end removes what was copied. `owner` is whose it shall be, if not the caller's. Returns what the caller may not read, which is left out.
 */
export async function copyBuild(
  source: BuildSource,
  build: string,
  owner: CopyOptions["owner"],
): Promise<readonly Skipped[]> {
  if (source.kept === undefined) {
    mkdirSync(fsPath(build), { mode: 0o700 });
    removingOnFailure(build, () => writeFiles(source, build));
    return [];
  }
  const abort = new AbortController();
  const stops = ENDING.map((name) => {
    const stop = () => abort.abort(new HutchError("interrupted", { exitCode: EXIT.signalBase + SIGNALS[name] }));
    process.on(name, stop);
    return () => process.off(name, stop);
  });
  const progress = progressLine();
  try {
    const options = {
      progress: progress.show,
      signal: abort.signal,
      unreadable: "skip",
      ...(owner === undefined ? {} : { owner }),
    } as const;
    const { skipped } = await copyTree(source.kept, build, options);
    removingOnFailure(build, () => {
      chmodSync(fsPath(build), (lstatSync(fsPath(build)).mode & 0o7777) | 0o700);
      writeFiles(source, build, owner);
    });
    return skipped.filter(({ path, why }) => why === "permission denied" && path !== "env-vars");
  } finally {
    progress.clear();
    stops.forEach((stop) => stop());
  }
}

/** Do what is left to be done in a directory that has just been made; it goes when that fails. */
function removingOnFailure(directory: string, finish: () => void): void {
  try {
    finish();
  } catch (error) {
    removeTree(directory);
    throw error;
  }
}

function writeFiles({ envVars, files }: BuildSource, build: string, owner?: CopyOptions["owner"]): void {
  const write = (path: string, text: string, mode: number) => {
    writeFileSync(fsPath(path), encodeBytes(text), { flag: "wx", mode });
    if (owner !== undefined) lchownSync(fsPath(path), owner.uid, owner.gid);
  };
  for (const { name, content } of files) {
    if (lstatSync(fsPath(`${build}/${name}`), { throwIfNoEntry: false }) === undefined)
      write(`${build}/${name}`, content, 0o644);
  }
  if (envVars === undefined) return;
  rmSync(fsPath(`${build}/env-vars`), { force: true }); // it may be another name of a file that is to stay
  write(`${build}/env-vars`, envVars, 0o600);
}

/** A line on a terminal that tells how far copying is, once it takes longer than a second. */
function progressLine(): { readonly show: (done: CopyProgress) => void; readonly clear: () => void } {
  const start = performance.now();
  const wanted = isTerminal(2);
  let shown = 0;
  const say = (text: string) => writeAll(2, encodeBytes(text));
  return {
    show: ({ entries, bytes }) => {
      const now = performance.now();
      if (!wanted || now - start < PATIENCE_MS || now - shown < 200) return;
      shown = now;
      say(`\r\u001b[Kcopying the build directory: ${entries} files, ${Math.round(bytes / 2 ** 20)} MiB`);
    },
    clear: () => {
      if (shown !== 0) say("\r\u001b[K");
    },
  };
}
