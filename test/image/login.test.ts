/** Passwords for registries: what is edited in credential files, who is asked, and what hostile registries get and say. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { chmodSync, chownSync, lstatSync, statSync } from "node:fs";
import { join } from "node:path";
import { findCredentials } from "../../src/image/credentials.ts";
import { choosePlace, forget, formatPlace, storePassword, verifyPassword } from "../../src/image/login.ts";
import { parseRegistryName } from "../../src/image/reference.ts";
import { parseRegistries, registryHost } from "../../src/image/registries.ts";
import { makeCertificate, requireTools, startDockerRegistry, startTokenServer } from "./helpers/docker-registry.ts";
import { failure } from "./helpers/failure.ts";
import { startRegistry } from "./helpers/registry.ts";
import { removeScratch, run, scratch } from "./helpers/stack.ts";

const bob = { kind: "password", username: "bob", password: "secret" } as const;
const UID = process.getuid?.() ?? 0;

beforeAll(() => requireTools("docker-registry", "htpasswd", "openssl"));
afterAll(removeScratch);

/** The options of a login that reads nothing of the machine's configuration. */
function fresh(more: Readonly<Record<string, string>> = {}) {
  const home = scratch();
  const env: Record<string, string> = { HOME: home, PATH: `${home}/bin:/usr/bin:/bin`, XDG_RUNTIME_DIR: `${home}/run` };
  mkdirSync(join(home, "run"));
  return {
    home,
    file: join(home, "run/containers/auth.json"),
    options: { env: { ...env, ...more }, uid: UID, registries: [] },
  };
}

const name = (text: string) => parseRegistryName(text);

/** Keep a password where it belongs, without asking a registry. */
async function keep(registry: string, { options }: ReturnType<typeof fresh>, password: string = bob.password) {
  const place = choosePlace(name(registry), options);
  await storePassword(name(registry), { ...bob, password }, place, options);
  return formatPlace(place);
}

/** Where something was forgotten, and what could not be. */
async function forgotten(what: Parameters<typeof forget>[0], { options }: ReturnType<typeof fresh>) {
  const { gone, failures } = await forget(what, options);
  return [...gone.map(({ place }) => formatPlace(place)), ...failures.map(({ message }) => message)];
}

test("the registries.conf of a pull says who is insecure to log in", () => {
  const rules = parseRegistries(
    `[[registry]]\nprefix = "a.test/ns"\nlocation = "b.test:1/x"\ninsecure = true\n` +
      `[[registry.mirror]]\nlocation = "m.test"\ninsecure = true\n` +
      `[[registry]]\nprefix = "*.wild.test"\ninsecure = true\n[[registry]]\nlocation = "c.test"\n`,
    "conf",
  );
  const insecure = (host: string) => registryHost(host, rules).insecure;
  expect(["b.test:1", "m.test", "x.wild.test"].map(insecure)).toEqual([true, true, true]);
  expect(["a.test", "b.test", "c.test", "wild.test"].map(insecure)).toEqual([false, false, false, false]);
  expect(registryHost("docker.io", rules)).toEqual({ host: "registry-1.docker.io", insecure: false });
});

test("a file is made 0600, and of one that is there only the registry's entry changes", async () => {
  const place = fresh();
  expect(await keep("quay.io", place)).toBe(place.file);
  expect(statSync(place.file).mode & 0o777).toBe(0o600);
  expect(statSync(join(place.file, "..")).mode & 0o777).toBe(0o700);
  // Numbers and spaces that JavaScript would change, a key twice, a byte that is no UTF-8.
  const odd = (entry: string) =>
    Buffer.from(
      `{ "n" : 12345678901234567890.10,\r\n"auths": {"other.test":{ "auth":"YTpi" ,"x":1e400}, ${entry}"z.test":{}} , "bad":"\xff\\u0000" }`,
      "latin1",
    );
  const entry = `"quay.io":{"email":"b@c","auth":"b2xkOm9sZA==","identitytoken":"t","n":-0}, `;
  writeFileSync(place.file, odd(entry), { mode: 0o644 });
  chmodSync(place.file, 0o644);
  await keep("quay.io", place, "new");
  const auth = Buffer.from("bob:new").toString("base64");
  expect(readFileSync(place.file)).toEqual(odd(`"quay.io":{"email":"b@c","n":-0,"auth":"${auth}"}, `));
  expect(statSync(place.file).mode & 0o777).toBe(0o600);
  expect(existsSync(`${place.file}.hutch`)).toBe(false);
  expect(await forgotten(name("quay.io"), place)).toEqual([place.file]);
  expect(readFileSync(place.file)).toEqual(odd(""));
  expect(await forgotten(name("quay.io"), place)).toEqual([]);
});

