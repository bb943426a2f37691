/**
 * The prelinked launchers of this build, one for each shape. They are made by a macro when this file is bundled
 * (bun.com/docs/bundler/macros), for the architecture that the bundle is for; the code that makes them stays outside.
 */

import { prelinkHere } from "./macro.ts" with { type: "macro" };
import type { Prelinked, Shape } from "./shape.ts";

/** In the order of {@link place}; functions, so that one alone is read. */
const IMAGES: readonly (() => Prelinked)[] = [
  () => prelinkHere(true, false, 0, false, true),
  () => prelinkHere(true, false, 0, false, false),
  () => prelinkHere(true, false, 0, true, true),
  () => prelinkHere(true, false, 0, true, false),
  () => prelinkHere(false, false, 0, false, true),
  () => prelinkHere(false, false, 0, false, false),
  () => prelinkHere(false, false, 0, true, true),
  () => prelinkHere(false, false, 0, true, false),
  () => prelinkHere(true, false, 1, false, true),
  () => prelinkHere(true, false, 1, false, false),
  () => prelinkHere(true, false, 1, true, true),
  () => prelinkHere(true, false, 1, true, false),
  () => prelinkHere(false, false, 1, false, true),
  () => prelinkHere(false, false, 1, false, false),
  () => prelinkHere(false, false, 1, true, true),
  () => prelinkHere(false, false, 1, true, false),
  () => prelinkHere(true, true, 1, false, true),
  () => prelinkHere(true, true, 1, false, false),
  () => prelinkHere(true, true, 1, true, true),
  () => prelinkHere(true, true, 1, true, false),
  () => prelinkHere(false, true, 1, false, true),
  () => prelinkHere(false, true, 1, false, false),
  () => prelinkHere(false, true, 1, true, true),
  () => prelinkHere(false, true, 1, true, false),
  () => prelinkHere(true, true, 2, false, true),
  () => prelinkHere(true, true, 2, false, false),
  () => prelinkHere(true, true, 2, true, true),
  () => prelinkHere(true, true, 2, true, false),
  () => prelinkHere(false, true, 2, false, true),
  () => prelinkHere(false, true, 2, false, false),
  () => prelinkHere(false, true, 2, true, true),
  () => prelinkHere(false, true, 2, true, false),
  () => prelinkHere(true, true, 3, false, true),
  () => prelinkHere(true, true, 3, false, false),
  () => prelinkHere(true, true, 3, true, true),
  () => prelinkHere(true, true, 3, true, false),
  () => prelinkHere(false, true, 3, false, true),
  () => prelinkHere(false, true, 3, false, false),
  () => prelinkHere(false, true, 3, true, true),
  () => prelinkHere(false, true, 3, true, false),
  () => prelinkHere(true, true, 4, false, true),
  () => prelinkHere(true, true, 4, false, false),
  () => prelinkHere(true, true, 4, true, true),
  () => prelinkHere(true, true, 4, true, false),
  () => prelinkHere(false, true, 4, false, true),
  () => prelinkHere(false, true, 4, false, false),
  () => prelinkHere(false, true, 4, true, true),
  () => prelinkHere(false, true, 4, true, false),
  () => prelinkHere(true, true, 5, false, true),
  () => prelinkHere(true, true, 5, false, false),
  () => prelinkHere(true, true, 5, true, true),
  () => prelinkHere(true, true, 5, true, false),
  () => prelinkHere(false, true, 5, false, true),
  () => prelinkHere(false, true, 5, false, false),
  () => prelinkHere(false, true, 5, true, true),
  () => prelinkHere(false, true, 5, true, false),
  () => prelinkHere(true, true, 6, false, true),
  () => prelinkHere(true, true, 6, false, false),
  () => prelinkHere(true, true, 6, true, true),
  () => prelinkHere(true, true, 6, true, false),
  () => prelinkHere(false, true, 6, false, true),
  () => prelinkHere(false, true, 6, false, false),
  () => prelinkHere(false, true, 6, true, true),
  () => prelinkHere(false, true, 6, true, false),
  () => prelinkHere(true, true, 7, false, true),
  () => prelinkHere(true, true, 7, false, false),
  () => prelinkHere(true, true, 7, true, true),
  () => prelinkHere(true, true, 7, true, false),
  () => prelinkHere(false, true, 7, false, true),
  () => prelinkHere(false, true, 7, false, false),
  () => prelinkHere(false, true, 7, true, true),
  () => prelinkHere(false, true, 7, true, false),
  () => prelinkHere(true, true, 8, false, true),
  () => prelinkHere(true, true, 8, false, false),
  () => prelinkHere(true, true, 8, true, true),
  () => prelinkHere(true, true, 8, true, false),
  () => prelinkHere(false, true, 8, false, true),
  () => prelinkHere(false, true, 8, false, false),
  () => prelinkHere(false, true, 8, true, true),
  () => prelinkHere(false, true, 8, true, false),
];

/** By kind of root and layers, then by root, terminal and scopes as a binary number, of which a true root comes first. */
function place({ root, image, layers, terminal, scopes }: Shape): number {
  const kind = image ? 1 + layers : layers;
  return 8 * kind + 4 * Number(!root) + 2 * Number(terminal) + Number(!scopes);
}

/** The launcher for a shape, if there is one. */
export function prelinkedFor(shape: Shape): Prelinked | undefined {
  return IMAGES[place(shape)]?.();
}
