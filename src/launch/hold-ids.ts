/**
 * Id maps of more than the caller's own id. They are written from outside, into the user namespace of a holder.
 *
 * - Started by root, the holder lives in the launcher's memory, descriptors and mount namespace, and makes the sandbox in
 *   the end, as a child of the launcher's (CLONE_PARENT). The launcher stays in the initial user namespace: mounts that it
 *   makes before belong to that, so that their read-only flag is locked for the sandbox.
 * - With newuidmap(1) it is ended as soon as the launcher has opened its namespace, which the launcher enters later.
 */

import * as c from "../libc/constants.ts";
import type { Action } from "../step.ts";
import { type Assembler, at, content, type Label } from "./assembler.ts";
import { HELD_IDS } from "./lower-mounts.ts";
import { formatMappings, holdCapabilities, type Lowering, writeFile } from "./lowering.ts";
import { dieWithParent, field, makePipe, newPipe, openNamed, openProcess, SIGINFO, tellName } from "./processes.ts";
import { FAILURE, type Place } from "./program.ts";
import { newTree, treeOf } from "./targets.ts";

type HoldIds = Extract<Action, { op: "hold-ids" }>;

/** What the launcher and the holder that makes the sandbox share. */
export interface Holder {
  readonly pid: Place;
  /** The launcher's pid. */
  readonly launcher: Place;
  /** Its name below /proc (16 bytes), and whether that is there: {@link AWAITED}, {@link NAMED}, or 0: it has ended. */
  readonly name: Place;
  readonly named: Place;
  /** What it has failed at (16 bytes, as in {@link FAILURE}, which both processes write). */
  readonly failed: Place;
  /** Non-zero: make the sandbox. */
  readonly go: Place;
  /** Where it starts. */
  readonly inside: Label;
}

// When the holder ends, however it does, the kernel writes 0 and wakes who waits (CLONE_CHILD_CLEARTID).
const AWAITED = 1;
const NAMED = 2;

/** Make the holder that makes the sandbox. Its own records are written by {@link cloneThroughHolder}. */
export function makeHolder({ asm, started }: Lowering): Holder {
  const holder: Holder = {
    pid: asm.cell(),
    launcher: asm.cell(),
    name: asm.cell(16),
    named: asm.cell(),
    failed: asm.cell(16),
    go: asm.cell(),
    inside: asm.label(),
  };
  // The interpreter needs no stack. It is the kernel that writes the pid: both processes write the call's result.
  const shared = c.CLONE_VM | c.CLONE_FILES | c.CLONE_PARENT_SETTID | c.CLONE_CHILD_CLEARTID;
  const { pid, named } = holder;
  started.push(pid);
  asm.set(named, AWAITED);
  asm.call("getpid", [], { result: holder.launcher });
  // Of the last two one is the place to clear and one is not looked at, which of them is the architecture's affair.
  const args = [c.CLONE_FLAGS.user | shared | c.SIGNALS.SIGCHLD, 0, pid, named, named];
  asm.call("clone", args, { onZero: holder.inside });
  return holder;
}

/** Write its id maps, and open its namespace for mounts that show owners translated. */
export function mapHolder(l: Lowering, holder: Holder, { uidMappings, gidMappings }: HoldIds): void {
  const { asm, arch } = l;
  const { name, named } = holder;
  const [directory, wait, known, there] = [asm.cell(), asm.label(), asm.label(), asm.label()];
  asm.place(wait);
  asm.ifDifferent(content(named), AWAITED, known);
  asm.call("futex", [named, c.FUTEX_WAIT, AWAITED, 0, 0, 0], { onError: "ignore" }); // EAGAIN: it has just come
  asm.jump(wait);
  asm.place(known);
  asm.ifEqual(content(named), NAMED, there);
  failAsHolder(asm, holder);
  asm.place(there);
  openNamed(asm, arch, name, directory);
  writeFile(l, content(directory), "uid_map", formatMappings(uidMappings));
  writeFile(l, content(directory), "gid_map", formatMappings(gidMappings));
  asm.call("openat", [content(directory), "ns/user", c.O_RDONLY | c.O_CLOEXEC], { result: newTree(l, HELD_IDS) });
  asm.call("close", [content(directory)]);
}

/** The holder has ended early: what it failed at is the launcher's failure. */
function failAsHolder(asm: Assembler, { failed }: Holder): void {
  const killed = asm.label();
  asm.ifEqual(content(failed), 0, killed);
  for (const offset of [0, 8]) asm.set(at(FAILURE, offset), content(at(failed, offset)));
  if (asm.failure !== undefined) asm.jump(asm.failure);
  asm.place(killed);
  asm.call("close", [-1]); // always EBADF: the record that says so
}

/**
 * Have the holder clone the sandbox, with `flags` and as `child` of the launcher's, and end. In the sandbox it goes on at
 * `sandbox`; what the holder failed at is the launcher's failure.
 */
