/** `nix-build-shell --build nix-build …`: the build itself, its kept directory taken from what it says. */

import { decodeBytes, encodeBytes, oneLine } from "../bytes.ts";
import { EXIT, HutchError, UsageError } from "../errors.ts";
import { closeDescriptor, isTerminal, writeAll } from "../libc/files.ts";
import { parseKeptOutput } from "../nix/kept-output.ts";
import { openErrorTerminal } from "./error-terminal.ts";

/** How a build has ended: its exit status, and when it failed and left one, the directory to be entered. */
export interface BuildEnd {
  readonly code: number;
  readonly kept?: string;
}

/** Enough for any last words; a build may print gigabytes. */
const REMEMBERED = 1 << 20;

/** The command with the option that keeps a failed build. @throws UsageError when it is no command that builds */
export function keepingCommand(command: readonly string[]): readonly string[] {
  const [program = "", ...args] = command;
  const name = program.split("/").at(-1) ?? "";
  if (name === "nix-build") return [program, "--keep-failed", ...args];
  const build = args.indexOf("build");
  if (name === "nix" && build >= 0)
    return [program, ...args.slice(0, build + 1), "--keep-failed", ...args.slice(build + 1)];
  throw new UsageError("--build needs a command that builds", {
    from: `--build ${command.join(" ")}`.trimEnd(),
    hint: "nix-build-shell --build nix-build …, or nix build …",
  });
}

/** The chroot store that the command builds in, if it names one. */
export function storeOfCommand(command: readonly string[]): string | undefined {
  const value = command[command.indexOf("--store") + 1];
  return command.includes("--store") && value?.startsWith("/") === true ? value : undefined;
}

/**
 * Run the build to its end. Its output goes where ours does, untouched. `pick` chooses among several directories, from 1.
 * @throws UsageError when there are several and nobody to ask
 */
export async function runBuild(command: readonly string[], pick: number | undefined): Promise<BuildEnd> {
  const ignore = () => undefined;
  process.on("SIGINT", ignore); // it is the build's, which has had it from the terminal too
  try {
    const { code, said } = await runToEnd(keepingCommand(command));
    if (code === 0) return { code };
    const kept = parseKeptOutput(said).map(({ directory }) => directory);
    if (kept.length === 0) return { code };
    return { code, kept: await choose(kept, pick) };
  } finally {
    process.off("SIGINT", ignore);
  }
}

async function runToEnd(command: readonly string[]): Promise<{ readonly code: number; readonly said: string }> {
  using terminal = isTerminal(2) ? openErrorTerminal() : undefined;
  let child;
  try {
    child = Bun.spawn([...command], { stdin: "inherit", stdout: "inherit", stderr: terminal?.inner ?? "pipe" });
  } catch (error) {
    const { code } = error as { code?: string };
    throw new HutchError(`${command[0]}: ${code === "ENOENT" ? "command not found" : (code ?? String(error))}`, {
      exitCode: code === "ENOENT" ? EXIT.notFound : EXIT.notExecutable,
    });
  }
  if (terminal !== undefined) closeDescriptor(terminal.inner);
  let tail = new Uint8Array(0);
  const stream = typeof child.stderr === "object" ? child.stderr : undefined;
  for await (const chunk of terminal?.chunks() ?? stream ?? []) {
    writeAll(2, chunk);
    tail = new Uint8Array(Buffer.concat([tail, chunk]).subarray(-REMEMBERED));
  }
  return { code: await child.exited, said: decodeBytes(tail) };
}

async function choose(kept: readonly string[], pick: number | undefined): Promise<string> {
  const [only] = kept;
  if (kept.length === 1 && only !== undefined && (pick ?? 1) === 1) return only;
  const list = kept.map((directory, index) => `${index + 1}: ${directory}`);
  if (pick === undefined && isTerminal(0)) {
    for (const line of list) writeAll(2, encodeBytes(`${oneLine(line)}\n`));
    writeAll(2, encodeBytes(`which one? [1-${kept.length}] `));
    for await (const line of console) {
      const chosen = kept[Number(line) - 1];
      if (chosen !== undefined) return chosen;
      writeAll(2, encodeBytes(`which one? [1-${kept.length}] `));
    }
  }
  const chosen = pick === undefined ? undefined : kept[pick - 1];
  if (chosen !== undefined) return chosen;
  throw new UsageError(`${kept.length} builds were kept: ${list.join(", ")}`, {
    ...(pick === undefined ? {} : { from: `--pick ${pick}` }),
    hint: `--pick 1 to --pick ${kept.length}`,
  });
}
