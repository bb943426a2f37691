/** Finding the processes of a named sandbox again, never by a bare pid, and the plan by which another one joins it. */

import { HutchError } from "../errors.ts";
import { NAMESPACE_LINKS } from "../launch/account.ts";
import { ARCH, call, rawCall, systemError } from "../libc/call.ts";
import * as c from "../libc/constants.ts";
import { closeDescriptor, isErrno, isOnProc, readText } from "../libc/files.ts";
import { execCandidates } from "../process/process.ts";
import type { NamespaceName } from "../spec.ts";
import type { Plan, Step } from "../step.ts";
import type { RunningEntry } from "./entry.ts";

/** State, parent and start time of a process (proc_pid_stat(5), fields 3, 4 and 22), or undefined. */
function processStatus(pid: number): { readonly parent: number; readonly startTime: string } | undefined {
  const text = readText(`/proc/${pid}/stat`);
  if (text === undefined) return undefined;
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return { parent: Number(fields[1]), startTime: fields[19] ?? "" };
}

/** When this process started; execve does not change it. */
export function ownStartTime(): string {
  return processStatus(rawCall("getpid"))?.startTime ?? "";
}

/** The program's /proc entries cannot be opened: it has ended, or else. */
const lost = (name: string, result: number) =>
  ["ENOENT", "ESRCH", "EACCES"].some((error) => isErrno(result, error))
    ? gone(name)
    : systemError(`look at the program of ${name}`, -result);

const gone = (name: string) => new HutchError(`the sandbox ${name} has ended`);

/** A descriptor of the launcher (pidfd_open(2)), which is the process that the entry speaks of. @throws HutchError */
export function openLauncher({ name, pid, startTime }: RunningEntry): number {
  const fd = rawCall("pidfd_open", pid, 0);
  // Asked after the opening: as long as the start time is the same, so is the process, and the descriptor is its own.
  if (fd >= 0 && processStatus(pid)?.startTime === startTime) return fd;
  if (fd >= 0) closeDescriptor(fd);
  else if (!isErrno(fd, "ESRCH")) throw systemError(`pidfd_open of the sandbox ${name}`, -fd);
  throw gone(name);
}

/** Namespaces to be entered, by descriptors that stay open over execve. */
export interface Joined {
  readonly name: NamespaceName;
  readonly fd: number;
}

/**
 * The sandbox's namespaces, opened through its program and compared with what the launcher noted at the start.
 * @throws HutchError when the program has left them, has another /proc, or has ended
 */
export function openNamespaces(entry: RunningEntry): readonly Joined[] {
  const { name, child, init } = entry;
  if (child === 0) throw new HutchError(`the sandbox ${name} has not started its program yet`);
  if (!isBelow(child, entry.pid)) throw gone(name);
  const program = init ? firstChild(child) : child;
  if (program === undefined) throw gone(name);
  const directory = rawCall("openat", c.AT_FDCWD, `/proc/${program}`, c.O_PATH | c.O_CLOEXEC);
  if (directory < 0) throw lost(name, directory);
  const joined: Joined[] = [];
  for (const [namespace, link] of NAMESPACE_LINKS) {
    const path = link === "time_for_children" ? "ns/time" : `ns/${link}`;
    const fd = rawCall("openat", directory, path, c.O_RDONLY);
    if (fd < 0) {
      if (processStatus(program) === undefined) throw gone(name);
      throw systemError(`open the ${namespace} namespace of ${name}`, -fd, {
        hint: "the program may not be looked into: it has changed its user, or made itself not dumpable",
      });
    }
    const inode = inodeOf(fd);
    if (inode !== entry.namespaces[namespace]) {
      throw new HutchError(`the program of ${name} has left the sandbox's ${namespace} namespace`, {
        hint: "a program that is somewhere else cannot lead the way",
      });
    }
    if (inode === ownInode(path)) closeDescriptor(fd);
    else joined.push({ name: namespace, fd });
  }
  checkProc(directory, name);
  closeDescriptor(directory);
  return joined;
}

