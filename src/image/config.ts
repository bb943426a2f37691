/**
 * An image's configuration (image-spec config.md) and how it becomes a process, as moby merges it (daemon/commit.go
 * `merge`, daemon/container_operations). Pure.
 */

import { HutchError, UsageError } from "../errors.ts";
import { canonicalSignal } from "../libc/signal.ts";
import { type Digest, parseDigest } from "./digest.ts";
import {
  asObject,
  asString,
  type JsonObject,
  optionalArray,
  optionalString,
  optionalStrings,
  parseJsonObject,
} from "./json.ts";
import type { Platform } from "./platform.ts";

/** The `config` member: what to run. Absent members are undefined; null reads as absent. */
export type ProcessConfig = {
  readonly User?: string;
  readonly ExposedPorts?: readonly string[];
  readonly Env?: readonly string[];
  readonly Entrypoint?: readonly string[];
  readonly Cmd?: readonly string[];
  readonly Volumes?: readonly string[];
  readonly WorkingDir?: string;
  readonly Labels?: Readonly<Record<string, string>>;
  readonly StopSignal?: string;
};

export type HistoryEntry = {
  readonly created?: string;
  readonly createdBy?: string;
  readonly comment?: string;
  readonly emptyLayer: boolean;
};

/** A config file as we use it. */
export type ImageConfig = {
  readonly platform: Platform;
  readonly created?: string;
  readonly author?: string;
  readonly config: ProcessConfig;
  /** DiffIDs, lowest layer first. */
  readonly diffIds: readonly Digest[];
  readonly history: readonly HistoryEntry[];
};

const member = <K extends string, T>(key: K, value: T | undefined): { [P in K]?: T } =>
  (value === undefined ? {} : { [key]: value }) as { [P in K]?: T };

/** Read a config file. @throws HutchError naming the member that is wrong */
export function parseImageConfig(bytes: Uint8Array, where: string): ImageConfig {
  const object = parseJsonObject(bytes, where);
  const rootfs = asObject(object["rootfs"], `${where}.rootfs`);
  const type = optionalString(rootfs, "type", `${where}.rootfs`);
  if (type !== "layers") throw new HutchError(`${where}.rootfs.type: must be "layers"`);
  const diffIds = optionalArray(rootfs, "diff_ids", `${where}.rootfs`, 1000, (value, at) =>
    parseDigest(asString(value, at)),
  );
  const variant = optionalString(object, "variant", where);
  const config = object["config"];
  return {
    platform: {
      os: optionalString(object, "os", where) ?? "",
      architecture: optionalString(object, "architecture", where) ?? "",
      ...member("variant", variant),
    },
    ...member("created", optionalString(object, "created", where)),
    ...member("author", optionalString(object, "author", where)),
    config:
      config === undefined || config === null
        ? {}
        : parseProcessConfig(asObject(config, `${where}.config`), `${where}.config`),
    diffIds: diffIds ?? [],
    history: optionalArray(object, "history", where, 10_000, parseHistory) ?? [],
  };
}

function parseHistory(value: unknown, where: string): HistoryEntry {
  const object = asObject(value, where);
  return {
    ...member("created", optionalString(object, "created", where)),
    ...member("createdBy", optionalString(object, "created_by", where)),
    ...member("comment", optionalString(object, "comment", where)),
    emptyLayer: object["empty_layer"] === true,
  };
}

function keysOf(object: JsonObject, key: string, where: string): string[] | undefined {
  const value = object[key];
  return value === undefined || value === null ? undefined : Object.keys(asObject(value, `${where}.${key}`));
}

function parseProcessConfig(object: JsonObject, where: string): ProcessConfig {
  const list = (key: string): string[] | undefined => optionalArray(object, key, where, 100_000, withoutNul);
  const text = (key: string): string | undefined => {
    const value = optionalString(object, key, where);
    return value === undefined ? undefined : withoutNul(value, `${where}.${key}`);
  };
  return {
    ...member("User", text("User")),
    ...member("ExposedPorts", keysOf(object, "ExposedPorts", where)),
    ...member("Env", list("Env")),
    ...member("Entrypoint", list("Entrypoint")),
    ...member("Cmd", list("Cmd")),
    ...member("Volumes", keysOf(object, "Volumes", where)),
    ...member("WorkingDir", text("WorkingDir")),
    ...member("Labels", optionalStrings(object, "Labels", where)),
    ...member("StopSignal", text("StopSignal")),
  };
}

