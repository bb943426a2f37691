/**
 * Changing credential files (containers-auth.json(5), Docker's config.json): whole or not at all, for the owner's eyes only,
 * and nothing of them but what is asked for.
 */

import {
  accessSync,
  chownSync,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  realpathSync,
  type Stats,
  statSync,
} from "node:fs";
import { dirname } from "node:path";
import { encodeBytes, fsPath } from "../bytes.ts";
import { HutchError, SystemError } from "../errors.ts";
import { call, rawCall, systemError } from "../libc/call.ts";
import { AT_FDCWD, tryLock } from "../libc/file.ts";
import { isErrno, writeAll } from "../libc/files.ts";
import { type Credentials, normalizeKey, parseAuthFile, readAuthFile } from "./credentials.ts";
import { removeMembers, setMember } from "./json-edit.ts";
import { rename } from "./store.ts";

/** What names a password: of an entry that gets another, all of these go. */
const SECRETS = ["auth", "identitytoken", "registrytoken", "username", "password"];

const codeOf = (error: unknown): string => (error as { code?: string }).code ?? String(error);

function attempt<T>(what: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (error instanceof HutchError) throw error;
    throw new HutchError(`${what}: ${codeOf(error)}`, { cause: error, hint: "REGISTRY_AUTH_FILE names another file" });
  }
}

/** Where entries are in a file: below `auths`, or at the top of the oldest format. */
const pathOf = (file: string): string[] => (file.endsWith(".dockercfg") ? [] : ["auths"]);

/** A file's text with an entry for a registry (or a part of one) in the place of what it had. */
function withEntry(text: string, file: string, key: string, auth: string): string {
  const path = pathOf(file);
  const present = Object.keys(entriesOf(text, file)).filter((other) => normalizeKey(other) === key);
  // Docker finds its hub by this name alone; podman and hutch by both.
  const fresh = key === "docker.io" && /\/config\.json$|\.dockercfg$/.test(file) ? "https://index.docker.io/v1/" : key;
  const kept = present.at(-1) ?? fresh;
  const alone = removeMembers(text, path, (other) => other !== kept && present.includes(other));
  if (present.length === 0) return setMember(alone, path, kept, { auth });
  const bare = removeMembers(alone, [...path, kept], (member) => SECRETS.includes(member));
  return setMember(bare, [...path, kept], "auth", auth);
}

const entriesOf = (text: string, file: string): object => {
  const top = JSON.parse(text.replace(/^\ufeff/, "")) as { readonly auths?: object | null };
  return file.endsWith(".dockercfg") ? top : (top.auths ?? {});
};

/** Keys of a file's text that have an entry, as they are written there. */
export function entryKeys(text: string, file: string): string[] {
  return Object.keys(entriesOf(text, file));
}

/** Keep a password in a file, which is made when it is not there. @throws HutchError when it cannot be written */
export async function storeInFile(
  file: string,
  key: string,
  { username, password }: Extract<Credentials, { kind: "password" }>,
): Promise<void> {
  const auth = Buffer.from(`${username}:${password}`, "utf8").toString("base64");
  await changeFile(file, (text) => withEntry(text ?? "{}\n", file, key, auth));
}

/** Remove the entries of keys, as they are written in the file. @throws HutchError when it cannot be written */
export async function eraseFromFile(file: string, isGone: (key: string) => boolean): Promise<void> {
  await changeFile(file, (text) => (text === undefined ? undefined : removeMembers(text, pathOf(file), isGone)));
}

/**
 * Whether a file of the user's own can be here: it or its directory, or what that would be made in, is theirs. What HOME or
 * XDG_RUNTIME_DIR of another user (sudo, su) name is not.
 */
export function isOwnPlace(file: string, uid: number): boolean {
  try {
    let path = file;
    let found = statSync(fsPath(path), { throwIfNoEntry: false });
    for (; found === undefined && path !== dirname(path); found = statSync(fsPath(path), { throwIfNoEntry: false }))
      path = dirname(path);
    if (path !== file) accessSync(fsPath(path), constants.W_OK | constants.X_OK);
    return found?.uid === uid && (path === file || found.isDirectory());
  } catch {
    return false; // a directory on the way that may not even be searched
  }
}