/** Whether a process is the launcher's: its child, or its grandchild where a keeper is in between (afterwards.ts). */
function isBelow(child: number, pid: number): boolean {
  const parent = processStatus(child)?.parent;
  return parent === pid || (parent !== undefined && processStatus(parent)?.parent === pid);
}

function firstChild(pid: number): number | undefined {
  const word = (readText(`/proc/${pid}/task/${pid}/children`) ?? "").trim().split(" ")[0];
  return word === undefined || word === "" ? undefined : Number(word);
}

function inodeOf(fd: number): number {
  const status = new Uint8Array(256);
  call("statx", fd, "", c.AT_EMPTY_PATH, c.STATX_INO, status);
  return Number(new DataView(status.buffer).getBigUint64(32, true));
}

function ownInode(path: string): number {
  const fd = call("openat", c.AT_FDCWD, `/proc/self/${path}`, c.O_RDONLY | c.O_CLOEXEC);
  try {
    return inodeOf(fd);
  } finally {
    closeDescriptor(fd);
  }
}

const PROC_ROOT_INODE = 1;

/** What stands at /proc must still be a procfs, from its root: a false one has deceived such programs before. */
function checkProc(directory: number, name: string): void {
  const root = rawCall("openat", directory, "root", c.O_PATH | c.O_CLOEXEC | c.openFlags[ARCH].O_DIRECTORY);
  if (root < 0) throw lost(name, root);
  const resolve = c.RESOLVE_IN_ROOT | c.RESOLVE_NO_SYMLINKS | c.RESOLVE_NO_MAGICLINKS;
  const how = new BigUint64Array([BigInt(c.O_PATH | c.O_CLOEXEC), 0n, BigInt(resolve)]);
  const proc = rawCall("openat2", root, "proc", how, 24);
  closeDescriptor(root);
  // Without a directory of that name, or with a link: another /proc. Other errors say nothing about it.
  const absent = ["ENOENT", "ENOTDIR", "ELOOP", "EACCES"].some((error) => isErrno(proc, error));
  if (proc < 0 && !absent) throw systemError(`open /proc of ${name}`, -proc);
  const is = proc >= 0 && isOnProc(proc) && inodeOf(proc) === PROC_ROOT_INODE;
  if (proc >= 0) closeDescriptor(proc);
  if (!is) throw new HutchError(`the /proc of ${name} is no longer what it was`);
}

/** What a joining process is to run. */
export interface Command {
  readonly args: readonly string[];
  /** Variables that replace or follow the program's, `K=V` each. */
  readonly env: readonly string[];
  readonly cwd: string | undefined;
}

/** The plan: enter the namespaces, then all that the program had to do before its execve. */
export function joinPlan(entry: RunningEntry, namespaces: readonly Joined[], { args, env, cwd }: Command): Plan {
  const why = `exec ${entry.name}`;
  const [command = ""] = args;
  const before = entry.steps.filter(({ by }) => by === "sandbox");
  const own = entry.steps.flatMap((step): readonly Step[] => {
    if (step.by !== "program") return [];
    if (step.op === "chdir" && cwd !== undefined) return [{ ...step, path: cwd, why }];
    if (step.op !== "exec") return [step];
    const names = new Set(env.map((variable) => variable.slice(0, variable.indexOf("="))));
    const kept = step.env.filter((variable) => !names.has(variable.slice(0, variable.indexOf("="))));
    const all = [...kept, ...env];
    const path = all.find((variable) => variable.startsWith("PATH="))?.slice(5) ?? "";
    const candidates = execCandidates(command, path === "" ? [] : path.split(":"));
    return [{ ...step, command, candidates, args, env: all, why }];
  });
  const closing = own.findIndex(({ op }) => op === "no-new-privileges" || op === "close-descriptors");
  return {
    init: false,
    steps: [
      { op: "clone", namespaces: [], by: "launcher", why },
      { op: "join", namespaces, by: "sandbox", why },
      ...before,
      ...own.slice(0, closing),
      { op: "death-signal", by: "program", why }, // after the last change of ids
      ...own.slice(closing),
    ],
  };
}
