/**
 * A bash with line editing for the interactive shell. The one that nixpkgs builds with has none; `bashInteractive` is a
 * package of its own, and most hosts have a bash outside the store.
 */

import { readdirSync, readFileSync, statSync } from "node:fs";
import { onHost, type Store } from "./store-path.ts";

/** A bash with readline and where it was found; `path` is a store path (without the store's root) or a host path. */
export interface InteractiveShell {
  readonly path: string;
  readonly from: "store" | "host";
}

const PACKAGE = /^[0-9a-z]{32}-bash-interactive-([0-9][0-9A-Za-z.+-]*)$/;
const OTHER_OUTPUT = /-(?:dev|doc|info|man|debug)$/;

/**
 * Find one: the newest in the store, else `hostBash` (default: the first `bash` in PATH, else /bin/bash).
 * Undefined when neither has readline.
 */
export function findInteractiveShell(
  store: Store,
  hostBash: string | null = Bun.which("bash") ?? "/bin/bash",
): InteractiveShell | undefined {
  for (const name of interactivePackages(store)) {
    const path = `${store.storeDir}/${name}/bin/bash`;
    if (hasReadline(onHost(store, path))) return { path, from: "store" };
  }
  return hostBash !== null && hasReadline(hostBash) ? { path: hostBash, from: "host" } : undefined;
}

function interactivePackages(store: Store): readonly string[] {
  let names: readonly string[];
  try {
    names = readdirSync(onHost(store, store.storeDir));
  } catch {
    return []; // a store that may not be listed
  }
  const version = (name: string) => PACKAGE.exec(name)?.[1] ?? "";
  return names
    .filter((name) => PACKAGE.test(name) && !OTHER_OUTPUT.test(name))
    .toSorted((a, b) => version(b).localeCompare(version(a), "en", { numeric: true }));
}

// the usage line of bash's builtin `bind`, which exists only in a bash that is built with readline
const BIND_USAGE = Buffer.from("bind [-lp");
const MAX_SHELL = 64 << 20;

/** Whether the program is a bash that is built with readline, by what is in the file; it is not run. */
export function hasReadline(path: string): boolean {
  try {
    const status = statSync(path);
    if (!status.isFile() || (status.mode & 0o111) === 0 || status.size > MAX_SHELL) return false;
    return readFileSync(path).includes(BIND_USAGE);
  } catch {
    return false;
  }
}
