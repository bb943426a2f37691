/** Values of options, parsed: volumes, mounts, limits, users, environment files. Pure; errors quote the user's words. */

import { tidyPath } from "../build-spec.ts";
import { UsageError } from "../errors.ts";
import { RLIMITS } from "../libc/constants.ts";
import type { HostPath, Mount, MountAttribute, Rlimit, SandboxPath, TimeOffsets } from "../spec.ts";
import type { Occurrence } from "./options.ts";
import { hostPath } from "./root-word.ts";

const ATTRIBUTES: readonly MountAttribute[] = ["ro", "nosuid", "nodev", "noexec", "noatime", "nosymfollow"];
const isAttribute = (word: string): word is MountAttribute => (ATTRIBUTES as readonly string[]).includes(word);

function target(path: string, from: string): SandboxPath {
  if (!path.startsWith("/")) throw new UsageError(`target ${JSON.stringify(path)} is not an absolute path`, { from });
  return (tidyPath(path) || "/") as SandboxPath;
}

function bind(source: HostPath, destination: SandboxPath, attributes: readonly MountAttribute[], from: string): Mount {
  return { type: "bind", source, destination, attributes, idmap: attributes.includes("ro"), from };
}

/** `SRC:DST[:ro,rw,nosuid,nodev,noexec]`. A colon in a path cannot be written here; `--mount` can. */
export function parseVolume({ value, words }: Occurrence, cwd: string): Mount {
  const [source, destination, options, ...more] = value.split(":");
  if (source === undefined || source === "" || destination === undefined || destination === "" || more.length > 0) {
    throw new UsageError("a volume is SRC:DST[:OPTIONS]", { from: words });
  }
  const attributes: MountAttribute[] = [];
  for (const word of (options ?? "rw").split(",")) {
    if (isAttribute(word)) attributes.push(word);
    else if (word !== "rw")
      throw new UsageError(`unknown volume option ${JSON.stringify(word)}`, {
        from: words,
        hint: "ro, rw, nosuid, nodev, noexec",
      });
  }
  if (attributes.includes("ro") && (options ?? "").split(",").includes("rw")) {
    throw new UsageError("a volume is either ro or rw", { from: words });
  }
  return bind(hostPath(source, cwd, words), target(destination, words), attributes, words);
}

const TMPFS_OPTIONS: Readonly<Record<string, RegExp>> = {
  size: /^\d{1,12}[kmg%]?$/i,
  mode: /^[0-7]{1,4}$/,
  nr_inodes: /^\d+[kmg]?$/i,
};

function tmpfs(destination: SandboxPath, words: readonly string[], from: string): Mount {
  const options: Record<string, string> = { mode: "1777" };
  const attributes: MountAttribute[] = ["nosuid", "nodev"];
  for (const word of words) {
    const equals = word.indexOf("=");
    const key = equals < 0 ? word : word.slice(0, equals);
    const value = word.slice(equals + 1);
    if (equals < 0 && isAttribute(word)) attributes.push(word);
    else if (equals < 0 && word === "rw") continue;
    else if (equals >= 0 && Object.hasOwn(TMPFS_OPTIONS, key) && TMPFS_OPTIONS[key]?.test(value) === true)
      options[key] = value;
    else
      throw new UsageError(`unknown tmpfs option ${JSON.stringify(word)}`, {
        from,
        hint: "size=64m, mode=1777, nr_inodes=10k, ro, noexec",
      });
  }
  return { type: "tmpfs", destination, options, attributes, from };
}

/** `DST[:size=,mode=,nr_inodes=,…]`. */
export function parseTmpfs({ value, words }: Occurrence): Mount {
  const colon = value.indexOf(":");
  const destination = target(colon < 0 ? value : value.slice(0, colon), words);
  return tmpfs(destination, colon < 0 ? [] : value.slice(colon + 1).split(","), words);
}

/** Fields of docker's long form by the name that hutch uses. */
const MOUNT_FIELDS: ReadonlyMap<string, string> = new Map([
  ["src", "source"],
  ["dst", "target"],
  ["destination", "target"],
  ["ro", "readonly"],
]);

