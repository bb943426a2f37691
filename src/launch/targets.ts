/**
 * Paths inside the root, found by descriptor: openat2(2) inside the root and without magic links, once. What is missing
 * is made only in a tree of hutch's own and never across a mount.
 */

import * as c from "../libc/constants.ts";
import type { Base, Kind, Tree } from "../step.ts";
import { content, type Content } from "./assembler.ts";
import { close, components, how, inRoot, type Lowering, openInside } from "./lowering.ts";
import type { Place } from "./program.ts";

export interface Target {
  readonly path: string;
  readonly kind: Kind;
  readonly mode: number;
  readonly make: Base | undefined;
  readonly follow: boolean;
}

/** Find a path inside the root, making what is missing where that is allowed. The result is an O_PATH descriptor. */
export function locate(l: Lowering, target: Target): Place {
  const { asm } = l;
  const here = asm.cell();
  const found = asm.label();
  const walk = asm.label();
  const links = target.follow ? 0 : c.RESOLVE_NO_SYMLINKS;
  const lookup = { result: here, next: found, ...(target.make === undefined ? {} : { onError: walk }) };
  openInside(asm, [rootOf(l), inRoot(target.path), how(asm, c.O_PATH, links), 24], lookup);
  if (target.make !== undefined) {
    asm.place(walk);
    const base = treeOf(l, target.make.tree);
    const names = components(target.path.slice(target.make.at.length));
    let parent = base;
    names.forEach((name, index) => {
      const last = index === names.length - 1;
      const next = last ? here : asm.cell();
      const missing = asm.label();
      const there = asm.label();
      const prefix = names.slice(0, index + 1).join("/");
      const search = [content(base), prefix, how(asm, c.O_PATH, links | c.RESOLVE_NO_XDEV), 24];
      openInside(asm, search, { result: next, next: there, onError: missing });
      asm.place(missing);
      if (last && target.kind === "file") makeFile(l, parent, name, target.mode);
      else asm.call("mkdirat", [content(parent), name, last ? target.mode : 0o755]);
      openInside(asm, search, { result: next });
      asm.place(there);
      if (parent !== base) close(l, parent);
      parent = next;
    });
  }
  asm.place(found);
  return here;
}

/**
 * Make an empty file or directory right below a tree that has just been made, and attach a mount there: nobody else can
 * have put anything in the way.
 */
export function attachFresh(l: Lowering, tree: Place, base: Place, name: string, kind: Kind): void {
  if (kind === "file") makeFile(l, base, name, 0o644);
  else l.asm.call("mkdirat", [content(base), name, 0o755]);
  l.asm.call("move_mount", [content(tree), "", content(base), name, c.MOVE_MOUNT_F_EMPTY_PATH]);
}

/** Make an empty file that was not there. */
export function makeFile(l: Lowering, parent: Place, name: string, mode: number): void {
  const file = l.asm.cell();
  const flags = c.O_CREAT | c.O_EXCL | c.O_WRONLY | c.openFlags[l.arch].O_NOFOLLOW | c.O_CLOEXEC;
  l.asm.call("openat", [content(parent), name, flags, mode], { result: file });
  close(l, file);
}

/** The directory above a path, made when missing, and the path's last name. */
export function locateParent(
  l: Lowering,
  path: string,
  make: Base,
): { parent: Place; name: string; temporary: boolean } {
  const names = components(path);
  const name = names.pop() ?? "";
  const above = `/${names.join("/")}`;
  if (above === make.at || above.length < make.at.length) {
    return { parent: treeOf(l, make.tree), name, temporary: false };
  }
  const parent = locate(l, { path: above, kind: "directory", mode: 0o755, make, follow: true });
  return { parent, name, temporary: true };
}

export function rootOf(l: Lowering): Content {
  if (l.root === undefined) throw new Error("a plan uses the root before attach-root");
  return content(l.root);
}

export function treeOf(l: Lowering, tree: Tree): Place {
  const cell = l.trees.get(tree);
  if (cell === undefined) throw new Error(`a plan uses the tree ${tree} before it is opened`);
  return cell;
}

export function newTree(l: Lowering, tree: Tree): Place {
  const cell = l.asm.cell();
  l.trees.set(tree, cell);
  return cell;
}
