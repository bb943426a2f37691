/** An image as ROOT of a plain run, by what an earlier one has found out about it. */

import type { Lease } from "../image/lease.ts";
import { layerPath } from "../image/layer-path.ts";
import { keepPlainImage, openPlainImage } from "../image/plain-image.ts";
import { imageContext, presentStore } from "./image-context.ts";
import type { ShownRoot } from "./shown-root.ts";

interface KnownImage {
  /** Absolute paths of the layers, the lowest first. */
  readonly layers: readonly string[];
  readonly args: readonly string[];
  readonly env: readonly string[];
  readonly lease: Lease;
}

/** The image of a name with nothing else asked for than a command; undefined when it has to be looked up. */
export function openKnownImage(word: string, command: readonly string[]): KnownImage | undefined {
  const store = presentStore();
  const found = store === undefined ? undefined : openPlainImage(store, word);
  if (store === undefined || found === undefined) return undefined;
  const { image, lease } = found;
  const args = [...(image.entrypoint ?? []), ...(command.length > 0 ? command : (image.cmd ?? []))];
  if ((args[0] ?? "") === "") {
    lease[Symbol.dispose]();
    return undefined; // run.ts will say so
  }
  lease.inherit();
  const layers: string[] = [];
  for (const chainId of image.chain) layers.push(layerPath(store, chainId));
  return { layers, args, env: image.env ?? [], lease };
}

/** Keep an image that has been looked up, and is one for plain runs. */
export function keepKnownImage(word: string, { stored, config }: ShownRoot): void {
  if (stored?.list === undefined) return;
  const { Entrypoint, Cmd, Env } = config ?? {};
  const { chain, list } = stored;
  keepPlainImage(imageContext().store, word, list, { chain, entrypoint: Entrypoint, cmd: Cmd, env: Env });
}
