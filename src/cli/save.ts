/** `hutch save [-o FILE] IMAGE…`: images as an archive, to a file or standard output. */

import type { ArgsDef } from "citty";
import { UsageError } from "../errors.ts";
import { saveImage } from "../image/transfer.ts";
import { rename } from "../image/store.ts";
import { call, rawCall } from "../libc/call.ts";
import { AT_FDCWD, closeFile, O, openAt } from "../libc/file.ts";
import { isTerminal, writeAll } from "../libc/files.ts";
import type { Command } from "./command.ts";
import { imageContext } from "./image-context.ts";
import { has, last, parseMixed } from "./options.ts";
import { print } from "./report.ts";

const OPTIONS = {
  output: { type: "string", alias: "o", valueHint: "FILE", description: "where to write [standard output]" },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;

const OPERANDS = "IMAGE…";

export const save: Command = {
  main: async (argv) => {
    const parsed = parseMixed(OPTIONS, argv);
    if (has(parsed, "help")) {
      const { commandUsage } = await import("./usage.ts");
      print(await commandUsage("hutch save", "Write images as an archive", OPERANDS, OPTIONS));
      return 0;
    }
    if (parsed.operands.length === 0) throw new UsageError("IMAGE is missing", { hint: `hutch save ${OPERANDS}` });
    const output = last(parsed, "output");
    if (output === undefined && isTerminal(1)) {
      throw new UsageError("an archive is nothing for a terminal", { hint: "write it to a file: -o FILE" });
    }
    const archive = saveImage(imageContext().store, parsed.operands);
    if (output === undefined) for await (const chunk of archive) writeAll(1, chunk);
    else await writeWhole(output.value, archive);
    return 0;
  },
};

/** Write a file that is there whole or not at all. */
async function writeWhole(path: string, chunks: AsyncIterable<Uint8Array>): Promise<void> {
  const temporary = `${path}.${crypto.randomUUID()}.partial`;
  const fd = openAt(AT_FDCWD, temporary, O.CREAT | O.EXCL | O.WRONLY, 0o666);
  try {
    for await (const chunk of chunks) writeAll(fd, chunk);
    call("fsync", fd);
    rename(temporary, path);
  } catch (error) {
    rawCall("unlinkat", AT_FDCWD, temporary, 0);
    throw error;
  } finally {
    closeFile(fd);
  }
}
