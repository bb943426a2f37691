/**
 * The prelinked launchers of this build, one for each shape. They are made by a macro when this file is bundled
 * (bun.com/docs/bundler/macros), for the architecture that the bundle is for; the code that makes them stays outside.
 */

import { prelinkHere } from "./macro.ts" with { type: "macro" };
import type { Prelinked, Shape } from "./shape.ts";

/** By root, readonly, terminal, scopes as a binary number of four digits; functions, so that one alone is read. */
const IMAGES: readonly (() => Prelinked)[] = [
  () => prelinkHere(false, false, false, false),
  () => prelinkHere(false, false, false, true),
  () => prelinkHere(false, false, true, false),
  () => prelinkHere(false, false, true, true),
  () => prelinkHere(false, true, false, false),
  () => prelinkHere(false, true, false, true),
  () => prelinkHere(false, true, true, false),
  () => prelinkHere(false, true, true, true),
  () => prelinkHere(true, false, false, false),
  () => prelinkHere(true, false, false, true),
  () => prelinkHere(true, false, true, false),
  () => prelinkHere(true, false, true, true),
  () => prelinkHere(true, true, false, false),
  () => prelinkHere(true, true, false, true),
  () => prelinkHere(true, true, true, false),
  () => prelinkHere(true, true, true, true),
];

/** The launcher for a shape. */
export function prelinkedFor({ root, readonly, terminal, scopes }: Shape): Prelinked | undefined {
  const digits = [root, readonly, terminal, scopes];
  return IMAGES[digits.reduce((sum, digit) => 2 * sum + Number(digit), 0)]?.();
}
