/**
 * Answering a registry's 401: Basic, or a token from the server that the challenge names (distribution's "Token
 * Authentication Specification" and "OAuth2 Token Authentication").
 */

import { HutchError } from "../errors.ts";
import { bestChallenge, parseChallenges } from "./challenge.ts";
import type { Transport } from "./connection.ts";
import type { Credentials } from "./credentials.ts";
import { isLoopback, readBounded, send } from "./http.ts";
import { optionalString, parseJsonObject } from "./json.ts";
import { formatRegistryErrors, RegistryError } from "./registry-error.ts";

export type AuthContext = {
  /** For errors. */
  readonly host: string;
  /**
   * `repository:library/alpine:pull`, asked for when the challenge names none. "" is none whatever the challenge says, to
   * log in: some name an example of one there.
   */
  readonly scope: string;
  readonly credentials: Credentials | undefined;
  /** How to reach the token server: TLS, time limits, plain text. */
  readonly transport: Transport;
  /** The registry itself was marked insecure by the user. */
  readonly insecure: boolean;
};

type Token = { readonly header: string; readonly expires: number };

export type Authorizer = {
  /** The Authorization for the next request, if there is one still good. */
  readonly header: () => string | undefined;
  /** Take a 401; true when another try makes sense. @throws RegistryError when the token server refuses */
  readonly answer: (response: Response) => Promise<boolean>;
};

const basic = (username: string, password: string): string =>
  `Basic ${Buffer.from(`${username}:${password}`, "utf8").toString("base64")}`;

/** Keeps one registry's authorization for one repository. */
export function createAuthorizer(context: AuthContext): Authorizer {
  const { credentials } = context;
  let token: Token | undefined =
    credentials?.kind === "registry" ? { header: `Bearer ${credentials.token}`, expires: Infinity } : undefined;

  function header(): string | undefined {
    return token !== undefined && token.expires > Date.now() ? token.header : undefined;
  }

  async function answer(response: Response): Promise<boolean> {
    const challenge = bestChallenge(parseChallenges(response.headers.get("www-authenticate") ?? ""));
    if (challenge === undefined) return false;
    if (challenge.scheme === "basic") {
      if (credentials?.kind !== "password") return false;
      const value = basic(credentials.username, credentials.password);
      const isNew = token?.header !== value;
      token = { header: value, expires: Infinity };
      return isNew;
    }
    token = await fetchToken(context, challenge.parameters);
    return true;
  }

  return { header, answer };
}

/** Scopes of a challenge: the parameter may hold several, parted by spaces. */
function scopesOf(parameter: string | undefined, own: string): string[] {
  if (own === "") return [];
  const scopes = (parameter ?? "").split(" ").filter((scope) => scope !== "");
  return scopes.length === 0 ? [own] : scopes;
}

async function fetchToken(context: AuthContext, parameters: Readonly<Record<string, string>>): Promise<Token> {
  const { host, credentials, transport } = context;
  const text = parameters["realm"] ?? "";
  const realm = URL.canParse(text) ? new URL(text) : undefined;
  if (realm === undefined || !/^https?:$/.test(realm.protocol)) {
    throw new RegistryError(`${host}: invalid token server ${JSON.stringify(text.slice(0, 200))}`);
  }
  if (realm.protocol === "http:" && credentials !== undefined && !context.insecure && !isLoopback(realm.hostname)) {
    throw new RegistryError(`${host}: refusing to send credentials to ${realm.host} in plain text`);
  }
  const scopes = scopesOf(parameters["scope"], context.scope);
  const service = parameters["service"];
  const asked = Date.now();
  const response = await requestToken(realm, service, scopes, credentials, transport);
  const body = await readBounded(response, realm.host, 1024 * 1024, 30_000);
  if (response.status !== 200) {
    const detail = formatRegistryErrors(new TextDecoder().decode(body));
    throw new RegistryError(
      `${host}: token server ${realm.host} answered ${response.status}${detail && ` (${detail})`}`,
      {
        status: response.status,
        ...(response.status === 401 || response.status === 403
          ? { hint: "check the credentials for this registry" }
          : {}),
      },
    );
  }
  return parseToken(body, realm.host, asked);
}

/** Read a token server's answer; `expires_in` counts in seconds and is 60 when absent. */
export function parseToken(body: Uint8Array, host: string, now: number): Token {
  const answer = parseJsonObject(body, `token server ${host}`, 1024 * 1024);
  const value = optionalString(answer, "token", "answer") || optionalString(answer, "access_token", "answer");
  if (!value || !/^[\x21-\x7e]+$/.test(value)) throw new HutchError(`token server ${host}: answer without a token`);
  const seconds = answer["expires_in"];
  const lifetime = typeof seconds === "number" && seconds > 0 ? Math.max(seconds, 60) : 60;
  return { header: `Bearer ${value}`, expires: now + lifetime * 900 }; // nine tenths of it, so that none runs out on the way
}

async function requestToken(
  realm: URL,
  service: string | undefined,
  scopes: readonly string[],
  credentials: Credentials | undefined,
  transport: AuthContext["transport"],
): Promise<Response> {
  if (credentials?.kind === "password" || credentials?.kind === "identity") {
    const form = new URLSearchParams({ client_id: "hutch", access_type: "offline" });
    if (scopes.length > 0) form.set("scope", scopes.join(" "));
    if (service !== undefined) form.set("service", service);
    if (credentials.kind === "identity") {
      form.set("grant_type", "refresh_token");
      form.set("refresh_token", credentials.token);
    } else {
      form.set("grant_type", "password");
      form.set("username", credentials.username);
      form.set("password", credentials.password);
    }
    const headers = { "Content-Type": "application/x-www-form-urlencoded" };
    const posted = await send(realm, { ...transport, method: "POST", headers, body: form.toString() });
    const isRefusedMethod = [400, 401, 404, 405].includes(posted.status);
    if (!isRefusedMethod || credentials.kind === "identity") return posted;
    await posted.body?.cancel();
  }
  const url = new URL(realm);
  if (service !== undefined) url.searchParams.append("service", service);
  for (const scope of scopes) url.searchParams.append("scope", scope);
  const authorization =
    credentials?.kind === "password" ? basic(credentials.username, credentials.password) : undefined;
  return send(url, { ...transport, authorization });
}
