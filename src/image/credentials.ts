/**
 * Who we are to a registry: containers-auth.json(5) and Docker's config.json, with credential helpers. Secrets are
 * never part of an error's text.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { HutchError } from "../errors.ts";
import { asObject, type JsonObject, optionalString, optionalStrings, parseJsonObject } from "./json.ts";

export type Credentials =
  | { readonly kind: "password"; readonly username: string; readonly password: string }
  /** A refresh token for the token server. */
  | { readonly kind: "identity"; readonly token: string }
  /** A bearer token for the registry itself. */
  | { readonly kind: "registry"; readonly token: string };

type Env = Readonly<Record<string, string | undefined>>;

/** Credential files in the order in which they are asked; those of an unset directory are left out. */
export function authFiles(env: Env, uid: number): string[] {
  const given = env["REGISTRY_AUTH_FILE"];
  if (given !== undefined && given !== "") return [given];
  const home = env["HOME"];
  const inHome = (path: string): string[] => (home === undefined ? [] : [join(home, path)]);
  const config = env["XDG_CONFIG_HOME"];
  const docker = env["DOCKER_CONFIG"];
  return [
    join(
      env["XDG_RUNTIME_DIR"] ?? `/run/containers/${uid}`,
      env["XDG_RUNTIME_DIR"] ? "containers/auth.json" : "auth.json",
    ),
    ...(config === undefined ? inHome(".config/containers/auth.json") : [join(config, "containers/auth.json")]),
    ...(docker === undefined ? inHome(".docker/config.json") : [join(docker, "config.json")]),
    ...inHome(".dockercfg"),
  ];
}

/** A docker key as a host: `https://index.docker.io/v1/` is docker.io. */
function normalizeKey(key: string): string {
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
  if (colon < 0) throw new HutchError(`${where}.auth: not base64 of user:password`);
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
  const object = parseJsonObject(new TextEncoder().encode(text), where);
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

/** Ask `docker-credential-NAME get`. undefined when it knows nothing of the server. @throws HutchError */
async function askHelper(name: string, server: string, env: Env): Promise<Credentials | undefined> {
  if (!/^[A-Za-z0-9._-]+$/.test(name)) throw new HutchError(`invalid credential helper ${JSON.stringify(name)}`);
  const program = Bun.which(`docker-credential-${name}`, { PATH: env["PATH"] ?? "" });
  if (program === null) {
    throw new HutchError(`credential helper docker-credential-${name} is not in PATH`, { from: `registry ${server}` });
  }
  const child = Bun.spawn([program, "get"], {
    stdin: new TextEncoder().encode(server),
    stdout: "pipe",
    stderr: "ignore",
    env: { ...env },
    timeout: 30_000,
  });
  const [output, code] = await Promise.all([new Response(child.stdout).bytes(), child.exited]);
  const text = new TextDecoder().decode(output.subarray(0, 65_536));
  if (code !== 0) {
    if (/credentials not found/i.test(text)) return undefined;
    throw new HutchError(`credential helper docker-credential-${name} failed for ${server} (exit ${code})`);
  }
  const answer = parseJsonObject(output, `docker-credential-${name}`, 65_536);
  const username = optionalString(answer, "Username", "answer") ?? "";
  const secret = optionalString(answer, "Secret", "answer") ?? "";
  if (username === "" && secret === "") return undefined;
  return username === "<token>"
    ? { kind: "identity", token: secret }
    : { kind: "password", username, password: secret };
}

/** Find credentials for a repository in the files and through helpers; undefined is anonymous. @throws HutchError */
export async function findCredentials(
  domain: string,
  path: string,
  env: Env,
  uid: number,
): Promise<Credentials | undefined> {
  const keys = credentialKeys(domain, path);
  for (const file of authFiles(env, uid)) {
    let text: string;
    try {
      text = readFileSync(file, "utf8");
    } catch (error) {
      const code = (error as { code?: string }).code ?? String(error);
      if (["ENOENT", "ENOTDIR", "EACCES"].includes(code)) continue;
      throw new HutchError(`read ${file}: ${code}`, { cause: error });
    }
    const auth = parseAuthFile(text, file);
    const host = keys.at(-1) ?? domain;
    const helper = keys.map((key) => auth.helpers.get(key)).find((name) => name !== undefined) ?? auth.store;
    const server = host === "docker.io" ? "https://index.docker.io/v1/" : host;
    const asked = helper === undefined ? undefined : await askHelper(helper, server, env);
    const found = asked ?? keys.map((key) => auth.entries.get(key)).find((entry) => entry !== undefined);
    if (found !== undefined) return found;
  }
  return undefined;
}
