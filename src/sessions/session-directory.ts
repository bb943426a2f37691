/**
 * A directory on the host for one sandbox: the copy of a build directory, or a writable layer. It is a directory and no
 * tmpfs of the sandbox, because a build may be larger than the memory, or memory cannot hold what a layer must; so
 * somebody has to remove it:
 *
 * - hutch itself when copying or starting fails;
 * - the process that outlives the sandbox (launch/afterwards.ts), whatever ended that;
 * - when that process, which is hutch's own, was killed: the remover (launch/remover.ts), which is there before the directory;
 * - the next session of the same user, when both were killed: the directory's name says which process it belongs to, so
 *   that nobody has to hold a lock.
 */

import { chmodSync, mkdirSync, readdirSync } from "node:fs";
import { decodeBytes, fsPath } from "../bytes.ts";
import { HutchError } from "../errors.ts";
import { call, cString, rawCall } from "../libc/call.ts";
import { linkTarget, readText } from "../libc/files.ts";
import { AT, FILE_TYPE, modeOf, readStatus, statusBuffer, userOf } from "../libc/walk.ts";
import { removeTree } from "./remove-tree.ts";

const PREFIX = "hutch-build";
const RESCUED = "hutch-rescued";
const NAME = /^hutch-build-(\d+)-(\d+)-([0-9a-f]{8})-(\d+)-[A-Za-z0-9]{6}$/;

/** A process as nobody else ever is: pid, start in clock ticks since boot, the boot, the pid namespace. */
interface Owner {
  readonly pid: string;
  readonly start: string;
  readonly boot: string;
  readonly namespace: string;
}

function thisProcess(): Owner {
  const pid = linkTarget("/proc/self");
  const start = typeof pid === "string" ? startOf(pid) : undefined;
  if (typeof pid !== "string" || start === undefined) throw new HutchError("hutch needs /proc");
  return { pid, start, boot: bootId(), namespace: pidNamespace() };
}

/** Field 22 of proc_pid_stat(5); the name in field 2 may hold anything. */
function startOf(pid: string): string | undefined {
  const stat = readText(`/proc/${pid}/stat`);
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
}

function bootId(): string {
  return (readText("/proc/sys/kernel/random/boot_id") ?? "").slice(0, 8) || "00000000";
}

function pidNamespace(): string {
  const target = linkTarget("/proc/self/ns/pid");
  return typeof target === "string" ? (/\[(\d+)\]/.exec(target)?.[1] ?? "0") : "0";
}

/**
 * A name below `parent` that nobody has: it belongs to this process, which keeps its pid when it becomes the launcher's
 * keeper. @throws HutchError without /proc
 */
export function sessionPath(parent: string): string {
  const { pid, start, boot, namespace } = thisProcess();
  const random = Math.random().toString(36).slice(2).padEnd(6, "0").slice(0, 6);
  return `${parent.replace(/\/+$/, "")}/${PREFIX}-${pid}-${start}-${boot}-${namespace}-${random}`;
}

/** Make a session's directory, for the caller alone. @throws HutchError when it cannot be made */
export function makeSessionDirectory(path: string): void {
  try {
    mkdirSync(fsPath(path), { mode: 0o700 });
    chmodSync(fsPath(path), 0o700); // whatever the umask
  } catch (error) {
    const { code } = error as { code?: string };
    throw new HutchError(
      `no directory can be made in ${path.slice(0, path.lastIndexOf("/")) || "/"}: ${code ?? String(error)}`,
      {
        hint: "set TMPDIR to a directory that you may write to",
        cause: error,
      },
    );
  }
}

/** Rename a session's directory, so that no later session removes it. Returns its new path. @throws SystemError */
export function rescueSessionDirectory(directory: string): string {
  const slash = directory.lastIndexOf("/") + 1;
  const rescued = `${directory.slice(0, slash)}${RESCUED}${directory.slice(slash + PREFIX.length)}`;
  call("renameat2", AT.fdcwd, directory, AT.fdcwd, rescued, 0);
  return rescued;
}

/**
 * Remove the caller's session directories below `parent` whose process is gone (root: everybody's); what cannot be judged
 * stays. Returns the removed paths. Never throws: an old directory must not stand in the way of a new session.
 */
export function removeOldSessions(parent: string): readonly string[] {
  return oldSessions(parent).filter((path) => {
    try {
      removeTree(path);
      return true;
    } catch {
      return false; // another session may be removing it too, or something is mounted there
    }
  });
}

/** Those that {@link removeOldSessions} would remove. */
export function oldSessions(parent: string): readonly string[] {
  return namesIn(parent)
    .filter((name) => {
      const [whole, pid = "", start = "", boot = "", namespace = ""] = NAME.exec(name) ?? [];
      try {
        return whole !== undefined && mayBeRemoved(`${parent}/${name}`) && isGone({ pid, start, boot, namespace });
      } catch {
        return false; // /proc cannot be read
      }
    })
    .map((name) => `${parent}/${name}`);
}

function namesIn(parent: string): readonly string[] {
  try {
    return readdirSync(fsPath(parent), "buffer").map((name) => decodeBytes(name));
  } catch {
    return [];
  }
}

/** One's own; by root anybody's, since with --exact root's sessions belong to build users. */
function mayBeRemoved(path: string): boolean {
  const status = statusBuffer();
  if (readStatus(AT.fdcwd, cString(path), status) < 0) return false;
  if ((modeOf(status) & FILE_TYPE.mask) !== FILE_TYPE.directory) return false;
  const user = rawCall("geteuid");
  return user === 0 || userOf(status) === user;
}

function isGone({ pid, start, boot, namespace }: Owner): boolean {
  if (boot !== bootId()) return true;
  if (namespace !== pidNamespace()) return false; // its pid means nothing here
  return startOf(pid) !== start;
}
