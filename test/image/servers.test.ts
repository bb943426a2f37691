/** Against Debian's docker-registry: plain, TLS, Basic, Bearer; with skopeo and umoci as makers and judges. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readImages } from "../../src/image/image-index.ts";
import { listImages, pruneImages, removeImage } from "../../src/image/manage.ts";
import { pull } from "../../src/image/pull.ts";
import { resolveImage, resolveImageUser } from "../../src/image/resolve.ts";
import { streamFile } from "../../src/image/blobs.ts";
import { loadImage, saveImage } from "../../src/image/transfer.ts";
import { failure } from "./helpers/failure.ts";
import {
  makeCertificate,
  requireTools,
  type Server,
  startDockerRegistry,
  startTokenServer,
} from "./helpers/docker-registry.ts";
import { imageOf, layerOf, writeLayout } from "./helpers/layout.ts";
import { startRegistry } from "./helpers/registry.ts";
import { listTree, removeScratch, run, scratch } from "./helpers/stack.ts";
import { freshStore } from "./helpers/stores.ts";
import { dir, file, hard, link, tar } from "./tar-maker.ts";

let work = "";
let data = "";
let plain: Server;

const tarOf = [
  tar(
    dir("etc"),
    file("etc/passwd", "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/var/www:/bin/sh\n"),
    file("etc/group", "web:x:33:\nlog:x:4:web\n"),
    dir("bin"),
    file("bin/sh", "#!", { mode: 0o755 }),
  ),
  tar(hard("bin/ash", "bin/sh"), link("bin/dash", "sh"), file("etc/.wh.group", "")),
] as const;
const layers = [layerOf(tarOf[0]), layerOf(tarOf[1], "zstd")];
const image = imageOf(layers, { Cmd: ["sh"], Env: ["A=b"], User: "web" });

/** Put the image into the registry's storage through skopeo. */
const push = (host: string, name: string, layout = "layout", ...more: string[]): Promise<string> =>
  run(
    [
      "skopeo",
      "copy",
      "-q",
      "--dest-tls-verify=false",
      ...more,
      `oci:${join(work, layout)}:latest`,
      `docker://${host}/${name}`,
    ],
    work,
  );

beforeAll(async () => {
  requireTools("docker-registry", "skopeo", "umoci", "htpasswd", "openssl");
  work = scratch();
  data = join(work, "data");
  writeLayout(join(work, "layout"), image);
  // skopeo of Debian 12 cannot turn zstd layers into Docker's formats.
  // Its cache would put the zstd layer of the same content in their place, too: hence one file more.
  const gzipped = [layerOf(tarOf[0], "gzip"), layerOf(tar(file("only-gzip"), link("bin/dash", "sh")), "gzip")];
  writeLayout(join(work, "gzip-layout"), imageOf(gzipped, { Cmd: ["sh"], Env: ["A=b"] }));
  plain = await startDockerRegistry(work, { storage: data });
  await push(plain.host, "ns/test:1");
});
afterAll(async () => {
  await plain[Symbol.asyncDispose]();
  await removeScratch();
});

test("plain: what is stored is what skopeo pushed, and skopeo and umoci read our store", async () => {
  const { options, dir: place } = freshStore();
  await pull(`${plain.host}/ns/test:1`, options);
  const { images } = options.store;
  const name = `${plain.host}/ns/test:1`;
  const raw = await run(["skopeo", "inspect", "--raw", `oci:${images}:${name}`], place);
  expect(raw).toBe(await run(["skopeo", "inspect", "--raw", "--tls-verify=false", `docker://${name}`], place));
  expect(await run(["umoci", "ls", "--layout", images], place)).toBe(`${name}\n`);
  await run(["skopeo", "copy", "-q", `oci:${images}:${name}`, `dir:${place}/copy`], place);
});

test("docker's schema 2", async () => {
  await push(plain.host, "docker:2", "gzip-layout", "--format", "v2s2");
  const { options } = freshStore();
  const { image: pulled } = await pull(`${plain.host}/docker:2`, options);
  expect(pulled.manifest.mediaType).toContain("docker");
  expect(pulled.config.config.Env).toEqual(["A=b"]);
});

