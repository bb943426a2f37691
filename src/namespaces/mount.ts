/**
 * Mount namespace: the root is assembled on file systems of hutch's own and everything is attached by descriptor
 * (mount_namespaces(7), pivot_root(2)). It vanishes with the namespace, whatever dies first.
 */

import { DEFAULT_DEVICES, DEVICE_NUMBERS } from "../defaults.ts";
import { type HostFacts, LAYER_BY_LAYER } from "../facts.ts";
import type { DeviceLayout, Mount, MountAttribute, Root, Spec } from "../spec.ts";
import type { Action, Base, Kind, Tree } from "../step.ts";

type Because = Action & { why: string };

/** A mount that must be cloned from the host's tree before anything covers it. */
export interface Source {
  readonly tree: Tree;
  readonly path: string;
  readonly kind: Kind;
  readonly recursive: boolean;
  readonly attributes: readonly MountAttribute[];
  readonly idmapped: boolean;
  /** Whether it is a lower layer of the overlay. */
  readonly lower: boolean;
  /** The device that it must be. */
  readonly device?: readonly [major: number, minor: number];
  readonly why: string;
}

const ROOT_TREE = "root";
const DISK_TREE = "disk";
const lowerTree = (index: number): Tree => `lower${index}`;
const mountTree = (index: number): Tree => `mount${index}`;
const deviceTree = (name: string): Tree => `dev-${name}`;

/** Every host path that the root is made of, in order. Kinds come from the facts; validate.ts has seen to absent ones. */
export function sources(spec: Spec, host: HostFacts, idmapped: boolean): readonly Source[] {
  const { root, mounts } = spec;
  const list: Source[] = [];
  if (root.kind === "overlay") {
    root.lower.forEach((path, index) => {
      list.push({
        tree: lowerTree(index),
        path,
        kind: "directory",
        recursive: false,
        attributes: ["ro"],
        idmapped,
        lower: true,
        why: root.from,
      });
    });
  }
  if (root.kind === "overlay" && host.disk !== undefined) {
    list.push({
      tree: DISK_TREE,
      path: host.disk,
      kind: "directory",
      recursive: false,
      attributes: ["nosuid", "nodev"],
      idmapped: false,
      lower: false,
      why: root.from,
    });
  }
  if (root.kind === "bind" || root.kind === "own") {
    const isReadOnly = root.kind === "bind" && root.readonly;
    const attributes: MountAttribute[] = isReadOnly ? ["ro", "nosuid", "nodev"] : ["nosuid", "nodev"];
    const translate = idmapped && isReadOnly;
    list.push({
      tree: ROOT_TREE,
      path: root.path,
      kind: "directory",
      recursive: true,
      attributes,
      idmapped: translate,
      lower: false,
      why: root.from,
    });
  }
  mounts.forEach((mount, index) => {
    if (mount.type === "bind") {
      const kind = host.kinds.get(mount.source) ?? "file";
      const translate = idmapped && mount.idmap;
      list.push({
        tree: mountTree(index),
        path: mount.source,
        kind,
        recursive: kind === "directory",
        attributes: mount.attributes,
        idmapped: translate,
        lower: false,
        why: mount.from,
      });
    }
    if (mount.type === "dev") {
      for (const name of (mount.layout ?? DEFAULT_DEVICES).devices) {
        const device = DEVICE_NUMBERS[name];
        list.push({
          ...(device === undefined ? {} : { device }),
          tree: deviceTree(name),
          path: `/dev/${name}`,
          kind: "file",
          recursive: false,
          attributes: ["nosuid", "noexec"],
          idmapped: false,
          lower: false,
          why: mount.from,
        });
      }
    }
  });
  return list;
}

/** Clone the sources where they are; the launcher's part when it is root, else the sandbox's. */
export function openSources(list: readonly Source[]): readonly Because[] {
  return list.map(({ tree, path, recursive, attributes, idmapped, device, why }): Because => {
    const must = device === undefined ? {} : { device };
    return { op: "open-tree", tree, source: path, recursive, attributes, idmapped, ...must, why };
  });
}

/** The sandbox's part: take the sources from where they are, or from where the launcher has staged them. */
export function takeSources(list: readonly Source[], staged: string | undefined): readonly Because[] {
  return list.map((source): Because => {
    const { tree, lower, why } = source;
    const path = staged === undefined ? source.path : `${staged}/${tree}`;
    // An overlay's lower layer must be attached in this namespace: a detached clone of it is refused (EINVAL, since
    // Linux 5.14).
    if (lower) return { op: "open-directory", tree, source: path, why };
    if (staged === undefined) return openSources([source])[0] as Because;
    return { op: "open-tree", tree, source: path, recursive: source.recursive, attributes: [], idmapped: false, why };
  });
}

