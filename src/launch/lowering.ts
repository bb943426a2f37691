/**
 * What the lowering of every step shares: the assembler, descriptors by name, small helpers.
 */

import { encodeBytes } from "../bytes.ts";
import * as c from "../libc/constants.ts";
import type { Arch } from "../libc/syscalls.ts";
import { capabilityWords } from "../process/capabilities.ts";
import type { IdMapping, MountAttribute } from "../spec.ts";
import type { Action, Tree } from "../step.ts";
import { type Argument, type Assembler, content, type Content, type Label } from "./assembler.ts";
import type { Place } from "./program.ts";

/** What lowering carries from step to step: descriptors by name, and the cells shared with supervise.ts. */
export interface Lowering {
  readonly asm: Assembler;
  readonly arch: Arch;
  readonly trees: Map<Tree, Place>;
  /** Descriptor of the root, once it is attached. */
  root: Place | undefined;
  /** Read end of the pipe that only the launcher holds open for writing. */
  readonly alive: Place;
  /** Where to go when the launcher has died. */
  readonly orphaned: Label;
  /** Descriptor of the mount namespace that `leave-mounts` has left. */
  home: Place | undefined;
  /** Pids of processes that the launcher has made before the sandbox: they are ended when the start fails. */
  readonly started: Place[];
  /** The pseudo-terminal of `open-terminal`, when the plan has one. */
  readonly terminal: PseudoTerminal | undefined;
  /** Install the filter of a plan that tells denials (denials.ts). */
  readonly installTelling: () => void;
  /** Write the holder of id maps into the launcher (supervise.ts). */
  readonly holdIds: (step: Extract<Action, { op: "hold-ids" }>) => void;
  readonly enterIds: () => void;
  /** The id maps are needed now. */
  readonly mapIds: () => void;
  readonly clone: (flags: number) => void;
}

/** Where the two ends of the sandbox's terminal are kept, in each process that has them (terminal.ts). */
export interface PseudoTerminal {
  /** The socket pair over which the sandbox hands the descriptors to the launcher. */
  readonly receive: Place;
  readonly send: Place;
  readonly outer: Place;
  readonly inner: Place;
}

export const EPERM = -1;
export const ENOENT = -2;
export const EROFS = -30;
export const EOVERFLOW = -75;
const EAGAIN = -11;
export const EACCES = -13;
export const EEXIST = -17;
export const EINVAL = -22;
export const ENOTDIR = -20;

export function words32(...values: readonly number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}

/** A path below the root as openat2(2) takes it: relative. */
export const inRoot = (path: string): string => (path === "/" ? "." : path.startsWith("/") ? path.slice(1) : path);
export const components = (path: string): string[] => path.split("/").filter((name) => name !== "");

export function attributeBits(attributes: readonly MountAttribute[]): number {
  return attributes.reduce((bits, name) => bits | c.MOUNT_ATTR[name], 0);
}

/** Close a descriptor kept in a cell. */
export function close(l: Lowering, cell: Place): void {
  l.asm.call("close", [content(cell)], { onError: "ignore" });
}

/** A loop: records that are gone through for each of some strings, whose address is in the cell `each`. */
export function forEachString(
  asm: Assembler,
  strings: readonly string[],
  each: Place,
  body: (next: Label) => void,
): void {
  const entry = asm.cell(); // in a NULL-terminated array
  const [again, next, done] = [asm.label(), asm.label(), asm.label()];
  asm.set(entry, asm.strings(strings));
  asm.place(again);
  asm.call("load64", [content(entry), 0], { result: each, onZero: done });
  body(next);
  asm.place(next);
  asm.call("sub", [content(entry), -8], { result: entry, next: again });
  asm.place(done);
}

/** Write text to an existing file, seen from where the process is now. */
export function writeFile(l: Pick<Lowering, "asm">, directory: number | Content, path: string, text: string): void {
  const file = l.asm.cell();
  l.asm.call("openat", [directory, path, c.O_WRONLY | c.O_CLOEXEC], { result: file });
  writeText(l.asm, file, text);
}

export function writeText(asm: Assembler, file: Place, text: string): void {
  const bytes = encodeBytes(text);
  if (bytes.length > 0) asm.call("write", [content(file), bytes, bytes.length]);
  asm.call("close", [content(file)]);
}

/** Hold these capabilities and no others, and inherit none over an execve that is not root's. */
export function holdCapabilities(asm: Assembler, hold: readonly string[]): void {
  const [low, high] = capabilityWords(hold);
  const header = words32(0x20080522, 0); // _LINUX_CAPABILITY_VERSION_3, this process
  asm.call("capset", [header, words32(low, low, 0, high, high, 0)]); // effective, permitted, inheritable
}

/** Lines of uid_map or gid_map in columns, as the kernel prints them (user_namespaces(7)). */
export function formatMappings(mappings: readonly IdMapping[]): string {
  const column = (id: number) => String(id).padStart(10);
  return mappings
    .map(({ containerID, hostID, size }) => `${column(containerID)} ${column(hostID)} ${column(size)}\n`)
    .join("");
}

/** struct open_how (openat2(2)): a path inside the root, without magic links. */
export function how(asm: Assembler, flags: number, resolve: number): Place {
  return asm.words(flags | c.O_CLOEXEC, 0, c.RESOLVE_IN_ROOT | c.RESOLVE_NO_MAGICLINKS | resolve);
}

/**
 * openat2(2) of a path that may have `..` in it, by a link of the root's: the kernel says EAGAIN where any rename or mount
 * on the machine has come between, and it is tried again.
 */
export function openInside(
  asm: Assembler,
  args: readonly Argument[],
  { result, next, onError }: { readonly result: Place; readonly next?: Label; readonly onError?: Label },
): void {
  const [again, failed, done] = [asm.label(), asm.label(), asm.label()];
  const error = onError ?? asm.failure;
  asm.place(again);
  asm.call("openat2", args, { result, next: next ?? done, onError: failed });
  asm.place(failed);
  asm.ifEqual(content(result), EAGAIN, again);
  if (error !== undefined) asm.jump(error);
  asm.place(done);
}

/** Go to `done` when the error in `cell` is one of `errnos`, else fail with it. Written behind an error's label. */
export function forgive(l: Pick<Lowering, "asm">, cell: Place, errnos: readonly number[], done: Label): void {
  for (const errno of errnos) l.asm.ifEqual(content(cell), errno, done);
  if (l.asm.failure !== undefined) l.asm.jump(l.asm.failure);
}

/** Writes the records of one kind of step. */
export type Lower<Op extends Action["op"]> = (l: Lowering, step: Extract<Action, { op: Op }>) => void;