test("a link stays a link, docker's hub has docker's key in docker's file, and a part of a registry is its own entry", async () => {
  const place = fresh();
  mkdirSync(join(place.home, "dots"));
  mkdirSync(join(place.home, ".docker"));
  const target = join(place.home, "dots/config.json");
  writeFileSync(target, '{"auths":{"quay.io":{"auth":"YTpi"}},"psFormat":"x"}');
  symlinkSync("../dots/config.json", join(place.home, ".docker/config.json"));
  const docker = {
    ...place,
    options: {
      ...place.options,
      env: { ...place.options.env, REGISTRY_AUTH_FILE: join(place.home, ".docker/config.json") },
    },
  };
  await keep("docker.io", docker);
  await keep("quay.io/ns", docker);
  expect(lstatSync(join(place.home, ".docker/config.json")).isSymbolicLink()).toBe(true);
  expect(Object.keys((JSON.parse(readFileSync(target, "utf8")) as { auths: object }).auths)).toEqual([
    "quay.io",
    "https://index.docker.io/v1/",
    "quay.io/ns",
  ]);
  const find = async (host: string, path: string) => await findCredentials(host, path, docker.options.env, UID);
  expect([await find("registry-1.docker.io", "library/x"), await find("quay.io", "ns/x")]).toEqual([bob, bob]);
  expect(await find("quay.io", "other")).toMatchObject({ username: "a" });
  await forget(name("quay.io"), docker.options);
  expect([await find("quay.io", "ns/x"), await find("quay.io", "other")]).toEqual([bob, undefined]);
});

test.each([
  ["not JSON", '{"auths": {"quay.io": {"auth": c2VjcmV0}}}', "not JSON"],
  ["an array", "[]", "must be an object"],
  ["an entry that is none", '{"auths":{"x":5}}', "must be an object"],
])("a file that is %s is an error that does not quote it, and stays", async (_, text, words) => {
  const place = fresh();
  await keep("x.test", place);
  writeFileSync(place.file, text);
  const refused = await failure(keep("quay.io", place));
  expect(refused.message).toContain(words);
  expect(refused.message).not.toContain("c2VjcmV0");
  expect(readFileSync(place.file, "utf8")).toBe(text);
});

test("what is no file, and a link into nothing", async () => {
  const place = fresh();
  mkdirSync(place.file, { recursive: true });
  expect((await failure(keep("quay.io", place))).message).toMatch(/EISDIR|no file/);
  const device = fresh({ REGISTRY_AUTH_FILE: "/dev/null" });
  expect((await failure(keep("quay.io", device))).message).toMatch(/not JSON|no file/);
  expect(statSync("/dev/null").isCharacterDevice()).toBe(true);
  // A FIFO is not waited for.
  const fifo = join(place.file, "fifo");
  Bun.spawnSync(["mkfifo", fifo]);
  expect((await failure(keep("quay.io", fresh({ REGISTRY_AUTH_FILE: fifo })))).message).toContain("is no file");
  const dangling = fresh();
  mkdirSync(join(dangling.file, ".."));
  symlinkSync("nowhere", dangling.file);
  expect((await failure(keep("quay.io", dangling))).message).toContain("ENOENT");
});

