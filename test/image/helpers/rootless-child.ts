/** Runs as an ordinary user: unpacks every case with one id, and lets umoci do it, listing both in a user namespace. */

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { tar } from "../tar-maker.ts";
import { imageOf, layerOf, writeLayout } from "./layout.ts";
import { LIST, run, unpackStack } from "./stack.ts";
import { cases } from "./umoci-cases.ts";

const work = process.argv[2] ?? "";
const results: Record<string, { ours: string; theirs: string }> = {};
let number = 0;
for (const [name, layers] of Object.entries(cases)) {
  const dir = join(work, String(number++));
  mkdirSync(dir);
  const tars = layers.map((layer) => tar(...layer));
  const { dirs } = await unpackStack(dir, tars, "one");
  writeLayout(join(dir, "layout"), imageOf(tars.map((bytes) => layerOf(bytes))));
  const merged = join(dir, "merged");
  const empty = join(dir, "empty");
  mkdirSync(merged);
  mkdirSync(empty);
  const lower = [...dirs.toReversed(), empty].join(":");
  const mount = `mount -t overlay overlay -o ro,userxattr,lowerdir='${lower}' '${merged}' && cd '${merged}' && ${LIST}`;
  await run(["umoci", "unpack", "--rootless", "--image", `${dir}/layout:latest`, `${dir}/bundle`], dir);
  results[name] = {
    ours: await run(["unshare", "-Urm", "--propagation", "private", "sh", "-c", mount], dir),
    theirs: await run(["unshare", "-Ur", "sh", "-c", `cd '${dir}/bundle/rootfs' && ${LIST}`], dir),
  };
}
console.log(JSON.stringify(results));
