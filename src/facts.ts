/** What a plan must know of the machine; host.ts gathers it, tests write it by hand. This file imports only types. */

import type { Kind } from "./step.ts";

/** A contiguous range of ids outside. */
export interface Range {
  readonly start: number;
  readonly size: number;
}

/** The first release whose overlay takes its layers one by one, by fsconfig(2)'s `lowerdir+`. */
export const LAYER_BY_LAYER = 6_007;
/** The first release that can show an overlay's layers under other owners (by idmapped mounts), as root's must be. */
export const IDMAPPED_LAYERS = 5_019;

export interface HostFacts {
  /** The kernel's release as 1000 × major + minor: 6_001 for 6.1.0-18-amd64. */
  readonly kernel: number;
  /** Whether a tmpfs has user.* attributes, by which an overlay marks a directory that hides those below (Linux 6.6). */
  readonly tmpfsAttributes: boolean;
  /** The caller's effective ids. */
  readonly uid: number;
  readonly gid: number;
  /** Whether the caller is the machine's root: uid 0 in the initial user namespace. */
  readonly root: boolean;
  /** Subordinate ranges of the caller, when the spec needs them (subuid(5), subgid(5)). */
  readonly ranges: { readonly uid: Range; readonly gid: Range } | undefined;
  /** Paths of newuidmap(1) and newgidmap(1). */
  readonly mappers: { readonly uid: string; readonly gid: string };
  /** The caller's supplementary groups (getgroups(2)). */
  readonly groups: readonly number[];
  /** Version of the kernel's landlock interface (landlock(7)), 0 where there is none. */
  readonly landlock: number;
  /** Whether the caller has a controlling terminal. */
  readonly terminal: boolean;
  /** An existing directory that may be covered by a tmpfs while the root is assembled. */
  readonly workspace: string;
  /**
   * A directory on disk, for this sandbox alone, with `upper` and `work` in it: where an overlay's writes go instead of
   * into memory.
   */
  readonly disk?: string;
  /** Whether what is there was there before and stays: a layer that is kept by name. */
  readonly kept?: true;
  /** What each bind source and lower directory is; a missing entry means that it is not there. */
  readonly kinds: ReadonlyMap<string, Kind>;
  /** Why the others could not be looked at (`ELOOP …`), where that is not that nothing is there. */
  readonly unseen: ReadonlyMap<string, string>;
  /** Owner of directories that are to be shown writable to a range of ids. */
  readonly owners: ReadonlyMap<string, number>;
  /** Mount points below a directory that is to be an overlay's lower layer. */
  readonly mountsBelow: ReadonlyMap<string, readonly string[]>;
  /** The caller's soft and hard RLIMIT_NOFILE, as well as they can be known. */
  readonly nofile: { readonly soft: number; readonly hard: number };
}
