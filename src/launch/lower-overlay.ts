/** The overlay of a root as records: its layers one by one or all in one option, its writes in memory or on disk. */

import * as c from "../libc/constants.ts";
import type { Action } from "../step.ts";
import { type Flow, type Label, at, content } from "./assembler.ts";
import { close, type Lower, type Lowering } from "./lowering.ts";
import { FAILURE, type Place } from "./program.ts";
import { newTree, treeOf } from "./targets.ts";

type Overlay = Extract<Action, { op: "overlay" }>;

/**
 * How long a layer that is kept is waited for, in pauses of 20 ms: whoever had it may have been killed, and its file
 * system goes, after having been written out, only with the last of its processes.
 */
const PAUSES = 500;
const PAUSE_NS = 20_000_000;
const EBUSY = -16;

/**
 * Make the overlay of a layer that is kept, again and again as long as another is mounted on it: with index=on the kernel
 * refuses that (EBUSY; kernel Documentation/filesystems/overlayfs.rst, "Sharing and copying layers"). The option has no
 * other effect in a user namespace, where no file handle may be decoded (kernel commit c846af050f94, Linux 5.11).
 */
function awaitLayer(l: Lowering, make: (flow: Flow) => void): void {
  const { asm } = l;
  const [left, pause] = [asm.cell(), asm.cell(16)];
  const [again, refused, done] = [asm.label(), asm.label(), asm.label()];
  const failure = asm.failure as Label;
  asm.set(left, PAUSES);
  asm.place(again);
  make({ next: done, onError: refused });
  asm.place(refused);
  asm.ifDifferent(content(at(FAILURE, 8)), EBUSY, failure);
  asm.call("sub", [content(left), 1], { result: left, onZero: failure });
  asm.set(at(pause, 8), PAUSE_NS); // struct timespec, in which ppoll(2) leaves what is left of it
  asm.call("ppoll", [0, 0, pause, 0, 8], { onError: "ignore" });
  asm.jump(again);
  asm.place(done);
}

/** `place` is the directory of upper and work. */
function stackOverlay(l: Lowering, step: Overlay, place: string): void {
  const context = l.asm.cell();
  if (step.kept === true) {
    // What has failed once can only be closed (fsconfig(2)); the first time there is nothing to close.
    l.asm.set(context, -1);
    awaitLayer(l, (flow) => {
      close(l, context);
      configureOverlay(l, step, place, context, flow);
    });
  } else configureOverlay(l, step, place, context);
  const attributes = c.MOUNT_ATTR.nosuid | c.MOUNT_ATTR.nodev;
  l.asm.call("fsmount", [content(context), c.FSMOUNT_CLOEXEC, attributes], { result: newTree(l, step.tree) });
  close(l, context);
}

function configureOverlay(l: Lowering, step: Overlay, place: string, context: Place, flow: Flow = {}): void {
  const { asm } = l;
  asm.call("fsopen", ["overlay", c.FSOPEN_CLOEXEC], { result: context });
  const option = (key: string, value: string) =>
    asm.call("fsconfig", [content(context), c.FSCONFIG_SET_STRING, key, value, 0]);
  const single = step.lower.length === 1;
  for (const lower of step.lower.toReversed()) {
    asm.call("fchdir", [content(treeOf(l, lower))]); // "." needs no quoting and no second look-up by name
    option(single ? "lowerdir" : "lowerdir+", ".");
  }
  option("upperdir", `${place}/upper`);
  option("workdir", `${place}/work`);
  asm.call("fsconfig", [content(context), c.FSCONFIG_SET_FLAG, "userxattr", 0, 0]);
  if (step.kept === true) option("index", "on");
  else asm.call("fsconfig", [content(context), c.FSCONFIG_SET_FLAG, "volatile", 0, 0]);
  asm.call("fsconfig", [content(context), c.FSCONFIG_CMD_CREATE, 0, 0, 0], flow);
}

/**
 * Before Linux 6.7 all layers are one option. fsconfig(2) takes 255 bytes of it, mount(2) a page, and that is enough for
 * the 500 layers that an overlay may have when each is bound under a number, which needs no quoting either.
 */
function classicOverlay(l: Lowering, step: Overlay, place: string): void {
  const { asm } = l;
  const [layers, target] = [`${step.workspace}/layers`, `${step.workspace}/overlay`];
  const layer = asm.cell();
  for (const directory of [layers, target]) asm.call("mkdirat", [c.AT_FDCWD, directory, 0o755]);
  asm.call("chdir", [layers]);
  step.lower.forEach((lower, index) => {
    const flags = c.OPEN_TREE_CLONE | c.O_CLOEXEC | c.AT_EMPTY_PATH;
    asm.call("open_tree", [content(treeOf(l, lower)), "", flags], { result: layer });
    asm.call("mkdirat", [c.AT_FDCWD, `${index}`, 0o755]);
    asm.call("move_mount", [content(layer), "", c.AT_FDCWD, `${index}`, c.MOVE_MOUNT_F_EMPTY_PATH]);
    close(l, layer);
  });
  const top = step.lower.map((_, index) => index).toReversed();
  const last = step.kept === true ? "index=on" : "volatile";
  const options = `lowerdir=${top.join(":")},upperdir=${place}/upper,workdir=${place}/work,userxattr,${last}`;
  const mount = (flow?: Flow) =>
    asm.call("mount", ["overlay", target, "overlay", c.MS_NOSUID | c.MS_NODEV, options], flow);
  if (step.kept === true) awaitLayer(l, mount);
  else mount();
  const flags = c.O_PATH | c.O_CLOEXEC | c.openFlags[l.arch].O_DIRECTORY;
  asm.call("openat", [c.AT_FDCWD, target, flags], { result: newTree(l, step.tree) });
}

/** The root of an overlay has its upper directory's mode: make it the top layer's (stx_mode is at offset 28). */
function takeMode({ asm }: Lowering, top: Place, place: Place): void {
  const [status, mode] = [asm.cell(256), asm.cell()];
  asm.call("statx", [content(top), "", c.AT_EMPTY_PATH, 2, status]);
  asm.call("load64", [status, 28], { result: mode });
  asm.call("and", [content(mode), 0o7777], { result: mode });
  asm.call("fchmodat", [content(place), "upper", content(mode)]);
}

/** The overlay, in the workspace. */
export const lowerOverlay: Lower<"overlay"> = (l, step) => {
  const { asm } = l;
  const disk = step.disk === undefined ? undefined : treeOf(l, step.disk);
  if (step.kept !== true) takeMode(l, treeOf(l, step.lower.at(-1) ?? ""), disk ?? treeOf(l, "workspace"));
  let place = step.workspace;
  if (disk !== undefined) {
    place = `${step.workspace}/disk`; // its own path may have any character
    asm.call("mkdirat", [c.AT_FDCWD, place, 0o755]);
    asm.call("move_mount", [content(disk), "", c.AT_FDCWD, place, c.MOVE_MOUNT_F_EMPTY_PATH]);
  }
  if (step.classic === true) classicOverlay(l, step, place);
  else stackOverlay(l, step, place);
  for (const lower of step.lower) close(l, treeOf(l, lower));
};
