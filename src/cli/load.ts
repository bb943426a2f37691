/** `hutch load [-i FILE]`: images from an archive into the store. */

import type { ArgsDef } from "citty";
import { UsageError } from "../errors.ts";
import { streamDescriptor, streamFile } from "../image/blobs.ts";
import { parsePlatform } from "../image/platform.ts";
import { loadImage } from "../image/transfer.ts";
import { isTerminal } from "../libc/files.ts";
import type { Command } from "./command.ts";
import { imageContext } from "./image-context.ts";
import { has, last, parseMixed } from "./options.ts";
import { showProgress } from "./progress.ts";
import { oneLine } from "../bytes.ts";
import { print, wasClosed } from "./report.ts";

const OPTIONS = {
  input: { type: "string", alias: "i", valueHint: "FILE", description: "what to read [standard input]" },
  platform: { type: "string", valueHint: "OS/ARCH[/VARIANT]", description: "of an image of many [this machine's]" },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;

const HINT = "an archive of hutch save, docker save or another tool's OCI layout, that you may read";

export const load: Command = {
  main: async (argv) => {
    const parsed = parseMixed(OPTIONS, argv);
    if (has(parsed, "help")) {
      const { commandUsage } = await import("./usage.ts");
      print(await commandUsage("hutch load", "Read images from an archive", "", OPTIONS));
      return 0;
    }
    const [stray] = parsed.operands;
    if (stray !== undefined) throw new UsageError(`unexpected ${stray}`, { hint: "hutch load -i FILE" });
    const input = last(parsed, "input");
    if (input === undefined && (isTerminal(0) || wasClosed(0)))
      throw new UsageError("nothing to read", { hint: "hutch load -i FILE" });
    const wanted = last(parsed, "platform");
    const platform = wanted === undefined ? undefined : parsePlatform(wanted.value);
    const { store, uid } = imageContext();
    const archive =
      input === undefined ? streamDescriptor(0) : streamFile(input.value, { from: input.words, hint: HINT });
    const where = input?.value ?? "standard input";
    const loaded = await (async () => {
      using progress = showProgress("hutch load");
      return await loadImage({ store, archive, where, uid, platform, onEvent: progress.onEvent });
    })();
    print(loaded.map(({ name, image }) => `${oneLine(name ?? image.record.manifest.digest)}\n`).join(""));
    return 0;
  },
};
