/**
 * What a session changed: the copy of a build directory beside the kept one. Both are walked by descriptors; links are
 * compared as links, never followed.
 */

import { HutchError } from "../errors.ts";
import { call, rawCall, systemError } from "../libc/call.ts";
import {
  AT,
  changedOf,
  closeQuietly,
  FILE_TYPE,
  modeOf,
  modifiedOf,
  nameText,
  OPEN,
  readEntries,
  readLink,
  readStatus,
  sizeOf,
  type Status,
  statusBuffer,
} from "../libc/walk.ts";
import { isProductName } from "./build-products.ts";

export type ChangeKind = "added" | "removed" | "changed";

/** One entry that differs. A directory that is added or removed stands for all below it, which is listed too. */
export interface Change {
  readonly kind: ChangeKind;
  /** Below both directories, without a slash in front. */
  readonly path: string;
  /** Type bits of the entry (of the copy's, but of the kept one's for a removal). */
  readonly type: number;
  /** What of it: its content or target, its permissions, its type. Empty but for `changed`. */
  readonly what: readonly ("content" | "mode" | "type")[];
  /** Whether the file's content, on the side where it is, holds a NUL byte in its first 8 KiB. */
  readonly binary: boolean;
}

/** Names that the sandbox itself, not the session, writes again: never a change worth a word. */
const OWN_FILES: ReadonlySet<string> = new Set(["env-vars", ".attrs.sh", ".attrs.json"]);

/**
 * Compare the copy with the kept directory; host paths. Files of equal size and modification time are taken as equal,
 * all others are compared by content. Sorted by path. @throws SystemError when something cannot be read
 */
