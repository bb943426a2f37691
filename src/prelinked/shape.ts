/** What a plain run is, for those who link it before and those who fill it at a start. Types and numbers, no more. */

import type { HostFacts, Range } from "../facts.ts";
import type { Self } from "../launch/become.ts";
import { SCOPES_SINCE } from "../process/security.ts";

/** What decides on the steps of a plain run. */
export interface Shape {
  /** Whether the caller is root, so that ids map to a range, and sources are cloned and idmapped outside. */
  readonly root: boolean;
  /** Whether the root is an image's: hosts and hostname are written over its own, and a lease on its layers is held. */
  readonly image: boolean;
  /** Layers of the overlay; 0 for a directory that is bound read-only. An image has up to {@link MOST_LAYERS}. */
  readonly layers: number;
  /** Whether the caller has a controlling terminal, and the program stays in its session. */
  readonly terminal: boolean;
  /** Whether the kernel's landlock has scopes (version 6 and up; 2 to 5 have not). */
  readonly scopes: boolean;
}

/**
 * A shape's place in a table: by layers, of which the first row has `least`, then by root, terminal and scopes as a binary
 * number, of which a true root and true scopes come first.
 */
export function placeOf({ root, layers, terminal, scopes }: Shape, least: number): number {
  return 8 * (layers - least) + 4 * Number(!root) + 2 * Number(terminal) + Number(!scopes);
}

/** What is filled in. */
export interface Values {
  /** Absolute paths of the layers, the lowest first, or of the one directory; and the user's words for the root. */
  readonly directories: readonly string[];
  readonly from: string;
  readonly args: readonly string[];
  readonly env: readonly string[];
  /** The caller's ids, or for root its ranges. */
  readonly uid: number;
  readonly gid: number;
  readonly ranges?: { readonly uid: Range; readonly gid: Range } | undefined;
  /** The caller's supplementary groups. */
  readonly groups: readonly number[];
  readonly nofile: HostFacts["nofile"];
  /** The kernel's version of landlock: nothing of the launcher but {@link Shape.scopes} depends on it. */
  readonly landlock: number;
}

/** A plain run as the report of its launcher holds it: the command's own arguments and variables are left out. */
export interface PlainRun {
  readonly shape: Shape;
  readonly values: Values;
}

/** Images of more layers are started the long way. */
export const MOST_LAYERS = 8;

/** Where a plain run's root is put together. */
export const WORKSPACE = "/tmp";
/** The first landlock that has what a plain run asks of it, and the first that has scopes. */
export const LANDLOCK = { least: 2, scopes: SCOPES_SINCE } as const;

/** How hutch is called again to explain a plain run's failure. */
export const PLAIN_SELF: Self = { executable: "/proc/self/exe", argv: ["hutch"], label: "hutch run" };

/** The least length of argv in bytes: the launcher puts a name of 16 into its place (supervise.ts). */
export const LEAST_ARGV_BYTES = 16;

/** Bytes that a directory's path has room in, with its NUL. */
export const DIRECTORY_ROOM = 512;
/** Columns of a number in an id map (lowering.ts). */
export const ID_COLUMNS = 10;

/** Offsets in the image at which a value stands; in brackets how it stands there. */
export interface Holes {
  /** Of each directory (NUL-terminated, in {@link DIRECTORY_ROOM} bytes) */
  readonly directories: readonly (readonly number[])[];
  /** The lease (32-bit) */
  readonly lease: readonly number[];
  /** (32-bit) */
  readonly reportFd: readonly number[];
  /** (decimal digits and NUL) */
  readonly reportWord: readonly number[];
  /** (32-bit) */
  readonly executableFd: readonly number[];
  /** (32-bit) */
  readonly argvBytes: readonly number[];
  /** (32-bit) */
  readonly groups: readonly number[];
  /** (64-bit) */
  readonly nofileSoft: readonly number[];
  readonly nofileHard: readonly number[];
  /** (decimal, right-aligned in {@link ID_COLUMNS}) */
  readonly uidStart: readonly number[];
  readonly uidSize: readonly number[];
  readonly gidStart: readonly number[];
  readonly gidSize: readonly number[];
  /** (32-bit addresses of NULL-terminated arrays) */
  readonly candidates: readonly number[];
  readonly args: readonly number[];
  readonly env: readonly number[];
}

/** A prelinked launcher: an ELF executable in base64, and its holes. */
export interface Prelinked {
  readonly image: string;
  /** Length of the image, and the address at which its last part, the data, ends. */
  readonly bytes: number;
  readonly end: number;
  readonly holes: Holes;
}
