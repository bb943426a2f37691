/** Layers unpacked as the store does it, and what overlayfs shows of them. */

import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { applyLayer } from "../../../src/image/apply.ts";
import type { IdMode } from "../../../src/image/attributes.ts";
import { digestOf } from "../../../src/image/digest.ts";
import { createMergedView, type MergedView } from "../../../src/image/merged-view.ts";
import type { UnpackLimits } from "../../../src/image/unpack.ts";
import { AT_FDCWD, closeFile, O, openAt } from "../../../src/libc/file.ts";

export async function* chunks(bytes: Uint8Array, size = 65_536): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += size) yield bytes.subarray(at, at + size);
}

const made: string[] = [];

/** A directory of the test's own, until {@link removeScratch}. */
export function scratch(): string {
  const path = mkdtempSync(join(tmpdir(), "hutch-image-"));
  made.push(path);
  return path;
}

/** A directory whose file must stay as it is, whatever is tried beside it. */
export function guardIn(directory: string): string {
  const guard = join(directory, "guard");
  mkdirSync(guard);
  writeFileSync(join(guard, "victim"), "untouched");
  return guard;
}

/** Remove all that {@link scratch} has made: for afterAll. */
export async function removeScratch(): Promise<void> {
  for (const path of made.splice(0)) await run(["rm", "-rf", "--one-file-system", path], "/");
}

export type Stack = {
  readonly dirs: readonly string[];
  readonly warnings: readonly string[];
  readonly view: () => MergedView;
};

/** Unpack tar files one over the other into `dir/0`, `dir/1`, …, lowest first. */
export async function unpackStack(
  dir: string,
  tars: readonly Uint8Array[],
  ids: IdMode = "real",
  more: { readonly limits?: UnpackLimits; readonly whiteouts?: "device" | "attribute" } = {},
): Promise<Stack> {
  const dirs: string[] = [];
  const warnings: string[] = [];
  for (const [i, tar] of tars.entries()) {
    const path = join(dir, String(i));
    mkdirSync(path);
    const target = openAt(AT_FDCWD, path, O.RDONLY | O.DIRECTORY);
    const lowers = dirs.toReversed().map((lower) => openAt(AT_FDCWD, lower, O.PATH | O.DIRECTORY));
    try {
      const digest = digestOf(tar);
      const summary = await applyLayer(chunks(tar), target, createMergedView(lowers), digest, `layer ${i}`, {
        ids,
        ...more,
      });
      warnings.push(...summary.warnings);
    } finally {
      for (const fd of [target, ...lowers]) closeFile(fd);
    }
    dirs.push(path);
  }
  const view = (): MergedView =>
    createMergedView(dirs.toReversed().map((path) => openAt(AT_FDCWD, path, O.PATH | O.DIRECTORY)));
  return { dirs, warnings, view };
}

export const LIST = `find . -printf '%P|%y|%m|%U:%G|%s|%l|%T@|%n|\\n' | sed -E 's/^(.*)\\|d\\|([^|]*)\\|([^|]*)\\|[^|]*\\|([^|]*)\\|([^|]*)\\|[^|]*\\|$/\\1|d|\\2|\\3||\\4|\\5||/' | LC_ALL=C sort; find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum`;

async function run(argv: string[], cwd: string): Promise<string> {
  const child = Bun.spawn(argv, { cwd, stdout: "pipe", stderr: "pipe" });
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (code !== 0) throw new Error(`${argv[0]} ${argv[1]}: exit ${code}: ${err}`);
  return out;
}

/** Name, type, mode, ids, size, target, time, link count and hash of every file of a directory. */
export function listTree(dir: string): Promise<string> {
  return run(["sh", "-c", LIST], dir);
}

/** The same of what overlayfs shows of layers, lowest first. Needs root; mounts in a namespace of its own. */
export function listOverlay(dir: string, dirs: readonly string[]): Promise<string> {
  const empty = join(dir, "empty");
  const merged = join(dir, "merged");
  mkdirSync(empty, { recursive: true });
  mkdirSync(merged, { recursive: true });
  const lower = [...dirs.toReversed(), empty].join(":");
  const script = `mount -t overlay overlay -o ro,userxattr,lowerdir='${lower}' '${merged}' && cd '${merged}' && ${LIST}`;
  return run(["unshare", "-m", "--propagation", "private", "sh", "-c", script], dir);
}

/** What `umoci unpack` makes of a layout, listed. */
export async function listUmoci(layout: string, dir: string, rootless: boolean): Promise<string> {
  await run(
    ["umoci", "unpack", ...(rootless ? ["--rootless"] : []), "--image", `${layout}:latest`, join(dir, "bundle")],
    dir,
  );
  return listTree(join(dir, "bundle/rootfs"));
}

export { run };
