/** Where unpacked layers are. */

import { AT_FDCWD, statAt } from "../libc/file.ts";
import { type Digest, splitDigest } from "./digest.ts";
import type { Store } from "./store.ts";

/** A layer's own directory, with `diff` and `meta.json`. */
export function layerHome(store: Store, chainId: Digest): string {
  return `${store.layers}/${splitDigest(chainId).hex}`;
}

/** The directory that is put below an overlay. */
export function layerPath(store: Store, chainId: Digest): string {
  return `${layerHome(store, chainId)}/diff`;
}

/** True when the layer is unpacked: its directory gets its name last. */
export function hasLayer(store: Store, chainId: Digest): boolean {
  return statAt(AT_FDCWD, layerHome(store, chainId)) !== undefined;
}