function withoutNul(value: unknown, where: string): string {
  const text = asString(value, where);
  if (text.includes("\0")) throw new HutchError(`${where}: contains a NUL byte`);
  return text;
}

/** What the user says over the image. An absent member leaves the image's. */
export type ConfigOverrides = {
  /** COMMAND [ARG…] after the image's name; empty is absent. */
  readonly command?: readonly string[];
  /** `--entrypoint`, which drops the image's Cmd too; "" is none at all, [] drops the image's entrypoint alone. */
  readonly entrypoint?: string | readonly string[];
  /** `NAME=VALUE` sets, `NAME` alone removes. */
  readonly env?: readonly string[];
  readonly cwd?: string;
  /** `USER[:GROUP]` */
  readonly user?: string;
  readonly stopSignal?: string;
  readonly hostname?: string;
  /** A terminal is attached: TERM gets a value. */
  readonly terminal?: boolean;
};

/** The process to run. `user` still has to be resolved in the image ({@link file://./user.ts}). */
export type MergedConfig = {
  readonly args: readonly string[];
  /** `NAME=VALUE`, each name once, without HOME unless somebody set it. */
  readonly env: readonly string[];
  readonly cwd: string;
  readonly user: string;
  /** Canonical, for example `SIGTERM`. */
  readonly stopSignal: string;
};

export const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * argv by moby's rules (`merge`): an entrypoint of the user drops the image's Cmd, and so does `--entrypoint ""`, which
 * docker sends as [""] and empties after the merge; an empty list of the library drops the entrypoint alone. A command
 * replaces Cmd only.
 */
function mergeArgs(config: ProcessConfig, overrides: ConfigOverrides): readonly string[] {
  const command = overrides.command?.length ? overrides.command : undefined;
  const { entrypoint } = overrides;
  const own = typeof entrypoint === "string" ? [entrypoint] : entrypoint;
  const keepsCmd = own === undefined || own.length === 0;
  const first = own?.length === 1 && own[0] === "" ? [] : (own ?? config.Entrypoint ?? []);
  return [...first, ...(command ?? (keepsCmd ? config.Cmd : undefined) ?? [])];
}

/** Later settings replace earlier ones in place; a name without `=` removes. */
export function mergeEnv(...lists: readonly (readonly string[])[]): string[] {
  const merged = new Map<string, string>();
  for (const entry of lists.flat()) {
    const equals = entry.indexOf("=");
    if (equals < 0) merged.delete(entry);
    else if (equals > 0) merged.set(entry.slice(0, equals), entry);
  }
  return [...merged.values()];
}

/**
 * Merge an image's config with the user's words. Nothing of the host's environment comes in.
 * @throws UsageError without a command, with a relative working directory, or with an unknown stop signal
 */
export function mergeImageConfig(config: ProcessConfig, overrides: ConfigOverrides = {}): MergedConfig {
  const args = mergeArgs(config, overrides);
  if (args.length === 0) {
    const dropped =
      overrides.entrypoint !== undefined && (config.Entrypoint ?? []).length + (config.Cmd ?? []).length > 0;
    const why = dropped ? "--entrypoint drops the image's command too" : "the image names none either";
    throw new UsageError("no command specified", { hint: `${why}: write it after the image` });
  }
  if (args[0] === "") throw new UsageError("the command's name is empty");
  const defaults = [
    `PATH=${DEFAULT_PATH}`,
    `HOSTNAME=${overrides.hostname ?? ""}`,
    ...(overrides.terminal === true ? ["TERM=xterm"] : []),
  ];
  const cwd = overrides.cwd ?? (config.WorkingDir || "/");
  if (!cwd.startsWith("/")) {
    const from = overrides.cwd === undefined ? { from: "the image's WorkingDir" } : {};
    throw new UsageError(`working directory ${JSON.stringify(cwd)} is not absolute`, from);
  }
  return {
    args,
    env: mergeEnv(defaults, config.Env ?? [], overrides.env ?? []),
    cwd,
    user: overrides.user ?? config.User ?? "",
    stopSignal:
      overrides.stopSignal === undefined
        ? canonicalSignal(config.StopSignal || "SIGTERM", "the image's StopSignal")
        : canonicalSignal(overrides.stopSignal),
  };
}

/** Add HOME by the user's passwd entry, unless the image or the user has set it. */
export function withHome(env: readonly string[], home: string): string[] {
  return env.some((entry) => entry.startsWith("HOME=")) ? [...env] : [...env, `HOME=${home || "/"}`];
}
