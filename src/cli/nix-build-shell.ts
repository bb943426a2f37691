/** `nix-build-shell [OPTIONS] BUILD_DIR [COMMAND [ARG…]]`: a command or a shell inside the sandbox of a failed build. */

import { UsageError } from "../errors.ts";
import { findKeptBuild, readBuildVariables } from "../nix/kept-build.ts";
import { nixStore } from "../nix/store-path.ts";
import type { Command } from "./command.ts";
import { NIX_BUILD_OPTIONS } from "./nix-build-options.ts";
import { enterSession } from "./nix-session.ts";
import { last, oneOf, parseOptions } from "./options.ts";
import { print } from "./report.ts";

const OPERANDS = "BUILD_DIR [COMMAND [ARG…]]";

export const nixBuildShell: Command = {
  main: async (argv, self) => {
    const parsed = parseOptions(NIX_BUILD_OPTIONS, argv);
    if (parsed.options.has("help")) {
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
    const network = oneOf(parsed, "network", ["none", "host"], "none");
    return enterSession({ store, kept, variables, command, hostNetwork: network === "host" }, self);
  },
};
