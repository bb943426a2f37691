/** The copy of a kept build directory, with a progress line where it takes long. */

import { chmodSync, lstatSync, rmSync, writeFileSync } from "node:fs";
import { encodeBytes } from "../bytes.ts";
import { EXIT, HutchError } from "../errors.ts";
import { SIGNALS } from "../libc/constants.ts";
import { isTerminal, writeAll } from "../libc/files.ts";
import { type CopyProgress, type CopyResult, copyTree } from "../nix/copy-tree.ts";
import { formatEnvVars, mapDirectory } from "../nix/env-vars.ts";
import type { BuildVariables } from "../nix/kept-build.ts";

const PATIENCE_MS = 1000;
const ENDING = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * Copy the kept directory to `build`, and make its env-vars speak of /build where the build was not sandboxed. A signal
 * that asks hutch to end removes what was copied.
 */
export async function copyBuild(kept: string, build: string, variables: BuildVariables): Promise<CopyResult> {
  const abort = new AbortController();
  const stops = ENDING.map((name) => {
    const stop = () => abort.abort(new HutchError("interrupted", { exitCode: EXIT.signalBase + SIGNALS[name] }));
    process.on(name, stop);
    return () => process.off(name, stop);
  });
  const progress = progressLine();
  try {
    const result = await copyTree(kept, build, { progress: progress.show, signal: abort.signal });
    chmodSync(build, (lstatSync(build).mode & 0o7777) | 0o700);
    if (variables.buildTop !== "/build") writeVariables(kept, build, variables);
    return result;
  } finally {
    progress.clear();
    stops.forEach((stop) => stop());
  }
}

function writeVariables(kept: string, build: string, { buildTop, variables }: BuildVariables): void {
  const mapped = mapDirectory(mapDirectory(variables, buildTop, "/build"), kept, "/build");
  const path = `${build}/env-vars`;
  rmSync(path, { force: true }); // it may be another name of a file that is to stay
  writeFileSync(path, encodeBytes(formatEnvVars(mapped)), { flag: "wx", mode: 0o600 });
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
