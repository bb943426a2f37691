/** `hutch login` and `logout`: credentials tried at their registry, kept where a pull finds them, and forgotten. */

import { HutchError } from "../errors.ts";
import { createAuthorizer } from "./auth.ts";
import { registryBase, registryTransport } from "./connection.ts";
import { entryKeys, eraseFromFile, isOwnPlace, storeInFile } from "./credential-file.ts";
import { eraseFromHelper, helperServer, listHelper, storeInHelper } from "./credential-helper.ts";
import {
  type AuthFile,
  authFiles,
  type Credentials,
  findCredentials,
  helperFor,
  credentialKeys,
  normalizeKey,
  readAuthFile,
} from "./credentials.ts";
import { readBounded, send } from "./http.ts";
import { readCertificates, readRegistries, registryHost, type RegistryRule } from "./registries.ts";
import { formatRegistryErrors, RegistryError } from "./registry-error.ts";

export type Password = Extract<Credentials, { kind: "password" }>;

/** A registry, or with a path the part of it below that. */
export type RegistryName = { readonly domain: string; readonly path: string };

export type LoginOptions = {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly uid: number;
  /** Instead of the configuration files. */
  readonly registries?: readonly RegistryRule[] | undefined;
  /** Milliseconds until the first byte of an answer. */
  readonly firstByte?: number | undefined;
};

/** What credentials are kept by. */
export const keyOf = ({ domain, path }: RegistryName): string => (path === "" ? domain : `${domain}/${path}`);

/**
 * Ask a registry whether it takes a password (GET /v2/, distribution-spec "Determining Support"). False when it does not
 * ask for any, so that nobody knows. @throws RegistryError when it refuses, or gives no answer
 */
export async function verifyPassword(name: RegistryName, password: Password, options: LoginOptions): Promise<boolean> {
  try {
    return await tryPassword(name, password, options);
  } catch (error) {
    throw error instanceof RegistryError ? withoutSecrets(error, password) : error;
  }
}

/** The error without the password where a registry has put that into its words, and without hints for who pulls. */
function withoutSecrets({ message, status, connection, hint }: RegistryError, { username, password }: Password): Error {
  const clean = [Buffer.from(`${username}:${password}`).toString("base64"), password].reduce(
    (text, secret) => (secret.length < 4 ? text : text.replaceAll(secret, "…")),
    message,
  );
  const told = hint === undefined || connection !== undefined ? {} : { hint };
  return new RegistryError(clean, { ...(status === undefined ? {} : { status }), connection, ...told });
}

async function tryPassword(
  { domain }: RegistryName,
  credentials: Password,
  { env, registries = readRegistries(env), firstByte = 30_000 }: LoginOptions,
): Promise<boolean> {
  const place = registryHost(domain, registries);
  const transport = registryTransport(place, (host) => readCertificates(host, env), firstByte);
  const { base } = await registryBase(place, transport);
  const authorizer = createAuthorizer({ ...place, scope: "", credentials, transport });
  const ask = (): Promise<Response> => send(new URL("v2/", base), { ...transport, authorization: authorizer.header() });
  const first = await ask();
  let response = first;
  if (first.status === 401) {
    if (!(await authorizer.answer(first)))
      throw new RegistryError(`${place.host}: asks for credentials, but neither by Basic nor by a token server`);
    await first.body?.cancel();
    response = await ask();
  }
  const body = await readBounded(response, place.host, 1024 * 1024, firstByte);
  if (response.status === 200) return first.status === 401;
  const detail = formatRegistryErrors(new TextDecoder().decode(body));
  const { status, statusText } = response;
  throw new RegistryError(`${place.host}: ${status} ${statusText}`.trimEnd() + (detail && ` (${detail})`), {
    status,
    ...hintFor(status),
  });
}

function hintFor(status: number): { hint?: string } {
  if (status === 401 || status === 403) return { hint: "check the user name and the password" };
  if (status === 429) return { hint: "the registry limits requests: wait" };
  return status < 500 ? { hint: "is this a registry (GET /v2/)?" } : {};
}

/** Where a password is kept, or was. */
export type Place =
  | { readonly kind: "file"; readonly file: string }
  | { readonly kind: "helper"; readonly name: string; readonly server: string };

/** A place in words. */
export function formatPlace(place: Place): string {
  return place.kind === "file" ? place.file : `docker-credential-${place.name}`;
}

/**
 * Where a registry's password is to be kept: by the helper that the first of the credential files names that names one, else
 * in the first file that can be the caller's own. @throws HutchError when a file is broken, or there is no place
 */
