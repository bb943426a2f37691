/**
 * Steps: what a Plan consists of. Each is data with symbolic names, done by one of three actors, in order:
 *
 * - `launcher`: outside, in the caller's pid namespace; hutch itself after execve, and the parent of all the rest.
 * - `sandbox`: the first process of the new namespaces; it assembles the root and then stays as the reaping PID 1
 *   (or goes on as the program).
 * - `program`: the process that becomes the user's command.
 */

import type { IdMapping, MountAttribute, NamespaceName, SeccompFlag, TimeOffsets } from "./spec.ts";

export type Actor = "launcher" | "sandbox" | "program";

/** A mount that is held by descriptor under a name until it is attached; also a base for what is made inside it. */
export type Tree = string;

/** What a bind source is; decides whether the target is made as a directory or a file. */
export type Kind = "directory" | "file";

/** Access rights of landlock(7) by the header's names: `make-reg` is LANDLOCK_ACCESS_FS_MAKE_REG. */
export type FileRight =
  | ("execute" | "write-file" | "read-file" | "read-dir" | "remove-dir" | "remove-file" | "make-char" | "make-dir")
  | ("make-reg" | "make-sock" | "make-fifo" | "make-block" | "make-sym" | "refer" | "truncate" | "ioctl-dev");

/** What a landlock domain takes away; `rules` give some of `files` back below a path. */
export interface Landlock {
  /** Version of the kernel's interface that this was made for. */
  readonly abi: number;
  readonly files: readonly FileRight[];
  readonly rules: readonly { readonly path: string; readonly allow: readonly FileRight[] }[];
  readonly network: readonly ("bind-tcp" | "connect-tcp")[];
  /** What of others, outside of the domain, can no longer be reached. */
  readonly scopes: readonly ("abstract-sockets" | "signals")[];
}

