/**
 * Who a process in an image runs as: `user`, `uid`, `user:group` and so on, by the image's own passwd(5) and group(5),
 * as moby/sys/user's GetExecUser resolves them. Pure: the files come in as text.
 */

import { UsageError } from "../errors.ts";

export type ExecUser = {
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups, ascending, each once. */
  readonly groups: readonly number[];
  readonly home: string;
};

type PasswdEntry = { readonly name: string; readonly uid: number; readonly gid: number; readonly home: string };
type GroupEntry = { readonly name: string; readonly gid: number; readonly members: readonly string[] };

const MAX_ID = 2 ** 31 - 1;

/** Fields of each line that is neither blank nor a comment; short lines have fewer. */
function records(text: string): string[][] {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => line.split(":"));
}

const number = (text: string | undefined): number => (/^\d+$/.test(text ?? "") ? Number(text) : 0);

/** Read passwd(5). */
export function parsePasswd(text: string): PasswdEntry[] {
  return records(text).map(([name = "", , uid, gid, , home = ""]) => ({
    name,
    uid: number(uid),
    gid: number(gid),
    home,
  }));
}

/** Read group(5). */
export function parseGroup(text: string): GroupEntry[] {
  return records(text).map(([name = "", , gid, members = ""]) => ({
    name,
    gid: number(gid),
    members: members.split(",").filter((member) => member !== ""),
  }));
}

/** A number in range, or undefined for a name. Digits are always a number, never a name. */
function asId(text: string): number | undefined {
  if (!/^-?\d+$/.test(text)) return undefined;
  const id = Number(text);
  if (id < 0 || id > MAX_ID) throw new UsageError(`id ${text} is not in 0..${MAX_ID}`);
  return id;
}

/**
 * Resolve `USER[:GROUP]` ("" is root). First match wins. An unknown number is itself, with group 0 and home /; an unknown
 * name is an error. A group that is named leaves no supplementary groups.
 * @throws UsageError
 */
export function resolveUser(spec: string, passwd: string, group: string): ExecUser {
  const colon = spec.indexOf(":");
  const userPart = colon < 0 ? spec : spec.slice(0, colon);
  const groupPart = colon < 0 ? "" : spec.slice(colon + 1);
  const uid = userPart === "" ? 0 : asId(userPart);
  const entry = parsePasswd(passwd).find((user) => (uid === undefined ? user.name === userPart : user.uid === uid));
  if (uid === undefined && entry === undefined) {
    throw new UsageError(`unknown user ${JSON.stringify(userPart)}`, { from: "the image's /etc/passwd" });
  }
  const base = { uid: uid ?? entry?.uid ?? 0, home: entry?.home || "/" };
  if (groupPart !== "") return { ...base, gid: resolveGroup(groupPart, group), groups: [] };
  const groups = entry === undefined ? [] : groupsOf(entry.name, group);
  return { ...base, gid: entry?.gid ?? 0, groups };
}

function resolveGroup(text: string, group: string): number {
  const gid = asId(text);
  if (gid !== undefined) return gid;
  const entry = parseGroup(group).find(({ name }) => name === text);
  if (entry !== undefined) return entry.gid;
  throw new UsageError(`unknown group ${JSON.stringify(text)}`, { from: "the image's /etc/group" });
}

function groupsOf(name: string, group: string): number[] {
  const gids = parseGroup(group)
    .filter(({ members }) => members.includes(name))
    .map(({ gid }) => gid);
  return [...new Set(gids)].toSorted((a, b) => a - b);
}
