/** Hostile layers unpacked onto the disk, beside a directory that nothing may touch. */

import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { createMergedView } from "../src/image/merged-view.ts";
import { createTarReader } from "../src/image/tar-reader.ts";
import { createUnpacker } from "../src/image/unpack.ts";
import { AT_FDCWD, closeFile, O, openAt, removeTree } from "../src/libc/file.ts";
import { type Made, tar } from "../test/image/tar-maker.ts";
import { type FuzzTarget, target } from "./fuzz-target.ts";

/** Stands for the absolute path of the guarded directory, which an input does not know yet. */
const GUARD = "GUARD";

const part = fc.constantFrom("..", ".", "", "a", "b", "l", "guard", "victim", "0", "1", "proc", "self", "cwd", GUARD);
const path = fc
  .tuple(fc.constantFrom("", "", "/", "./", "../../"), fc.array(part, { minLength: 1, maxLength: 5 }))
  .map(([start, parts]) => start + parts.join("/"));
/** Few names, so that entries meet: what one has made the next goes through. */
const place = fc.constantFrom("a", "b", "l", "a/l", "l/victim", "a/victim", "a/l/victim", "l/new", `${GUARD}/victim`);
const aim = fc.constantFrom(
  GUARD,
  `${GUARD}/victim`,
  "../guard",
  "../../guard",
  "../guard/victim",
  "a",
  "l",
  "..",
  "/",
);
const name = fc.oneof(
  { weight: 6, arbitrary: place },
  { weight: 3, arbitrary: path },
  { weight: 1, arbitrary: path.map((text) => text.replace(/[^/]*$/, (last) => `.wh.${last}`)) },
  { weight: 1, arbitrary: path.map((text) => `${text}/.wh..wh..opq`) },
);
const entry: fc.Arbitrary<Made> = fc.record({
  name,
  link: fc.oneof({ weight: 3, arbitrary: aim }, { weight: 1, arbitrary: path }),
  type: fc.constantFrom("0", "0", "1", "1", "2", "2", "2", "5", "5", "6"),
  data: fc.constantFrom("", "overwritten"),
  mode: fc.constantFrom(0, 0o644, 0o755, 0o7777),
});
/** The oldest way out: a link, and something by way of it. */
const through: fc.Arbitrary<Made[]> = fc
  .tuple(place, aim, fc.constantFrom("", "/victim", "/new", "/../victim", "/guard/victim"), entry)
  .map(([link, to, rest, then]) => [
    { name: link, link: to, type: "2" },
    { ...then, name: link + rest },
  ]);
const entries = fc.array(
  fc.oneof({ weight: 2, arbitrary: entry.map((one) => [one]) }, { weight: 1, arbitrary: through }),
  {
    maxLength: 5,
  },
);
const layers = fc.array(
  entries.map((list) => list.flat()),
  { minLength: 1, maxLength: 3 },
);

/** All that can be seen of the guarded directory and of its neighbours. */
function guarded(folder: string): string {
  const guard = join(folder, "guard");
  const seen = [guard, join(guard, "victim")].map((file) => {
    const { mode, uid, gid, nlink, mtimeMs, ctimeMs } = lstatSync(file);
    return [mode, uid, gid, nlink, mtimeMs, ctimeMs].join(" ");
  });
  const names = [...readdirSync(folder).filter((one) => !/^\d$/.test(one)), ...readdirSync(guard)];
  const victim = join(guard, "victim");
  return [...seen, ...names, lstatSync(victim).isFile() ? readFileSync(victim, "utf8") : "no file"].join("\n");
}

/** Unpack layers one over the other into `folder/0`, `folder/1`, …, as src/image/apply.ts does; the error that ended it. */
function unpack(folder: string, archives: readonly Uint8Array[]): Error | undefined {
  const open: number[] = [];
  try {
    archives.forEach((archive, index) => {
      const directory = join(folder, String(index));
      mkdirSync(directory);
      const below = Array.from({ length: index }, (_, lower) =>
        openAt(AT_FDCWD, join(folder, String(index - 1 - lower)), O.PATH | O.DIRECTORY),
      );
      const into = openAt(AT_FDCWD, directory, O.RDONLY | O.DIRECTORY);
      open.push(...below, into);
      using unpacker = createUnpacker(into, createMergedView(below), { ids: "one", whiteouts: "attribute" });
      const reader = createTarReader(unpacker.entry);
      reader.write(archive);
      reader.end();
      unpacker.finish();
    });
    return undefined;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  } finally {
    for (const fd of open) closeFile(fd);
  }
}

/** Whatever a layer says, nothing beside its own directory changes. */
export function unpackTarget(): FuzzTarget {
  const run = (inputs: number) => {
    const folder = mkdtempSync(join(tmpdir(), "hutch-fuzz-"));
    try {
      const guard = join(folder, "guard");
      const arm = () => {
        for (const one of readdirSync(folder)) rmSync(join(folder, one), { recursive: true, force: true });
        mkdirSync(guard);
        writeFileSync(join(guard, "victim"), "untouched");
        return guarded(folder);
      };
      let before = arm();
      const at = (text = "") => text.replaceAll(GUARD, guard);
      target("tar, unpacked", layers, (list) => {
        const archives = list.map((some) =>
          tar(...some.map((one) => ({ ...one, name: at(one.name), link: at(one.link) }))),
        );
        const refusal = unpack(folder, archives);
        const after = guarded(folder);
        for (const one of readdirSync(folder)) if (/^\d$/.test(one)) removeTree(AT_FDCWD, join(folder, one));
        if (after !== before) {
          const was = before;
          before = arm(); // for what is tried next, to find a smaller one
          throw new RangeError(`written outside: ${after}, not ${was}`);
        }
        if (refusal !== undefined) throw refusal;
      }).run(inputs);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  };
  return { name: "tar, unpacked", run };
}