/** Put the root itself together and attach it. Returns the base in which missing targets may be made, if any. */
function rootSteps(root: Root, host: HostFacts): { steps: readonly Because[]; base: Base | undefined } {
  const why = root.from;
  const tree = ROOT_TREE;
  const { workspace } = host;
  if (root.kind === "bind") return { steps: [{ op: "attach-root", tree, directory: workspace, why }], base: undefined };
  const base = { tree, at: "/" };
  if (root.kind === "own") return { steps: [{ op: "attach-root", tree, directory: workspace, why }], base };
  if (root.kind === "scratch") {
    const options = [["mode", (root.mode ?? 0o755).toString(8)]] as const;
    return {
      steps: [
        { op: "new-filesystem", tree, type: "tmpfs", options, attributes: ["nosuid", "nodev"], why },
        { op: "attach-root", tree, directory: workspace, why },
      ],
      base,
    };
  }
  return {
    steps: [
      { op: "workspace", directory: workspace, why },
      {
        op: "overlay",
        tree,
        lower: root.lower.map((_, index) => lowerTree(index)),
        workspace,
        ...(host.disk === undefined ? {} : { disk: DISK_TREE }),
        ...(host.kept === undefined ? {} : { kept: host.kept }),
        ...(host.disk === undefined && !host.tmpfsAttributes ? { unmarked: true } : {}),
        ...(host.kernel < LAYER_BY_LAYER ? { classic: true } : {}),
        why,
      },
      { op: "attach-root", tree, directory: `${workspace}/root`, why },
    ],
    base,
  };
}

/** Whether `path` is `directory` or lies below it. */
function isBelow(path: string, directory: string): boolean {
  return directory === "/" || path === directory || path.startsWith(`${directory}/`);
}

/** The root, then every mount in the order of the Spec. */
export function mountSteps(spec: Spec, host: HostFacts): readonly Because[] {
  const { steps: first, base: rootBase } = rootSteps(spec.root, host);
  const steps: Because[] = [...first];
  // Deepest attached mount above a path decides whether missing directories may be made there: only in our own.
  const attached: { at: string; base: Base | undefined }[] = [{ at: "/", base: rootBase }];
  const baseOf = (path: string): Base | undefined =>
    attached
      .filter(({ at }) => isBelow(path, at))
      .reduce((deepest, next) => (next.at.length >= deepest.at.length ? next : deepest)).base;
  spec.mounts.forEach((mount, index) => {
    const tree = mountTree(index);
    steps.push(...oneMount(mount, tree, spec, host, baseOf));
    const own = mount.type === "tmpfs" || mount.type === "dev";
    if (own || mount.type === "bind" || mount.type === "proc") {
      attached.push({ at: mount.destination, base: own ? { tree, at: mount.destination } : undefined });
    }
    if (mount.type === "dev") {
      const shm = `${mount.destination}/shm`;
      attached.push({ at: shm, base: { tree: "shm", at: shm } }, { at: `${mount.destination}/pts`, base: undefined });
    }
  });
  const { cwd } = spec.process;
  const cwdBase = baseOf(cwd);
  if (cwd !== "/" && cwdBase !== undefined) {
    steps.push({ op: "directory", path: cwd, mode: 0o755, make: cwdBase, why: spec.words["cwd"] ?? "default" });
  }
  return steps;
}

function oneMount(
  mount: Mount,
  tree: Tree,
  spec: Spec,
  host: HostFacts,
  baseOf: (path: string) => Base | undefined,
): readonly Because[] {
  const why = mount.from;
  const path = mount.destination;
  const make = baseOf(path);
  switch (mount.type) {
    case "bind":
      return [
        {
          op: "attach",
          tree,
          target: path,
          kind: host.kinds.get(mount.source) ?? "file",
          make,
          follow: true,
          ...(mount.optional === true ? { optional: true } : {}),
          why,
        },
      ];
    case "tmpfs":
      return [
        {
          op: "new-filesystem",
          tree,
          type: "tmpfs",
          options: Object.entries(mount.options),
          attributes: mount.attributes,
          why,
        },
        { op: "attach", tree, target: path, kind: "directory", make, follow: true, why },
      ];
    case "proc":
      return [
        { op: "new-filesystem", tree, type: "proc", options: [], attributes: ["nosuid", "nodev", "noexec"], why },
        { op: "attach", tree, target: path, kind: "directory", make, follow: false, why },
      ];
    case "dev":
      return [
        ...deviceSteps(mount.layout ?? DEFAULT_DEVICES, { tree, path, make, why }),
        ...terminalSteps(tree, path, spec),
      ];
    case "directory":
      return make === undefined ? [] : [{ op: "directory", path, mode: mount.mode, make, why }];
    case "file":
      return make === undefined ? [] : [{ op: "file", path, mode: mount.mode, content: mount.content, make, why }];
    case "symlink":
      return make === undefined ? [] : [{ op: "symlink", path, to: mount.target, make, why }];
  }
}