/** Read, change, replace; undefined is the text of no file, and no change. */
async function changeFile(given: string, change: (text: string | undefined) => string | undefined): Promise<void> {
  // A link of the user's (dotfiles) stays one.
  const isLink = attempt(`read ${given}`, () => lstatSync(fsPath(given), { throwIfNoEntry: false })?.isSymbolicLink());
  const file = isLink === true ? attempt(`follow ${given}`, () => realpathSync(given)) : given;
  const directory = dirname(file);
  attempt(`mkdir ${directory}`, () => mkdirSync(fsPath(directory), { recursive: true, mode: 0o700 }));
  const lock = attempt(`open ${directory}`, () =>
    openSync(fsPath(directory), constants.O_RDONLY | constants.O_DIRECTORY),
  );
  try {
    await lockDirectory(lock, directory);
    const before = attempt(`read ${file}`, () => statSync(fsPath(file), { throwIfNoEntry: false }));
    if (before !== undefined && !before.isFile()) throw new HutchError(`${given} is no file to keep credentials in`);
    const known = readAuthFile(file);
    if (before !== undefined && known === undefined) throw new HutchError(`read ${given}: EACCES`);
    const text = change(known?.text);
    if (text === undefined || text === known?.text) return;
    parseAuthFile(text, given); // what is written can be read again
    if (before !== undefined) requireOwner(given, before, fstatSync(lock));
    replace(file, text, before);
    call("fsync", lock); // so that the rename lasts
  } finally {
    closeSync(lock);
  }
}

/**
 * A file stays its owner's: only one of the caller's own, or (for root) of whom the directory belongs to. In a directory for all,
 * /tmp, somebody else's file would hand the password to them. @throws HutchError
 */
function requireOwner(file: string, { uid }: Stats, directory: Stats): void {
  const own = process.getuid?.() ?? 0;
  if (uid === own || (own === 0 && uid === directory.uid)) return;
  throw new HutchError(`${file} belongs to user ${uid}, not to ${own}`, {
    hint: "REGISTRY_AUTH_FILE names another file",
  });
}

/** In a directory that others may lock too, nobody waits for ever. */
const PATIENCE_MS = 10_000;
const PAUSE_MS = 5;

/** Two logins at once wait for each other; where a directory cannot be locked (NFS), the later one wins. */
async function lockDirectory(fd: number, directory: string): Promise<void> {
  for (const start = performance.now(); ;) {
    try {
      if (tryLock(fd, "exclusive")) return;
    } catch (error) {
      if (!(error instanceof SystemError) || !["EBADF", "ENOLCK", "EOPNOTSUPP"].includes(error.code)) throw error;
      return;
    }
    if (performance.now() - start > PATIENCE_MS)
      throw new HutchError(`another program has had the lock of ${directory} for ${PATIENCE_MS / 1000} s`);
    await Bun.sleep(PAUSE_MS);
  }
}

function replace(file: string, text: string, before: Stats | undefined): void {
  const temporary = `${file}.hutch`; // always the same, under the lock: what a killed process left goes here
  const removed = rawCall("unlinkat", AT_FDCWD, temporary, 0);
  if (removed < 0 && !isErrno(removed, "ENOENT")) throw systemError(`remove ${temporary}`, -removed);
  const fd = attempt(`write ${file}`, () => openSync(fsPath(temporary), "wx", 0o600));
  try {
    try {
      writeAll(fd, encodeBytes(text), file);
      attempt(`write ${file}`, () => {
        if (before !== undefined && (before.uid !== process.getuid?.() || before.gid !== process.getgid?.()))
          chownSync(fsPath(temporary), before.uid, before.gid);
      });
      call("fsync", fd);
    } finally {
      closeSync(fd);
    }
    rename(temporary, file);
  } catch (error) {
    rawCall("unlinkat", AT_FDCWD, temporary, 0);
    throw error;
  }
}