export function cloneThroughHolder(asm: Assembler, holder: Holder, flags: number, child: Place, sandbox: Label): void {
  const { pid, launcher, name, named, failed, go, inside } = holder;
  const [ended, cloned, none] = [asm.label(), asm.label(), asm.label()];
  const [wait, failing, leave] = [asm.label(), asm.label(), asm.label()];
  const { failure } = asm;
  asm.set(go, 1);
  asm.call("futex", [go, c.FUTEX_WAKE, 1, 0, 0, 0]);
  asm.call("waitid", [c.P_PID, content(pid), 0, c.WEXITED, 0], { next: ended });

  // The holder. It must not outlive a launcher that is killed meanwhile.
  asm.place(inside);
  asm.failure = failing;
  dieWithParent(asm, content(launcher), leave);
  asm.call("readlinkat", [c.AT_FDCWD, "/proc/self", name, 16]);
  // It has a full barrier, and that is all it is for: on aarch64 the name might be seen after the word that says it is there.
  asm.call("futex", [go, c.FUTEX_WAKE, 1, 0, 0, 0], { onError: "ignore" });
  asm.set(named, NAMED);
  asm.call("futex", [named, c.FUTEX_WAKE, 1, 0, 0, 0]);
  asm.place(wait);
  asm.call("futex", [go, c.FUTEX_WAIT, 0, 0, 0, 0], { onError: "ignore" }); // EAGAIN: it has been said already
  asm.ifEqual(content(go), 0, wait);
  const made = [flags | c.CLONE_PARENT | c.SIGNALS.SIGCHLD, 0, 0, 0, 0];
  asm.call("clone", made, { result: child, onZero: sandbox, next: leave });
  asm.place(failing);
  for (const offset of [0, 8]) asm.set(at(failed, offset), content(at(FAILURE, offset)));
  asm.place(leave);
  asm.call("exit_group", [0], { onError: "ignore" });
  asm.failure = failure;

  asm.place(ended);
  asm.ifEqual(content(child), 0, none);
  asm.ifEqual(content(failed), 0, cloned); // else `child` is -errno
  asm.place(none);
  failAsHolder(asm, holder);
  asm.place(cloned);
}

/**
 * Back into the mount namespace of before, now that the sandbox has its copy: the one that is left ends while the sandbox
 * works, and not when the launcher does. The root directory is that namespace's again; it was before, for no process in a
 * chroot(2) may make a user namespace. Only signals need a privilege from here on.
 */
export function goHome(asm: Assembler, home: Place): void {
  asm.call("setns", [content(home), c.CLONE_FLAGS.mount]);
  asm.call("close", [content(home)]);
  holdCapabilities(asm, ["CAP_KILL"]);
}

/** Make a holder, have newuidmap(1) map its ids, open its namespace, end it. */
export function holdIds(l: Lowering, step: HoldIds): void {
  const { asm, arch } = l;
  const pipe = newPipe(asm);
  const [holder, directory, name] = [asm.cell(), asm.cell(), asm.cell(16)];
  const [inside, leave, gone] = [asm.label(), asm.label(), asm.label()];
  const failed = asm.failure;
  l.started.push(holder);
  makePipe(asm, pipe);
  asm.call("clone", [c.CLONE_FLAGS.user | c.SIGNALS.SIGCHLD, 0, 0, 0, 0], { result: holder, onZero: inside });
  asm.call("close", [content(pipe.write)]);
  openProcess(asm, arch, pipe.read, name, directory);
  runMapper(asm, step.mappers?.uid ?? "newuidmap", name, step.uidMappings);
  runMapper(asm, step.mappers?.gid ?? "newgidmap", name, step.gidMappings);
  asm.call("openat", [content(directory), "ns/user", c.O_RDONLY | c.O_CLOEXEC], { result: newTree(l, HELD_IDS) });
  asm.call("close", [content(directory)]);
  asm.call("kill", [content(holder), c.SIGNALS.SIGKILL]);
  asm.call("waitid", [c.P_PID, content(holder), 0, c.WEXITED, 0], { next: gone });

  // The holder: says its name and sleeps. It must not outlive a launcher that is killed meanwhile: one that died before
  // the signal was asked for has closed the pipe, and then the name cannot be written (EPIPE; SIGPIPE is blocked).
  asm.place(inside);
  asm.failure = leave;
  asm.call("prctl", [c.PR_SET_PDEATHSIG, c.SIGNALS.SIGKILL], { onError: "ignore" });
  asm.call("close", [content(pipe.read)]);
  tellName(asm, pipe.write);
  asm.call("ppoll", [0, 0, asm.words(10, 0), 0, 8], { onError: "ignore" });
  asm.place(leave);
  asm.call("exit_group", [0], { onError: "ignore" });
  asm.failure = failed;
  asm.place(gone);
}

/** newuidmap(1) or newgidmap(1): PID, then triples. They write their own message when they refuse. */
function runMapper(asm: Assembler, path: string, name: Place, mappings: HoldIds["uidMappings"]): void {
  const [mapper, info, status] = [asm.cell(), asm.cell(SIGINFO.size), asm.cell()];
  const [inside, agreed] = [asm.label(), asm.label()];
  const triples = mappings.flatMap(({ containerID, hostID, size }) => [`${containerID}`, `${hostID}`, `${size}`]);
  const argv = asm.strings([path, name, ...triples]);
  asm.call("clone", [c.SIGNALS.SIGCHLD, 0, 0, 0, 0], { result: mapper, onZero: inside });
  asm.call("waitid", [c.P_PID, content(mapper), info, c.WEXITED, 0]);
  field(asm, info, SIGINFO.status, status);
  asm.ifEqual(content(status), 0, agreed);
  asm.call("close", [-1]); // always EBADF: the record that says "refused" (failure.ts)
  asm.place(inside);
  asm.call("execve", [path, argv, asm.strings([])], { onError: "ignore" });
  asm.call("exit_group", [127], { onError: "ignore" });
  asm.place(agreed);
}

/** Enter the namespace: from here on all that the launcher makes belongs to it. */
export function enterIds(l: Lowering): void {
  l.asm.call("setns", [content(treeOf(l, HELD_IDS)), c.CLONE_FLAGS.user]);
  l.asm.call("close", [content(treeOf(l, HELD_IDS))]);
}
