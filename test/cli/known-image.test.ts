/** The second run of an image: by what the first has kept, and never by what is true no more. */

import { expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { imageOf, layerOf, writeLayout } from "../image/helpers/layout.ts";
import { startRegistry } from "../image/helpers/registry.ts";
import { dir, file, link, tar } from "../image/tar-maker.ts";
import { need } from "../kernel/sandbox.ts";
import { until } from "./host-processes.ts";
import { eachCaller, expectFailure, expectSuccess } from "./hutch.ts";
import { fingerprint } from "./tree.ts";

const HUTCH = resolve(import.meta.dir, "../../dist/hutch");
const busybox = await Bun.file(need("busybox", "busybox-static")).bytes();
const names = ["sh", "cat", "echo", "sleep"].map((name) => link(`bin/${name}`, "busybox"));
const base = layerOf(
  tar(dir("bin"), dir("proc"), dir("dev"), dir("etc"), file("bin/busybox", busybox, { mode: 0o755 }), ...names),
);
const versionOf = (text: string) =>
  imageOf([base, layerOf(tar(file("version", `${text}\n`)))], { Cmd: ["cat", "/version"], Env: [`VERSION=${text}`] });
const [one, two] = [versionOf("one"), versionOf("two")];

test("on a full disk a stored image runs for the first time, its layers stay meanwhile, and it can be removed", async () => {
  if (process.getuid?.() !== 0) throw new Error("this test needs root to mount a tmpfs");
  const folder = mkdtempSync("/var/tmp/hutch-test-");
  try {
    writeLayout(join(folder, "layout"), imageOf([base]));
    mkdirSync(join(folder, "small"));
    const script = `mount -t tmpfs -o size=16m small "$2/small" && export HUTCH_STORE="$2/small/store"
      "$1" pull "oci:$2/layout" && "$1" tag "oci:$2/layout" x && fill() { cat /dev/zero >"$2/small/$3"; } 2>/dev/null
      fill "$1" "$2" one; "$1" run "oci:$2/layout" sh -c 'echo ran'; "$1" tag x y
      mkfifo "$2/fifo"; "$1" run "oci:$2/layout" sh -c 'echo up; read x; echo $x' <"$2/fifo" >"$2/out" &
      exec 9>"$2/fifo"; until grep -q up "$2/out"; do sleep 0.05; done
      "$1" rmi x; fill "$1" "$2" two
      "$1" prune --all; ls "$HUTCH_STORE/layers" | wc -l; echo end >&9; wait $!; cat "$2/out"
      "$1" prune --all; ls "$HUTCH_STORE/layers" | wc -l`;
    const argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", HUTCH, folder];
    const { stdout, stderr } = Bun.spawnSync(argv, { env: { PATH: process.env["PATH"] ?? "" } });
    // A longer list has no room. A shorter one has, while a sandbox runs on the layers, which stay.
    expect(stderr.toString()).toMatch(/^hutch tag: no space left in [^\n]*\n$/);
    const image = `oci:${folder}/layout`;
    const name = "docker.io/library/x:latest";
    expect(stdout.toString()).toMatch(
      new RegExp(
        `^${image}\n${name}\nran\n${name}\n${image}\nfreed [^\n]*: 3 blobs, 0 layers\n1\nup\nend\nfreed [^\n]*: 0 blobs, 1 layers\n0\n$`,
      ),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});

eachCaller("an image run again", (bench) => {
  const setUp = async () => {
    const registry = startRegistry();
    registry.add(one);
    const store = join(bench.folder(), "store");
    const hutch = (...args: string[]) => bench.hutch(args, { env: { HUTCH_STORE: store } });
    return { registry, store, name: `${registry.host}/test`, hutch };
  };

  test("is not looked up again, runs with the image's words, and leaves nothing", async () => {
    const { registry, store, name, hutch } = await setUp();
    await using server = registry;
    expectSuccess(await hutch("run", name), "one\n");
    expect(readdirSync(join(store, "plain"))).toEqual([name.replaceAll("/", "%")]);
    const asked = server.requests.length;
    // Only who looks it up would miss these.
    for (const { digest } of [one.manifest, one.config]) rmSync(join(store, "images/blobs/sha256", digest.slice(7)));
    for (let i = 0; i < 3; i++) expectSuccess(await hutch("run", name), "one\n");
    expectSuccess(await hutch("run", name, "sh", "-c", 'echo "$VERSION $PATH"'), /^one \/usr\/local\/sbin:/);
    expectFailure(await hutch("run", name, "none"), 127, "none");
    expect(server.requests.length).toBe(asked);
    expect(readdirSync(join(store, "leases"))).toHaveLength(1);
    expect(readdirSync(join(store, "tmp"))).toEqual([]);
  });

  test("is not kept where no launcher fits: it would be opened twice", async () => {
    const { registry, store, name, hutch } = await setUp();
    await using server = registry;
    const more = Array.from({ length: 40 }, (_, index) => layerOf(tar(file("version", `${index}\n`))));
    server.add(imageOf([base, ...more], { Cmd: ["cat", "/version"] }));
    for (let i = 0; i < 2; i++) expectSuccess(await hutch("run", name), "39\n");
    expect(existsSync(join(store, "plain"))).toBe(false);
    server.add(one);
    expectSuccess(await hutch("run", "--pull=always", name), "one\n");
    expectSuccess(await hutch("run", name), "one\n");
    expect(readdirSync(join(store, "plain"))).toHaveLength(1);
  });

  test("is what a pull, a removal or another store says", async () => {
    const { registry, store, name, hutch } = await setUp();
    await using server = registry;
    for (let i = 0; i < 2; i++) expectSuccess(await hutch("run", name), "one\n");
    server.add(two);
    expectSuccess(await hutch("run", name), "one\n");
    expect((await hutch("pull", name)).code).toBe(0);
    for (let i = 0; i < 2; i++) expectSuccess(await hutch("run", name), "two\n");
    server.add(one);
    expectSuccess(await hutch("run", "--pull=always", name), "one\n");
    for (let i = 0; i < 2; i++) expectSuccess(await hutch("run", name), "one\n");
    expect((await hutch("rmi", name)).code).toBe(0);
    expectFailure(await hutch("run", "--pull=never", name), 125, `no image ${name}`);
    const asked = server.requests.length;
    expectSuccess(await hutch("run", name), "one\n");
    expect(server.requests.length).toBeGreaterThan(asked);
    expect((await hutch("prune", "--all")).code).toBe(0);
    expect(["plain", "leases", "layers"].map((place) => readdirSync(join(store, place)))).toEqual([[], [], []]);
    expectSuccess(await hutch("run", name), "one\n");
  });

  test("with a name is asked to end by its StopSignal; -w stands in for a WorkingDir that is none", async () => {
    const folder = bench.folder();
    const env = { HUTCH_STORE: `${folder}/store`, XDG_RUNTIME_DIR: folder };
    const words = { Cmd: ["sh", "-c", "trap 'exit 5' USR1; pwd; while :; do sleep 0.1; done"] };
    writeLayout(`${folder}/layout`, imageOf([base], { ...words, StopSignal: "SIGUSR1", WorkingDir: "none" }));
    const image = `oci:${folder}/layout`;
    expectFailure(await bench.hutch(["run", image], { env }), 125, '"none" is not absolute', "the image's WorkingDir");
    const running = bench.start([bench.binary, "run", "--name", "stops", "-w", "/bin", image], { env });
    await running.says("/bin\n");
    expectSuccess(await bench.hutch(["kill", "stops"], { env }), "");
    expect((await running.ended).code).toBe(5);
  });

  test("has its WorkingDir made where its own links lead, inside the image", async () => {
    const folder = bench.folder({ "outside/kept": "" });
    const env = { HUTCH_STORE: `${folder}/store` };
    const links = [
      link("absolute", "/made/here"),
      link("upward", `../../..${folder}/outside`),
      link("chain", "absolute/deeper"),
      link("loop", "loop"),
      file("plain", ""),
    ];
    const layers = [base, layerOf(tar(...links))];
    const image = `oci:${folder}/layout`;
    const pwd = ["sh", "-c", "pwd -P"];
    const before = fingerprint(`${folder}/outside`);
    writeLayout(`${folder}/layout`, imageOf(layers, { Cmd: pwd, WorkingDir: "/absolute/below" }));
    expectSuccess(await bench.hutch(["run", image], { env }), "/made/here/below\n");
    expectSuccess(await bench.hutch(["run", "--read-only", image], { env }), "/made/here/below\n");
    for (const [given, place] of [
      ["/upward", `${folder}/outside`],
      ["/upward/x/../y", `${folder}/outside/y`],
      ["/chain", "/made/here/deeper"],
    ] as const)
      expectSuccess(await bench.hutch(["run", "-w", given, image], { env }), `${place}\n`);
    for (const given of ["/loop", "/plain", "/plain/below"])
      expectFailure(await bench.hutch(["run", "-w", given, image], { env }), 125, given);
    expect(fingerprint(`${folder}/outside`)).toEqual(before);
  });

  test("is looked up where the file is damaged, another name's, or its layers are gone", async () => {
    const { registry, store, name, hutch } = await setUp();
    await using server = registry;
    expectSuccess(await hutch("run", name), "one\n");
    const kept = join(store, "plain", name.replaceAll("/", "%"));
    for (const damage of ["", "{", "[]", "null", "7", '{"word":"other","chain":[]}', `{"word":"${name}","chain":[]}`]) {
      writeFileSync(kept, damage);
      expectSuccess(await hutch("run", name), "one\n");
    }
    for (const layer of readdirSync(join(store, "layers")))
      expect((await bench.shell('rm -r "$1"', [join(store, "layers", layer)])).code).toBe(0);
    expectSuccess(await hutch("run", name), "one\n");
    expect(server.requests.length).toBeGreaterThan(0);
  });

  test("holds its layers against a removal of the image, also beside others of the same image", async () => {
    const { registry, store, name, hutch } = await setUp();
    await using server = registry;
    void server;
    expectSuccess(await hutch("run", name), "one\n");
    const running = [1, 2].map(() =>
      bench.start([bench.binary, "run", name, "sh", "-c", "echo up; read x; cat /version"], {
        env: { HUTCH_STORE: store },
      }),
    );
    for (const each of running) await each.says("up\n");
    expectSuccess(await hutch("prune", "--all"), /, 0 layers\n$/);
    expect(readdirSync(join(store, "leases"))).toHaveLength(1);
    running[0]?.kill("SIGKILL");
    await running[0]?.ended;
    expectSuccess(await hutch("prune"), /, 0 layers\n$/);
    running[1]?.write("go\n");
    expect((await running[1]?.ended)?.stdout).toBe("up\none\n");
    await until("the layers are free", async () => {
      expect((await hutch("prune")).code).toBe(0);
      return readdirSync(join(store, "layers")).length === 0;
    });
    expect(existsSync(join(store, "leases"))).toBe(true);
  });
});
