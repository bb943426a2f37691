/**
 * The plain run: `hutch run [--read-only] DIRECTORY COMMAND…` with nothing else asked for, as a plan of which only a few
 * values are unknown before the start. Pure.
 */

import { buildSpec } from "../build-spec.ts";
import * as defaults from "../defaults.ts";
import { LAYER_BY_LAYER } from "../facts.ts";
import type { Arch } from "../libc/syscalls.ts";
import { plan } from "../plan.ts";
import { profileFilter } from "../process/filter.ts";
import type { HostPath } from "../spec.ts";
import type { Plan } from "../step.ts";
import { type Shape, type Values, WORKSPACE } from "./shape.ts";

/** The compiled filter of a plain run's program. */
export async function plainFilter(arch: Arch): Promise<Uint8Array> {
  return profileFilter("default", { pid1: false, arch, capabilities: defaults.DEFAULT_CAPABILITIES });
}

/** The plan of a plain run. `seccomp` is the compiled filter of the default profile. */
export function plainPlan(shape: Shape, values: Values, seccomp: Uint8Array): Plan {
  const { from } = values;
  const directories = values.directories as readonly HostPath[];
  const [directory] = directories;
  if (directory === undefined) throw new RangeError("a plain run without a root");
  const spec = buildSpec({
    root:
      shape.layers === 0
        ? { kind: "bind", path: directory, readonly: true, from }
        : { kind: "overlay", lower: directories, ...(shape.image ? { readonly: false } : {}), from },
    image: shape.image,
    command: values.args,
    env: values.env,
    user: { uid: 0, gid: 0, additionalGids: [] },
    workdir: "/",
    hostname: defaults.DEFAULT_HOSTNAME,
    domainname: defaults.DEFAULT_DOMAINNAME,
    network: "none",
    mounts: [],
    idMap: "default",
    timeOffsets: undefined,
    rights: {
      security: "default",
      capabilities: defaults.DEFAULT_CAPABILITIES,
      seccomp,
      seccompFlags: [],
      maskedPaths: defaults.MASKED_PATHS,
      readonlyPaths: defaults.READONLY_PATHS,
    },
    rlimits: [],
    preserveFds: 0,
    terminal: false,
    init: true,
    words: {},
  });
  return plan(spec, {
    kernel: LAYER_BY_LAYER,
    tmpfsAttributes: true,
    uid: values.uid,
    gid: values.gid,
    root: shape.root,
    ranges: values.ranges,
    mappers: { uid: "newuidmap", gid: "newgidmap" },
    groups: values.groups,
    landlock: values.landlock,
    terminal: shape.terminal,
    workspace: WORKSPACE,
    kinds: new Map(directories.map((path) => [path, "directory"])),
    unseen: new Map(),
    owners: new Map(),
    mountsBelow: new Map(),
    nofile: values.nofile,
  });
}
