/**
 * The prelinked launchers of this build for images, one for each shape. They are made by a macro when this file is bundled
 * (bun.com/docs/bundler/macros), for the architecture that the bundle is for; the code that makes them stays outside.
 */

import { prelinkHere } from "./macro.ts" with { type: "macro" };
import { placeOf, type Prelinked, type Shape } from "./shape.ts";

/** In the order of {@link placeOf}; functions, so that one alone is read. */
const LAUNCHERS: readonly (() => Prelinked)[] = [
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

/** The launcher for a shape, if there is one. */
export function prelinkedFor(shape: Shape): Prelinked | undefined {
  return LAUNCHERS[placeOf(shape, 1)]?.();
}
