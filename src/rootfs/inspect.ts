/** What a host file is, each looked at once: where its name leads, and what the kernel would see in it. */

import { UsageError } from "../errors.ts";
import { type Elf, isElf, readElf } from "./elf.ts";
import type { HostFiles, OpenFailure } from "./host-files.ts";
import { parseShebang, type Shebang } from "./program.ts";
import { createWalker, type Link, type Walked } from "./walk.ts";

export type Content =
  | { readonly kind: "elf"; readonly elf: Elf }
  | { readonly kind: "script"; readonly shebang: Shebang }
  /** Neither, or broken; `reason` is for an error message. */
  | { readonly kind: "other"; readonly reason: string };

export interface Inspected {
  readonly real: string;
  readonly links: readonly Link[];
  readonly size: number;
  readonly content: Content;
}

export interface Inspector {
  readonly walk: (path: string) => Walked | undefined;
  readonly inspect: (path: string) => Inspected | OpenFailure;
}

/** An inspector over the host's files; it holds no file open. */
export function createInspector(host: HostFiles): Inspector {
  const walkOnce = createWalker((path) => host.readLink(path));
  const walks = new Map<string, Walked | undefined>();
  const byReal = new Map<string, { size: number; content: Content } | OpenFailure>();
  const walk = (path: string): Walked | undefined => {
    if (!walks.has(path)) walks.set(path, walkOnce(path));
    return walks.get(path);
  };
  return {
    walk,
    inspect(path) {
      const walked = walk(path);
      if (walked === undefined) return "absent";
      let known = byReal.get(walked.real);
      if (known === undefined) {
        known = look(host, walked.real);
        byReal.set(walked.real, known);
      }
      return typeof known === "string" ? known : { ...walked, ...known };
    },
  };
}

/** As much as one page, which readElf asks for first too. */
const HEAD = 4096;

function look(host: HostFiles, path: string): { size: number; content: Content } | OpenFailure {
  const file = host.open(path);
  if (typeof file === "string") return file;
  try {
    const head = file.read(0, Math.min(HEAD, file.size));
    const source = {
      size: file.size,
      read: (offset: number, length: number) =>
        offset + length <= head.length ? head.subarray(offset, offset + length) : file.read(offset, length),
    };
    return { size: file.size, content: contentOf(head, () => readElf(source)) };
  } finally {
    file.close();
  }
}

function contentOf(head: Uint8Array, parse: () => Elf): Content {
  try {
    if (isElf(head)) return { kind: "elf", elf: parse() };
    const shebang = parseShebang(head);
    if (shebang !== undefined) return { kind: "script", shebang };
    return { kind: "other", reason: head.length === 0 ? "an empty file" : "neither ELF nor a script with a #! line" };
  } catch (error) {
    if (error instanceof UsageError) return { kind: "other", reason: error.message };
    throw error;
  }
}
