/** The macro of directories.ts and images.ts. */

import { ARCH } from "../libc/call.ts";
import { prelink } from "./prelink.ts";
import type { Prelinked } from "./shape.ts";

/** {@link prelink} for the architecture on which the bundler runs. Typed as what the bundler makes of it. */
export function prelinkHere(
  root: boolean,
  image: boolean,
  layers: number,
  terminal: boolean,
  scopes: boolean,
): Prelinked {
  return prelink({ root, image, layers, terminal, scopes }, ARCH) as unknown as Prelinked;
}