/** Docker's long form: `type=bind,source=/a,target=/b,readonly` or `type=tmpfs,target=/b,tmpfs-size=64m`. */
export function parseMount({ value, words }: Occurrence, cwd: string): Mount {
  const fields = new Map<string, string>();
  const flags: string[] = [];
  for (const part of value.split(",")) {
    const equals = part.indexOf("=");
    const word = equals < 0 ? part : part.slice(0, equals);
    const key = MOUNT_FIELDS.get(word) ?? word;
    if (equals < 0 && key !== "readonly") flags.push(part);
    else if (fields.has(key)) throw new UsageError(`${key} is given twice`, { from: words });
    else fields.set(key, equals < 0 ? "true" : part.slice(equals + 1));
  }
  const take = (name: string) => {
    const found = fields.get(name);
    fields.delete(name);
    return found;
  };
  const [type, source, destination, readonly] = [take("type"), take("source"), take("target"), take("readonly")];
  if (readonly !== undefined && !/^(true|1|false|0)$/.test(readonly))
    throw new UsageError(`readonly is true or false, not ${JSON.stringify(readonly)}`, { from: words });
  const isReadonly = readonly === "true" || readonly === "1";
  if (isReadonly && flags.includes("rw")) throw new UsageError("a mount is either ro or rw", { from: words });
  const rest = flags.filter((flag) => flag !== "rw");
  if (type !== "bind" && type !== "tmpfs")
    throw new UsageError(type === undefined ? "a mount needs type=" : `there is no type=${type}`, {
      from: words,
      hint: "type=bind,source=DIR,target=DIR or type=tmpfs,target=DIR",
    });
  if (destination === undefined) throw new UsageError("a mount needs target=", { from: words });
  if (type === "bind") {
    if (source === undefined) throw new UsageError("a bind mount needs source=", { from: words });
    const unknown = [...fields.keys(), ...rest.filter((flag) => !isAttribute(flag))][0];
    if (unknown !== undefined)
      throw new UsageError(`unknown mount option ${JSON.stringify(unknown)}`, {
        from: words,
        hint: "source=, target=, readonly, nosuid, nodev, noexec, …",
      });
    const attributes: MountAttribute[] = [...(isReadonly ? (["ro"] as const) : []), ...rest.filter(isAttribute)];
    return bind(hostPath(source, cwd, words), target(destination, words), attributes, words);
  }
  if (source !== undefined) throw new UsageError("a tmpfs has no source", { from: words });
  const options = [...fields].map(([key, option]) => `${key.replace(/^tmpfs-/, "")}=${option}`);
  return tmpfs(target(destination, words), [...options, ...rest, ...(isReadonly ? ["ro"] : [])], words);
}

/** Docker's names of limits, whose values are as getrlimit(2) has them. */
export function parseUlimit({ value, words }: Occurrence): Rlimit {
  const equals = value.indexOf("=");
  const type = `RLIMIT_${value.slice(0, equals < 0 ? undefined : equals).toUpperCase()}`;
  if (!(type in RLIMITS)) {
    const names = Object.keys(RLIMITS).map((name) => name.slice(7).toLowerCase());
    throw new UsageError(`unknown limit ${JSON.stringify(value.split("=")[0])}`, {
      from: words,
      hint: names.join(", "),
    });
  }
  const parts = equals < 0 ? [] : value.slice(equals + 1).split(":");
  const numbers = parts.map((part) => {
    if (part === "unlimited" || part === "-1") return Number.POSITIVE_INFINITY;
    if (!/^\d{1,15}$/.test(part))
      throw new UsageError(`limit ${JSON.stringify(part)} is not a number`, { from: words });
    return Number(part);
  });
  const [soft, hard = soft] = numbers;
  if (soft === undefined || hard === undefined || numbers.length > 2) {
    throw new UsageError("a limit is NAME=SOFT[:HARD]", { from: words });
  }
  return { type, soft, hard };
}

/** `SECONDS` for both clocks, or `monotonic=S,boottime=S`. */
export function parseTimeOffset({ value, words }: Occurrence): TimeOffsets {
  const number = (text: string | undefined): number => {
    if (text === undefined || !/^-?\d{1,12}$/.test(text)) {
      throw new UsageError("a time offset is SECONDS or monotonic=SECONDS,boottime=SECONDS", { from: words });
    }
    return Number(text);
  };
  if (!value.includes("=")) return { monotonic: number(value), boottime: number(value) };
  const offsets = { monotonic: 0, boottime: 0 };
  for (const part of value.split(",")) {
    const [clock, ...seconds] = part.split("=");
    if (clock !== "monotonic" && clock !== "boottime")
      throw new UsageError(`unknown clock ${JSON.stringify(clock)}`, { from: words });
    offsets[clock] = number(seconds.join("="));
  }
  return offsets;
}
