/**
 * The store after a process that was killed, or told that the disk is full or broken, at each call of a kind that changes
 * it (strace's fault injection): nothing in it is half there, the next run just works, and prune leaves no trace.
 */

import { expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { imageOf, layerOf, writeLayout } from "../image/helpers/layout.ts";
import { dir, file, hard, link, tar } from "../image/tar-maker.ts";
import { type Bench, eachCaller, expectFailure, expectSuccess, needs } from "./hutch.ts";

const root = tar(
  ...[dir("etc"), file("etc/motd", "hello ".repeat(2000)), hard("etc/two", "etc/motd"), link("l", "etc/motd")],
  ...[dir("old"), file("old/x"), file("gone")],
);
const layers = [layerOf(root), layerOf(tar(file(".wh.gone"), dir("old"), file("old/.wh..wh..opq"), file("old/y")))];
const image = imageOf(layers, { Cmd: ["sh"] });

/** A command of hutch in a store that is fresh, or `filled` with the image. */
interface Case {
  readonly name: string;
  readonly filled: boolean;
  readonly command: string;
  /** Calls, each with the distance between those that fail. */
  readonly calls: Readonly<Record<string, number>>;
  /** What is injected beside: `CALL:FAULT:when=N`. */
  readonly also?: string;
}

const CASES: readonly Case[] = [
  {
    name: "a pull",
    filled: false,
    command: 'pull "oci:$1"',
    calls: { renameat2: 2, linkat: 1, syncfs: 1, fdatasync: 1, mkdirat: 6, fsync: 7, pwrite64: 3, mknodat: 1 },
  },
  { name: "a load", filled: false, command: 'load -i "$2"', calls: { linkat: 1, renameat2: 2, write: 6 } },
  {
    name: "an import",
    filled: false,
    command: 'import "$3" box',
    calls: { linkat: 1, renameat2: 2, syncfs: 1, fdatasync: 1, write: 2, pwrite64: 2, fsync: 4 },
  },
  { name: "the last rmi", filled: true, command: 'rmi "oci:$1"', calls: { renameat2: 1, unlinkat: 3, fsync: 1 } },
  {
    name: "an rmi on a full disk",
    filled: true,
    command: 'rmi "oci:$1"',
    calls: { ftruncate: 1, renameat2: 1, fsync: 1, unlinkat: 3 },
    also: "write:error=ENOSPC:when=1", // the new list, which then goes into the reserve
  },
  { name: "a prune", filled: true, command: "prune --all", calls: { renameat2: 1, unlinkat: 4, fsync: 1 } },
];

const names = (path: string): readonly string[] => (existsSync(path) ? readdirSync(path) : []);

/** What is wrong with a store, where `whole` has the image's layers as they must be. */
async function faults(bench: Bench, store: string, whole: string): Promise<readonly string[]> {
  const found: string[] = [];
  const blobs = join(store, "images/blobs/sha256");
  for (const name of names(blobs)) {
    const digest = new Bun.CryptoHasher("sha256").update(readFileSync(join(blobs, name))).digest("hex");
    if (digest !== name) found.push(`blob ${name} has digest ${digest}`);
  }
  const index = join(store, "images/index.json");
  const { manifests } = existsSync(index)
    ? (JSON.parse(readFileSync(index, "utf8")) as { manifests: { digest: string }[] })
    : { manifests: [] };
  for (const { digest } of manifests)
    if (!existsSync(join(blobs, digest.slice(7)))) found.push(`the index names ${digest}, which is not there`);
  const list = async (at: string, layer: string) =>
    (
      await bench.shell(
        `cd "$1" && cat meta.json && cd diff && find . -mindepth 1 -printf '%p %y %m %n %l\\n' | sort`,
        [join(at, "layers", layer)],
      )
    ).stdout;
  for (const layer of names(join(store, "layers")).filter((name) => !name.endsWith(".tmp")))
    if ((await list(store, layer)) !== (await list(whole, layer))) found.push(`layer ${layer} is not whole`);
  return found;
}

eachCaller("the store", (bench) => {
  needs("strace");
  const tested = CASES.flatMap((item) =>
    ["signal=KILL", "error=ENOSPC", "error=EIO"].map((fault) => ({ ...item, fault })),
  )
    // Errors on the way in; a kill anywhere. Root and others take turns, for the time that it takes.
    .filter(
      ({ filled, name, fault }) => fault === "signal=KILL" || !(filled || (name === "a load" && fault === "error=EIO")),
    )
    .filter((_, position) => (position % 2 === 0) === bench.caller.root);

  test.each(tested)("is whole after $name with $fault", async ({ filled, command, calls, fault, also }) => {
    const folder = bench.folder();
    const [layout, archive, whole] = [`${folder}/layout`, `${folder}/archive.tar`, `${folder}/whole`];
    writeLayout(layout, image);
    const args = [layout, archive, `${folder}/root.tar`];
    writeFileSync(`${folder}/root.tar`, root);
    const made = await bench.shell('"$HUTCH" pull "oci:$1" && "$HUTCH" save -o "$2" "oci:$1"', args, {
      env: { HUTCH_STORE: whole },
    });
    expect(made.stderr).toBe("");
    let hits = 0;
    for (const [call, step] of Object.entries(calls)) {
      for (let when = 1; ; when += step) {
        const store = `${folder}/${call}-${when}`;
        const env = { HUTCH_STORE: store };
        if (filled) expectSuccess(await bench.shell('cp -a "$1" "$2"', [whole, store]), "");
        const inject = [`${call}:${fault}:when=${when}`, ...(also === undefined ? [] : [also])];
        const words = inject.map((one) => `-e trace=${call},write -e inject=${one}`).join(" ");
        const traced = `strace -f -qq -o /dev/null ${words}`;
        const hit = await bench.shell(`${traced} "$HUTCH" ${command}; echo "code $?"`, args, { env });
        if (hit.stdout.endsWith("code 0\n")) break;
        hits += 1;
        const at = `${call} ${when}`;
        if (fault === "signal=KILL") expect(hit.stdout, at).toBe("code 137\n");
        else {
          const says =
            fault === "error=EIO" ? "EIO input/output error" : "(no space left in .*: ENOSPC|ENOSPC no space left)";
          expect(hit.stderr, at).toMatch(new RegExp(`^hutch [a-z]+: [^\n]*${says}[^\n]*\n$`));
          expect(hit.stdout, at).toBe("code 125\n");
        }
        expect(await faults(bench, store, whole), at).toEqual([]);
        const next = await bench.shell(`"$HUTCH" ${command} || "$HUTCH" images`, args, { env });
        expect(next.stderr.replace(/^hutch rmi: no image .*\n/, ""), at).toBe("");
        expectSuccess(await bench.shell('"$HUTCH" pull "oci:$1" >/dev/null', args, { env }), "");
        expect(await faults(bench, store, whole), at).toEqual([]);
        expectSuccess(await bench.shell('"$HUTCH" prune --all >/dev/null', [], { env }), "");
        const left = ["partial", "tmp", "layers", "leases", "images/blobs/sha256"].flatMap((name) =>
          names(join(store, name)),
        );
        expect(left, at).toEqual([]);
      }
    }
    expect(hits).toBeGreaterThanOrEqual(4);
  });

  test("a temporary file that a prune takes from who makes the store, or its list, is written again", async () => {
    const folder = bench.folder();
    writeLayout(`${folder}/layout`, image);
    const env = { HUTCH_STORE: `${folder}/store` };
    for (const [command, when] of [
      ["images --format json", "1"],
      ['rmi "oci:$1"', "1"],
      ["images", "1..5"],
    ] as const) {
      if (when === "1..5") await bench.shell('rm -rf "$HUTCH_STORE"', [], { env });
      if (command.startsWith("rmi")) await bench.shell('"$HUTCH" pull "oci:$1"', [`${folder}/layout`], { env });
      const inject = `-e trace=renameat2 -e inject=renameat2:error=ENOENT:when=${when}`;
      const line = `strace -f -qq -o /dev/null ${inject} "$HUTCH" ${command}`;
      const result = await bench.shell(line, [`${folder}/layout`], { env });
      if (when === "1") expectSuccess(result, /./);
      else expectFailure(result, 125, "hutch images: rename to ", "index.json: ENOENT"); // a place that is not there at all
      expect(names(`${folder}/store/tmp`)).toEqual([]);
    }
  });
});
