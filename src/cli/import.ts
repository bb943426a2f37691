/** `hutch import FILE|- NAME[:TAG]`: a root file system as an image. */

import type { ArgsDef } from "citty";
import { encodeBytes, oneLine } from "../bytes.ts";
import { UsageError } from "../errors.ts";
import { streamDescriptor, streamFile } from "../image/blobs.ts";
import { importImage } from "../image/import.ts";
import { applyInstruction, type InstructedConfig } from "../image/instructions.ts";
import { parsePlatform } from "../image/platform.ts";
import { formatReference, parseReference } from "../image/reference.ts";
import { isTerminal } from "../libc/files.ts";
import type { Command } from "./command.ts";
import { imageContext } from "./image-context.ts";
import { all, has, last, parseMixed } from "./options.ts";
import { showProgress } from "./progress.ts";
import { print, wasClosed } from "./report.ts";

const OPTIONS = {
  change: {
    type: "string",
    alias: "c",
    valueHint: "INSTRUCTION",
    description: `of a Dockerfile, applied to the image, such as 'CMD ["sh"]'; again for more`,
  },
  message: { type: "string", alias: "m", valueHint: "TEXT", description: "a comment in the image's history" },
  platform: { type: "string", valueHint: "OS/ARCH[/VARIANT]", description: "what it is for [this machine]" },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;

const OPERANDS = "FILE|- NAME[:TAG]";

export const importCommand: Command = {
  main: async (argv) => {
    const parsed = parseMixed(OPTIONS, argv);
    if (has(parsed, "help")) {
      const { commandUsage } = await import("./usage.ts");
      print(
        await commandUsage("hutch import", "Make an image of a root file system in a tar archive", OPERANDS, OPTIONS),
      );
      return 0;
    }
    const [file, word, stray] = parsed.operands;
    const hint = `hutch import ${OPERANDS}`;
    if (file === undefined || word === undefined)
      throw new UsageError(`${file === undefined ? "FILE" : "NAME"} is missing`, { hint });
    if (stray !== undefined) throw new UsageError(`unexpected ${stray}`, { hint });
    if (/^https?:\/\//.test(file))
      throw new UsageError(`${file}: nothing is downloaded here`, { hint: `curl -fsSL URL | hutch import - ${word}` });
    const reference = parseReference(word);
    if (reference.kind !== "registry" || reference.digest !== undefined)
      throw new UsageError(`${word} is not a name with a tag`, {
        hint: "a digest names one image, a place on disk none",
      });
    const config = all(parsed, "change").reduce<InstructedConfig>(
      (before, { value, words }) => applyInstruction(before, value, words),
      {},
    );
    const where = file === "-" ? "standard input" : file;
    const given = last(parsed, "message");
    const message = given?.value ?? `imported from ${where.slice(where.lastIndexOf("/") + 1)}`;
    if (given !== undefined && !message.isWellFormed()) throw new UsageError("not UTF-8", { from: given.words });
    const wanted = last(parsed, "platform");
    const platform = wanted === undefined ? undefined : parsePlatform(wanted.value);
    if (file === "-" && (isTerminal(0) || wasClosed(0)))
      throw new UsageError("nothing to read", { hint: "tar -C DIR -c . | hutch import - NAME" });
    const { store, uid } = imageContext();
    const archive =
      file === "-"
        ? streamDescriptor(0)
        : streamFile(file, 0, { from: file, hint: "a tar archive of a root file system, that you may read" });
    const name = formatReference(reference);
    await (async () => {
      using progress = showProgress("hutch import");
      const clean = new TextDecoder().decode(encodeBytes(message));
      await importImage({
        store,
        archive,
        where,
        uid,
        name,
        config,
        platform,
        message: clean,
        onEvent: progress.onEvent,
      });
    })();
    print(`${oneLine(name)}\n`);
    return 0;
  },
};