test("resolve gives directories, config and user, and holds the layers against prune", async () => {
  const { options } = freshStore();
  const resolved = await resolveImage(`${plain.host}/ns/test:1`, options);
  expect(resolved.layers.length).toBe(2);
  expect(resolved.config.Cmd).toEqual(["sh"]);
  expect(resolveImageUser("web", resolved.layers)).toEqual({ uid: 33, gid: 33, groups: [], home: "/var/www" });
  const again = await resolveImage(`${plain.host}/ns/test:1`, { ...options, policy: "never" });
  again[Symbol.dispose]();
  await removeImage(options.store, `${plain.host}/ns/test:1`);
  expect((await pruneImages(options.store)).freed).toMatchObject({ layers: 0 });
  expect(readdirSync(options.store.layers).length).toBe(2);
  resolved[Symbol.dispose]();
  expect((await pruneImages(options.store)).freed).toMatchObject({ layers: 2 });
  expect(readdirSync(join(options.store.images, "blobs/sha256"))).toEqual([]);
  expect(readdirSync(options.store.leases)).toEqual([]);
});

test("TLS: a certificate that nobody vouches for is refused, one of certs.d or insecure is taken", async () => {
  const files = await makeCertificate(join(work, "tls"));
  await using server = await startDockerRegistry(join(work, "tls"), {
    storage: data,
    http: `  tls: {certificate: ${files.cert}, key: ${files.key}}\n`,
  });
  const name = `${server.host}/ns/test:1`;
  const before = process.env["NODE_TLS_REJECT_UNAUTHORIZED"];
  process.env["NODE_TLS_REJECT_UNAUTHORIZED"] = "0";
  try {
    const { options, dir: place } = freshStore();
    expect((await failure(pull(name, options))).message).toMatch(/self.signed|SELF_SIGNED/i);
    const certs = join(place, "home/.config/containers/certs.d", server.host);
    mkdirSync(certs, { recursive: true });
    writeFileSync(join(certs, "ca.crt"), readFileSync(files.cert));
    expect((await pull(name, options)).changed).toBe(true);
    const rule = { prefix: server.host, location: server.host, insecure: true, blocked: false, mirrors: [] };
    expect((await pull(name, freshStore({ registries: [rule] }).options)).changed).toBe(true);
  } finally {
    if (before === undefined) delete process.env["NODE_TLS_REJECT_UNAUTHORIZED"];
    else process.env["NODE_TLS_REJECT_UNAUTHORIZED"] = before;
  }
});

const authFile = (place: string, host: string, password: string): void =>
  writeFileSync(
    join(place, "auth.json"),
    JSON.stringify({ auths: { [host]: { auth: Buffer.from(`bob:${password}`).toString("base64") } } }),
  );

test("Basic: without, with wrong and with right credentials, and through a helper", async () => {
  const htpasswd = join(work, "htpasswd");
  writeFileSync(htpasswd, await run(["htpasswd", "-Bbn", "-C", "4", "bob", "secret"], work));
  await using server = await startDockerRegistry(join(work, "basic"), {
    storage: data,
    top: `auth: {htpasswd: {realm: basic, path: ${htpasswd}}}\n`,
  });
  const name = `${server.host}/ns/test:1`;
  const { options, dir: place } = freshStore();
  expect(await failure(pull(name, options))).toMatchObject({ status: 401 });
  authFile(place, server.host, "wrong");
  expect(await failure(pull(name, options))).toMatchObject({ status: 401 });
  authFile(place, `${server.host}/ns`, "secret");
  expect((await pull(name, options)).changed).toBe(true);
  const helped = freshStore();
  const helper = join(helped.dir, "docker-credential-test");
  writeFileSync(
    helper,
    `#!/bin/sh\nread server\necho "{\\"ServerURL\\":\\"$server\\",\\"Username\\":\\"bob\\",\\"Secret\\":\\"secret\\"}"\n`,
    { mode: 0o755 },
  );
  writeFileSync(join(helped.dir, "auth.json"), JSON.stringify({ credHelpers: { [server.host]: "test" } }));
  const env = { ...helped.options.env, PATH: `${helped.dir}:/usr/bin:/bin` };
  expect((await pull(name, { ...helped.options, env })).changed).toBe(true);
});

