/**
 * Who we are to a registry: containers-auth.json(5) and Docker's config.json, with credential helpers. Secrets are
 * never part of an error's text.
 */

import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { decodeBytes, encodeBytes, fsPath } from "../bytes.ts";
import { HutchError } from "../errors.ts";
import { askHelper, helperServer, type HelperSecret } from "./credential-helper.ts";
import { asObject, JSON_LIMIT, type JsonObject, optionalString, optionalStrings, parseJsonObject } from "./json.ts";

export type Credentials =
  | { readonly kind: "password"; readonly username: string; readonly password: string }
  /** A refresh token for the token server. */
  | { readonly kind: "identity"; readonly token: string }
  /** A bearer token for the registry itself. */
  | { readonly kind: "registry"; readonly token: string };

type Env = Readonly<Record<string, string | undefined>>;

/**
 * Credential files in the order in which they are asked; those of an unset directory are left out, and so is a directory
 * that is not absolute (XDG Base Directory Specification): it would be one of the working directory's.
 */
export function authFiles(env: Env, uid: number): string[] {
  const given = env["REGISTRY_AUTH_FILE"];
  if (given !== undefined && given !== "") return [given];
  const inside = (variable: string, path: string): string | undefined => {
    const directory = env[variable];
    return directory?.startsWith("/") === true ? join(directory, path) : undefined;
  };
  return [
    inside("XDG_RUNTIME_DIR", "containers/auth.json") ?? `/run/containers/${uid}/auth.json`,
    inside("XDG_CONFIG_HOME", "containers/auth.json") ?? inside("HOME", ".config/containers/auth.json"),
    inside("DOCKER_CONFIG", "config.json") ?? inside("HOME", ".docker/config.json"),
    inside("HOME", ".dockercfg"),
  ].filter((file) => file !== undefined);
}

/** A docker key as a host: `https://index.docker.io/v1/` is docker.io. */
export function normalizeKey(key: string): string {
  const bare = key.replace(/^https?:\/\//, "");
  const host = bare.split("/", 1)[0] ?? "";
  if (host === "index.docker.io" || host === "registry-1.docker.io") return "docker.io";
  // Docker's keys with a scheme name a host only; containers' keys may go on with a repository.
  return bare === key ? bare.replace(/\/+$/, "") : host;
}

/** Keys for a repository from most to least specific: `host/ns/repo`, `host/ns`, `host`. */
export function credentialKeys(domain: string, path: string): string[] {
  const host = normalizeKey(domain);
  const parts = path.split("/").filter((part) => part !== "");
  return parts.map((_, i) => [host, ...parts.slice(0, parts.length - i)].join("/")).concat(host);
}

function decodeEntry(entry: JsonObject, where: string): Credentials | undefined {
  const registry = optionalString(entry, "registrytoken", where);
  if (registry) return { kind: "registry", token: registry };
  const identity = optionalString(entry, "identitytoken", where);
  if (identity) return { kind: "identity", token: identity };
  const auth = optionalString(entry, "auth", where);
  if (!auth) return undefined;
  const text = Buffer.from(auth, "base64").toString("utf8").replace(/\0+$/, "");
  const colon = text.indexOf(":");
  if (colon < 0)
    throw new HutchError(`${where}.auth: not base64 of user:password`, { hint: "remove that entry from the file" });
  return { kind: "password", username: text.slice(0, colon), password: text.slice(colon + 1) };
}

export type AuthFile = {
  readonly entries: ReadonlyMap<string, Credentials>;
  /** Helper by key, and the one for all keys. */
  readonly helpers: ReadonlyMap<string, string>;
  readonly store: string | undefined;
};

/** Read a credential file's text; `.dockercfg` has its entries at the top. @throws HutchError */
export function parseAuthFile(text: string, where: string): AuthFile {
  const object = parseJsonObject(encodeBytes(text), where, JSON_LIMIT, "secret");
  const auths = where.endsWith(".dockercfg") ? object : asObject(object["auths"] ?? {}, `${where}.auths`);
  const entries = new Map<string, Credentials>();
  for (const [key, value] of Object.entries(auths)) {
    const found = decodeEntry(asObject(value, `${where}.auths[${key}]`), `${where}.auths[${key}]`);
    if (found !== undefined) entries.set(normalizeKey(key), found);
  }
  const helpers = Object.entries(optionalStrings(object, "credHelpers", where) ?? {});
  return {
    entries,
    helpers: new Map(helpers.map(([key, name]) => [normalizeKey(key), name])),
    store: optionalString(object, "credsStore", where) || undefined,
  };
}

/** The helper that a file names for keys from most to least specific; an empty name is the file itself. */
export function helperFor(auth: AuthFile, keys: readonly string[]): string | undefined {
  const own = keys.map((key) => auth.helpers.get(key)).find((name) => name !== undefined);
  return (own ?? auth.store) || undefined;
}

/** A credential file that can be read, or undefined. @throws HutchError when it is not what it should be */
export function readAuthFile(file: string): { readonly text: string; readonly auth: AuthFile } | undefined {
  let text: string;
  try {
    // A FIFO would be waited for.
    if (!statSync(fsPath(file)).isFile()) throw new HutchError(`${file} is no file`, { hint: "credentials are JSON" });
    text = decodeBytes(readFileSync(fsPath(file)));
  } catch (error) {
    if (error instanceof HutchError) throw error;
    const code = (error as { code?: string }).code ?? String(error);
    if (["ENOENT", "ENOTDIR", "EACCES"].includes(code)) return undefined;
    throw new HutchError(`read ${file}: ${code}`, { cause: error });
  }
  return { text, auth: parseAuthFile(text, file) };
}

const fromHelper = ({ username, secret }: HelperSecret): Credentials =>
  username === "<token>" ? { kind: "identity", token: secret } : { kind: "password", username, password: secret };

/** Find credentials for a repository in the files and through helpers; undefined is anonymous. @throws HutchError */
export async function findCredentials(
  domain: string,
  path: string,
  env: Env,
  uid: number,
): Promise<Credentials | undefined> {
  const keys = credentialKeys(domain, path);
  const host = keys.at(-1) ?? domain;
  for (const file of authFiles(env, uid)) {
    const auth = readAuthFile(file)?.auth;
    if (auth === undefined) continue;
    const helper = helperFor(auth, keys);
    const asked = helper === undefined ? undefined : await askHelper(helper, helperServer(host), env);
    const kept = asked === undefined ? undefined : fromHelper(asked);
    const found = kept ?? keys.map((key) => auth.entries.get(key)).find((entry) => entry !== undefined);
    if (found !== undefined) return found;
  }
  return undefined;
}
