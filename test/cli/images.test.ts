/** hutch pull, images, inspect, rmi, prune, save and load, on the built binary against a registry of our own. */

import { expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { imageOf, layerOf, writeLayout } from "../image/helpers/layout.ts";
import { startRegistry } from "../image/helpers/registry.ts";
import { dir, file, tar } from "../image/tar-maker.ts";
import { BUSYBOX, eachCaller, expectFailure, expectSuccess, withProbe } from "./hutch.ts";

const image = imageOf([layerOf(tar(dir("etc"), file("etc/motd", "hello", { uid: 7, gid: 8 })))], {
  Cmd: ["/bin/sh"],
  Labels: { words: "\u001b[31mred" },
});

interface Listed {
  readonly name: string | null;
  readonly digest: string;
  readonly config?: { readonly Cmd?: readonly string[] };
}

eachCaller("images", (bench) => {
  test("pull, list, inspect, save, remove, load, prune", async () => {
    await using registry = startRegistry();
    registry.add(image);
    const folder = bench.folder();
    const env = { HUTCH_STORE: `${folder}/store` };
    const hutch = (...args: string[]) => bench.hutch(args, { env });
    const name = `${registry.host}/test:latest`;
    const digest = image.manifest.digest;
    expectSuccess(await hutch("images", "--format", "json"), "[]\n");
    expectSuccess(await hutch("pull", `${registry.host}/test`), `${name}@${digest}\n`);
    const asked = registry.requests.length;
    expectSuccess(await hutch("pull", "--pull=missing", name), `${name}@${digest}\n`);
    expect(registry.requests.length).toBe(asked);
    const { stdout: table } = await hutch("images");
    expect(table).toMatch(
      /^REPOSITORY +TAG +IMAGE ID +PLATFORM +CREATED +SIZE\n127\.0\.0\.1:\d+\/test +latest +[0-9a-f]{12} +linux\/\w+ +\d+ B\n$/,
    );
    const [inspected] = JSON.parse((await hutch("inspect", digest.slice(7, 19))).stdout) as Listed[];
    expect(inspected).toMatchObject({ name, digest, config: { Cmd: ["/bin/sh"] } });
    const formatted = await hutch("inspect", "--format", "json", name);
    expect(JSON.parse(formatted.stdout)).toEqual([inspected]);
    expectFailure(await hutch("inspect", "--format", "text", name), 125, "--format");
    const archive = `${folder}/saved.tar`;
    expectSuccess(await hutch("save", "-o", archive, name), "");
    const piped = await bench.shell('"$HUTCH" save "$1" | cmp - "$2"', [name, archive], { env });
    expectSuccess(piped, "");
    expectSuccess(await hutch("rmi", name), `${name}\n`);
    expectFailure(await hutch("rmi", name), 125, `no image "${name}" in the store`);
    expectSuccess(await hutch("prune"), "freed 0 B: 0 blobs, 0 layers\n");
    expectSuccess(await bench.shell('"$HUTCH" load <"$1"', [archive], { env }), `${name}\n`);
    expectSuccess(await hutch("load", "-i", archive), `${name}\n`);
    expectSuccess(await hutch("prune", "--all"), /^\S+\/test:latest\nfreed [\d.]+ \w+: 3 blobs, 1 layers\n$/);
    expectSuccess(await hutch("images", "--format", "json"), "[]\n");
  });

  test("tag names an image again, takes a name from another, and each name goes by itself", async () => {
    const folder = bench.folder();
    const env = { HUTCH_STORE: `${folder}/store` };
    const hutch = (...args: string[]) => bench.hutch(args, { env });
    const other = imageOf([layerOf(tar(file("other", "image")))]);
    writeLayout(`${folder}/one`, image);
    writeLayout(`${folder}/two`, other);
    for (const place of ["one", "two"]) expect((await hutch("pull", `oci:${folder}/${place}`)).code).toBe(0);
    const id = other.config.digest.slice(7, 19);
    const digestOf = async (name: string) => (JSON.parse((await hutch("inspect", name)).stdout) as Listed[])[0]?.digest;
    expectSuccess(await hutch("tag", `oci:${folder}/one`, "base"), "docker.io/library/base:latest\n");
    expectSuccess(await hutch("tag", "base", "localhost:5000/x/base:1"), "localhost:5000/x/base:1\n");
    expect(await digestOf("localhost:5000/x/base:1")).toBe(image.manifest.digest);
    expectSuccess(await hutch("tag", id, "base"), "docker.io/library/base:latest\n");
    expect(await digestOf("base")).toBe(other.manifest.digest);
    const run = await hutch("run", ...withProbe(bench), "--pull=never", "--entrypoint", "/probe", "base", "argv0");
    expectSuccess(run, "/probe\n");
    expectSuccess(await hutch("rmi", "base"), "docker.io/library/base:latest\n");
    expectSuccess(await hutch("prune"), /, 1 layers\n$/);
    expect(await digestOf("localhost:5000/x/base:1")).toBe(image.manifest.digest);
    expectFailure(await hutch("tag", "base", "y"), 125, 'no image "base" in the store');
    const digest = `sha256:${"0".repeat(64)}`;
    for (const name of ["oci:/x", `x@${digest}`, "Upper", ""]) expect((await hutch("tag", id, name)).code).toBe(125);
    expectFailure(await hutch("tag", "base"), 125, "NAME is missing");
    expectFailure(await hutch("tag", "a", "b", "c"), 125, "unexpected c");
  });

  test("an image without layers is an empty root with the image's words", async () => {
    const folder = bench.folder();
    const env = { HUTCH_STORE: `${folder}/store` };
    writeLayout(`${folder}/layout`, imageOf([], { Entrypoint: ["/probe", "words"], Env: ["A=b"] }));
    const word = `oci:${folder}/layout`;
    const missing = await bench.hutch(["run", word], { env });
    expectFailure(missing, 127, "/probe: command not found");
    const listed = await bench.hutch(["run", "--entrypoint", "/bin/busybox", ...BUSYBOX, word, "env"], { env });
    expect(listed.stdout).toContain("A=b\n");
    expectSuccess(await bench.hutch(["save", "-o", `${folder}/saved.tar`, word], { env }), "");
    expectSuccess(await bench.hutch(["load", "-i", `${folder}/saved.tar`], { env }), /^sha256:/);
  });

  test("one progress line a layer on a terminal, none elsewhere", async () => {
    await using registry = startRegistry();
    registry.add(image);
    const folder = bench.folder();
    const env = { HUTCH_STORE: `${folder}/store` };
    const shown = await bench.shell('script -qec "$HUTCH pull $1" /dev/null </dev/null', [`${registry.host}/test`], {
      env,
    });
    expect(shown.stdout).toContain(`${image.blobs.at(-1)?.digest.slice(7, 19)}  done`);
    expect(shown.code).toBe(0);
  });

  test("a registry that asks to wait is told of on a terminal, and nothing elsewhere", async () => {
    await using registry = startRegistry();
    registry.add(image);
    let busy = 0;
    registry.intercept = () =>
      busy-- > 0
        ? Response.json({}, { status: 429, statusText: "Too Many Requests", headers: { "retry-after": "1" } })
        : undefined;
    for (const [line, told] of [
      ['script -qec "$HUTCH pull $1" /dev/null </dev/null', true],
      ['"$HUTCH" pull "$1" 2>&1', false],
    ] as const) {
      busy = 2;
      const env = { HUTCH_STORE: `${bench.folder()}/store` };
      const { stdout, code } = await bench.shell(line, [`${registry.host}/test`], { env });
      const count = stdout.split(`${registry.host} asks to wait 1 s (429 Too Many Requests)\r\n`).length - 1;
      expect({ told: count > 0, asked: stdout.includes("wait"), code }).toEqual({ told, asked: told, code: 0 });
    }
  });

  test("failures say registry, reference, status and the registry's own words", async () => {
    await using registry = startRegistry();
    const env = { HUTCH_STORE: `${bench.folder()}/store` };
    const hutch = (...args: string[]) => bench.hutch(args, { env });
    const missing = await hutch("pull", `${registry.host}/none:1`);
    expectFailure(
      missing,
      125,
      `${registry.host}/none`,
      "404",
      "MANIFEST_UNKNOWN: manifest unknown",
      `${registry.host}/none:1`,
    );
    const refused = await hutch("pull", "127.0.0.1:1/x");
    expectFailure(refused, 125, "127.0.0.1:1: connection refused", "127.0.0.1:1/x:latest", "in the store runs without");
    expect(refused.stderr).not.toContain("ECONNREFUSED");
    expectFailure(await hutch("pull", "Upper/Case"), 125, "must be lower case");
    expectFailure(await hutch("pull"), 125, "IMAGE is missing");
    expectFailure(await hutch("pull", "--platform", "a b", "x"), 125, "invalid platform");
    expectFailure(await hutch("images", "x"), 125, "unexpected x");
    expectFailure(await hutch("inspect", "nothing"), 125, 'no image "nothing"');
    expectFailure(await hutch("load", "-i", "/dev/null"), 125, "neither an OCI layout");
    expectFailure(await hutch("load", "-i", "/"), 125, "read /: EISDIR");
    expectFailure(await hutch("load", "-i", "/etc/passwd"), 125, "/etc/passwd: tar: ", "is this an archive of images?");
    expectFailure(await hutch("save", "-o", "/nonexistent/x", "nothing"), 125, "ENOENT");
  });

  test("save names the user's file, and writes to what is no file as it is", async () => {
    const layout = bench.folder();
    writeLayout(layout, image);
    const folder = bench.folder({ here: { directory: true }, "closed/x": "" });
    const env = { HUTCH_STORE: `${folder}/store` };
    const hutch = (...args: string[]) => bench.hutch(args, { env });
    expect((await hutch("pull", `oci:${layout}`)).code).toBe(0);
    // Nobody writes in /proc, not even root.
    for (const path of ["/proc/x.tar", `${folder}/none/x.tar`, `${folder}/closed/x/y.tar`, `${folder}/here`]) {
      const refused = await hutch("save", "-o", path, `oci:${layout}`);
      expectFailure(refused, 125, `hutch save: open ${path}: E`);
      expect(refused.stderr).not.toContain("partial");
    }
    const piped = await bench.shell(
      'mkfifo "$1/fifo" && { "$HUTCH" save -o "$1/fifo" "$2" & cat "$1/fifo" | tar t; }',
      [folder, `oci:${layout}`],
      { env },
    );
    expectSuccess(piped, /^blobs\/\n[^]*oci-layout\n/);
    expectSuccess(
      await bench.shell('"$HUTCH" save -o /dev/null "$1" && test -c /dev/null', [`oci:${layout}`], { env }),
      "",
    );
    expect(readdirSync(folder).toSorted()).toEqual(["closed", "fifo", "here", "store"]);
  });

  test("a standard output that is closed is an error, and one that goes nowhere is none", async () => {
    const folder = bench.folder();
    writeLayout(`${folder}/lay`, image);
    const env = { HUTCH_STORE: `${folder}/store` };
    const shell = (line: string) => bench.shell(line, [`oci:${folder}/lay`], { env });
    for (const line of ['pull "$1"', "images --format json", 'inspect "$1"', 'tag "$1" x', "rmi x", 'save "$1"']) {
      const [word] = line.split(" ");
      const closed = await shell(`"$HUTCH" ${line} >&-`);
      expectFailure(closed, 125, `hutch ${word}: write to descriptor 1: EBADF`, "standard output is closed");
      if (word !== "rmi") expectSuccess(await shell(`"$HUTCH" ${line} >/dev/null`), "");
    }
    expectSuccess(await shell('"$HUTCH" save -o "$HUTCH_STORE.tar" "$1" >&-'), "");
    expectFailure(await shell('"$HUTCH" prune >&-'), 125, "hutch prune: write to descriptor 1: EBADF");
    expectFailure(await shell('"$HUTCH" load <&-'), 125, "nothing to read");
  });

  test("a store that cannot be made is one line, at once", async () => {
    const folder = bench.folder({ dangling: { link: "/nowhere/at/all" } });
    for (const store of ["/proc/x", `${folder}/dangling`, `${folder}/dangling/x`]) {
      const env = { HUTCH_STORE: store };
      expectFailure(
        await bench.hutch(["images"], { env }),
        125,
        "hutch images: mkdir ",
        store,
        "ENOENT",
        "HUTCH_STORE",
      );
      expectFailure(await bench.hutch(["run", "x", "y"], { env }), 125, "hutch run: mkdir ", store, "ENOENT");
    }
  });

  test("a layout or archive that cannot be read says why, and who asked for it", async () => {
    const folder = bench.folder({ "lay/blobs/sha256/x": "" });
    const env = { HUTCH_STORE: `${folder}/store` };
    const hutch = (...args: string[]) => bench.hutch(args, { env });
    expectFailure(await hutch("pull", `oci:${folder}/lay`), 125, "no such file", `${folder}/lay/index.json`);
    await bench.shell(`echo '{}' >"$1/lay/index.json"; echo '{}' >"$1/lay/oci-layout"; chmod 0 "$1"/lay/o*`, [folder]);
    // Root may read all.
    const words = bench.caller.root ? "OCI layout of unknown version" : `open ${folder}/lay/oci-layout: EACCES`;
    for (const command of ["pull", "run"]) expectFailure(await hutch(command, `oci:${folder}/lay`), 125, words);
    const gone = await hutch("load", "-i", `${folder}/nope`);
    expectFailure(
      gone,
      125,
      `open ${folder}/nope: ENOENT`,
      `(from -i ${folder}/nope)`,
      "hint: an archive of hutch save",
    );
    expectFailure(await hutch("load", "-i", folder), 125, `read ${folder}: EISDIR`, `(from -i ${folder})`);
  });

  test("the words that pulled a layout, and the id in the list, inspect, save, run and remove it", async () => {
    const folder = bench.folder();
    writeLayout(`${folder}/lay`, image, "box");
    const env = { HUTCH_STORE: `${folder}/store` };
    const hutch = (...args: string[]) => bench.hutch(args, { env, cwd: folder });
    expectSuccess(await hutch("pull", "oci:lay:box"), "oci:lay:box\n"); // an IMAGE again
    const id = image.config.digest.slice(7, 19);
    expect((await hutch("images")).stdout).toContain(` ${id} `);
    for (const word of ["oci:lay:box", `oci:${folder}/lay:box`, id, image.config.digest]) {
      const [inspected] = JSON.parse((await hutch("inspect", word)).stdout) as Listed[];
      expect(inspected).toMatchObject({ name: null, digest: image.manifest.digest });
      expectSuccess(await hutch("save", "-o", "saved.tar", word), "");
      const run = await hutch("run", ...withProbe(bench), "--entrypoint", "/probe", word, "argv0");
      expectSuccess(run, "/probe\n");
    }
    const bare = await hutch("run", "--entrypoint", "", id);
    expectFailure(bare, 125, "no command specified", "--entrypoint drops the image's command too");
    expectSuccess(await hutch("rmi", "oci:./lay:box"), `oci:${folder}/lay:box\n`);
    expectFailure(await hutch("run", image.config.digest, "x"), 125, `no image "${image.config.digest}" in the store`);
  });

  test("without a network a stored image runs, and what is not stored says what was tried", async () => {
    await using registry = startRegistry();
    registry.add(image);
    const env = { HUTCH_STORE: `${bench.folder()}/store` };
    const name = `${registry.host}/test`;
    expect((await bench.hutch(["pull", name], { env })).code).toBe(0);
    const asked = registry.requests.length;
    // A network namespace whose loopback is down: no packet leaves, none arrives.
    const unshare = bench.caller.root ? "unshare --net" : "unshare --user --map-current-user --net";
    const offline = async (...args: string[]) => await bench.shell(`exec ${unshare} "$HUTCH" run "$@"`, args, { env });
    expectSuccess(await offline(...withProbe(bench), "--entrypoint", "/probe", name, "argv0"), "/probe\n");
    expect(registry.requests.length).toBe(asked);
    const gone = `${registry.host}/other:1`;
    const refused = await offline(gone);
    expectFailure(refused, 125, registry.host, gone, "in the store runs without");
  });

  test("ids are the layer's own for root, one id with a note otherwise", async () => {
    await using registry = startRegistry();
    registry.add(image);
    const folder = bench.folder();
    expect(
      (await bench.hutch(["pull", `${registry.host}/test`], { env: { HUTCH_STORE: `${folder}/store` } })).code,
    ).toBe(0);
    const listed = await bench.shell('cd "$1"/store/layers/*/diff && stat -c "%u:%g" etc/motd', [folder]);
    expectSuccess(listed, bench.caller.root ? "7:8\n" : `${bench.caller.uid}:${bench.caller.uid}\n`);
    expect(existsSync(`${folder}/store/images/index.json`)).toBe(true);
    expect(readFileSync(`${folder}/store/images/oci-layout`, "utf8")).toContain("1.0.0");
  });
});