test("two logins at once lose nothing", async () => {
  const place = fresh();
  const hosts = Array.from({ length: 20 }, (_, i) => `r${i}.test`);
  await Promise.all(hosts.map((host) => keep(host, place)));
  const { auths } = JSON.parse(readFileSync(place.file, "utf8")) as { auths: object };
  expect(Object.keys(auths).toSorted()).toEqual(hosts.toSorted());
});

/** A helper that keeps each server's secret in a file beside it, by the protocol of docker-credential-helpers. */
function makeHelper(home: string, helper: string): string {
  const directory = join(home, helper);
  mkdirSync(join(home, "bin"), { recursive: true });
  mkdirSync(directory);
  const script = `#!/bin/sh
cd ${directory} || exit 9
case $1 in
store) cat > in; n=$(sed 's/.*"ServerURL":"\\([^"]*\\)".*/\\1/' in | tr / _); mv in "$n";;
get) n=$(cat | tr / _); cat "$n" 2>/dev/null || { echo credentials not found in native keychain; exit 1; };;
erase) rm "$(cat | tr / _)";;
list) printf '{'; s=; for f in *; do [ -f "$f" ] && printf '%s"%s":"bob"' "$s" "$(echo "$f" | tr _ /)" && s=,; done; printf '}';;
esac
`;
  writeFileSync(join(home, "bin", `docker-credential-${helper}`), script, { mode: 0o755 });
  return directory;
}

test("a helper that docker's file names keeps the password, and no file does", async () => {
  const place = fresh();
  await keep("quay.io", place); // an older one, in a file that goes before
  const directory = makeHelper(place.home, "test");
  mkdirSync(join(place.home, ".docker"));
  writeFileSync(
    join(place.home, ".docker/config.json"),
    JSON.stringify({ credsStore: "test", credHelpers: { "plain.test": "" } }),
  );
  expect(await keep("quay.io", place, 'a"b\\c\u00e9')).toBe("docker-credential-test");
  expect(JSON.parse(readFileSync(join(directory, "quay.io"), "utf8"))).toEqual({
    ServerURL: "quay.io",
    Username: "bob",
    Secret: 'a"b\\c\u00e9',
  });
  expect(JSON.parse(readFileSync(place.file, "utf8"))).toEqual({ auths: {} });
  await keep("docker.io", place);
  expect(existsSync(join(directory, "https:__index.docker.io_v1_"))).toBe(true);
  expect(await keep("plain.test", place)).toBe(place.file); // docker's way to except one
  expect((await failure(keep("quay.io/ns", place))).message).toContain("keeps the passwords of whole registries");
  expect(await forgotten(name("quay.io"), place)).toEqual(["docker-credential-test"]);
  const { gone } = await forget("all", place.options);
  expect(gone.map(({ key, place: where }) => [key, where.kind])).toEqual([
    ["plain.test", "file"],
    ["docker.io", "helper"],
  ]);
  expect(await forgotten("all", place)).toEqual([]);
});

test("a helper that fails or is not there is told of, without what it was given", async () => {
  const place = fresh({ REGISTRY_AUTH_FILE: "" });
  mkdirSync(join(place.home, "run/containers"));
  writeFileSync(place.file, '{"credHelpers":{"quay.io":"broken","x.test":"absent","y.test":"../x"}}');
  mkdirSync(join(place.home, "bin"));
  writeFileSync(join(place.home, "bin/docker-credential-broken"), "#!/bin/sh\ncat; exit 3\n", { mode: 0o755 });
  const refused = await failure(keep("quay.io", place));
  expect(refused.message).toBe(
    "credential helper docker-credential-broken failed to store the password for quay.io (exit 3)",
  );
  writeFileSync(
    join(place.home, "bin/docker-credential-broken"),
    `#!/bin/sh\n[ $1 = get ] && echo '{"Username":"u","Secret":"hunter2"}' || exit 1\n`,
  );
  mkdirSync(join(place.home, ".docker"));
  writeFileSync(join(place.home, ".docker/config.json"), '{"auths":{"z.test":{"auth":"YTpi"}}}');
  expect(await forgotten("all", place)).toEqual([
    join(place.home, ".docker/config.json"), // whatever the others do
    "credential helper docker-credential-broken failed to erase quay.io (exit 1)",
    "credential helper docker-credential-absent is not in PATH",
    'invalid credential helper "../x"',
  ]);
  expect((await failure(keep("x.test", place))).message).toContain("docker-credential-absent is not in PATH");
  expect((await failure(keep("y.test", place))).message).toContain("invalid credential helper");
});

