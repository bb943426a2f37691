/** Users and groups as the root's own /etc/passwd and /etc/group name them (passwd(5), group(5)). Pure. */

import { UsageError } from "../errors.ts";

export interface ResolvedUser {
  readonly uid: number;
  readonly gid: number;
  readonly additionalGids: readonly number[];
  readonly home: string;
}

interface PasswdEntry {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
}

const id = (text: string | undefined): number =>
  text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;

/** Well-formed lines of passwd(5); others are passed over, as getpwnam(3) does. */
export function parsePasswd(text: string): readonly PasswdEntry[] {
  return text.split("\n").flatMap((line) => {
    const [name, , uid, gid, , home] = line.split(":");
    const entry = { name: name ?? "", uid: id(uid), gid: id(gid), home: home ?? "" };
    return entry.name === "" || Number.isNaN(entry.uid) || Number.isNaN(entry.gid) ? [] : [entry];
  });
}

/** Well-formed lines of group(5). */
export function parseGroup(text: string): readonly { name: string; gid: number; members: readonly string[] }[] {
  return text.split("\n").flatMap((line) => {
    const [name, , gid, members] = line.split(":");
    const number = id(gid);
    if (name === undefined || name === "" || Number.isNaN(number)) return [];
    return [{ name, gid: number, members: (members ?? "").split(",").filter((member) => member !== "") }];
  });
}

/**
 * `UID[:GID]` or `NAME[:GROUP]` → ids, supplementary groups and home. A number is looked up too, for its group and home;
 * without an entry its group is 0, as in docker. @throws UsageError for a name that the files do not have.
 */
export function resolveUser(word: string, passwd: string, group: string, from: string): ResolvedUser {
  const colon = word.indexOf(":");
  const user = colon < 0 ? word : word.slice(0, colon);
  const groupWord = colon < 0 ? undefined : word.slice(colon + 1);
  const users = parsePasswd(passwd);
  const groups = parseGroup(group);
  const number = id(user);
  const entry = users.find(({ name }) => name === user) ?? users.find(({ uid }) => uid === number);
  if (entry === undefined && Number.isNaN(number)) {
    throw new UsageError(`unknown user ${JSON.stringify(user)}`, {
      from,
      hint: "names are those of the root's own /etc/passwd; a number is one of the sandbox's ids",
    });
  }
  const uid = entry?.uid ?? number;
  let gid = entry?.gid ?? 0;
  if (groupWord !== undefined) {
    const found = groups.find(({ name }) => name === groupWord)?.gid ?? id(groupWord);
    if (Number.isNaN(found)) {
      throw new UsageError(`unknown group ${JSON.stringify(groupWord)}`, {
        from,
        hint: "names are those of the root's own /etc/group; a number always works",
      });
    }
    gid = found;
  }
  if (uid > 4_294_967_294 || gid > 4_294_967_294)
    throw new UsageError(`id out of range`, { from, hint: "0 to 4294967294" });
  const additionalGids =
    groupWord !== undefined || entry === undefined
      ? []
      : groups
          .filter(({ gid: other, members }) => other !== gid && members.includes(entry.name))
          .map(({ gid: other }) => other);
  return { uid, gid, additionalGids, home: entry === undefined || entry.home === "" ? "/" : entry.home };
}
