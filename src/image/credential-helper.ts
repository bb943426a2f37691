/**
 * Credential helpers: programs `docker-credential-NAME` in PATH that keep secrets (docker-credential-helpers, README,
 * "Development"). What they print is not repeated where it may hold a secret.
 */

import { HutchError } from "../errors.ts";
import { optionalString, optionalStrings, parseJsonObject } from "./json.ts";

type Env = Readonly<Record<string, string | undefined>>;

const ANSWER_LIMIT = 1024 * 1024;
const NOT_FOUND = /credentials not found/i;

/** What a helper knows a registry by: Docker's name of its hub, else the host. */
export function helperServer(domain: string): string {
  return domain === "docker.io" ? "https://index.docker.io/v1/" : domain;
}

/** Run a helper; its output and exit code. @throws HutchError when it is not there, or silent for 30 s */
async function callHelper(
  name: string,
  verb: "get" | "store" | "erase" | "list",
  input: string,
  env: Env,
  from: string,
): Promise<{ readonly output: Uint8Array; readonly code: number }> {
  if (!/^[A-Za-z0-9._-]+$/.test(name)) throw new HutchError(`invalid credential helper ${JSON.stringify(name)}`);
  const program = Bun.which(`docker-credential-${name}`, { PATH: env["PATH"] ?? "" });
  if (program === null) throw new HutchError(`credential helper docker-credential-${name} is not in PATH`, { from });
  const child = Bun.spawn([program, verb], {
    stdin: new TextEncoder().encode(input),
    stdout: "pipe",
    stderr: "ignore",
    env: { ...env },
    timeout: 30_000,
  });
  const [output, code] = await Promise.all([new Response(child.stdout).bytes(), child.exited]);
  return { output: output.subarray(0, ANSWER_LIMIT), code };
}

const failed = (name: string, verb: string, what: string, code: number): HutchError =>
  new HutchError(`credential helper docker-credential-${name} failed to ${verb} ${what} (exit ${code})`, {
    hint: `its own words: docker-credential-${name} list`,
  });

const saysNotFound = (output: Uint8Array): boolean => NOT_FOUND.test(new TextDecoder().decode(output));

/** What a helper keeps: a password, or with the user name `<token>` a token for the token server. */
export type HelperSecret = { readonly username: string; readonly secret: string };

/** What a helper knows of a server; undefined when nothing. @throws HutchError */
export async function askHelper(name: string, server: string, env: Env): Promise<HelperSecret | undefined> {
  const { output, code } = await callHelper(name, "get", server, env, `registry ${server}`);
  if (code !== 0) {
    if (saysNotFound(output)) return undefined;
    throw new HutchError(`credential helper docker-credential-${name} failed for ${server} (exit ${code})`);
  }
  const answer = parseJsonObject(output, `docker-credential-${name}`, ANSWER_LIMIT, "secret");
  const username = optionalString(answer, "Username", "answer") ?? "";
  const secret = optionalString(answer, "Secret", "answer") ?? "";
  return username === "" && secret === "" ? undefined : { username, secret };
}

/** Give a helper a password to keep, in the place of what it has for the server. @throws HutchError */
export async function storeInHelper(
  name: string,
  server: string,
  { username, secret }: HelperSecret,
  env: Env,
): Promise<void> {
  const input = JSON.stringify({ ServerURL: server, Username: username, Secret: secret });
  const { code } = await callHelper(name, "store", input, env, `registry ${server}`);
  if (code !== 0) throw failed(name, "store", `the password for ${server}`, code);
}

/** Let a helper forget a server; false when it knows none. @throws HutchError */
export async function eraseFromHelper(name: string, server: string, env: Env): Promise<boolean> {
  if ((await askHelper(name, server, env)) === undefined) return false;
  const { output, code } = await callHelper(name, "erase", server, env, `registry ${server}`);
  if (code !== 0 && !saysNotFound(output)) throw failed(name, "erase", server, code);
  return true;
}

/** The servers that a helper knows. @throws HutchError */
export async function listHelper(name: string, env: Env): Promise<string[]> {
  const { output, code } = await callHelper(name, "list", "", env, "logout --all");
  if (code !== 0) throw failed(name, "list", "its servers", code);
  const text = new TextDecoder().decode(output).trim();
  if (text === "" || text === "null") return []; // no map at all, as Go writes an empty one
  const where = `docker-credential-${name}`;
  const object = parseJsonObject(output, where, ANSWER_LIMIT, "secret");
  return Object.keys(optionalStrings({ list: object }, "list", where) ?? {});
}
