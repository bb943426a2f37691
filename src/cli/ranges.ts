/**
 * An ordinary user's images with a range of ids (`--userns auto`): the context in which layers are unpacked and removed
 * by root of a user namespace with the ranges of /etc/subuid and /etc/subgid. It is hutch again, started by the
 * launcher, which has newuidmap(1) write the maps.
 */

import { HutchError } from "../errors.ts";
import { findMappers, findRanges } from "../host.ts";
import type { Change } from "../image/changes.ts";
import type { LayerOptions, UnpackLayers } from "../image/layers.ts";
import type { RemoveRanged } from "../image/manage.ts";
import { type RangedAnswer, type RangedRequest, rangedStore } from "../image/ranged.ts";
import { spawn } from "../launch/spawn.ts";
import { rawCall } from "../libc/call.ts";
import { linkTarget } from "../libc/files.ts";
import { mapsBehind } from "../namespaces/user.ts";
import type { IdMaps } from "../spec.ts";
import type { Plan, Step } from "../step.ts";
import type { ImageContext } from "./image-context.ts";
import { readLines } from "./lines.ts";
import { commandLine } from "./self.ts";

/** What `pull` takes of an ordinary user with ranges. `from` is who asks for them. @throws UsageError without ranges */
export function withRanges(context: ImageContext, from: string): ImageContext & { readonly unpack: UnpackLayers } {
  const maps = ownMaps(context.uid, from);
  const unpack: UnpackLayers = async (store, layers, diffIds, { onEvent, limits, ready }) => {
    const descriptors = layers.map(({ mediaType, digest, size }) => ({ mediaType, digest, size }));
    const request = { op: "unpack", root: store.root, layers: store.layers, descriptors, diffIds, limits } as const;
    await serveInRanges(maps, request, from, { onEvent, ready });
  };
  return { ...context, store: rangedStore(context.store, maps), unpack };
}

/** How an ordinary user's `rmi` and `prune` remove what `--userns auto` has unpacked; undefined for root, who just may. */
export function removeRanged({ uid }: Pick<ImageContext, "uid">): RemoveRanged | undefined {
  if (uid === 0) return undefined;
  return async (paths) => {
    const from = "layers of --userns auto";
    await serveInRanges(ownMaps(uid, from), { op: "remove", paths }, from);
  };
}

/** Files of an image whose directories may be closed to the caller's own id: read by root of the namespace. */
export async function readInRanges(
  { uid }: ImageContext,
  from: string,
  layers: readonly string[],
  paths: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  return await serveInRanges(ownMaps(uid, from), { op: "read", layers, paths }, from);
}

/**
 * What a layer that is kept changes of those below it, read by root of a namespace with the ids that its files have: none
 * of them can shut it out. `ranges` tells whether these are the caller's ranges, or its own id alone.
 */
export async function readChangesInRanges(
  { uid }: ImageContext,
  ranges: boolean,
  { upper, layers }: { readonly upper: string; readonly layers: readonly string[] },
  onChanges: (changes: readonly Change[]) => void,
): Promise<void> {
  const from = "a layer of --persist";
  const own = (id: number) => [{ containerID: 0, hostID: id, size: 1 }];
  const maps = ranges ? ownMaps(uid, from) : { uidMappings: own(uid), gidMappings: own(rawCall("getegid")) };
  await serveInRanges(maps, { op: "changes", upper, layers }, from, { onChanges });
}

function ownMaps(uid: number, from: string): IdMaps {
  return mapsBehind({ uid, gid: rawCall("getegid") }, findRanges(uid, from));
}

/** Become root of a user namespace: newuidmap(1) has to write any map but that of one's own id. */
function namespaceSteps(maps: IdMaps, why: string): readonly Step[] {
  if (maps.uidMappings.length + maps.gidMappings.length === 2)
    return [
      { op: "clone", namespaces: ["user"], by: "launcher", why },
      { op: "map-ids", ...maps, by: "sandbox", why },
    ];
  return [
    { op: "hold-ids", ...maps, through: "newuidmap", mappers: findMappers(), by: "launcher", why },
    { op: "enter-ids", by: "launcher", why },
    { op: "clone", namespaces: [], by: "launcher", why },
    { op: "set-ids", uid: 0, gid: 0, groups: undefined, by: "sandbox", why },
  ];
}

/** hutch itself as root of a user namespace with these maps, and in no other new namespace. */
function rangesPlan(maps: IdMaps, why: string): Plan {
  const { self } = commandLine();
  const executable = self.executable === "/proc/self/exe" ? linkTarget(self.executable) : self.executable;
  if (typeof executable !== "string") throw new HutchError("hutch's own executable is not to be found");
  return {
    init: false,
    steps: [
      ...namespaceSteps(maps, why),
      { op: "death-signal", by: "program", why },
      { op: "close-descriptors", from: 3, by: "program", why },
      {
        op: "exec",
        command: executable,
        candidates: [executable],
        args: [...self.argv, "in-ranges"],
        env: [],
        by: "program",
        why,
      },
    ],
  };
}

/**
 * Have a request served. Each layer is unpacked when its download is `ready`, which is told by an empty line.
 * Returns the texts that were asked for.
 * @throws HutchError that the namespace cannot be had for, or that came back; what `ready` rejects with
 */
async function serveInRanges(
  maps: IdMaps,
  request: RangedRequest,
  why: string,
  {
    onEvent,
    ready,
    onChanges,
  }: Pick<LayerOptions, "onEvent" | "ready"> & { readonly onChanges?: (changes: readonly Change[]) => void } = {},
): Promise<ReadonlyMap<string, string>> {
  const texts = new Map<string, string>();
  let unready: { readonly error: unknown } | undefined;
  const start = async (input: ReadableStreamDefaultController<Uint8Array>): Promise<void> => {
    const line = (text: string): void => input.enqueue(new TextEncoder().encode(`${text}\n`));
    line(JSON.stringify(request));
    try {
      for (const index of request.op === "unpack" ? request.descriptors.keys() : []) {
        await ready?.(index);
        line("");
      }
    } catch (error) {
      unready = { error }; // the end of the input tells the other process
    }
    input.close();
  };
  const running = spawn(rangesPlan(maps, why), {
    stdin: { data: new ReadableStream({ start }) },
    stdout: "pipe",
    stderr: "inherit",
  });
  let failure: HutchError | undefined;
  for await (const line of readLines(running.stdout)) {
    const answer = JSON.parse(line) as RangedAnswer;
    if ("event" in answer) onEvent?.(answer.event);
    else if ("text" in answer) texts.set(...answer.text);
    else if ("changes" in answer) onChanges?.(answer.changes);
    else
      failure = new HutchError(
        answer.error.message,
        answer.error.hint === undefined ? {} : { hint: answer.error.hint },
      );
  }
  const { status } = await running.outcome;
  if (unready !== undefined) throw unready.error;
  if (failure !== undefined) throw failure;
  if (status !== 0) throw new HutchError(`hutch in the range of ids ended with ${status}`, { from: why });
  return texts;
}
