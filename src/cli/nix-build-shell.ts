/** `nix-build-shell [OPTIONS] BUILD_DIR [COMMAND [ARG…]]`: a command or a shell inside the sandbox of a failed build. */

import { oneLine } from "../bytes.ts";
import { UsageError } from "../errors.ts";
import { pathStatus } from "../libc/files.ts";
import { nixStore } from "../nix/store-path.ts";
import type { Command } from "./command.ts";
import { checkOperands, checkTogether, NIX_BUILD_OPTIONS } from "./nix-build-options.ts";
import { runBuild, storeOfCommand } from "./nix-build-run.ts";
import { findSource } from "./nix-build-source.ts";
import { enterSession, verifySession } from "./nix-session.ts";
import { all, has, last, oneOf, type Parsed, parseOptions } from "./options.ts";
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
    checkTogether(parsed);
    const choice = choices(parsed);
    const pick = pickOf(parsed);
    if (has(parsed, "build")) {
      const { code, kept } = await runBuild(parsed.operands, pick);
      if (kept === undefined) return code;
      const store = nixStore(last(parsed, "store")?.value ?? storeOfCommand(parsed.operands));
      const source = findSource(store, kept, undefined);
      return enterSession({ store, source, command: [], status: code, ...choice }, self);
    }
    const store = nixStore(last(parsed, "store")?.value);
    if (has(parsed, "list")) {
      const { formatKeptBuilds, listKeptBuilds } = await import("../nix/kept-list.ts");
      const clean = (text: string | undefined) => (text === undefined ? undefined : oneLine(text));
      const builds = listKeptBuilds(store).map((build) => ({
        ...build,
        name: clean(build.name), // a builder may have written anything
        phase: clean(build.phase),
        path: oneLine(build.path),
      }));
      print(formatKeptBuilds(builds, Date.now()));
      return 0;
    }
    const drv = last(parsed, "drv")?.value;
    const { directory, command } = splitOperands(argv, parsed.operands, drv !== undefined);
    checkOperands(parsed, directory, command);
    const source = findSource(store, directory, drv);
    if (has(parsed, "verify")) {
      print(verifySession(store, source, choice.exact));
      return 0;
    }
    return enterSession({ store, source, command, ...choice }, self);
  },
};

/** BUILD_DIR, which `--drv FILE` alone or before `--` goes without, and the command. @throws UsageError */
function splitOperands(argv: readonly string[], operands: readonly string[], optional: boolean) {
  const ended = argv[argv.length - operands.length - 1] === "--";
  if (optional && (ended || operands.length === 0)) return { directory: undefined, command: operands };
  const [directory, ...rest] = operands;
  if (directory === undefined || directory === "")
    throw new UsageError("BUILD_DIR is missing", { hint: `nix-build-shell [OPTIONS] ${OPERANDS}` });
  return { directory, command: rest[0] === "--" ? rest.slice(1) : rest };
}

function pickOf(parsed: Parsed): number | undefined {
  const given = last(parsed, "pick");
  if (given === undefined) return undefined;
  if (!/^[1-9]\d{0,3}$/.test(given.value)) throw new UsageError("--pick needs a number from 1", { from: given.words });
  return Number(given.value);
}

/** What the options say about a session. */
function choices(parsed: Parsed) {
  const keep = last(parsed, "keep");
  const patch = last(parsed, "export-patch");
  if (patch?.value === "") throw new UsageError("--export-patch needs a file");
  const log = last(parsed, "log");
  if (log !== undefined && typeof pathStatus(log.value) === "number")
    throw new UsageError(`${log.value} does not exist`, { from: log.words });
  if (keep?.value === "") throw new UsageError("--keep needs a directory");
  return {
    added: all(parsed, "add"),
    hostNetwork: oneOf(parsed, "network", ["none", "host"], "none") === "host",
    keep: keep === undefined ? undefined : absolute(keep.value),
    log: log?.value,
    diff: has(parsed, "diff"),
    products: !has(parsed, "no-products"),
    exact: has(parsed, "exact"),
    patch: patch === undefined ? undefined : absolute(patch.value),
  };
}

function absolute(path: string): string {
  return path.startsWith("/") ? path : `${process.cwd()}/${path}`;
}
