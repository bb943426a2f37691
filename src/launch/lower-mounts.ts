/**
 * Steps that mount, attach, make and hide, as records. Mounts are handled by descriptor (open_tree(2), fsopen(2),
 * move_mount(2)) until they are in place.
 */

import * as c from "../libc/constants.ts";
import { type Flow, at, content } from "./assembler.ts";
import {
  attributeBits,
  close,
  EACCES,
  EEXIST,
  ENOENT,
  ENOTDIR,
  EOVERFLOW,
  EPERM,
  EROFS,
  forEachString,
  forgive,
  how,
  inRoot,
  openInside,
  type Lower,
  type Lowering,
  writeText,
} from "./lowering.ts";
import { lowerOverlay } from "./lower-overlay.ts";
import { demandDevice } from "./lower-security.ts";
import { FAILURE, type Place } from "./program.ts";
import { attachFresh, locate, locateParent, makeFile, newTree, rootOf, treeOf } from "./targets.ts";

/** The tree name under which the namespace of `hold-ids` is kept. */
export const HELD_IDS = "held-ids";
const HOST_NULL = "host-null";

/** A new, detached instance of a file system (fsopen(2), fsconfig(2), fsmount(2)). */
function newFilesystem(
  l: Lowering,
  type: string,
  options: readonly (readonly [string, string])[],
  attributes: number,
  into: Place,
): void {
  const { asm } = l;
  const context = asm.cell();
  asm.call("fsopen", [type, c.FSOPEN_CLOEXEC], { result: context });
  for (const [key, value] of options) {
    if (value === "") asm.call("fsconfig", [content(context), c.FSCONFIG_SET_FLAG, key, 0, 0]);
    else asm.call("fsconfig", [content(context), c.FSCONFIG_SET_STRING, key, value, 0]);
  }
  asm.call("fsconfig", [content(context), c.FSCONFIG_CMD_CREATE, 0, 0, 0]);
  asm.call("fsmount", [content(context), c.FSMOUNT_CLOEXEC, attributes], { result: into });
  close(l, context);
}

/** Attach a detached mount at a descriptor. */
function moveMount(l: Lowering, tree: Place, target: Place, flow: Flow = {}): void {
  const flags = c.MOVE_MOUNT_F_EMPTY_PATH | c.MOVE_MOUNT_T_EMPTY_PATH;
  l.asm.call("move_mount", [content(tree), "", content(target), "", flags], flow);
}

/** Set attributes on a detached mount and, with `recursive`, on all below it (mount_setattr(2)). */
function setAttributes(l: Lowering, tree: Place, bits: number, recursive: boolean): void {
  const clear = bits & c.MOUNT_ATTR.noatime ? c.MOUNT_ATTR__ATIME : 0;
  const flags = c.AT_EMPTY_PATH | (recursive ? c.AT_RECURSIVE : 0);
  l.asm.call("mount_setattr", [content(tree), "", flags, l.asm.words(bits, clear, 0, 0), 32]);
}

/** Do something whose failure with one of these errors means that it is left out. */
function forgiving(l: Lowering, errnos: readonly number[], action: () => void): void {
  const { asm } = l;
  const [failed, done] = [asm.label(), asm.label()];
  const outer = asm.failure;
  asm.failure = failed;
  action();
  asm.failure = outer;
  asm.jump(done);
  asm.place(failed);
  forgive(l, at(FAILURE, 8), errnos, done);
  asm.place(done);
}

/**
 * A loop: do something about each of some paths of the root that is there; this kernel may not have all. No link on the
 * way is followed.
 */
function eachThere(l: Lowering, paths: readonly string[], action: (here: Place) => void): void {
  const { asm } = l;
  const [here, path] = [asm.cell(), asm.cell()];
  const [absent, there] = [asm.label(), asm.label()];
  forEachString(asm, paths.map(inRoot), path, (next) => {
    const find = [rootOf(l), content(path), how(asm, c.O_PATH, c.RESOLVE_NO_SYMLINKS), 24];
    openInside(asm, find, { result: here, onError: absent, next: there });
    asm.place(absent);
    forgive(l, here, [ENOENT, ENOTDIR], next); // a /sys that is a file has nothing below it
    asm.place(there);
    action(here);
    close(l, here);
  });
}

type MountOp =
  | "leave-mounts"
  | "private-mounts"
  | "open-tree"
  | "open-inside"
  | "open-directory"
  | "stage"
  | "new-filesystem"
  | "workspace"
  | "overlay"
  | "attach-root"
  | "attach"
  | "directory"
  | "file"
  | "symlink"
  | "open-null"
  | "mask"
  | "read-only"
  | "seal-root"
  | "write"
  | "pivot";

