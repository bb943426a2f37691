/** `hutch root [OPTIONS] -o DIR`: programs of this machine with what they need, as a directory to keep. */

import { workingDirectory } from "../libc/files.ts";
import type { ArgsDef } from "citty";
import { DEFAULT_HOSTNAME, SCRATCH_DIRECTORIES, scratchFiles } from "../defaults.ts";
import { UsageError } from "../errors.ts";
import { formatSize } from "../rootfs/closure-format.ts";
import { writeClosure } from "../rootfs/tree.ts";
import type { Written } from "../rootfs/tree-writer.ts";
import type { Command } from "./command.ts";
import { hostClosure } from "./host-closure.ts";
import { all, has, last, parseMixed } from "./options.ts";
import { print } from "./report.ts";
import { tidyPath } from "../build-spec.ts";
import { oneLine } from "../bytes.ts";

const OPTIONS = {
  add: { type: "string", valueHint: "PROGRAM", description: "a program with what it needs (repeatable)" },
  "add-path": { type: "string", valueHint: "PATH", description: "a file or directory, at the same path (repeatable)" },
  output: { type: "string", alias: "o", valueHint: "DIR", description: "where to write; made when missing" },
  force: { type: "boolean", description: "write into a directory that is not empty" },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;

const USAGE = "hutch root --add PROGRAM… -o DIR";
/** Empty directories for what a chroot or a container mounts, beside those that a scratch root has. */
const MOUNT_POINTS: readonly (readonly [string, number])[] = [
  ["/dev", 0o755],
  ["/proc", 0o555],
  ["/sys", 0o555],
];

export const root: Command = {
  main: async (argv) => {
    const parsed = parseMixed(OPTIONS, argv);
    if (has(parsed, "help")) {
      const { commandUsage } = await import("./usage.ts");
      print(await commandUsage("hutch root", "Write programs with what they need as a directory", "-o DIR", OPTIONS));
      return 0;
    }
    const [stray] = parsed.operands;
    if (stray !== undefined)
      throw new UsageError(`unexpected ${stray}`, { hint: `programs go behind --add: ${USAGE}` });
    const output = last(parsed, "output");
    if (output === undefined || output.value === "") throw new UsageError("-o DIR is missing", { hint: USAGE });
    const [programs, paths] = [all(parsed, "add"), all(parsed, "add-path")];
    if (programs.length + paths.length === 0) throw new UsageError("nothing to write", { hint: USAGE });
    const skeleton = { directories: [...SCRATCH_DIRECTORIES, ...MOUNT_POINTS], files: scratchFiles(DEFAULT_HOSTNAME) };
    const directory = output.value.startsWith("/") ? output.value : `${workingDirectory()}/${output.value}`;
    const written = writeClosure(
      hostClosure(programs, paths),
      skeleton,
      tidyPath(directory) || "/",
      has(parsed, "force"),
    );
    print(formatWritten(output.value, written));
    return 0;
  },
};

/** The sum in a line, and a line for each file that is not in it. */
function formatWritten(output: string, { files, directories, links, bytes, leftOut }: Written): string {
  const sum = `${oneLine(output)}: ${files} files, ${directories} directories, ${links} links, ${formatSize(bytes)}`;
  return `${[sum, ...leftOut.map(({ path, why }) => `left out: ${oneLine(path)}: ${why}`)].join("\n")}\n`;
}
