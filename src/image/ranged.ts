/**
 * Layers whose files belong to a range of ids of an ordinary user: `ranges/<id maps>/<hex of ChainID>` in the store.
 * The maps are in the path, so that layers of one id, of this range and of an earlier one are never taken for each
 * other. They are unpacked and removed by a process in a user namespace with these maps; all else, from outside.
 */

import { HutchError } from "../errors.ts";
import type { IdMapping, IdMaps } from "../spec.ts";
import { type Change, inChunks, readChanges } from "./changes.ts";
import { type Digest, isDigest } from "./digest.ts";
import { type LayerOptions, unpackLayers } from "./layers.ts";
import { openLayers } from "./layers-view.ts";
import type { Descriptor } from "./manifest.ts";
import type { PullEvent } from "./source.ts";
import { makeDirectory, openStore, type Store } from "./store.ts";

/** `u0.1000.1-1.100000.65536+g…`: the triples of newuidmap(1), with nothing that overlay's options would need escaped. */
export function formatMaps({ uidMappings, gidMappings }: IdMaps): string {
  const format = (map: readonly IdMapping[]): string =>
    map.map(({ containerID, hostID, size }) => `${containerID}.${hostID}.${size}`).join("-");
  return `u${format(uidMappings)}+g${format(gidMappings)}`;
}

/** The store with the layers of these maps in the place of those of one id. */
export function rangedStore(store: Store, maps: IdMaps): Store {
  const layers = `${store.ranges}/${formatMaps(maps)}`;
  makeDirectory(store.ranges, 0o700);
  makeDirectory(layers, 0o700);
  return { ...store, layers };
}

/** What a process in the namespace is asked for, as one JSON text. */
export type RangedRequest =
  | {
      readonly op: "unpack";
      /** The store's root, and where in it the layers go. */
      readonly root: string;
      readonly layers: string;
      readonly descriptors: readonly Pick<Descriptor, "mediaType" | "digest" | "size">[];
      readonly diffIds: readonly Digest[];
      readonly limits?: LayerOptions["limits"];
    }
  | { readonly op: "remove"; readonly paths: readonly string[] }
  /** Texts of files by their paths inside an image, of whose layers, lowest first, these are the directories. */
  | { readonly op: "read"; readonly layers: readonly string[]; readonly paths: readonly string[] }
  /** What a writable layer's directory changes of these layers, lowest first. */
  | { readonly op: "changes"; readonly upper: string; readonly layers: readonly string[] };

/** What it answers, one JSON text a line: events, and at most one error, which is the last. */
export type RangedAnswer =
  | { readonly event: PullEvent }
  | { readonly text: readonly [path: string, content: string] }
  | { readonly changes: readonly Change[] }
  | { readonly error: { readonly message: string; readonly hint?: string | undefined } };

/** Read a request. It comes from hutch itself; this only sees that it is whole. @throws HutchError */
export function parseRequest(text: string): RangedRequest {
  let request:
    | Partial<Extract<RangedRequest, { op: "unpack" }>>
    | { op: "remove"; paths: unknown }
    | { op: "read"; layers: unknown; paths: unknown }
    | { op: "changes"; upper: unknown; layers: unknown }
    | null;
  try {
    request = JSON.parse(text) as typeof request;
  } catch {
    request = null;
  }
  if (request?.op === "remove" && Array.isArray(request.paths)) return request as RangedRequest;
  if (request?.op === "read" && Array.isArray(request.layers) && Array.isArray(request.paths))
    return request as RangedRequest;
  if (request?.op === "changes" && Array.isArray(request.layers) && typeof request.upper === "string")
    return request as RangedRequest;
  if (request?.op === "unpack" && Array.isArray(request.descriptors) && request.diffIds?.every(isDigest) === true)
    return request as RangedRequest;
  throw new HutchError("in-ranges: no request of hutch's");
}

/** The work of a process that is root of the namespace. */
export async function serveRequest(
  request: RangedRequest,
  {
    onEvent,
    ready,
    onText,
    onChanges,
    remove,
  }: Pick<LayerOptions, "onEvent" | "ready"> & {
    readonly onText?: (path: string, content: string) => void;
    readonly onChanges?: (changes: readonly Change[]) => void;
    /** Removes a directory with all that is in it. */
    readonly remove: (path: string) => void;
  },
): Promise<void> {
  if (request.op === "remove") {
    for (const path of request.paths) remove(path);
    return;
  }
  if (request.op === "read") {
    const view = openLayers(request.layers);
    for (const path of request.paths) onText?.(path, view.read(path));
    return;
  }
  if (request.op === "changes") {
    for (const some of inChunks(readChanges(request.upper, request.layers))) onChanges?.(some);
    return;
  }
  const { root, layers, descriptors, diffIds, limits } = request;
  await unpackLayers({ ...openStore(root), layers }, descriptors, diffIds, {
    ids: "real",
    onEvent,
    limits,
    ready,
  });
}
