/** ROOT of a command line, opened: what it is for the Spec, and what it has, for everything that depends on that. */

import { scratchFiles } from "../defaults.ts";
import { HutchError, SystemError, UsageError } from "../errors.ts";
import type { ProcessConfig } from "../image/config.ts";
import type { PullOptions } from "../image/pull.ts";
import type { ResolvedImage } from "../image/resolve.ts";
import { RegistryError } from "../image/registry-error.ts";
import { pathStatus, readTextInside } from "../libc/files.ts";
import type { RootEntry } from "../rootfs/closure-layout.ts";
import { directoryView } from "../rootfs/directory-view.ts";
import type { HostPath, Root } from "../spec.ts";
import type { ImageContext } from "./image-context.ts";
import { has, last, oneOf, type Parsed } from "./options.ts";
import type { Persist } from "./persist.ts";
import { hostPath, isImageName } from "./root-word.ts";

export interface ShownRoot {
  readonly root: Root;
  /** Text of a file of the root, links followed inside it; "" when it has none. */
  readonly read: (path: string) => string;
  /** What is at a path none of whose parents is a link. */
  readonly look: (path: string) => RootEntry;
  /** Whether an image has something at a path, links followed inside it. */
  readonly has?: (path: string) => boolean;
  /** Where a directory must be made for a path to lead to one, when an image's own links lead where there is nothing. */
  readonly missingBehindLinks?: (path: string) => string | undefined;
  /** The image's own wishes. */
  readonly config?: ProcessConfig;
  /** Which image it is, its layers, and which list of images they were found by. */
  readonly stored?: Pick<ResolvedImage, "id" | "manifestDigest" | "layers" | "chain" | "list">;
  /** The layer that is to be kept over it. */
  readonly persist?: Persist | undefined;
  /** Descriptors that must stay open as long as the sandbox lives. */
  readonly held: readonly number[];
}

type Patience = Pick<PullOptions, "firstAnswer" | "rememberFor">;

/**
 * Open ROOT: a directory when it looks like a path, `scratch`, else an image, pulled when it must be.
 * @param patience with a registry that does not answer
 */
export async function openRoot(parsed: Parsed, word: string, cwd: string, patience: Patience = {}): Promise<ShownRoot> {
  const readonly = last(parsed, "read-only");
  const writable = last(parsed, "writable");
  if (readonly !== undefined && writable !== undefined)
    throw new UsageError("--read-only and --writable contradict each other");
  const keeps = has(parsed, "persist") ? await import("./persist.ts") : undefined;
  keeps?.checkPersist(parsed);
  if (word === "") throw new UsageError("ROOT is empty");
  if (!isImageName(word))
    for (const option of ["pull", "platform"]) {
      const given = last(parsed, option);
      if (given !== undefined)
        throw new UsageError(`--${option} is for images, and ${word} is none`, { from: given.words });
    }
  if (word === "scratch") {
    keeps?.refuseEmpty(parsed, word);
    if (writable !== undefined)
      throw new UsageError("scratch is always writable and never kept", { from: "--writable" });
    const read = (path: string) => scratchFiles("").find(([name]) => name === path)?.[1] ?? "";
    const look = () => ({ kind: "absent" }) as const;
    return { root: { kind: "scratch", readonly: readonly !== undefined, from: word }, read, look, held: [] };
  }
  if (isImageName(word)) {
    if (writable !== undefined) throw new UsageError("an image cannot be written to", { from: `--writable ${word}` });
    return await openImage(parsed, word, readonly !== undefined, patience);
  }
  const path = hostPath(word, cwd, word);
  const inside = { read: (name: string) => readTextInside(path, name) ?? "", look: directoryView(path), held: [] };
  if (readonly !== undefined)
    return { root: { kind: "bind", path, readonly: true, from: `${readonly.words} ${word}` }, ...inside };
  if (writable !== undefined)
    return { root: { kind: "bind", path, readonly: false, from: `${writable.words} ${word}` }, ...inside };
  const root = { kind: "overlay", lower: [path], from: word } as const;
  const over = keeps?.persistOver(parsed, keeps.directoryRoot(path, word));
  if (over?.upper === undefined) return { root, ...inside, persist: over?.persist };
  const { openLayers } = await import("../image/layers-view.ts");
  const { imageContext } = await import("./image-context.ts");
  const layers = [path, over.upper];
  const view = openLayers(layers);
  const userns = last(parsed, "userns");
  const read = userns === undefined ? view.read : await readable(view.read, imageContext(), userns.words, layers);
  return { root, ...view, read, persist: over.persist, held: [] };
}

