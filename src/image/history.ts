/** `hutch history`: what an image's config says of how it was made, with the sizes of the layers. Pure. */

import type { HistoryEntry } from "./config.ts";
import type { Digest } from "./digest.ts";
import type { OpenImage } from "./lookup.ts";
import { formatAge, formatBytes } from "./views.ts";

/** A step of an image's making, a layer, or both where it is known that they belong together. */
export type HistoryRow = {
  /** Absent for a layer that no step of the config is known to have made. */
  readonly step: HistoryEntry | undefined;
  /** Absent for a step that made none, or of which it is not known which. */
  readonly layer: { readonly digest: Digest; readonly diffId: Digest | undefined; readonly size: number } | undefined;
};

export type History = {
  /** Newest first. */
  readonly rows: readonly HistoryRow[];
  /** What keeps steps and layers from being told together, in words. */
  readonly fault: string | undefined;
};

/**
 * Steps and layers, put together in their order: each step that is no `empty_layer` made one layer (image-spec config.md,
 * "history"). A config whose steps are more or fewer than its layers says nothing about which made which: then they stand
 * apart.
 */
export function imageHistory({ manifest, config }: OpenImage): History {
  const layers = manifest.layers.map(({ digest, size }, i) => ({ digest, diffId: config.diffIds[i], size }));
  const made = config.history.filter(({ emptyLayer }) => !emptyLayer).length;
  if (made !== layers.length) {
    const apart: HistoryRow[] = [
      ...layers.map((layer) => ({ step: undefined, layer })),
      ...config.history.map((step) => ({ step, layer: undefined })),
    ];
    const fault = `its config tells of ${made} layers, but it has ${layers.length}: which step made which is not known`;
    return { rows: apart.toReversed(), fault: config.history.length === 0 ? undefined : fault };
  }
  let next = 0;
  const rows = config.history.map((step) => ({ step, layer: step.emptyLayer ? undefined : layers[next++] }));
  return { rows: rows.toReversed(), fault: undefined };
}

export const HISTORY_COLUMNS = ["CREATED", "CREATED BY", "SIZE", "COMMENT"] as const;

/** Characters of CREATED BY and COMMENT in a table, as docker has them. */
const SHORT = 45;

/** Rows of a table; `short` cuts what is long. Sizes are those of the blobs, as in the list of images. */
export function historyRows(
  { rows }: History,
  now: number,
  short: (text: string, width: number) => string,
): string[][] {
  return rows.map(({ step, layer }) => [
    formatAge(step?.created, now),
    step === undefined ? "<not told>" : short(step.createdBy ?? "", SHORT),
    layer !== undefined ? formatBytes(layer.size) : step?.emptyLayer === false ? "?" : formatBytes(0),
    short(step?.comment ?? "", SHORT),
  ]);
}

/** An entry of `hutch history --format json`: null is what is not told. */
export function historyJson({ step, layer }: HistoryRow): object {
  return {
    created: step?.created ?? null,
    createdBy: step?.createdBy ?? null,
    comment: step?.comment ?? null,
    emptyLayer: step?.emptyLayer ?? null,
    size: layer?.size ?? (step?.emptyLayer === true ? 0 : null),
    digest: layer?.digest ?? null,
    diffId: layer?.diffId ?? null,
  };
}
