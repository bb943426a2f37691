/**
 * `hutch run`, after the short way (lane.ts) has found that this is not for it. An image that is opened here may turn out to
 * be one for a prelinked launcher; then it is kept for the short way of the next run.
 */

import { workingDirectory } from "../libc/files.ts";
import type { Command } from "./command.ts";
import { isImageName } from "./root-word.ts";
import { isNameAlone, type Plain, plainRequestFor, startPlain } from "./run-plain.ts";
import type { RunRequest } from "./run-request.ts";
import { runWith } from "./run.ts";
import type { ShownRoot } from "./shown-root.ts";

/** An opened image, unless it wants a user or a directory of its own. @throws UsageError when there is no command */
async function plainImage({ command }: RunRequest, shown: ShownRoot): Promise<Plain | undefined> {
  const { root, config, held } = shown;
  const [lease, ...others] = held;
  if (root.kind !== "overlay" || config === undefined || lease === undefined || others.length > 0) return undefined;
  if ((config.User ?? "") !== "" || !["", "/"].includes(config.WorkingDir ?? "")) return undefined;
  const { mergeImageConfig } = await import("../image/config.ts");
  return { root, args: mergeImageConfig(config, { command }).args, env: config.Env ?? [], lease };
}

export const run: Command = {
  main: async (argv, self) => {
    const request = plainRequestFor(argv, self);
    if (request === undefined || !isImageName(request.rootWord)) return runWith(argv, self);
    const { openRoot } = await import("./shown-root.ts");
    const shown = await openRoot(request.parsed, request.rootWord, workingDirectory());
    const plain = shown.root.kind === "overlay" && !shown.root.readonly ? await plainImage(request, shown) : undefined;
    const keep = isNameAlone(request.parsed) ? async () => keepFor(request, shown) : undefined;
    if (plain !== undefined) await startPlain(plain, request, self, keep);
    return runWith(argv, self, shown);
  },
};

/** Keep what is known of an image that a launcher fits; any other would be opened in vain. */
async function keepFor({ rootWord }: RunRequest, shown: ShownRoot): Promise<void> {
  const { keepKnownImage } = await import("./known-image.ts");
  keepKnownImage(rootWord, shown);
}