test("places of another user's, and none at all", async () => {
  const place = fresh();
  const own = choosePlace(name("x.test"), { ...place.options, uid: UID });
  expect(formatPlace(own)).toBe(place.file);
  expect(() => choosePlace(name("x.test"), { ...place.options, uid: UID + 1 })).toThrow("no place of your own");
  const env = { HOME: place.home, XDG_RUNTIME_DIR: "/proc/1", PATH: "" };
  expect(formatPlace(choosePlace(name("x.test"), { env, uid: UID }))).toMatch(
    UID === 0 ? /./ : /\.config\/containers\/auth.json$/,
  );
});

test("a password that another file's goes before is an error", async () => {
  const place = fresh();
  await keep("x.test", place);
  const later = { kind: "file", file: join(place.home, ".config/containers/auth.json") } as const;
  const refused = await failure(storePassword(name("x.test"), { ...bob, password: "new" }, later, place.options));
  expect(refused.message).toContain("goes before it");
});

test("Basic: docker-registry takes the right password and refuses the wrong one", async () => {
  const work = scratch();
  writeFileSync(join(work, "htpasswd"), await run(["htpasswd", "-Bbn", "-C", "4", "bob", "secret"], work));
  await using server = await startDockerRegistry(work, {
    top: `auth: {htpasswd: {realm: basic, path: ${work}/htpasswd}}\n`,
  });
  const { options } = fresh();
  expect(await verifyPassword(name(server.host), bob, options)).toBe(true);
  const refused = await failure(verifyPassword(name(server.host), { ...bob, password: "wrong" }, options));
  expect(refused).toMatchObject({ status: 401, hint: "check the user name and the password" });
  expect(refused.message).toBe(`${server.host}: 401 Unauthorized (UNAUTHORIZED: authentication required)`);
});

test("Bearer, with TLS: by the token server, asked without a scope", async () => {
  const work = scratch();
  const files = await makeCertificate(join(work, "token"));
  await using tokens = startTokenServer(files, "hutch-test", "registry");
  await using server = await startDockerRegistry(work, {
    http: `  tls: {certificate: ${files.cert}, key: ${files.key}}\n`,
    top: `auth: {token: {realm: "${tokens.realm}", service: registry, issuer: hutch-test, rootcertbundle: ${files.cert}}}\n`,
  });
  const { options, home } = fresh();
  expect((await failure(verifyPassword(name(server.host), bob, options))).message).toMatch(/self.signed|SELF_SIGNED/i);
  expect(tokens.requests).toEqual([]);
  const certs = join(home, ".config/containers/certs.d", server.host);
  mkdirSync(certs, { recursive: true });
  writeFileSync(join(certs, "ca.crt"), readFileSync(files.cert));
  for (const allowPost of [false, true]) {
    tokens.allowPost = allowPost;
    tokens.requests.length = 0;
    expect(await verifyPassword(name(server.host), bob, options)).toBe(true);
    expect(tokens.requests.at(-1)).toEqual({ method: allowPost ? "POST" : "GET", scopes: [], user: "bob" });
    const refused = await failure(verifyPassword(name(server.host), { ...bob, password: "wrong" }, options));
    expect(refused.message).toMatch(/token server .* answered 401 \(UNAUTHORIZED: who are you\)/);
  }
});

