/** Debian's docker-registry on a free port of 127.0.0.1, and a token server of our own for it. */

import { createSign, X509Certificate } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "./stack.ts";

export function requireTools(...names: readonly string[]): void {
  const missing = names.filter((name) => Bun.which(name) === null);
  if (missing.length > 0)
    throw new Error(
      `these tests need ${missing.join(", ")} (Debian: docker-registry skopeo umoci apache2-utils openssl)`,
    );
}

/** A port that was free a moment ago. */
function freePort(): number {
  const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => undefined } });
  const { port } = server;
  server.stop(true);
  return port;
}

export type Server = AsyncDisposable & { readonly host: string };

/** A key and a certificate of its own signature for 127.0.0.1. */
export async function makeCertificate(dir: string): Promise<{ cert: string; key: string }> {
  mkdirSync(dir, { recursive: true });
  const cert = join(dir, "cert.pem");
  const key = join(dir, "key.pem");
  await run(
    [
      "openssl",
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:prime256v1",
      "-nodes",
      "-days",
      "2",
      "-subj",
      "/CN=127.0.0.1",
      "-addext",
      "subjectAltName=IP:127.0.0.1",
      "-keyout",
      key,
      "-out",
      cert,
    ],
    dir,
  );
  return { cert, key };
}

/** Start the registry with more configuration below `http:` and at the top, in YAML. */
export async function startDockerRegistry(
  dir: string,
  options: { http?: string; top?: string; storage?: string } = {},
): Promise<Server> {
  const host = `127.0.0.1:${freePort()}`;
  mkdirSync(dir, { recursive: true });
  const config = join(dir, `config-${host.slice(10)}.yml`);
  const storage = options.storage ?? join(dir, "data");
  writeFileSync(
    config,
    `version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: ${storage}}}\nhttp:\n  addr: ${host}\n${options.http ?? ""}${options.top ?? ""}`,
  );
  const child = Bun.spawn(["docker-registry", "serve", config], { stdout: "ignore", stderr: "pipe" });
  const scheme = options.http?.includes("tls:") === true ? "https" : "http";
  for (let tries = 0; ; tries++) {
    const up = await fetch(`${scheme}://${host}/v2/`, { tls: { rejectUnauthorized: false } }).then(
      () => true,
      () => false,
    );
    if (up) break;
    if (child.exitCode !== null || tries > 400)
      throw new Error(`docker-registry did not start: ${await new Response(child.stderr).text()}`);
    await Bun.sleep(25); // between tries to connect
  }
  return {
    host,
    [Symbol.asyncDispose]: async () => {
      child.kill();
      await child.exited;
    },
  };
}

const base64url = (value: string | Uint8Array): string => Buffer.from(value).toString("base64url");

export type TokenServer = AsyncDisposable & {
  readonly realm: string;
  readonly requests: { readonly method: string; readonly scopes: readonly string[]; readonly user: string }[];
  /** Seconds that tokens live, and whether the answer says so. */
  lifetime: number;
  allowPost: boolean;
};

/** Signs tokens that docker-registry accepts: ES256 with the certificate in the header. bob's password is "secret". */
export function startTokenServer(files: { cert: string; key: string }, issuer: string, service: string): TokenServer {
  const key = readFileSync(files.key, "utf8");
  const x5c = [new X509Certificate(readFileSync(files.cert)).raw.toString("base64")];
  const sign = (access: object[], lifetime: number): string => {
    const now = Math.floor(Date.now() / 1000);
    const head = base64url(JSON.stringify({ typ: "JWT", alg: "ES256", x5c }));
    const claims = base64url(
      JSON.stringify({
        iss: issuer,
        aud: service,
        sub: "",
        exp: now + lifetime,
        nbf: now - 10,
        iat: now,
        jti: crypto.randomUUID(),
        access,
      }),
    );
    const signature = createSign("sha256").update(`${head}.${claims}`).sign({ key, dsaEncoding: "ieee-p1363" });
    return `${head}.${claims}.${base64url(signature)}`;
  };
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request) {
      const url = new URL(request.url);
      const form = request.method === "POST" ? new URLSearchParams(await request.text()) : url.searchParams;
      const [name = "", password = ""] = Buffer.from(
        (request.headers.get("authorization") ?? "").replace(/^Basic /, ""),
        "base64",
      )
        .toString()
        .split(":");
      const user = form.get("username") ?? name;
      const secret = form.get("password") ?? password;
      const scopes = form.getAll("scope").flatMap((scope) => scope.split(" "));
      result.requests.push({ method: request.method, scopes, user });
      if (request.method === "POST" && !result.allowPost) return new Response("", { status: 405 });
      if (user !== "bob" || secret !== "secret")
        return Response.json({ errors: [{ code: "UNAUTHORIZED", message: "who are you" }] }, { status: 401 });
      const access = scopes.map((scope) => {
        const [type, repository, actions = ""] = scope.split(":");
        return { type, name: repository, actions: actions.split(",") };
      });
      const token = sign(access, result.lifetime);
      return Response.json(request.method === "POST" ? { access_token: token } : { token });
    },
  });
  const result: TokenServer = {
    realm: `${server.url.origin}/token`,
    requests: [],
    lifetime: 300,
    allowPost: false,
    [Symbol.asyncDispose]: () => server.stop(true),
  };
  return result;
}
