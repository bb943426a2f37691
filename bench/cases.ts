/** What is timed side by side: commands that make the same sandbox, and what must hold in it. */

/** Kinds of namespace, by their names in /proc/self/ns. */
export type NamespaceKind = "user" | "mnt" | "pid" | "net" | "ipc" | "uts" | "cgroup";

/** A sandbox's command line in front of a program and its arguments, and what it promises. */
export interface Side {
  readonly name: string;
  readonly prefix: readonly string[];
  /** Namespaces that must be new. */
  readonly namespaces: readonly NamespaceKind[];
  /** Whether / must be read-only. */
  readonly readOnly: boolean;
}

/** The first side is ours; each other is compared with it. The program is given by its name and its arguments. */
export interface Case {
  readonly name: string;
  readonly program: readonly string[];
  readonly sides: readonly [Side, ...Side[]];
}

const ALL: readonly NamespaceKind[] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"];

const BWRAP = [
  ...["bwrap", "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"],
  ...["--unshare-cgroup", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"],
];
const UNSHARE = "unshare -U -r -m -p -n -i -u -C --fork --mount-proc".split(" ");
const AS_NOBODY = "setpriv --reuid 65534 --regid 65534 --clear-groups".split(" ");

/** Sides of one sandbox over the host's root; `before` comes in front of each. */
function overHost(hutch: string, before: readonly string[]): Case["sides"] {
  return [
    { name: "hutch", prefix: [...before, hutch, "run", "--read-only", "/"], namespaces: ALL, readOnly: true },
    { name: "bwrap", prefix: [...before, ...BWRAP], namespaces: ALL, readOnly: true },
    // Does less: / stays as it is, and there is no /dev of its own.
    { name: "unshare", prefix: [...before, ...UNSHARE], namespaces: ALL, readOnly: false },
  ];
}

/**
 * All cases.
 * @param hutch absolute path of the executable, one that uid 65534 can reach
 * @param isRoot whether setpriv can take another uid
 */
export function benchCases(hutch: string, isRoot: boolean): readonly Case[] {
  const cases: Case[] = [{ name: "start true over /", program: ["true"], sides: overHost(hutch, []) }];
  if (isRoot) {
    cases.push({ name: "start true over /, as uid 65534", program: ["true"], sides: overHost(hutch, AS_NOBODY) });
  }
  return cases;
}

/** A second run of an image beside a run of the same tree as a directory: what the store itself costs. */
export function imageRunCase(hutch: string, store: string, image: string, directory: string): Case {
  const run = ["env", `HUTCH_STORE=${store}`, hutch, "run"];
  const side = (name: string, root: string): Side => ({
    name,
    prefix: [...run, root],
    namespaces: ALL,
    readOnly: false,
  });
  return {
    name: "start true in an image that is stored, beside the same tree as a directory",
    program: ["true"],
    sides: [side("image", image), side("directory", directory)],
  };
}
