/** Programs and roots made while testing. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { HostFile, HostFiles } from "../../src/rootfs/host-files.ts";
import type { LayoutEntry } from "../../src/rootfs/closure-layout.ts";
import { createWalker } from "../../src/rootfs/walk.ts";

/** Run a tool of the machine; its stdout. Fails with the tool's own words, or says which is not installed. */
export function tool(command: string, ...args: string[]): string {
  if (Bun.which(command) === null) throw new Error(`this test needs ${command}, which is not installed`);
  const { exitCode, stdout, stderr } = Bun.spawnSync([command, ...args]);
  if (exitCode !== 0) throw new Error(`${command} ${args.join(" ")}: exit ${exitCode}: ${stderr.toString()}`);
  return stdout.toString();
}

/** A temporary folder that goes away with `using`. */
export function temporary(): Disposable & { readonly path: string; write(name: string, text: string): string } {
  const path = mkdtempSync(join(tmpdir(), "hutch-closure-"));
  return {
    path,
    write(name, text) {
      const file = join(path, name);
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, text);
      return file;
    },
    [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }),
  };
}

/** Files by path: bytes, bytes with a mode, or a link. Directories are what has something below it. */
export type Table = Readonly<Record<string, Uint8Array | { mode: number; bytes: Uint8Array } | { link: string }>>;

/** A host that has the files of a table and nothing else; `denied` lists paths that may not be opened. */
export function tableHost(table: Table, denied: readonly string[] = []): HostFiles {
  const paths = Object.keys(table);
  const isDirectory = (path: string) => paths.some((one) => one.startsWith(path === "/" ? "/" : `${path}/`));
  const readLink = (path: string) => {
    const entry = table[path];
    if (entry !== undefined) return "link" in entry ? entry.link : null;
    return isDirectory(path) ? null : undefined;
  };
  const walk = createWalker(readLink);
  const fileAt = (path: string): { mode: number; bytes: Uint8Array } | undefined => {
    const real = walk(path)?.real;
    const entry = real === undefined ? undefined : table[real];
    if (entry === undefined || "link" in entry) return undefined;
    return entry instanceof Uint8Array ? { mode: 0o755, bytes: entry } : entry;
  };
  return {
    readLink,
    open(path): HostFile | "absent" | "denied" | "not-a-file" {
      if (denied.includes(path)) return "denied";
      const file = fileAt(path);
      if (file === undefined) return isDirectory(walk(path)?.real ?? path) ? "not-a-file" : "absent";
      const { bytes, mode } = file;
      return {
        size: bytes.length,
        mode,
        read: (at, length) => bytes.subarray(at, at + length),
        close: () => undefined,
      };
    },
    status(path) {
      const file = fileAt(path);
      if (file !== undefined) return { kind: "file", size: file.bytes.length };
      return { kind: isDirectory(walk(path)?.real ?? path) ? "directory" : "absent", size: 0 };
    },
    list(path) {
      const real = walk(path)?.real;
      if (real === undefined) return [];
      const start = real === "/" ? "/" : `${real}/`;
      const below = paths
        .filter((one) => one.startsWith(start))
        .map((one) => one.slice(start.length).split("/")[0] ?? "");
      return [...new Set(below)].toSorted();
    },
  };
}

const quote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

/**
 * Make a layout in a folder by bind mounts, in a mount namespace of its own, and run a command there by chroot.
 * Returns its exit code and output. The mounts end with the namespace.
 */
