/** The copy of a kept build directory beside `cp -a`, which keeps the same and is what one would do by hand. */

import { mkdirSync, writeFileSync } from "node:fs";
import { mustRun } from "../scripts/run.ts";
import { copyTree } from "../src/nix/copy-tree.ts";
import { compare, type Row } from "./ratio.ts";

export const COPY_CASE = "copy a directory of 5000 files, 100 MiB";

const FILES = 5000;
const MEAN_SIZE = (100 << 20) / FILES;

/** Files of 0 to twice the mean size, fifty to a directory. */
function makeTree(top: string): void {
  for (let i = 0; i < FILES; i++) {
    const directory = `${top}/d${Math.floor(i / 1000)}/e${Math.floor(i / 50)}`;
    if (i % 50 === 0) mkdirSync(directory, { recursive: true });
    writeFileSync(
      `${directory}/f${i}`,
      Buffer.alloc(Math.floor((MEAN_SIZE * 2 * ((i * 7919) % FILES)) / FILES), `${i}`),
    );
  }
}

/**
 * Copies in turns below `folder`. None is removed in between: for minutes after a removal, making files on ext4 took ten
 * times as long for every program (seen; inodes that were just freed seem to be passed over).
 */
export async function compareCopies(folder: string, rounds: number): Promise<readonly Row[]> {
  const source = `${folder}/source`;
  makeTree(source);
  const sides = [
    { name: "hutch", copy: (target: string) => copyTree(source, target) },
    { name: "cp -a", copy: (target: string) => mustRun(["cp", "-a", source, target]) },
  ];
  for (const { name, copy } of sides) await copy(`${folder}/warm-${name}`);
  const times: (readonly number[])[][] = sides.map(() => []);
  for (let round = 0; round < rounds; round++) {
    const order = [...sides.entries()];
    for (const [index, { copy }] of round % 2 === 0 ? order : order.toReversed()) {
      const start = performance.now();
      await copy(`${folder}/copy-${round}-${index}`);
      times[index]?.push([(performance.now() - start) / 1000]);
    }
  }
  return compare(
    sides.map(({ name }) => name),
    times,
  );
}
