/** User namespace: how ids inside map to ids outside (user_namespaces(7)). */

import type { HostFacts, Range } from "../facts.ts";
import type { IdMapping, IdMaps, Spec } from "../spec.ts";
import type { Action } from "../step.ts";

/**
 * - `self`: the sandbox writes its own map of one id; no privilege needed.
 * - `held`: the map is written from outside, into a namespace in which the sandbox is made; needs root or newuidmap(1).
 */
export interface IdPlan {
  readonly kind: "self" | "held";
  readonly uidMappings: readonly IdMapping[];
  readonly gidMappings: readonly IdMapping[];
  /** Whether mounts can be shown with their owners translated (only root may idmap a mount). */
  readonly idmappedMounts: boolean;
}

const one = (containerID: number, hostID: number): readonly IdMapping[] => [{ containerID, hostID, size: 1 }];

/**
 * The maps of an ordinary user with ranges: root inside is the user, so that its own files are root's, and the range
 * follows (as podman does).
 */
export function mapsBehind(
  own: { readonly uid: number; readonly gid: number },
  ranges: { readonly uid: Range; readonly gid: Range },
): IdMaps {
  const behind = (id: number, { start, size }: Range): readonly IdMapping[] => [
    ...one(0, id),
    { containerID: 1, hostID: start, size },
  ];
  return { uidMappings: behind(own.uid, ranges.uid), gidMappings: behind(own.gid, ranges.gid) };
}

/** Decide on the maps. Started by root, the program never gets the machine's uid 0 unless explicit maps say so. */
export function idPlan(spec: Spec, host: HostFacts): IdPlan {
  const { idMap, process } = spec;
  const { root } = host;
  if (typeof idMap === "object") return { kind: "self", ...idMap, idmappedMounts: false };
  if (host.ranges === undefined || (idMap === "default" && !root)) {
    return {
      kind: "self",
      uidMappings: one(process.uid, host.uid),
      gidMappings: one(process.gid, host.gid),
      idmappedMounts: false,
    };
  }
  const { uid, gid } = host.ranges;
  const whole = ({ start, size }: Range): readonly IdMapping[] => [{ containerID: 0, hostID: start, size }];
  const maps = root ? { uidMappings: whole(uid), gidMappings: whole(gid) } : mapsBehind(host, host.ranges);
  return { kind: "held", ...maps, idmappedMounts: root };
}

/** The launcher's part, before anything else is new. */
export function holdIds(ids: IdPlan, host: HostFacts): readonly Action[] {
  if (ids.kind === "self") return [];
  const { uidMappings, gidMappings } = ids;
  return host.root
    ? [{ op: "hold-ids", uidMappings, gidMappings, through: "launcher" }]
    : [{ op: "hold-ids", uidMappings, gidMappings, through: "newuidmap", mappers: host.mappers }];
}

/** The sandbox's part: write the own map, or become root of the entered one. */
export function userSteps(ids: IdPlan): readonly Action[] {
  return ids.kind === "self"
    ? [{ op: "map-ids", uidMappings: ids.uidMappings, gidMappings: ids.gidMappings }]
    : [{ op: "set-ids", uid: 0, gid: 0, groups: [] }];
}
