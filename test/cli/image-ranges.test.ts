/** Images of an ordinary user with ranges of ids (`run --userns auto`), and without. */

import { expect, test } from "bun:test";
import { imageOf, layerOf, writeLayout } from "../image/helpers/layout.ts";
import { dir, file, link, tar } from "../image/tar-maker.ts";
import { startRegistry } from "../image/helpers/registry.ts";
import { until } from "./host-processes.ts";
import { BUSYBOX, eachCaller, expectFailure, expectSuccess, needs, start } from "./hutch.ts";
import { withRanges } from "./ranges.ts";

const home = { uid: 1000, gid: 1001, mode: 0o700 };
const image = imageOf(
  [
    layerOf(tar(dir("home"), dir("home/ada", home), file("home/ada/a", "one", { uid: 1000, gid: 1001, mode: 0o600 }))),
    layerOf(tar(dir("home"), dir("home/ada", home), file("home/ada/.wh.a"), file("home/ada/b", "two", { uid: 1000 }))),
    layerOf(tar(dir("home"), dir("home/ada", home), link("home/ada/c", "b", { uid: 65535 }))),
  ],
  { Cmd: ["/bin/sh"] },
);
const LIST = ["busybox", "sh", "-c", "cd /home/ada && busybox stat -c '%n %u:%g %a' . * && busybox cat c"];

