/** `nix-build-shell [OPTIONS] BUILD_DIR [COMMAND [ARG…]]`: a command or a shell inside the sandbox of a failed build. */

import { UsageError } from "../errors.ts";
import { findKeptBuild, readBuildVariables } from "../nix/kept-build.ts";
import { nixStore } from "../nix/store-path.ts";
import type { Command } from "./command.ts";
import { NIX_BUILD_OPTIONS } from "./nix-build-options.ts";
import { enterSession } from "./nix-session.ts";
import { has, last, oneOf, type Parsed, parseOptions } from "./options.ts";
import { print } from "./report.ts";

const OPERANDS = "BUILD_DIR [COMMAND [ARG…]]";

export const nixBuildShell: Command = {
  main: async (argv, self) => {
    const parsed = parseOptions(NIX_BUILD_OPTIONS, argv);
    if (has(parsed, "help")) {
      const { commandUsage } = await import("./usage.ts");
      const about = "A command, or a shell, in the sandbox that a Nix build failed in";
      print(await commandUsage("nix-build-shell", about, OPERANDS, NIX_BUILD_OPTIONS));
      return 0;
    }
    const [directory, ...rest] = parsed.operands;
    if (directory === undefined || directory === "")
      throw new UsageError("BUILD_DIR is missing", { hint: `nix-build-shell [OPTIONS] ${OPERANDS}` });
    const command = rest[0] === "--" ? rest.slice(1) : rest;
    const store = nixStore(last(parsed, "store")?.value);
    const kept = findKeptBuild(directory);
    const variables = readBuildVariables(kept, store);
    return enterSession({ store, kept: kept.directory, variables, command, ...choices(parsed) }, self);
  },
};

/** What the options say about a session. */
function choices(parsed: Parsed) {
  const keep = last(parsed, "keep");
  if (keep?.value === "") throw new UsageError("--keep needs a directory");
  return {
    hostNetwork: oneOf(parsed, "network", ["none", "host"], "none") === "host",
    keep: keep === undefined ? undefined : absolute(keep.value),
    log: last(parsed, "log")?.value,
    diff: has(parsed, "diff"),
    products: !has(parsed, "no-products"),
  };
}

function absolute(path: string): string {
  return path.startsWith("/") ? path : `${process.cwd()}/${path}`;
}