interface Place {
  readonly tree: Tree;
  readonly path: string;
  readonly make: Base | undefined;
  readonly why: string;
}

/** A private /dev: devices bound from the host, an own devpts, shm, and the links. */
function deviceSteps(layout: DeviceLayout, { tree, path, make, why }: Place): readonly Because[] {
  const inside: Base = { tree, at: path };
  const steps: Action[] = [
    {
      op: "new-filesystem",
      tree,
      type: "tmpfs",
      options: [
        ["mode", "755"],
        ["size", "65536k"],
      ],
      attributes: ["nosuid", "noexec"],
    },
    { op: "attach", tree, target: path, kind: "directory", make, follow: false },
    ...layout.devices.map((name): Action => ({
      op: "attach",
      tree: deviceTree(name),
      target: `${path}/${name}`,
      kind: "file",
      make: inside,
      follow: false,
      fresh: true,
    })),
    // gid=5 (tty) cannot be set where only one id is mapped: EINVAL.
    {
      op: "new-filesystem",
      tree: "devpts",
      type: "devpts",
      options: [
        ["newinstance", ""],
        ["ptmxmode", "0666"],
        ["mode", "0620"],
      ],
      attributes: ["nosuid", "noexec"],
    },
    {
      op: "attach",
      tree: "devpts",
      target: `${path}/pts`,
      kind: "directory",
      make: inside,
      follow: false,
      fresh: true,
    },
    {
      op: "new-filesystem",
      tree: "shm",
      type: "tmpfs",
      options: Object.entries(layout.shm.options),
      attributes: layout.shm.attributes,
    },
    { op: "attach", tree: "shm", target: `${path}/shm`, kind: "directory", make: inside, follow: false, fresh: true },
    ...(layout.bindsPtmx ? bindPtmx(path, inside) : []),
    ...layout.links.map(([name, to]): Action => ({ op: "symlink", path: `${path}/${name}`, to, make: inside })),
  ];
  return steps.map((step) => ({ ...step, why }));
}

/** The tree of the sandbox's own /proc. */
export function procTree(spec: Spec): Tree | undefined {
  const index = spec.mounts.findLastIndex(({ type }) => type === "proc");
  return index < 0 ? undefined : mountTree(index);
}

/** The program's own terminal, bound to /dev/console (runtime-spec config-linux.md, "Default Devices"). */
function terminalSteps(tree: Tree, path: string, { process, words }: Spec): readonly Because[] {
  if (process.terminal !== true) return [];
  const why = words["terminal"] ?? "default";
  const inside: Base = { tree, at: path };
  const target = `${path}/console`;
  return [
    { op: "open-terminal", devpts: "devpts", tree: "console", uid: process.uid, why },
    { op: "attach", tree: "console", target, kind: "file", make: inside, follow: false, fresh: true, why },
  ];
}

/** The own devpts' ptmx as a device of its own, for programs that want no link. */
function bindPtmx(path: string, inside: Base): readonly Action[] {
  const tree = "ptmx";
  const target = `${path}/ptmx`;
  return [
    { op: "open-inside", tree, path: `${path}/pts/ptmx` },
    { op: "attach", tree, target, kind: "file", make: inside, follow: false, fresh: true },
  ];
}

/**
 * Cover what of /proc and /sys tells about the host or changes it. Read-only first, as runc does: made so afterwards, with
 * all below it, a cover would be on a nodev mount, and reading it EACCES instead of empty.
 */
export function hideSteps(spec: Spec): readonly Because[] {
  const { readonlyPaths, maskedPaths } = spec;
  const steps: Action[] = [];
  if (readonlyPaths.length > 0) steps.push({ op: "read-only", paths: readonlyPaths });
  const paths = showsSys(spec) ? maskedPaths : maskedPaths.filter((path) => !path.startsWith("/sys/"));
  if (paths.length > 0) steps.push({ op: "open-null" }, { op: "mask", paths });
  return steps.map((step) => ({ ...step, why: "default" }));
}

/** Whether a sysfs may be at /sys: only roots that are bound bring what is mounted below them, and volumes. */
function showsSys({ root, mounts }: Spec): boolean {
  if (root.kind === "bind") return true;
  return mounts.some(({ destination }) => destination === "/sys" || destination.startsWith("/sys/"));
}

/** Whether the root's own mount is made read-only at the end (a read-only bind is so from the start). */
export function sealSteps(spec: Spec): readonly Because[] {
  const { root } = spec;
  return root.kind !== "bind" && root.readonly === true ? [{ op: "seal-root", why: root.from }] : [];
}