export function choosePlace(name: RegistryName, { env, uid }: LoginOptions): Place {
  const files = authFiles(env, uid);
  const keys = credentialKeys(name.domain, name.path);
  for (const file of files) {
    const auth = readAuthFile(file)?.auth;
    const helper = auth === undefined ? undefined : helperFor(auth, keys);
    if (helper === undefined) continue;
    if (name.path !== "")
      throw new HutchError(`docker-credential-${helper} keeps the passwords of whole registries`, {
        from: `${file}, for ${keyOf(name)}`,
        hint: `log in to ${name.domain}`,
      });
    return { kind: "helper", name: helper, server: helperServer(name.domain) };
  }
  const [first] = files;
  const file = env["REGISTRY_AUTH_FILE"]
    ? first
    : files.find((path) => !path.endsWith(".dockercfg") && isOwnPlace(path, uid));
  if (file === undefined)
    throw new HutchError(`no place of your own for credentials: none of ${files.join(", ")}`, {
      hint: "REGISTRY_AUTH_FILE names one",
    });
  return { kind: "file", file };
}

/**
 * Keep a password where {@link choosePlace} says, and what the files had for the registry before no more where that would
 * go before it. @throws HutchError when it cannot be written, or would still not be the one that a pull finds
 */
export async function storePassword(
  name: RegistryName,
  credentials: Password,
  place: Place,
  { env, uid }: LoginOptions,
): Promise<void> {
  const key = keyOf(name);
  const { username, password: secret } = credentials;
  if (place.kind === "helper") {
    await storeInHelper(place.name, place.server, { username, secret }, env);
    for (const file of authFiles(env, uid)) {
      const auth = readAuthFile(file)?.auth;
      if (auth === undefined) continue;
      if (auth.entries.has(key)) await eraseFromFile(file, (other) => normalizeKey(other) === key);
      if (helperFor(auth, [key]) === place.name) break;
    }
  } else await storeInFile(place.file, key, credentials);
  const found = await findCredentials(name.domain, name.path, env, uid);
  const isSame = found?.kind === "password" && found.username === username && found.password === secret;
  if (!isSame)
    throw new HutchError(`the password is in ${formatPlace(place)}, but another one for ${key} goes before it`, {
      hint: `it is in one of ${authFiles(env, uid).join(", ")}, or with a helper that they name`,
    });
}

/** What was forgotten and where, and what could not be: a helper that forgets nothing keeps nobody from the rest. */
export type Forgotten = {
  readonly gone: readonly { readonly key: string; readonly place: Place }[];
  readonly failures: readonly HutchError[];
};

/** A registry as a helper knows it. */
type Asked = { readonly helper: string; readonly server: string };

/**
 * Forget a registry's credentials, or those of all: what a pull would find, from every file and every helper that these name.
 * @throws HutchError when a file cannot be read
 */
export async function forget(name: RegistryName | "all", { env, uid }: LoginOptions): Promise<Forgotten> {
  const gone: { key: string; place: Place }[] = [];
  const failures: HutchError[] = [];
  const attempt = async <T>(action: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await action();
    } catch (error) {
      if (!(error instanceof HutchError)) throw error;
      failures.push(error);
      return undefined;
    }
  };
  const isMeant = (key: string): boolean => name === "all" || normalizeKey(key) === keyOf(name);
  for (const file of authFiles(env, uid)) {
    const known = readAuthFile(file);
    if (known === undefined) continue;
    const asked = name === "all" ? await attempt(() => allAsked(known.auth, env)) : askedFor(name, known.auth);
    for (const { helper, server } of asked ?? [])
      if ((await attempt(() => eraseFromHelper(helper, server, env))) === true)
        gone.push({ key: normalizeKey(server), place: { kind: "helper", name: helper, server } });
    if (!entryKeys(known.text, file).some(isMeant)) continue;
    const before = failures.length;
    await attempt(() => eraseFromFile(file, isMeant));
    if (failures.length === before)
      for (const key of known.auth.entries.keys()) if (isMeant(key)) gone.push({ key, place: { kind: "file", file } });
  }
  return { gone, failures };
}

/** Helpers keep whole registries. */
function askedFor({ domain, path }: RegistryName, auth: AuthFile): Asked[] {
  const helper = path === "" ? helperFor(auth, [domain]) : undefined;
  return helper === undefined ? [] : [{ helper, server: helperServer(domain) }];
}

async function allAsked({ helpers, store }: AuthFile, env: LoginOptions["env"]): Promise<Asked[]> {
  const named = [...helpers].map(([key, helper]) => ({ helper, server: helperServer(key.split("/", 1)[0] ?? key) }));
  const listed = store === undefined ? [] : await listHelper(store, env);
  return [...named, ...listed.map((server) => ({ helper: store ?? "", server }))].filter(({ helper }) => helper !== "");
}
