/** Pulls into fresh directories, in turns: hutch beside skopeo with umoci, which do the same in two steps. */

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { mustRun } from "../scripts/run.ts";
import { serveImage } from "./images.ts";
import { compare, type Row } from "./ratio.ts";

/** What a comparison leaves: rows for the table, and what its last round has stored. */
export interface Pulled {
  readonly rows: readonly Row[];
  readonly image: string;
  readonly store: string;
  /** The image's tree as umoci has unpacked it. */
  readonly directory: string;
}

/** Files and bytes in files below a directory, as find(1) sees them. */
async function sizeOf(directory: string): Promise<string> {
  const script = 'find "$0" -type f -printf "%s\\n" | awk "{ bytes += \\$1 } END { print NR, bytes }"';
  return (await mustRun(["sh", "-c", script, directory])).output.trim();
}

/**
 * Time pulls of 200 MB in 10,000 files below `folder`. Nothing is removed before the end: a file system that discards
 * (mount(8), ext4) is still busy with it in the next turn.
 * @throws Error when one fails, or when the sides do not have the same files in the end
 */
export async function comparePulls(hutch: string, folder: string, rounds: number): Promise<Pulled> {
  await using served = await serveImage(folder);
  const image = served.name;
  const seconds: number[][][] = [[], []];
  let last = { store: "", directory: "" };
  for (let round = 0; round < rounds; round++) {
    const at = join(folder, String(round));
    mkdirSync(at);
    const [store, layout, bundle] = [join(at, "store"), join(at, "layout"), join(at, "bundle")];
    const two =
      'skopeo copy -q --src-tls-verify=false "docker://$0" "oci:$1:x" && umoci unpack --rootless --image "$1:x" "$2"';
    const sides = [
      ["env", `HUTCH_STORE=${store}`, hutch, "pull", image],
      ["sh", "-c", two, image, layout, bundle],
    ];
    const order = [...sides.entries()];
    for (const [index, argv] of round % 2 === 0 ? order : order.toReversed()) {
      await mustRun(["sync", "-f", folder]); // what the other has not written yet is not ours to wait for
      seconds[index]?.push([(await mustRun(argv)).milliseconds / 1000]);
    }
    last = { store, directory: join(bundle, "rootfs") };
  }
  const [ours, theirs] = [await sizeOf(join(last.store, "layers")), await sizeOf(last.directory)];
  console.log(`  files and bytes unpacked: ${theirs}; in the store, with a meta.json a layer: ${ours}`);
  if (Number.parseInt(ours, 10) < Number.parseInt(theirs, 10)) throw new Error("hutch has unpacked less");
  return { rows: compare(["hutch pull", "skopeo, umoci"], seconds), image, ...last };
}
