/**
 * Names of images, by the grammar of distribution/reference (regexp.go, normalize.go) and Docker's defaults:
 * `alpine` is `docker.io/library/alpine:latest`; and of images on disk: `oci:DIR[:REF]`, `oci-archive:FILE[:REF]`,
 * `docker-archive:FILE[:REF]` (containers-transports(5)).
 */

import { UsageError } from "../errors.ts";
import { type Digest, digestFault } from "./digest.ts";

/** An image in a registry. Neither tag nor digest is the tag "latest"; with a digest the tag is only for display. */
export type RegistryReference = {
  readonly kind: "registry";
  /** Host with optional port: `docker.io`, `localhost:5000`, `[::1]:5000`. */
  readonly domain: string;
  /** Repository without the host: `library/alpine`. */
  readonly path: string;
  readonly tag?: string;
  readonly digest?: Digest;
};

/** An image on disk: a layout's directory or an archive's file, and which image in it. */
export type LocalReference = {
  readonly kind: "oci" | "oci-archive" | "docker-archive";
  readonly file: string;
  readonly name?: string;
};

export type ImageReference = RegistryReference | LocalReference;

const DEFAULT_DOMAIN = "docker.io";
const LOCAL = /^(oci|oci-archive|docker-archive):(.*)$/s;

const label = "[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?";
const domainPattern = `(?:${label}(?:\\.${label})*|\\[(?:[a-fA-F0-9:]+)\\])(?::[0-9]+)?`;
const component = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
const tagPattern = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}";
const digestPattern = "[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}";
const REFERENCE = new RegExp(
  `^(${domainPattern})/(${component}(?:/${component})*)(?::(${tagPattern}))?(?:@(${digestPattern}))?$`,
);

const REGISTRY = new RegExp(`^(${domainPattern})(?:/(${component}(?:/${component})*))?/?$`);

function refuse(text: string, why: string): never {
  throw new UsageError(`invalid image name ${JSON.stringify(text.slice(0, 300))}: ${why}`);
}

/** Read an image's name. @throws UsageError saying what the grammar refuses. */
export function parseReference(text: string): ImageReference {
  const local = LOCAL.exec(text);
  if (local !== null) return parseLocal(text, local[1] as LocalReference["kind"], local[2] ?? "");
  if (text === "") refuse(text, "empty");
  if (text.length > 1024) refuse(text, "longer than 1024 characters");
  if (/^[0-9a-f]{64}$/.test(text)) refuse(text, "64 hexadecimal characters are an image's id, not a name");
  return parseRegistry(text);
}

function parseLocal(text: string, kind: LocalReference["kind"], rest: string): LocalReference {
  const colon = rest.indexOf(":");
  const file = colon < 0 ? rest : rest.slice(0, colon);
  const name = colon < 0 ? "" : rest.slice(colon + 1);
  if (file === "") refuse(text, "no path");
  if (text.includes("\0")) refuse(text, "contains a NUL byte");
  return name === "" ? { kind, file } : { kind, file, name };
}

/** Split off the host as Docker does: the first part is a host when it looks like one. */
function splitDomain(text: string): [domain: string, rest: string] {
  const slash = text.indexOf("/");
  const first = slash < 0 ? "" : text.slice(0, slash);
  const isHost = first === "localhost" || /[.:]/.test(first) || first !== first.toLowerCase();
  const given = slash >= 0 && isHost;
  let domain = given ? first : DEFAULT_DOMAIN;
  let rest = given ? text.slice(slash + 1) : text;
  if (domain === "index.docker.io") domain = DEFAULT_DOMAIN;
  if (domain === DEFAULT_DOMAIN && !rest.includes("/")) rest = `library/${rest}`;
  return [domain, rest];
}

function parseRegistry(text: string): RegistryReference {
  const [domain, rest] = splitDomain(text);
  const end = rest.search(/[:@]/);
  const repository = end < 0 ? rest : rest.slice(0, end);
  if (repository !== repository.toLowerCase()) {
    refuse(text, `repository name ${JSON.stringify(repository)} must be lower case`);
  }
  const match = REFERENCE.exec(`${domain}/${rest}`);
  const [, , path, tag, digest] = match ?? [];
  if (match === null || path === undefined) return refuse(text, "not of the form [HOST[:PORT]/]NAME[:TAG][@DIGEST]");
  if (path.length > 255) refuse(text, "repository name is longer than 255 characters");
  if (digest === undefined) return { kind: "registry", domain, path, tag: tag ?? "latest" };
  const fault = digestFault(digest);
  if (fault !== undefined) refuse(text, fault);
  const base = { kind: "registry", domain, path, digest: digest as Digest } as const;
  return tag === undefined ? base : { ...base, tag };
}

/**
 * A registry as people write it to log in: `quay.io`, `localhost:5000`, `https://index.docker.io/v1/` (Docker's way: the
 * path is no part of it), or a part of one, `quay.io/ns`. Returns what credentials are kept by. @throws UsageError
 */
export function parseRegistryName(text: string): { readonly domain: string; readonly path: string } {
  const fail = (why: string): never => {
    // Nothing is repeated that may be a password.
    throw new UsageError(
      `invalid registry${text.includes("@") ? "" : ` ${JSON.stringify(text.slice(0, 300))}`}: ${why}`,
    );
  };
  if (text.includes("@")) fail("a user or digest is no part of it");
  const isUrl = /^https?:\/\//.test(text);
  const bare = text.replace(/^https?:\/\//, "");
  const [, given = fail("not of the form HOST[:PORT][/PATH]"), path = ""] =
    REGISTRY.exec(isUrl ? (bare.split("/", 1)[0] ?? "") : bare) ?? [];
  const isDocker = ["index.docker.io", "registry-1.docker.io", DEFAULT_DOMAIN].includes(given);
  const domain = isDocker ? DEFAULT_DOMAIN : given;
  if (splitDomain(`${domain}/x`)[0] !== domain)
    fail(`images of that name are Docker Hub's: a host has a dot or a port`);
  if (!URL.canParse(`https://${domain}/`)) fail("no such port or host can be");
  return { domain, path };
}

/** The full name, with host and tag or digest (a digest drops the tag). Twin of {@link parseReference}. */
export function formatReference(reference: ImageReference): string {
  if (reference.kind !== "registry") {
    return `${reference.kind}:${reference.file}${reference.name === undefined ? "" : `:${reference.name}`}`;
  }
  const { domain, path, tag, digest } = reference;
  return `${domain}/${path}${digest === undefined ? `:${tag ?? "latest"}` : `@${digest}`}`;
}

/** The place of a source (`oci:/dir:name`) without what tells its states apart; a file's name may have a `#` itself. */
export function sourcePlace(source: string): string {
  return source.slice(0, source.lastIndexOf("#"));
}

/** The repository as people write it: without `docker.io/` and `library/`. */
export function familiarRepository(reference: RegistryReference): string {
  const { domain, path } = reference;
  if (domain !== DEFAULT_DOMAIN) return `${domain}/${path}`;
  return path.startsWith("library/") && !path.slice(8).includes("/") ? path.slice(8) : path;
}

/** The shortest name that means the same: `alpine:3.20`, `ghcr.io/x/y@sha256:…`. */
export function familiarName(reference: ImageReference): string {
  if (reference.kind !== "registry") return formatReference(reference);
  const { tag, digest } = reference;
  return `${familiarRepository(reference)}${digest === undefined ? `:${tag ?? "latest"}` : `@${digest}`}`;
}

/** What a manifest is asked for by: the digest, else the tag. */
export function manifestKey(reference: RegistryReference): string {
  return reference.digest ?? reference.tag ?? "latest";
}
