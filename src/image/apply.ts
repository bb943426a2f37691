/** A layer's blob into a directory: decompression, DiffID and unpacking in one pass, nothing kept in memory. */

import { HutchError } from "../errors.ts";
import { decompress } from "./decompress.ts";
import { createHasher, type Digest, splitDigest } from "./digest.ts";
import type { MergedView } from "./merged-view.ts";
import { createTarReader } from "./tar-reader.ts";
import { createUnpacker, type UnpackOptions, type UnpackSummary } from "./unpack.ts";

export type ApplyOptions = UnpackOptions & {
  /** Called with the number of uncompressed bytes so far. */
  readonly onBytes?: (bytes: number) => void;
};

/**
 * Unpack a layer, compressed or not, into the empty directory open as `target`, over the layers of `below`. What is
 * there after an error is to be thrown away.
 * @throws HutchError when the layer is malformed, breaks a limit, or is not the one that `diffId` names
 */
export async function applyLayer(
  source: AsyncIterable<Uint8Array>,
  target: number,
  below: MergedView,
  diffId: Digest,
  where: string,
  options: ApplyOptions,
): Promise<UnpackSummary> {
  const hasher = createHasher(splitDigest(diffId).algorithm);
  using unpacker = createUnpacker(target, below, options);
  const reader = createTarReader(unpacker.entry);
  let bytes = 0;
  try {
    for await (const chunk of decompress(source, where, options.limits?.compression)) {
      hasher.update(chunk);
      reader.write(chunk);
      bytes += chunk.byteLength;
      options.onBytes?.(bytes);
    }
    reader.end();
  } catch (error) {
    if (!(error instanceof HutchError)) throw error;
    throw new HutchError(error.message.startsWith(where) ? error.message : `${where}: ${error.message}`, {
      cause: error,
      ...(error.hint === undefined ? {} : { hint: error.hint }),
    });
  }
  const actual = hasher.digest();
  if (actual !== diffId) throw new HutchError(`${where}: content has digest ${actual}, the config says ${diffId}`);
  return unpacker.finish();
}
