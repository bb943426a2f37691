/**
 * Id maps of more than the caller's own id. They are written from outside, into a user namespace that a short-lived
 * holder keeps alive until the launcher has opened it. The launcher enters it later: mounts that it makes before belong
 * to the initial user namespace, so that their read-only flag is locked for the sandbox.
 */

import * as c from "../libc/constants.ts";
import type { Action } from "../step.ts";
import { type Assembler, content } from "./assembler.ts";
import { HELD_IDS } from "./lower-mounts.ts";
import { formatMappings, type Lowering, writeFile } from "./lowering.ts";
import { field, makePipe, openProcess, SIGINFO, tellName } from "./processes.ts";
import type { Place } from "./program.ts";
import { newTree, treeOf } from "./targets.ts";

type HoldIds = Extract<Action, { op: "hold-ids" }>;

/** Make the holder, map its ids, open its namespace, end it. */
export function holdIds(l: Lowering, step: HoldIds): void {
  const { asm, arch } = l;
  const pipe = { read: asm.cell(), write: asm.cell() };
  const [holder, directory, name] = [asm.cell(), asm.cell(), asm.cell(16)];
  const [inside, leave, gone] = [asm.label(), asm.label(), asm.label()];
  const failed = asm.failure;
  makePipe(asm, pipe.read, pipe.write);
  asm.call("clone", [c.CLONE_FLAGS.user | c.SIGNALS.SIGCHLD, 0, 0, 0, 0], { result: holder, onZero: inside });
  asm.call("close", [content(pipe.write)]);
  openProcess(asm, arch, pipe.read, name, directory);
  if (step.through === "launcher") {
    writeFile(l, content(directory), "uid_map", formatMappings(step.uidMappings));
    writeFile(l, content(directory), "gid_map", formatMappings(step.gidMappings));
  } else {
    runMapper(asm, step.mappers?.uid ?? "newuidmap", name, step.uidMappings);
    runMapper(asm, step.mappers?.gid ?? "newgidmap", name, step.gidMappings);
  }
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