eachCaller("images with a range of ids", (bench) => {
  /** hutch with private copies of /etc/subuid and /etc/subgid; the machine's own are not touched. */
  const ranged = async (folder: string, ranges: string, args: readonly string[], before: readonly string[] = []) => {
    for (const name of ["newuidmap", "newgidmap"]) needs(name);
    const own = [...bench.caller.prefix, ...before, bench.binary, ...args];
    return await start([...withRanges(folder, ranges), ...own], { stdin: "", env: { HUTCH_STORE: `${folder}/store` } })
      .ended;
  };
  if (bench.caller.root) {
    test("root's layers have the image's ids as well", async () => {
      const folder = bench.folder();
      writeLayout(`${folder}/lay`, image, "box");
      const env = { HUTCH_STORE: `${folder}/store` };
      const result = await bench.hutch(["run", ...BUSYBOX, `oci:${folder}/lay:box`, ...LIST], { env });
      expect(result.stdout).toBe(". 1000:1001 700\nb 1000:0 644\nc 65535:0 777\ntwo");
    });
    return;
  }
  const canBind = process.getuid?.() === 0;

  test.if(canBind)("files have the image's ids inside (needs root to set /etc/subuid)", async () => {
    const folder = bench.folder();
    writeLayout(`${folder}/lay`, image, "box");
    const word = `oci:${folder}/lay:box`;
    const here = "nobody:300000:65536\n";
    const listed = ". 1000:1001 700\nb 1000:0 644\nc 65535:0 777\ntwo";
    // The one id first: what it has unpacked must not be taken for the range's.
    expectSuccess(await ranged(folder, here, ["run", ...BUSYBOX, word, ...LIST]), /^\. 0:0 700\nb 0:0 644\n/);
    const run = ["run", "--userns", "auto", ...BUSYBOX, word, ...LIST];
    expectSuccess(await ranged(folder, here, run, ["env", "--ignore-signal=CHLD"]), listed); // it waits for who unpacks
    expectSuccess(await ranged(folder, here, run), listed);
    const asAda = ["run", "--userns", "auto", "-u", "1000:1001", ...BUSYBOX, word, ...LIST];
    expectSuccess(await ranged(folder, here, asAda), listed);
    const outside = await bench.shell('stat -c "%u" "$1"/store/ranges/*/*/diff/home/ada | sort -u', [folder]);
    expectSuccess(outside, "300999\n");
    // Another range has layers of its own; those of the first one cannot be removed with it, and that is said.
    expectSuccess(await ranged(folder, "nobody:500000:65536\n", run), listed);
    const kept = await ranged(folder, "nobody:500000:65536\n", ["prune", "--all"]);
    expectFailure(kept, 125, "cannot remove", "ranges/", "a range that is yours no more");
    expectSuccess(await ranged(folder, here, ["prune"]), /^freed /);
    expectSuccess(await bench.shell('ls "$1"/store/ranges "$1"/store/layers | grep -v :', [folder]), "\n");
  });

  test.if(canBind)(
    "before Linux 6.6 writes are on disk, and gone with whatever ids they had (needs root)",
    async () => {
      const folder = bench.folder();
      writeLayout(`${folder}/lay`, image, "box");
      const here = "nobody:300000:65536\n";
      const old = ["setarch", "--uname-2.6"];
      const left = async () => (await bench.shell('ls "$1"/store/sessions', [folder])).stdout;
      const script = `rm -r /home && mkdir -m 700 /home && touch /home/new && chown -R 1000:1001 /home &&
      stat -c '%n %u:%g' /home/* && touch /ready`;
      const words = (then: string) => [
        ...["run", "--userns", "auto", ...BUSYBOX, `oci:${folder}/lay:box`, "busybox", "sh", "-c"],
        `busybox --install -s /bin; ${script}; ${then}`,
      ];
      const done = await ranged(folder, here, words("exit 7"), old);
      expect(done).toMatchObject({ stdout: "/home/new 1000:1001\n", stderr: "", code: 7 });
      expect(await left()).toBe("");
      // Killed, all of hutch: the next prune removes what it leaves.
      const kill = '"$@" & until test -e "$0"/store/sessions/*/upper/ready; do sleep 0.05; done; kill -9 $!; wait $!';
      const killed = await ranged(folder, here, words("sleep 100"), ["sh", "-c", kill, folder, ...old]);
      expect(killed.stdout).toBe("/home/new 1000:1001\n");
      expect(await left()).toMatch(/^hutch-build-.*\n$/);
      expectSuccess(await ranged(folder, here, ["prune"]), /^oci:/);
      expect(await left()).toBe("");
    },
  );

  test.if(canBind)("a layer is unpacked while the next is downloaded (needs root to set /etc/subuid)", async () => {
    const folder = bench.folder();
    await using registry = startRegistry();
    registry.add(image);
    const [, , , last] = image.blobs.slice(1);
    const unpacked = (): boolean => [...new Bun.Glob("store/ranges/*/*.tmp/meta.json").scanSync(folder)].length > 0;
    registry.intercept = async ({ path }) => {
      if (path.endsWith(last?.digest ?? "")) await until("a layer is unpacked before the last has come", unpacked);
      return undefined;
    };
    const run = ["run", "--userns", "auto", ...BUSYBOX, `${registry.host}/test`, ...LIST];
    const listed = ". 1000:1001 700\nb 1000:0 644\nc 65535:0 777\ntwo";
    expectSuccess(await ranged(folder, "nobody:300000:65536\n", run), listed);
    expect(unpacked()).toBe(false);
    // A download that fails in the middle is the error, and the process in the range ends with it.
    expectSuccess(await ranged(folder, "nobody:300000:65536\n", ["prune", "--all"]), /\nfreed /);
    registry.intercept = ({ path }) =>
      path.endsWith(last?.digest ?? "") ? new Response("", { status: 403 }) : undefined;
    const failed = await ranged(folder, "nobody:300000:65536\n", run);
    expectFailure(failed, 125, `${registry.host}/test`, "403");
  });

  test.if(canBind)("names are read in directories that only the image's ids may enter (needs root)", async () => {
    const folder = bench.folder();
    const closed = imageOf([
      layerOf(
        tar(
          dir("etc", { uid: 1000, gid: 1000, mode: 0o700 }),
          file("etc/passwd", "ada:x:1234:1234::/home/ada:/bin/sh\n", { uid: 1000, mode: 0o600 }),
        ),
      ),
    ]);
    writeLayout(`${folder}/lay`, closed, "box");
    const words = [
      "-u",
      "ada",
      ...BUSYBOX,
      `oci:${folder}/lay:box`,
      "busybox",
      "sh",
      "-c",
      "busybox id -u; echo $HOME",
    ];
    const result = await ranged(folder, "nobody:300000:65536\n", ["run", "--userns", "auto", ...words]);
    expectSuccess(result, "1234\n/home/ada\n");
    expectSuccess(await ranged(folder, "nobody:300000:65536\n", ["prune", "--all"]), /freed /);
  });

  test.if(canBind)("an id beyond the range is one line that says so (needs root to set /etc/subuid)", async () => {
    const folder = bench.folder();
    writeLayout(`${folder}/lay`, image, "box");
    const result = await ranged(folder, "nobody:300000:2000\n", ["run", "--userns", "auto", `oci:${folder}/lay:box`]);
    expectFailure(result, 125, "layer sha256:", "65535:0", "/etc/subuid");
    expectSuccess(await ranged(folder, "nobody:300000:2000\n", ["prune", "--all"]), /freed /);
  });

  test("without ranges, --userns auto is an error before anything is unpacked", async () => {
    const folder = bench.folder();
    writeLayout(`${folder}/lay`, image, "box");
    const env = { HUTCH_STORE: `${folder}/store` };
    const args = ["run", "--userns", "auto", `oci:${folder}/lay:box`, "true"];
    expectFailure(await bench.hutch(args, { env }), 125, "no range of ids", "--userns auto", "usermod");
    expectSuccess(await bench.shell('ls "$1"/store/layers', [folder], { env }), "");
  });
});
