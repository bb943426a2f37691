/**
 * Where a repository is pulled from: registries.conf version 2 (containers-registries.conf(5)) with its drop-ins, and
 * certs.d (containers-certs.d(5)). Parsing and choosing are pure.
 */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { HutchError } from "../errors.ts";
import { asObject, type JsonObject, optionalArray, optionalString } from "./json.ts";
import type { RegistryReference } from "./reference.ts";

export type Mirror = {
  readonly location: string;
  readonly insecure: boolean;
  readonly pull: "all" | "digest-only" | "tag-only";
};

export type RegistryRule = {
  readonly prefix: string;
  readonly location: string;
  readonly insecure: boolean;
  readonly blocked: boolean;
  readonly mirrors: readonly Mirror[];
};

/** A place to ask: host with port, repository there. */
export type Endpoint = {
  readonly host: string;
  readonly path: string;
  /** Certificates need not verify, and plain http will do. */
  readonly insecure: boolean;
  readonly isMirror: boolean;
};

function flag(object: JsonObject, key: string, where: string): boolean {
  const value = object[key];
  if (value === undefined) return false;
  if (typeof value !== "boolean") throw new HutchError(`${where}.${key}: must be true or false`);
  return value;
}

function parseMirror(value: unknown, where: string, digestOnly: boolean): Mirror {
  const object = asObject(value, where);
  const pull = optionalString(object, "pull-from-mirror", where) ?? (digestOnly ? "digest-only" : "all");
  if (pull !== "all" && pull !== "digest-only" && pull !== "tag-only") {
    throw new HutchError(`${where}.pull-from-mirror: must be all, digest-only or tag-only`);
  }
  const location = optionalString(object, "location", where) ?? "";
  if (location === "") throw new HutchError(`${where}.location: is missing`);
  return { location, insecure: flag(object, "insecure", where), pull };
}