test("Bearer: tokens by GET and POST, wrong password, tokens that run out", async () => {
  const files = await makeCertificate(join(work, "token"));
  await using tokens = startTokenServer(files, "hutch-test", "registry");
  await using server = await startDockerRegistry(join(work, "token"), {
    storage: data,
    top: `auth: {token: {realm: "${tokens.realm}", service: registry, issuer: hutch-test, rootcertbundle: ${files.cert}}}\n`,
  });
  const name = `${server.host}/ns/test:1`;
  const { options, dir: place } = freshStore();
  expect((await failure(pull(name, options))).message).toMatch(
    /token server .* answered 401 \(UNAUTHORIZED: who are you\)/,
  );
  authFile(place, server.host, "wrong");
  expect(await failure(pull(name, options))).toMatchObject({ status: 401 });
  authFile(place, server.host, "secret");
  tokens.requests.length = 0;
  expect((await pull(name, options)).changed).toBe(true);
  expect(tokens.requests.map(({ method }) => method)).toEqual(["POST", "GET"]);
  expect(tokens.requests[1]).toMatchObject({ scopes: ["repository:ns/test:pull"], user: "bob" });
  tokens.allowPost = true;
  tokens.requests.length = 0;
  tokens.lifetime = -120; // already over: the registry says invalid_token, which is worth one more try, not a loop
  const stale = freshStore();
  authFile(stale.dir, server.host, "secret");
  expect(await failure(pull(name, stale.options))).toMatchObject({ status: 401 });
  expect(tokens.requests.length).toBeLessThanOrEqual(4);
  tokens.lifetime = 300;
  expect((await pull(name, stale.options)).changed).toBe(true);
});

test("save and load: the same bytes each time, and skopeo takes both forms", async () => {
  const { options, dir: place } = freshStore();
  const name = `${plain.host}/ns/test:1`;
  await pull(name, options);
  const archive = join(place, "saved.tar");
  const save = async (to: string): Promise<void> =>
    void (await Bun.write(to, new Response(saveImage(options.store, [name]) as never)));
  await save(archive);
  await save(`${archive}.2`);
  expect(Bun.file(archive).size).toBeGreaterThan(1000);
  await run(["cmp", archive, `${archive}.2`], place);
  await run(["skopeo", "copy", "-q", `oci-archive:${archive}`, `dir:${place}/a`], place);
  await run(["skopeo", "copy", "-q", `docker-archive:${archive}:${name}`, `dir:${place}/b`], place);
  const other = freshStore();
  const [loaded] = await loadImage({ ...other.options, archive: streamFile(archive), where: archive });
  expect(loaded?.name).toBe(name);
  expect(loaded?.image.record.manifest.digest).toBe(readImages(options.store)[0]?.manifest.digest);
  await run(["gzip", "-k", archive], place);
  const third = freshStore();
  expect((await loadImage({ ...third.options, archive: streamFile(`${archive}.gz`), where: archive })).length).toBe(1);
  expect((await resolveImage(name, { ...third.options, policy: "never" })).layers.length).toBe(2);
});

test.each(["docker-archive", "oci-archive", "oci"])("%s of skopeo, loaded and by reference", async (kind) => {
  const place = scratch();
  const target = `${kind}:${place}/made`;
  const reference =
    kind === "docker-archive"
      ? `${target}:example.com/made:1`
      : kind === "oci"
        ? `${target}:made`
        : `${target}:example.com/made:1`;
  await run(["skopeo", "copy", "-q", `oci:${join(work, "gzip-layout")}:latest`, reference], place);
  const { options } = freshStore();
  const resolved = await resolveImage(reference, options);
  expect(resolved.config.Cmd).toEqual(["sh"]);
  expect((await resolveImage(reference, { ...options, policy: "never" })).layers).toEqual([...resolved.layers]);
  expect(await listTree(resolved.layers[0] ?? "")).toContain("etc/passwd");
  expect((await failure(pull(`${target}:other/name:2`, options))).message).toMatch(/no image/);
  if (kind === "oci") return;
  const other = freshStore();
  const [loaded] = await loadImage({ ...other.options, archive: streamFile(`${place}/made`), where: "made" });
  expect(loaded?.name).toBe("example.com/made:1");
});

test("an index of registry's own making, by digest", async () => {
  await using registry = startRegistry();
  registry.add(image);
  const { options } = freshStore();
  await pull(`${registry.host}/test@${image.manifest.digest}`, options);
  expect(listImages(options.store).images.length).toBe(1);
  await removeImage(options.store, image.config.digest.slice(7, 19));
  expect(listImages(options.store).images).toEqual([]);
});