export function compareTrees(kept: string, copy: string): readonly Change[] {
  const changes: Change[] = [];
  const before = call("openat", AT.fdcwd, kept, OPEN.readOnly | OPEN.directory | OPEN.closeOnExec);
  try {
    const after = call("openat", AT.fdcwd, copy, OPEN.readOnly | OPEN.directory | OPEN.closeOnExec);
    try {
      compareDirectories(before, after, "", changes);
    } finally {
      closeQuietly(after);
    }
  } finally {
    closeQuietly(before);
  }
  return changes
    .filter(({ path }) => !OWN_FILES.has(path))
    .toSorted((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
}

const READ = OPEN.readOnly | OPEN.noFollow | OPEN.nonBlock | OPEN.closeOnExec;

function compareDirectories(before: number, after: number, path: string, changes: Change[]): void {
  const names = (fd: number) => new Map(readEntries(fd).map(({ name }) => [nameText(name), name] as const));
  const old = names(before);
  const now = names(after);
  for (const [text, name] of old) {
    const below = path === "" ? text : `${path}/${text}`;
    if (now.has(text)) compareEntries(before, after, name, below, changes);
    else onlyThere("removed", before, name, below, changes);
  }
  for (const [text, name] of now)
    if (!old.has(text)) onlyThere("added", after, name, path === "" ? text : `${path}/${text}`, changes);
}

function statusOf(directory: number, name: Uint8Array, path: string): Status {
  const status = statusBuffer();
  const failed = readStatus(directory, name, status);
  if (failed < 0) throw systemError(`statx ${path}`, -failed);
  return status;
}

function withOpen<Result>(directory: number, name: Uint8Array, path: string, use: (fd: number) => Result): Result {
  const fd = rawCall("openat", directory, name, READ);
  if (fd < 0) throw systemError(`open ${path}`, -fd);
  try {
    return use(fd);
  } finally {
    closeQuietly(fd);
  }
}

function onlyThere(
  kind: "added" | "removed",
  directory: number,
  name: Uint8Array,
  path: string,
  changes: Change[],
): void {
  const type = modeOf(statusOf(directory, name, path)) & FILE_TYPE.mask;
  const binary = type === FILE_TYPE.regular && withOpen(directory, name, path, isBinary);
  changes.push({ kind, path, type, what: [], binary });
  if (type !== FILE_TYPE.directory) return;
  withOpen(directory, name, path, (fd) => {
    for (const entry of readEntries(fd)) onlyThere(kind, fd, entry.name, `${path}/${nameText(entry.name)}`, changes);
  });
}

function compareEntries(before: number, after: number, name: Uint8Array, path: string, changes: Change[]): void {
  const old = statusOf(before, name, path);
  const now = statusOf(after, name, path);
  const type = modeOf(now) & FILE_TYPE.mask;
  if ((modeOf(old) & FILE_TYPE.mask) !== type) {
    changes.push({ kind: "changed", path, type, what: ["type"], binary: false });
    return;
  }
  const what: ("content" | "mode")[] = [];
  if (type === FILE_TYPE.directory) {
    withOpen(before, name, path, (a) => withOpen(after, name, path, (b) => compareDirectories(a, b, path, changes)));
  } else if (type === FILE_TYPE.symlink) {
    if (nameText(readLink(before, name)) !== nameText(readLink(after, name))) what.push("content");
  } else if (type === FILE_TYPE.regular && !untouched(old, now)) {
    const same =
      sizeOf(old) === sizeOf(now) &&
      withOpen(before, name, path, (a) => withOpen(after, name, path, (b) => sameContent(a, b)));
    if (!same) what.push("content");
  }
  // set-id bits do not come along with a copy, so they are no change
  if (type !== FILE_TYPE.symlink && (modeOf(old) & 0o1777) !== (modeOf(now) & 0o1777)) what.push("mode");
  if (what.length === 0) return;
  const binary = type === FILE_TYPE.regular && withOpen(after, name, path, isBinary);
  changes.push({ kind: "changed", path, type, what, binary });
}

// the kernel's clock for files ticks every 1 to 10 ms: within a tick two writes have one time
const TICK = 20_000_000n;

/** Whether the copy's file is surely as it was copied: its size and time are the kept file's, and it was not copied within the same tick. */
function untouched(old: Status, now: Status): boolean {
  if (sizeOf(old) !== sizeOf(now) || modifiedOf(old) !== modifiedOf(now)) return false;
  return changedOf(now) - modifiedOf(now) > TICK;
}

function fill(fd: number, buffer: Uint8Array): number {
  let got = 0;
  while (got < buffer.length) {
    const count = call("read", fd, buffer.subarray(got), buffer.length - got);
    if (count === 0) break;
    got += count;
  }
  return got;
}

function sameContent(a: number, b: number): boolean {
  const [left, right] = [new Uint8Array(1 << 18), new Uint8Array(1 << 18)];
  for (;;) {
    const [gotLeft, gotRight] = [fill(a, left), fill(b, right)];
    if (Buffer.compare(left.subarray(0, gotLeft), right.subarray(0, gotRight)) !== 0) return false;
    if (gotLeft < left.length) return true;
  }
}

function isBinary(fd: number): boolean {
  const head = new Uint8Array(8192);
  return head.subarray(0, fill(fd, head)).includes(0);
}

/** Whether a change is something a build makes rather than something a person writes: by its name, or binary and not a source before. */
export function isBuildProduct(change: Change): boolean {
  return isProductName(change.path) || (change.binary && change.kind === "added");
}

const LETTERS: Readonly<Record<ChangeKind, string>> = { added: "A", removed: "D", changed: "M" };

/** The changes as a list, one line each: a letter (A, D, M), the path, and what changed where it is not the content. */
export function formatChanges(changes: readonly Change[]): string {
  return changes
    .map(({ kind, path, type, what }) => {
      const slash = type === FILE_TYPE.directory ? "/" : "";
      const more = what.length === 0 || what.join() === "content" ? "" : ` (${what.join(", ")})`;
      return `${LETTERS[kind]} ${path}${slash}${more}\n`;
    })
    .join("");
}

/**
 * The changes as a patch, made by the host's `diff`, with `a/` and `b/` before the paths; what a patch cannot say
 * (binary files, links, modes) is in lines of its own that patch(1) skips. Paths are relative to `prefix` where given,
 * and changes outside it are left out, so that the patch applies in a source root.
 * @throws HutchError when there is no diff program, or it fails
 */
export async function formatPatch(
  kept: string,
  copy: string,
  changes: readonly Change[],
  prefix = "",
): Promise<string> {
  const parts: string[] = [];
  for (const change of changes) {
    if (prefix !== "" && !change.path.startsWith(`${prefix}/`)) continue;
    if (change.type === FILE_TYPE.directory) continue;
    const shown = prefix === "" ? change.path : change.path.slice(prefix.length + 1);
    const isText = change.type === FILE_TYPE.regular && !change.binary && !change.what.includes("type");
    const hasContent = change.what.length === 0 || change.what.includes("content");
    if (isText && hasContent) parts.push(await fileDiff(kept, copy, change, shown));
    else parts.push(`Only listed: ${formatChanges([{ ...change, path: shown }])}`);
  }
  return parts.join("");
}

async function fileDiff(kept: string, copy: string, change: Change, shown: string): Promise<string> {
  const before = change.kind === "added" ? "/dev/null" : `${kept}/${change.path}`;
  const after = change.kind === "removed" ? "/dev/null" : `${copy}/${change.path}`;
  const labels = [
    change.kind === "added" ? "/dev/null" : `a/${shown}`,
    change.kind === "removed" ? "/dev/null" : `b/${shown}`,
  ] as const;
  const program = Bun.which("diff");
  if (program === null) throw new HutchError("no diff program on this host", { hint: "install diffutils" });
  const command = [program, "-u", "--label", labels[0], "--label", labels[1], "--", before, after];
  const child = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [text, errors, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  if (code > 1) throw new HutchError(`diff ${shown}: ${errors.trim()}`);
  return text;
}