/** Read one registries.conf. @throws HutchError naming the file and what is wrong */
export function parseRegistries(text: string, where: string): RegistryRule[] {
  let parsed: unknown;
  try {
    parsed = Bun.TOML.parse(text);
  } catch (error) {
    throw new HutchError(`${where}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
  const object = asObject(parsed, where);
  if ("registries" in object) throw new HutchError(`${where}: version 1 of registries.conf is not supported`);
  return (
    optionalArray(object, "registry", where, 10_000, (value, at) => {
      const entry = asObject(value, at);
      const location = optionalString(entry, "location", at) ?? "";
      const prefix = optionalString(entry, "prefix", at) ?? location;
      if (prefix === "") throw new HutchError(`${at}: neither prefix nor location`);
      const digestOnly = flag(entry, "mirror-by-digest-only", at);
      return {
        prefix,
        location: location === "" && !prefix.startsWith("*.") ? prefix : location,
        insecure: flag(entry, "insecure", at),
        blocked: flag(entry, "blocked", at),
        mirrors: optionalArray(entry, "mirror", at, 100, (mirror, here) => parseMirror(mirror, here, digestOnly)) ?? [],
      };
    }) ?? []
  );
}

/** Length of the part of `name` (host/path[:tag]) that the prefix matches, or undefined. */
function matchPrefix(name: string, prefix: string): number | undefined {
  if (prefix.startsWith("*.")) {
    const host = name.split("/", 1)[0] ?? "";
    return host.endsWith(prefix.slice(1)) && host.length > prefix.length - 1 ? host.length : undefined;
  }
  if (!name.startsWith(prefix)) return undefined;
  const next = name[prefix.length];
  return next === undefined || "/:@".includes(next) ? prefix.length : undefined;
}

/** Split `host/path` where the first slash is. */
function place(location: string, rest: string): { host: string; path: string } {
  const whole = `${location}${rest}`;
  const slash = whole.indexOf("/");
  return slash < 0 ? { host: whole, path: "" } : { host: whole.slice(0, slash), path: whole.slice(slash + 1) };
}

/**
 * The places to ask for an image, in order: the mirrors of the rule with the longest matching prefix, then the registry
 * itself. docker.io is asked at registry-1.docker.io.
 * @throws HutchError when the registry is blocked
 */
export function endpointsFor(reference: RegistryReference, rules: readonly RegistryRule[]): Endpoint[] {
  const name = `${reference.domain}/${reference.path}`;
  const ranked = rules
    .map((rule) => ({ rule, length: matchPrefix(name, rule.prefix) }))
    .filter(({ length }) => length !== undefined)
    .toSorted((a, b) => b.rule.prefix.length - a.rule.prefix.length);
  const [best] = ranked;
  const own = { host: reference.domain, path: reference.path };
  if (best?.length === undefined) return [{ ...apiHost(own), insecure: false, isMirror: false }];
  const { rule, length } = best;
  if (rule.blocked) throw new HutchError(`registry ${rule.prefix} is blocked`, { from: "registries.conf" });
  const rest = name.slice(length);
  const mirrors = rule.mirrors
    .filter(({ pull }) => pull === "all" || (pull === "digest-only") === (reference.digest !== undefined))
    .map(({ location, insecure }) => ({ ...apiHost(place(location, rest)), insecure, isMirror: true }));
  const primary = rule.location === "" ? own : place(rule.location, rest);
  return [...mirrors, { ...apiHost(primary), insecure: rule.insecure, isMirror: false }];
}

/** Where a registry's API is asked: the host (with port), and whether a rule that sends pulls there calls it insecure. */
export function registryHost(domain: string, rules: readonly RegistryRule[]): { host: string; insecure: boolean } {
  const { host } = apiHost({ host: domain, path: "" });
  const places = rules.flatMap((rule) => [
    { insecure: rule.insecure, isHere: rule.location === "" && matchPrefix(host, rule.prefix) !== undefined },
    ...[rule, ...rule.mirrors].map(({ location, insecure }) => ({
      insecure,
      isHere: apiHost(place(location, "")).host === host,
    })),
  ]);
  return { host, insecure: places.some(({ insecure, isHere }) => insecure && isHere) };
}

function apiHost({ host, path }: { host: string; path: string }): { host: string; path: string } {
  return { host: host === "docker.io" ? "registry-1.docker.io" : host, path };
}

type Env = Readonly<Record<string, string | undefined>>;

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    const code = (error as { code?: string }).code;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw new HutchError(`read ${file}: ${code ?? String(error)}`, { cause: error });
  }
}

/**
 * Read the configuration: `$CONTAINERS_REGISTRIES_CONF` alone, or the user's file, else the system's, then both
 * directories of drop-ins. A later rule replaces an earlier one of the same prefix.
 */
export function readRegistries(env: Env): RegistryRule[] {
  const given = env["CONTAINERS_REGISTRIES_CONF"];
  const home = env["HOME"];
  const user = env["XDG_CONFIG_HOME"] ?? (home === undefined ? undefined : join(home, ".config"));
  const userFile = user === undefined ? undefined : join(user, "containers/registries.conf");
  const main = given ?? (userFile !== undefined && existsSync(userFile) ? userFile : "/etc/containers/registries.conf");
  const directories =
    given === undefined ? ["/etc/containers", ...(user === undefined ? [] : [join(user, "containers")])] : [];
  const files = [main];
  for (const directory of directories) {
    const dropIns = join(directory, "registries.conf.d");
    if (!existsSync(dropIns)) continue;
    const names = readdirSync(dropIns).filter((name) => name.endsWith(".conf"));
    files.push(...names.toSorted().map((name) => join(dropIns, name)));
  }
  const rules = new Map<string, RegistryRule>();
  for (const file of files) {
    const text = readIfThere(file);
    if (text === undefined) continue;
    for (const rule of parseRegistries(text, file)) rules.set(rule.prefix, rule);
  }
  return [...rules.values()];
}

export type HostCertificates = { readonly ca: readonly string[]; readonly cert?: string; readonly key?: string };

/** Certificates for a host from certs.d: `*.crt` are authorities, `NAME.cert` with `NAME.key` is ours. */
export function readCertificates(host: string, env: Env): HostCertificates {
  const home = env["HOME"];
  const user = env["XDG_CONFIG_HOME"] ?? (home === undefined ? undefined : join(home, ".config"));
  const roots = [
    ...(user === undefined ? [] : [join(user, "containers/certs.d")]),
    "/etc/containers/certs.d",
    "/etc/docker/certs.d",
  ];
  if (!/^[A-Za-z0-9.:[\]-]+$/.test(host)) return { ca: [] };
  const directory = roots.map((root) => join(root, host)).find((path) => existsSync(path));
  if (directory === undefined) return { ca: [] };
  const names = readdirSync(directory).toSorted();
  const read = (name: string): string => readFileSync(join(directory, name), "utf8");
  const ca = names.filter((name) => name.endsWith(".crt")).map(read);
  const cert = names.find((name) => name.endsWith(".cert") && names.includes(`${name.slice(0, -5)}.key`));
  return cert === undefined ? { ca } : { ca, cert: read(cert), key: read(`${cert.slice(0, -5)}.key`) };
}

/** Words of a list in a rule, for error messages. */
export function describeEndpoint({ host, path, isMirror }: Endpoint): string {
  return `${host}/${path}${isMirror ? " (mirror)" : ""}`;
}
