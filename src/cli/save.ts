/** `hutch save [-o FILE] IMAGE…`: images as an archive, to a file or standard output. */

import type { ArgsDef } from "citty";
import { UsageError } from "../errors.ts";
import { saveImage } from "../image/transfer.ts";
import { call, rawCall, systemError } from "../libc/call.ts";
import { AT_FDCWD, closeFile, O } from "../libc/file.ts";
import { isTerminal, pathStatus, writeAll } from "../libc/files.ts";
import type { Command } from "./command.ts";
import { imageContext } from "./image-context.ts";
import { has, last, parseMixed } from "./options.ts";
import { print, writeOutput } from "./report.ts";

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
    if (output === undefined) for await (const chunk of archive) writeOutput(chunk);
    else await writeWhole(output.value, archive);
    return 0;
  },
};

/**
 * Write a file that is there whole or not at all; what is there and is no file (/dev/null, a FIFO) is written to as it
 * is. Errors name the user's file, never the temporary one.
 */
async function writeWhole(path: string, chunks: AsyncIterable<Uint8Array>): Promise<void> {
  const there = pathStatus(path);
  const whole = typeof there === "number" || there.kind === "file";
  const target = whole ? `${path}.${crypto.randomUUID()}.partial` : path;
  const flags = whole ? O.CREAT | O.EXCL | O.WRONLY : O.WRONLY;
  const fd = rawCall("openat", AT_FDCWD, target, flags | O.CLOEXEC, 0o666);
  if (fd < 0) throw systemError(`open ${path}`, -fd);
  try {
    for await (const chunk of chunks) writeAll(fd, chunk);
    if (!whole) return;
    call("fsync", fd);
    const renamed = rawCall("renameat2", AT_FDCWD, target, AT_FDCWD, path, 0);
    if (renamed < 0) throw systemError(`write ${path}`, -renamed);
  } catch (error) {
    if (whole) rawCall("unlinkat", AT_FDCWD, target, 0);
    throw error;
  } finally {
    closeFile(fd);
  }
}