export function runInRoot(
  root: string,
  layout: readonly LayoutEntry[],
  command: readonly string[],
  env: Record<string, string> = {},
) {
  const lines = ["set -e"];
  for (const entry of layout) {
    const target = quote(root + entry.path);
    lines.push(`mkdir -p ${quote(dirname(root + entry.path))}`);
    if (entry.kind === "symlink") lines.push(`ln -s ${quote(entry.to)} ${target}`);
    else {
      lines.push(entry.kind === "directory" ? `mkdir -p ${target}` : `[ -e ${target} ] || : > ${target}`);
      lines.push(`mount --bind ${quote(entry.source)} ${target}`);
    }
  }
  lines.push(`mkdir -p ${quote(`${root}/tmp`)} ${quote(`${root}/dev`)}`);
  for (const device of ["/dev/null", "/dev/urandom"]) {
    lines.push(`: > ${quote(root + device)}`, `mount --bind ${device} ${quote(root + device)}`);
  }
  const variables = Object.entries({ PATH: "/usr/bin:/bin", TERM: "xterm", ...env }).map(([name, value]) =>
    quote(`${name}=${value}`),
  );
  lines.push(
    `exec /usr/bin/env -i ${variables.join(" ")} /usr/sbin/chroot ${quote(root)} ${command.map(quote).join(" ")}`,
  );
  const own = process.getuid?.() === 0 ? ["-m"] : ["-rm"];
  const { exitCode, stdout, stderr } = Bun.spawnSync([
    "unshare",
    ...own,
    "--propagation",
    "private",
    "sh",
    "-c",
    lines.join("\n"),
  ]);
  return { exitCode, stdout: stdout.toString(), stderr: stderr.toString() };
}

/** A minimal ELF file of any class, byte order and machine, with a dynamic segment when there is something to say. */
export function elfBytes(what: {
  class?: 32 | 64;
  big?: boolean;
  machine?: number;
  type?: number;
  interpreter?: string;
  needed?: readonly string[];
  runpath?: string;
  rpath?: string;
  soname?: string;
  flags1?: number;
}): Uint8Array {
  const wide = (what.class ?? 64) === 64;
  const little = !(what.big ?? false);
  const word = wide ? 8 : 4;
  const strings = ["", ...(what.needed ?? []), what.runpath ?? "", what.rpath ?? "", what.soname ?? ""];
  const table = Buffer.from(`${strings.join("\0")}\0`);
  const offsetOf = (text: string) => table.indexOf(`\0${text}\0`) + 1;
  const base = 0x10000;
  const interpreter = Buffer.from(what.interpreter === undefined ? "" : `${what.interpreter}\0`);
  const at = { interpreter: 512, strings: 1024, dynamic: 1024 + Math.ceil(table.length / 8) * 8 };
  const tags: [number, number][] = (what.needed ?? []).map((name) => [1, offsetOf(name)]);
  if (what.runpath !== undefined) tags.push([29, offsetOf(what.runpath)]);
  if (what.rpath !== undefined) tags.push([15, offsetOf(what.rpath)]);
  if (what.soname !== undefined) tags.push([14, offsetOf(what.soname)]);
  if (what.flags1 !== undefined) tags.push([0x6ffffffb, what.flags1]);
  tags.push([5, base + at.strings], [10, table.length], [0, 0]);
  const size = at.dynamic + tags.length * 2 * word;
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  const put = (offset: number, value: number) =>
    wide ? view.setBigUint64(offset, BigInt(value), little) : view.setUint32(offset, value, little);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, little ? 1 : 2, 1]);
  view.setUint16(16, what.type ?? 3, little);
  view.setUint16(18, what.machine ?? 62, little);
  put(wide ? 32 : 28, wide ? 64 : 52);
  const segments: [type: number, offset: number, size: number][] = [
    [1, 0, size],
    [2, at.dynamic, size - at.dynamic],
    ...(what.interpreter === undefined ? [] : [[3, at.interpreter, interpreter.length] as [number, number, number]]),
  ];
  view.setUint16(wide ? 54 : 42, wide ? 56 : 32, little);
  view.setUint16(wide ? 56 : 44, segments.length, little);
  segments.forEach(([type, offset, length], i) => {
    const header = (wide ? 64 : 52) + i * (wide ? 56 : 32);
    view.setUint32(header, type, little);
    put(header + (wide ? 8 : 4), offset);
    put(header + (wide ? 16 : 8), base + offset);
    put(header + (wide ? 32 : 16), length);
  });
  bytes.set(interpreter, at.interpreter);
  bytes.set(table, at.strings);
  tags.forEach(([tag, value], i) => {
    put(at.dynamic + i * 2 * word, tag);
    put(at.dynamic + i * 2 * word + word, value);
  });
  return bytes;
}
