/**
 * The prelinked launchers of this build for directories, one for each shape. They are made by a macro when this file is bundled
 * (bun.com/docs/bundler/macros), for the architecture that the bundle is for; the code that makes them stays outside.
 */

import { prelinkHere } from "./macro.ts" with { type: "macro" };
import { placeOf, type Prelinked, type Shape } from "./shape.ts";

/** In the order of {@link placeOf}; functions, so that one alone is read. */
const LAUNCHERS: readonly (() => Prelinked)[] = [
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
];

/** The launcher for a shape, if there is one. */
export function prelinkedFor(shape: Shape): Prelinked | undefined {
  return LAUNCHERS[placeOf(shape, 0)]?.();
}