/** An image that is not to be had may have been meant as the directory of that name. */
function hintAtDirectory(error: unknown, word: string): unknown {
  const found = pathStatus(word);
  if (!(error instanceof HutchError) || typeof found === "number" || found.kind !== "directory") return error;
  const { message, from, exitCode } = error;
  const hint = `for the directory here write ./${word}`;
  const detail = { hint, cause: error, ...(from === undefined ? {} : { from }) };
  if (error instanceof UsageError) return new UsageError(message, detail);
  if (!(error instanceof RegistryError)) return new HutchError(message, { ...detail, exitCode });
  const { status, connection } = error;
  return new RegistryError(message, { ...detail, connection, ...(status === undefined ? {} : { status }) });
}

/** An ordinary user's range of ids has layers of its own. */
async function ranged(context: ImageContext, words: string): Promise<ImageContext> {
  const { withRanges } = await import("./ranges.ts");
  return withRanges(context, words);
}

/** What is read of an image before it runs; files in directories that only ids of its range may enter come from there. */
async function readable(
  read: ShownRoot["read"],
  context: ImageContext,
  words: string,
  layers: readonly string[],
): Promise<ShownRoot["read"]> {
  const paths = ["/etc/passwd", "/etc/group", "/etc/nsswitch.conf"];
  try {
    for (const path of paths) read(path);
    return read;
  } catch (error) {
    if (!(error instanceof SystemError) || error.code !== "EACCES") throw error;
    const { readInRanges } = await import("./ranges.ts");
    const texts = await readInRanges(context, words, layers, paths);
    return (path) => texts.get(path) ?? read(path);
  }
}

/** An image's layers under one overlay; leased, so that nobody removes them meanwhile. */
async function openImage(parsed: Parsed, word: string, readonly: boolean, patience: Patience): Promise<ShownRoot> {
  const { resolveImage } = await import("../image/resolve.ts");
  const { openLayers } = await import("../image/layers-view.ts");
  const { parsePlatform } = await import("../image/platform.ts");
  const { imageContext } = await import("./image-context.ts");
  const { showProgress } = await import("./progress.ts");
  const wanted = last(parsed, "platform");
  const policy = oneOf(parsed, "pull", ["always", "missing", "never"], "missing");
  const platform = wanted === undefined ? undefined : parsePlatform(wanted.value);
  using progress = showProgress("hutch run");
  const context = imageContext();
  const userns = last(parsed, "userns");
  const owned = userns === undefined || context.uid === 0 ? context : await ranged(context, userns.words);
  const options = { ...owned, policy, platform, ...patience, onEvent: progress.onEvent };
  const image = await resolveImage(word, options).catch((error: unknown) => {
    throw hintAtDirectory(error, word);
  });
  image.lease.inherit();
  const lower = image.layers.map((path) => path as HostPath);
  // An image may have no layer (FROM scratch, and nothing copied): its root is empty, as `scratch` is.
  const root: Root =
    lower.length === 0 ? { kind: "scratch", readonly, from: word } : { kind: "overlay", lower, readonly, from: word };
  const keeps = has(parsed, "persist") ? await import("./persist.ts") : undefined;
  if (lower.length === 0) keeps?.refuseEmpty(parsed, word);
  const over = keeps?.persistOver(parsed, keeps.imageRoot(word, image));
  const layers = over?.upper === undefined ? image.layers : [...image.layers, over.upper];
  const view = openLayers(layers);
  const read = owned === context ? view.read : await readable(view.read, context, userns?.words ?? "", layers);
  const held = [image.lease.fd];
  return { root, ...view, read, config: image.config, stored: image, persist: over?.persist, held };
}
