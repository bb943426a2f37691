/**
 * The image that pulls are timed with, in a registry on this machine: 10,000 files and 200 MB in four layers, the same
 * bytes in every run.
 */

import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { mustRun } from "../scripts/run.ts";
import { imageOf, layerOf, writeLayout } from "../test/image/helpers/layout.ts";
import { type Server, startDockerRegistry } from "../test/image/helpers/docker-registry.ts";
import { dir, entry, file, link } from "../test/image/tar-maker.ts";

const LAYERS = 4;
const FILES = 2500;
const FILE_BYTES = 20_000;
const FILES_IN_DIRECTORY = 50;
const APPLETS = ["sh", "true", "readlink"];

/** Words, then noise: what compresses well and what does not, as in programs. */
function makePool(): Uint8Array {
  let state = 1;
  const next = (): number => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0);
  const words = Array.from({ length: 2000 }, () => (next() >>> 8).toString(36));
  const text = Array.from({ length: 120_000 }, () => words[(next() >>> 8) % words.length]).join(" ");
  const noise = Uint8Array.from({ length: 200_000 }, () => next() >>> 24);
  return Buffer.concat([Buffer.from(text), noise]);
}

function makeLayer(number: number, pool: Uint8Array): Uint8Array {
  const parts: Uint8Array[] = [];
  if (number === 0) {
    const busybox = readFileSync(Bun.which("busybox") ?? "/bin/busybox");
    parts.push(entry(dir("bin")), entry(file("bin/busybox", busybox, { mode: 0o755 })));
    for (const name of [...APPLETS]) parts.push(entry(link(`bin/${name}`, "busybox")));
  }
  for (let i = 0; i < FILES; i++) {
    const directory = `layer${number}/${Math.floor(i / FILES_IN_DIRECTORY)}`;
    if (i % FILES_IN_DIRECTORY === 0) parts.push(entry(dir(directory)));
    const at = ((number * FILES + i) * 7919) % (pool.byteLength - FILE_BYTES);
    parts.push(entry(file(`${directory}/${i}`, pool.subarray(at, at + FILE_BYTES))));
  }
  return Buffer.concat([...parts, new Uint8Array(1024)]);
}

export type BenchImage = AsyncDisposable & {
  /** Without a scheme; skopeo needs --src-tls-verify=false. */
  readonly name: string;
};

/** Make the image below `folder` and start a registry that has it. */
export async function serveImage(folder: string): Promise<BenchImage> {
  const layout = join(folder, "layout");
  const pool = makePool();
  const layers = Array.from({ length: LAYERS }, (_, i) => layerOf(makeLayer(i, pool)));
  mkdirSync(layout);
  writeLayout(layout, imageOf(layers, { Cmd: ["true"] }));
  const registry: Server = await startDockerRegistry(join(folder, "registry"));
  const name = `${registry.host}/bench:latest`;
  await mustRun(["skopeo", "copy", "-q", "--dest-tls-verify=false", `oci:${layout}:latest`, `docker://${name}`]);
  return { name, [Symbol.asyncDispose]: () => registry[Symbol.asyncDispose]() };
}