/** The content of a step; see {@link Step}. */
export type Action =
  /** Make a user namespace for id maps: root's own, in which `clone` is done, or one by newuidmap(1) and newgidmap(1). */
  | {
      readonly op: "hold-ids";
      readonly uidMappings: readonly IdMapping[];
      readonly gidMappings: readonly IdMapping[];
      readonly through: "launcher" | "newuidmap";
      /** Paths of newuidmap(1) and newgidmap(1). */
      readonly mappers?: { readonly uid: string; readonly gid: string };
    }
  /** Leave the host's mount namespace, as its root, so that what is mounted next is locked inside. */
  | { readonly op: "leave-mounts" }
  /** Enter the user namespace of `hold-ids`, when it is by newuidmap(1). */
  | { readonly op: "enter-ids" }
  | { readonly op: "clone"; readonly namespaces: readonly NamespaceName[] }
  /** Enter existing namespaces by descriptors; the program is then a new child of the launcher. */
  | { readonly op: "join"; readonly namespaces: readonly { readonly name: NamespaceName; readonly fd: number }[] }
  /** Write the process's own uid_map, setgroups and gid_map. */
  | {
      readonly op: "map-ids";
      readonly uidMappings: readonly IdMapping[];
      readonly gidMappings: readonly IdMapping[];
    }
  /** Become uid and gid; `groups` replaces the supplementary groups where the namespace allows setgroups(2). */
  | {
      readonly op: "set-ids";
      readonly uid: number;
      readonly gid: number;
      readonly groups: readonly number[] | undefined;
    }
  | { readonly op: "time-offsets"; readonly offsets: TimeOffsets }
  | { readonly op: "private-mounts" }
  /** Clone a mount (open_tree(2)); the source is seen by the actor at this moment. */
  | {
      readonly op: "open-tree";
      readonly tree: Tree;
      readonly source: string;
      readonly recursive: boolean;
      readonly attributes: readonly MountAttribute[];
      readonly idmapped: boolean;
      /** The source must be the character device with these numbers. */
      readonly device?: readonly [major: number, minor: number];
    }
  /** Clone a mount of the root being assembled; no link on the way is followed. */
  | { readonly op: "open-inside"; readonly tree: Tree; readonly path: string }
  /** Hold a directory by descriptor where it is, as a lower layer. */
  | { readonly op: "open-directory"; readonly tree: Tree; readonly source: string }
  /** Hand trees over to the sandbox by attaching them below a private tmpfs on `directory`. */
  | {
      readonly op: "stage";
      readonly directory: string;
      readonly trees: readonly { readonly tree: Tree; readonly kind: Kind }[];
    }
  /** A new file system instance (fsopen(2)). */
  | {
      readonly op: "new-filesystem";
      readonly tree: Tree;
      readonly type: string;
      readonly options: readonly (readonly [string, string])[];
      readonly attributes: readonly MountAttribute[];
    }
  /**
   * A new pseudo-terminal of `devpts`, with the caller's settings and size, for `uid`: the program's end is held as a
   * tree, the other one goes to the launcher.
   */
  | { readonly op: "open-terminal"; readonly devpts: Tree; readonly tree: Tree; readonly uid: number }
  /** Begin a session on that terminal, and make it descriptors 0, 1 and 2. */
  | { readonly op: "controlling-terminal" }
  /** A tmpfs on `directory` that holds the overlay's upper and work directories. */
  | { readonly op: "workspace"; readonly directory: string }
  | {
      readonly op: "overlay";
      readonly tree: Tree;
      readonly lower: readonly Tree[];
      readonly workspace: string;
      /** The tree in which `upper` and `work` are, when that is not the workspace. */
      readonly disk?: Tree;
      /** What is there stays: nobody else may write to it meanwhile, and it outlives a loss of power. */
      readonly kept?: true;
      /** Writes are in a memory that cannot hold marks about removed directories. */
      readonly unmarked?: true;
      /** By mount(2), all layers in one option, as kernels before 6.7 want it. */
      readonly classic?: true;
    }
  /** Make `tree` the root to be: attach it at `directory`; all later paths are resolved inside it. */
  | { readonly op: "attach-root"; readonly tree: Tree; readonly directory: string }
  /**
   * Attach a tree at a path of the root, resolved with openat2(2). `make` names the tree in which missing directories
   * may be made; without it they are an error.
   */
  | {
      readonly op: "attach";
      readonly tree: Tree;
      readonly target: string;
      readonly kind: Kind;
      readonly make: Base | undefined;
      readonly follow: boolean;
      /** The target is a name right below `make`, a tree made by this plan in which it is not yet. */
      readonly fresh?: boolean;
      /** Leave it out where its target cannot be made for want of rights. */
      readonly optional?: boolean;
    }
  | { readonly op: "directory"; readonly path: string; readonly mode: number; readonly make: Base }
  | { readonly op: "file"; readonly path: string; readonly mode: number; readonly content: string; readonly make: Base }
  | { readonly op: "symlink"; readonly path: string; readonly to: string; readonly make: Base }
  /** Hold the host's /dev/null for `mask`, once it has proved to be the device 1:3. */
  | { readonly op: "open-null" }
  /** Cover paths: a file by /dev/null, a directory by an empty read-only tmpfs; forgiven when one is not there. */
  | { readonly op: "mask"; readonly paths: readonly string[] }
  /** Bind paths on themselves read-only; forgiven when one is not there. */
  | { readonly op: "read-only"; readonly paths: readonly string[] }
  /** Make the root's own mount read-only, after all has been put into it. */
  | { readonly op: "seal-root" }
  /** Write text to an existing file of a tree; nothing that was mounted over it stands in the way. */
  | { readonly op: "write"; readonly tree: Tree; readonly path: string; readonly text: string }
  | { readonly op: "pivot" }
  | { readonly op: "hostname" | "domainname"; readonly name: string }
  | { readonly op: "loopback" }
  /** Die when the launcher dies, the race with its death closed by a pipe. */
  | { readonly op: "death-signal" }
  /** Leave the caller's session, so that signals to its process group are not shared. */
  | { readonly op: "session" }
  | { readonly op: "process-group" }
  | { readonly op: "umask"; readonly mask: number }
  | { readonly op: "rlimit"; readonly type: string; readonly soft: number; readonly hard: number }
  /** Enter a directory, which must be inside the root. */
  | { readonly op: "chdir"; readonly path: string }
  /** Become another user, without groups, and still be able to write the own id maps. */
  | { readonly op: "become"; readonly uid: number; readonly gid: number }
  | { readonly op: "personality"; readonly flags: number }
  /** Give up the caller's supplementary groups. */
  | { readonly op: "drop-groups" }
  /** Fail unless there are so many supplementary groups. */
  | { readonly op: "check-groups"; readonly count: number }
  /** Until the next execve nobody may look into this process (PR_SET_DUMPABLE). */
  | { readonly op: "not-dumpable" }
  /** Uid 0 is nothing special any more, for good (PR_SET_SECUREBITS). */
  | { readonly op: "securebits" }
  | ({ readonly op: "landlock" } & Landlock)
  /** Cut the bounding set to `keep`. */
  | { readonly op: "bounding-set"; readonly keep: readonly string[] }
  /** Hold exactly these, and inherit none over an execve that is not root's. */
  | { readonly op: "capabilities"; readonly hold: readonly string[] }
  | { readonly op: "no-new-privileges" }
  | {
      readonly op: "seccomp";
      readonly filter: Uint8Array;
      readonly flags?: readonly SeccompFlag[];
      /** The launcher notes each call that it refuses with an error number, and gives that. */
      readonly telling?: true;
    }
  | { readonly op: "close-descriptors"; readonly from: number }
  | {
      readonly op: "exec";
      readonly command: string;
      /** Paths tried in order. */
      readonly candidates: readonly string[];
      readonly args: readonly string[];
      readonly env: readonly string[];
    };

/** Where things may be made: a tree of hutch's own, and the path of the root at which it is attached. */
export interface Base {
  readonly tree: Tree;
  readonly at: string;
}

/** One step of a plan. `why` names the user's own words, or the default, that asked for it. */
export type Step = Action & { readonly by: Actor; readonly why: string };

/** An ordered list of steps, with what the launcher needs to know to look after the program. */
export interface Plan {
  readonly steps: readonly Step[];
  /** Whether PID 1 is hutch's reaper. */
  readonly init: boolean;
}