/** One entry for each kind of step that is about mounts. */
export const LOWER_MOUNTS: { readonly [Op in MountOp]: Lower<Op> } = {
  "leave-mounts": (l) => {
    const { asm } = l;
    l.home = asm.cell();
    asm.call("openat", [c.AT_FDCWD, "/proc/self/ns/mnt", c.O_RDONLY | c.O_CLOEXEC], { result: l.home });
    asm.call("unshare", [c.CLONE_FLAGS.mount]);
    asm.call("mount", [0, "/", 0, c.MS_REC | c.MS_PRIVATE, 0]);
  },

  "private-mounts": ({ asm }) => asm.call("mount", [0, "/", 0, c.MS_REC | c.MS_PRIVATE, 0]),

  "open-tree": (l, step) => {
    const tree = newTree(l, step.tree);
    const flags = c.OPEN_TREE_CLONE | c.O_CLOEXEC | (step.recursive ? c.AT_RECURSIVE : 0);
    l.asm.call("open_tree", [c.AT_FDCWD, step.source, flags], { result: tree });
    if (step.device !== undefined) demandDevice(l, tree, step.device);
    if (step.idmapped) {
      // Only the top mount: what is mounted below may be of a kind that cannot be idmapped (proc, sysfs, …).
      l.mapIds();
      const users = treeOf(l, HELD_IDS);
      const attributes = l.asm.cell(32);
      l.asm.set(attributes, c.MOUNT_ATTR.idmap);
      l.asm.set(at(attributes, 24), content(users));
      l.asm.call("mount_setattr", [content(tree), "", c.AT_EMPTY_PATH, attributes, 32]);
    }
    const bits = attributeBits(step.attributes);
    if (bits !== 0) setAttributes(l, tree, bits, step.recursive);
  },

  "open-inside": (l, { tree, path }) => {
    const here = l.asm.cell();
    const find = [rootOf(l), inRoot(path), how(l.asm, c.O_PATH, c.RESOLVE_NO_SYMLINKS), 24];
    openInside(l.asm, find, { result: here });
    const flags = c.OPEN_TREE_CLONE | c.O_CLOEXEC | c.AT_EMPTY_PATH;
    l.asm.call("open_tree", [content(here), "", flags], { result: newTree(l, tree) });
    close(l, here);
  },

  "open-directory": (l, step) => {
    const flags = c.O_PATH | c.O_CLOEXEC | c.openFlags[l.arch].O_DIRECTORY;
    l.asm.call("openat", [c.AT_FDCWD, step.source, flags], { result: newTree(l, step.tree) });
  },

  stage: (l, step) => {
    const stage = l.asm.cell();
    newFilesystem(l, "tmpfs", [["mode", "755"]], c.MOUNT_ATTR.nosuid, stage);
    l.asm.call("move_mount", [content(stage), "", c.AT_FDCWD, step.directory, c.MOVE_MOUNT_F_EMPTY_PATH]);
    for (const { tree, kind } of step.trees) {
      if (kind === "directory") l.asm.call("mkdirat", [content(stage), tree, 0o755]);
      else makeFile(l, stage, tree, 0o644);
      const cell = treeOf(l, tree);
      l.asm.call("move_mount", [content(cell), "", content(stage), tree, c.MOVE_MOUNT_F_EMPTY_PATH]);
      close(l, cell);
    }
    close(l, stage);
  },

  "new-filesystem": (l, step) => {
    newFilesystem(l, step.type, step.options, attributeBits(step.attributes), newTree(l, step.tree));
  },

  workspace: (l, step) => {
    const workspace = newTree(l, "workspace");
    newFilesystem(l, "tmpfs", [["mode", "755"]], c.MOUNT_ATTR.nosuid | c.MOUNT_ATTR.nodev, workspace);
    l.asm.call("move_mount", [content(workspace), "", c.AT_FDCWD, step.directory, c.MOVE_MOUNT_F_EMPTY_PATH]);
    for (const name of ["upper", "work", "root"]) l.asm.call("mkdirat", [content(workspace), name, 0o755]);
  },

  overlay: lowerOverlay,

  "attach-root": (l, step) => {
    const root = treeOf(l, step.tree);
    l.asm.call("move_mount", [content(root), "", c.AT_FDCWD, step.directory, c.MOVE_MOUNT_F_EMPTY_PATH]);
    l.root = root;
  },

  attach: (l, { tree, target, kind, make, follow, fresh, optional }) => {
    if (fresh === true && make !== undefined) {
      attachFresh(l, treeOf(l, tree), treeOf(l, make.tree), target.slice(make.at.length + 1), kind);
      return;
    }
    const mode = kind === "directory" ? 0o755 : 0o644;
    const attach = () => {
      const here = locate(l, { path: target, kind, mode, make, follow });
      moveMount(l, treeOf(l, tree), here);
      close(l, here);
    };
    if (optional === true) forgiving(l, [EACCES, EPERM, EROFS, EOVERFLOW], attach);
    else attach();
  },

  directory: (l, { path, mode, make }) => {
    close(l, locate(l, { path, kind: "directory", mode, make, follow: true }));
  },

  file: (l, { path, mode, content: text, make }) => {
    const { parent, name, temporary } = locateParent(l, path, make);
    const file = l.asm.cell();
    const flags = c.O_CREAT | c.O_EXCL | c.O_WRONLY | c.openFlags[l.arch].O_NOFOLLOW | c.O_CLOEXEC;
    l.asm.call("unlinkat", [content(parent), name, 0], { onError: "ignore" });
    l.asm.call("openat", [content(parent), name, flags, mode], { result: file });
    writeText(l.asm, file, text);
    if (temporary) close(l, parent);
  },

  symlink: (l, { path, to, make }) => {
    const { parent, name, temporary } = locateParent(l, path, make);
    const result = l.asm.cell();
    const done = l.asm.label();
    const failed = l.asm.label();
    l.asm.call("symlinkat", [to, content(parent), name], { result, next: done, onError: failed });
    l.asm.place(failed);
    forgive(l, result, [EEXIST], done); // what is there stays
    l.asm.place(done);
    if (temporary) close(l, parent);
  },

  // The host's: this is before pivot_root, so nothing of the root can stand in for it.
  "open-null": (l) => {
    const file = newTree(l, HOST_NULL);
    l.asm.call("openat", [c.AT_FDCWD, "/dev/null", c.O_PATH | c.O_CLOEXEC], { result: file });
    demandDevice(l, file, [1, 3]);
  },

  mask: (l, { paths }) => {
    const { asm } = l;
    const [cover, status, type] = [asm.cell(), asm.cell(256), asm.cell()];
    const [directory, covered] = [asm.label(), asm.label()];
    eachThere(l, paths, (here) => {
      asm.call("statx", [content(here), "", c.AT_EMPTY_PATH, 1, status]); // STATX_TYPE
      asm.call("load64", [status, 28], { result: type }); // stx_mode
      asm.call("and", [content(type), c.S_IFMT], { result: type });
      asm.ifEqual(content(type), c.S_IFDIR, directory);
      const flags = c.OPEN_TREE_CLONE | c.O_CLOEXEC | c.AT_EMPTY_PATH;
      asm.call("open_tree", [content(treeOf(l, HOST_NULL)), "", flags], { result: cover, next: covered });
      asm.place(directory);
      const options = [
        ["mode", "755"],
        ["nr_inodes", "2"],
      ] as const;
      newFilesystem(l, "tmpfs", options, attributeBits(["ro", "nosuid", "nodev", "noexec"]), cover);
      asm.place(covered);
      moveMount(l, cover, here);
    });
  },

  "read-only": (l, { paths }) => {
    const cover = l.asm.cell();
    eachThere(l, paths, (here) => {
      const flags = c.OPEN_TREE_CLONE | c.O_CLOEXEC | c.AT_EMPTY_PATH | c.AT_RECURSIVE;
      l.asm.call("open_tree", [content(here), "", flags], { result: cover });
      setAttributes(l, cover, attributeBits(["ro", "nosuid", "nodev", "noexec"]), true);
      moveMount(l, cover, here);
    });
  },

  "seal-root": (l) => {
    if (l.root !== undefined) setAttributes(l, l.root, c.MOUNT_ATTR.ro, false);
  },

  write: (l, { tree, path, text }) => {
    const file = l.asm.cell();
    const flags = how(l.asm, c.O_WRONLY, c.RESOLVE_NO_SYMLINKS | c.RESOLVE_NO_XDEV);
    l.asm.call("openat2", [content(treeOf(l, tree)), path, flags, 24], { result: file });
    writeText(l.asm, file, text);
  },

  pivot: (l) => {
    l.asm.call("fchdir", [rootOf(l)]);
    l.asm.call("pivot_root", [".", "."]);
    l.asm.call("umount2", [".", c.MNT_DETACH]); // the old root, now on top at "." (pivot_root(2), NOTES)
    l.asm.call("chdir", ["/"]);
  },
};