test("a registry that asks for nothing, and those that are none", async () => {
  await using registry = startRegistry();
  const { options } = fresh();
  const verify = async () => await verifyPassword(name(registry.host), bob, options);
  expect(await verify()).toBe(false);
  expect(registry.requests.every(({ authorization }) => authorization === null)).toBe(true);
  registry.intercept = () => new Response("no", { status: 404, statusText: "Not Found" });
  expect(await failure(verify())).toMatchObject({ status: 404, hint: "is this a registry (GET /v2/)?" });
  registry.intercept = () => new Response("", { status: 503, statusText: "Service Unavailable" });
  expect(await failure(verify())).toMatchObject({
    message: `${registry.host}: 503 Service Unavailable`,
    hint: undefined,
  });
  registry.intercept = () => new Response("", { status: 401, headers: { "www-authenticate": "Negotiate" } });
  expect((await failure(verify())).message).toContain("neither by Basic nor by a token server");
  const closed = await failure(verifyPassword(name("127.0.0.1:1"), bob, options));
  expect([closed.message, closed.hint]).toEqual(["127.0.0.1:1: connection refused", undefined]);
});

test("an example of a scope in the challenge is not asked for", async () => {
  await using registry = startRegistry();
  const files = await makeCertificate(join(scratch(), "token"));
  await using tokens = startTokenServer(files, "hutch-test", "registry");
  const challenge = `Bearer realm="${tokens.realm}",service="registry",scope="repository:user/image:pull"`;
  registry.intercept = ({ authorization }) =>
    authorization === null
      ? new Response("", { status: 401, headers: { "www-authenticate": challenge } })
      : Response.json({});
  expect(await verifyPassword(name(registry.host), bob, fresh().options)).toBe(true);
  expect(tokens.requests.map(({ scopes }) => scopes)).toEqual([[], []]);
});

test.skipIf(UID !== 0)(
  "root's password goes into no file that another user has put into a directory for all (needs root)",
  async () => {
    const shared = scratch();
    const place = fresh({ REGISTRY_AUTH_FILE: join(shared, "auth.json") });
    writeFileSync(join(shared, "auth.json"), "{}");
    chownSync(join(shared, "auth.json"), 1234, 1234);
    expect((await failure(keep("quay.io", place))).message).toContain("belongs to user 1234, not to 0");
    expect(readFileSync(join(shared, "auth.json"), "utf8")).toBe("{}");
    chownSync(shared, 1234, 1234); // their own directory: the file stays theirs
    await keep("quay.io", place);
    expect(statSync(join(shared, "auth.json"))).toMatchObject({ uid: 1234, gid: 1234 });
  },
);

test("a hostile registry: no password in plain text to others, on a redirect, or in an error", async () => {
  await using registry = startRegistry();
  await using other = startRegistry();
  const { options } = fresh();
  const verify = async () =>
    await failure(verifyPassword(name(registry.host), { ...bob, password: "hunter2" }, options));
  const challenge = (value: string) => () => new Response("", { status: 401, headers: { "www-authenticate": value } });
  registry.intercept = challenge('Bearer realm="http://192.0.2.1/token"');
  expect((await verify()).message).toContain("refusing to send credentials to 192.0.2.1 in plain text");
  registry.intercept = ({ authorization }) =>
    authorization === null
      ? new Response("", { status: 401, headers: { "www-authenticate": "Basic realm=x" } })
      : Response.redirect(`${other.url}/v2/`, 307);
  expect(await verifyPassword(name(registry.host), bob, options)).toBe(true);
  expect(other.requests.map(({ authorization }) => authorization)).toEqual([null]);
  const encoded = Buffer.from("bob:hunter2").toString("base64");
  registry.intercept = ({ authorization }) =>
    authorization === null
      ? new Response("", { status: 401, headers: { "www-authenticate": "Basic realm=x" } })
      : Response.json(
          { errors: [{ code: "DENIED", message: `not hunter2 ${encoded}\u001b[31m` }] },
          { status: 403, statusText: "Forbidden" },
        );
  const told = await verify();
  expect(told.message).toBe(`${registry.host}: 403 Forbidden (DENIED: not … … [31m)`);
});
