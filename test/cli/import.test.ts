/** hutch import, on the built binary: what it makes runs, and other tools read it. */

import { expect, test } from "bun:test";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { dir, file, hard, link, tar } from "../image/tar-maker.ts";
import { eachCaller, expectFailure, expectSuccess, needs } from "./hutch.ts";

interface Inspected {
  readonly name: string;
  readonly platform: string;
  readonly config: object;
  readonly layers: readonly { readonly mediaType: string; readonly digest: string; readonly diffId: string }[];
  readonly history: readonly { readonly createdBy: string; readonly comment: string }[];
}

eachCaller("import", (bench) => {
  /** A root with the probe program, and the ways to import it. */
  const root = () =>
    tar(
      ...[dir("."), dir("etc"), file("etc/passwd", "root:x:0:0::/:/probe\nweb:x:33:33::/var:/probe\n"), dir("bin")],
      ...[
        file("bin/probe", readFileSync(bench.probe), { mode: 0o755 }),
        hard("bin/other", "bin/probe"),
        link("probe", "bin/probe"),
      ],
    );
  const digestOf = (bytes: Uint8Array) => `sha256:${new Bun.CryptoHasher("sha256").update(bytes).digest("hex")}`;
  function place() {
    const folder = bench.folder();
    const env = { HUTCH_STORE: `${folder}/store` };
    const hutch = (...args: string[]) => bench.hutch(args, { env });
    const inspect = async (name: string) => (JSON.parse((await hutch("inspect", name)).stdout) as Inspected[])[0];
    const archive = (name: string, bytes: Uint8Array) => {
      writeFileSync(`${folder}/${name}`, bytes);
      return `${folder}/${name}`;
    };
    /** Blobs, layers and what is on its way, of a store that has no image. */
    const left = () =>
      ["images/blobs/sha256", "layers", "tmp", "partial"].flatMap((name) => readdirSync(`${folder}/store/${name}`));
    return { folder, env, hutch, inspect, archive, left };
  }

  test("a plain, a gzip and a zstd archive, by file and by pipe: the layer is what was given, and it runs", async () => {
    const { hutch, inspect, archive, env } = place();
    const bytes = root();
    for (const [suffix, packed] of [
      ["", bytes],
      ["+gzip", new Uint8Array(gzipSync(bytes))],
      ["+zstd", Bun.zstdCompressSync(bytes)],
    ] as const) {
      const path = archive(`root${suffix}`, packed);
      const words = ["--change", 'ENTRYPOINT ["/probe"]', "-c", 'CMD=["argv0"]', "-m", "by hand"];
      expectSuccess(await hutch("import", ...words, path, "box"), "docker.io/library/box:latest\n");
      expect((await inspect("box"))?.layers).toMatchObject([
        {
          mediaType: `application/vnd.oci.image.layer.v1.tar${suffix}`,
          digest: digestOf(packed),
          diffId: digestOf(bytes),
        },
      ]);
      expectSuccess(await hutch("run", "--pull=never", "box"), "/probe\n");
      const piped = await bench.shell('cat "$1" | "$HUTCH" import - localhost:5000/x/box:1', [path], { env });
      expectSuccess(piped, "localhost:5000/x/box:1\n");
      expect((await inspect("localhost:5000/x/box:1"))?.history).toMatchObject([
        { createdBy: "hutch import", comment: "imported from standard input" },
      ]);
    }
    expectSuccess(await hutch("history", "box"), /\d+ seconds? ago +hutch import +\S+ \wB +by hand\n$/);
  });

  test("instructions are the image's config, and a run follows them", async () => {
    const { hutch, inspect, archive } = place();
    const changes = [
      ...['CMD ["/bin/other", "argv0"]', "ENV A=b C='d e'", "WORKDIR /var/x", "USER web", "STOPSIGNAL INT"],
      ...["LABEL a.b=c", "EXPOSE 80", "VOLUME /data"],
    ].flatMap((text) => ["--change", text]);
    expectSuccess(await hutch("import", ...changes, archive("root.tar", root()), "box:1"), "docker.io/library/box:1\n");
    const host = process.arch === "arm64" ? "linux/arm64" : "linux/amd64";
    expect(await inspect("box:1")).toMatchObject({
      platform: host,
      config: {
        ...{
          Cmd: ["/bin/other", "argv0"],
          Env: ["A=b", "C=d e"],
          WorkingDir: "/var/x",
          User: "web",
          StopSignal: "SIGINT",
        },
        ...{ Labels: { "a.b": "c" }, ExposedPorts: ["80/tcp"], Volumes: ["/data"] },
      },
    });
    // An ordinary user without ranges has one id alone.
    const user = bench.caller.root ? [] : ["-u", "0"];
    expectSuccess(await hutch("run", "--pull=never", ...user, "box:1"), "/bin/other\n");
    const other = host === "linux/arm64" ? "linux/amd64" : "linux/arm64";
    expect((await hutch("import", "--platform", other, archive("root.tar", root()), "far")).code).toBe(0);
    expect(await inspect("far")).toMatchObject({ platform: other });
  });

  test("skopeo and umoci read the store and what is saved, and load takes it back", async () => {
    const { folder, hutch, archive, env } = place();
    const name = "example.com/box:1";
    expectSuccess(await hutch("import", "-c", 'CMD ["/probe"]', archive("root.tar", root()), name), `${name}\n`);
    const [skopeo, umoci] = [needs("skopeo"), needs("umoci")];
    const config = await bench.shell(`${skopeo} inspect --config --raw "oci:$HUTCH_STORE/images:${name}"`, [], { env });
    expect(JSON.parse(config.stdout)).toMatchObject({ os: "linux", config: { Cmd: ["/probe"] } });
    expectSuccess(await bench.shell(`${umoci} ls --layout "$HUTCH_STORE/images"`, [], { env }), `${name}\n`);
    expectSuccess(await hutch("save", "-o", `${folder}/saved.tar`, name), "");
    for (const from of [`docker-archive:${folder}/saved.tar`, `oci-archive:${folder}/saved.tar`]) {
      const line = `TMPDIR="$1" ${skopeo} copy -q --insecure-policy "$2" "oci:$1/copy:x" && ${umoci} unpack --rootless --image "$1/copy:x" "$1/bundle" 2>/dev/null >&2; ls "$1/bundle/rootfs"; rm -r "$1/bundle" "$1/copy"`;
      expectSuccess(await bench.shell(line, [folder, from], { env: { HOME: folder } }), "bin\netc\nprobe\n");
    }
    expect((await hutch("rmi", name)).code).toBe(0);
    expectSuccess(await hutch("load", "-i", `${folder}/saved.tar`), `${name}\n`);
    expectSuccess(await hutch("run", "--pull=never", name, "/probe", "argv0"), "/probe\n");
  });

  test("an empty archive is an empty root; one of images is told of", async () => {
    const { folder, hutch, archive } = place();
    expectSuccess(await hutch("import", archive("empty.tar", tar()), "empty"), /empty/);
    expectFailure(await hutch("run", "--pull=never", "empty", "x"), 127, "x: ");
    expect((await hutch("save", "-o", `${folder}/saved.tar`, "empty")).code).toBe(0);
    const odd = await hutch("import", `${folder}/saved.tar`, "odd");
    expect(odd.stderr).toMatch(
      /^hutch import: warning: \S+ looks like an archive of images, which hutch load reads\n$/,
    );
    expect(odd.code).toBe(0);
  });

  test("what is refused leaves nothing, and is one line", async () => {
    const { folder, env, hutch, archive, left } = place();
    const bytes = root();
    const zstd = Bun.zstdCompressSync(
      tar(file("a", crypto.getRandomValues(new Uint8Array(60_000))), file("b", "b".repeat(300_000))),
    );
    const bad: readonly (readonly [string, Uint8Array, string])[] = [
      ["cut", bytes.subarray(0, bytes.length - 1024), "tar: no end of the archive"],
      ["cut-in-a-file", bytes.subarray(0, 200_000), "tar: "],
      ["cut.gz", new Uint8Array(gzipSync(bytes)).subarray(0, 5000), "cut.gz: "],
      ["cut.zst", zstd.subarray(0, zstd.length - 20), "cut.zst: tar: "],
      ["text", new TextEncoder().encode("no archive at all\n".repeat(100)), "is this a tar archive"],
      ["nothing", new Uint8Array(), "tar: no end of the archive"],
      [
        "root.xz",
        new Uint8Array([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, ...new Uint8Array(600)]),
        "xz -dc FILE | hutch import - NAME",
      ],
      ["root.bz2", new TextEncoder().encode("BZh9".padEnd(600, "x")), "compressed by bzip2, which hutch does not read"],
      ["long", tar(file("n".repeat(300))), "long: "],
    ];
    for (const [name, content, words] of bad) {
      expectFailure(await hutch("import", archive(name, content), "box"), 125, `hutch import: `, name, words);
      expect({ name, left: left() }).toEqual({ name, left: [] });
    }
    // What is a whole archive and no layer leaves a blob, as a pull does, for the next prune.
    const outside = await hutch("import", archive("dots", tar(hard("b", "../../../../etc/passwd"))), "box");
    expectFailure(outside, 125, 'hard link "b": the image has no', `(from ${folder}/dots)`);
    expectSuccess(await hutch("prune"), /: 1 blobs, 0 layers\n$/);
    expect(left()).toEqual([]);
    expectFailure(await hutch("import", folder, "box"), 125, `read ${folder}: EISDIR`, `(from ${folder})`);
    expectFailure(await hutch("import", `${folder}/none`, "box"), 125, `open ${folder}/none: ENOENT`);
    expectFailure(await bench.shell('"$HUTCH" import - box <&-', [], { env }), 125, "nothing to read");
    expectFailure(await hutch("import", "https://x.test/root.tar", "box"), 125, "curl -fsSL URL | hutch import - box");
    expectFailure(await hutch("import", "x"), 125, "NAME is missing");
    expectFailure(await hutch("import"), 125, "FILE is missing");
    expectFailure(await hutch("import", "a", "b", "c"), 125, "unexpected c");
    for (const name of ["Upper", "oci:x", `x@sha256:${"0".repeat(64)}`])
      expectFailure(await hutch("import", "x", name), 125);
    expectFailure(
      await hutch("import", "-c", "RUN true", "x", "box"),
      125,
      'unknown instruction "RUN"',
      "(from -c RUN true)",
      "CMD",
    );
    expectFailure(await hutch("import", "--change=CMD [x]", "x", "box"), 125, "CMD: not a list in JSON");
    expect(left()).toEqual([]);
    expectSuccess(await hutch("images", "--format", "json"), "[]\n");
  });
});
