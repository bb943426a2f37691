/** Images for the differential against umoci: one for each rule of unpacking. */

import { base256, dir, entry, file, hard, header, link, type Made, pad } from "../tar-maker.ts";

const root = dir(".", { name: "./", mtime: 1_600_000_000 });
const base = [
  root,
  dir("a"),
  file("a/one"),
  file("a/two"),
  dir("a/sub"),
  file("a/sub/deep"),
  dir("b"),
  file("b/x"),
  file("f"),
];
const long = `${"d".repeat(90)}/${"e".repeat(90)}`;
const sparse = pad(new TextEncoder().encode("2\n0\n4\n100000\n4\n"));
const sparseData = new Uint8Array(520);
sparseData.set(sparse);
sparseData.set(new TextEncoder().encode("headtail"), 512);

export type Layer = readonly (Made | Uint8Array)[];
/** Layers of each case, lowest first. */
export const cases: Readonly<Record<string, readonly Layer[]>> = {
  "plain files, modes and times": [
    [
      root,
      dir("etc", { mode: 0o700 }),
      file("etc/shadow", "x", { mode: 0o640, gid: 42 }),
      file("bin", "", { mode: 0o4755 }),
      dir("tmp", { mode: 0o1777 }),
    ],
  ],
  "order of a parent after its child": [[root, dir("a"), file("a/x"), dir("a", { mode: 0o555, mtime: 1_500_000_000 })]],
  "links, absolute, relative and upward": [
    [
      root,
      dir("a"),
      link("a/abs", "/etc/passwd"),
      link("a/up", "../../../../x"),
      link("l", "a"),
      link("dangling", "nowhere"),
    ],
  ],
  "hard links": [
    [root, file("one", "same"), hard("two", "one"), hard("three", "/two"), link("s", "one"), hard("sl", "s")],
  ],
  "hard link over a file": [[root, file("one", "1"), file("two", "2"), hard("two", "one")]],
  "hard link through a linked directory": [
    [root, dir("real"), file("real/x", "1"), link("alias", "real"), hard("y", "alias/x")],
  ],
  "hard link to a lower layer": [base, [root, dir("b"), hard("b/copy", "a/one")]],
  "hard link to a lower symbolic link": [
    [...base, link("s", "f")],
    [root, hard("t", "s")],
  ],
  "file through a linked directory": [[root, dir("real"), link("alias", "real"), file("alias/x", "1")]],
  "file through an absolute link": [[root, dir("real"), link("alias", "/real"), file("alias/x", "1")]],
  "file through a lower link": [
    [root, dir("usr"), dir("usr/lib"), link("lib", "usr/lib")],
    [root, file("lib/libc.so", "elf")],
  ],
  "link replaced by a directory": [
    [root, dir("real"), link("alias", "real")],
    [root, dir("alias"), file("alias/x")],
  ],
  "directory replaced by a link and back": [base, [root, link("a", "b")], [root, dir("a"), file("a/new")]],
  "directory replaced by a file": [base, [root, file("a", "now a file")]],
  "file replaced by a directory": [base, [root, dir("f"), file("f/x")]],
  "directory to link to directory in one layer": [base, [root, link("a", "b"), dir("a"), file("a/new")]],
  "whiteout of a file": [base, [root, dir("a"), file("a/.wh.one", "")]],
  "whiteout of a directory": [base, [root, file(".wh.a", "")]],
  "whiteout, then the name again": [base, [root, file(".wh.a", ""), dir("a"), file("a/new")]],
  "the name, then its whiteout": [base, [root, dir("a"), file("a/new"), file(".wh.a", "")]],
  "whiteout, then a file of the name": [base, [root, file(".wh.f", ""), file("f", "again")]],
  "whiteout of what is not there": [base, [root, file(".wh.none", ""), file("a/.wh.none", "")]],
  "whiteout through a lower link": [
    [...base, link("la", "a")],
    [root, file("la/.wh.one", "")],
  ],
  "opaque first": [base, [root, dir("a"), file("a/.wh..wh..opq", ""), file("a/new")]],
  "opaque last": [base, [root, dir("a"), file("a/new"), dir("a/sub"), file("a/sub/y"), file("a/.wh..wh..opq", "")]],
  "opaque and plain whiteouts": [
    base,
    [root, dir("a"), file("a/.wh.one", ""), file("a/.wh..wh..opq", ""), file("a/two", "new")],
  ],
  "whiteout two layers up": [
    base,
    [root, file(".wh.a", "")],
    [root, dir("a"), file("a/z")],
    [root, file("a/.wh.z", "")],
  ],
  "directory's attributes change": [base, [root, dir("a", { mode: 0o711, mtime: 1_650_000_000, uid: 5 })]],
  "no entry for the directory": [base, [root, file("a/sub/more")]],
  "root's own mode": [[dir(".", { name: "./", mode: 0o711, mtime: 1_600_000_000 }), file("x")]],
  "long names by PAX": [[root, dir(long.slice(0, 90)), dir(long), file(`${long}/f`)]],
  "long names by GNU": [
    [
      root,
      header({ name: "././@LongLink", type: "L", data: `${"n".repeat(150)}\0` }),
      pad(new TextEncoder().encode(`${"n".repeat(150)}\0`)),
      entry(file("n".repeat(100), "data")),
    ],
  ],
  "prefix field": [[root, dir("p"), file("f", "data", { prefix: "p" })]],
  "PAX size over the header's": [[root, entry(file("x", "12345", { size: 5, pax: { size: "5" } })), file("y")]],
  "ids in base 256": [[root, file("x", "", { raw: [[108, base256(3_000_000n, 8)]] })]],
  "ids by PAX": [[root, file("x", "", { pax: { uid: "3000000", gid: "3000001" } })]],
  "names that are not UTF-8": [[root, file("caf\udce9", "x"), file("ünïcode", "y")]],
  "unclean names": [[root, file("/abs", "1"), file("./dot/./x", "2"), file("c/../../../up", "3"), file("a//b", "4")]],
  "sparse by PAX 1.0": [
    [
      root,
      entry({
        name: "s",
        data: sparseData,
        pax: {
          "GNU.sparse.major": "1",
          "GNU.sparse.minor": "0",
          "GNU.sparse.name": "sparse",
          "GNU.sparse.realsize": "100004",
        },
      }),
    ],
  ],
  fifo: [[root, { name: "pipe", type: "6", mode: 0o622 }]],
  devices: [
    [
      root,
      { name: "null", type: "3", device: [1, 3], mode: 0o666 },
      { name: "disk", type: "4", device: [8, 300], mode: 0o660 },
    ],
  ],
  "the same file twice": [[root, file("x", "first", { mode: 0o600 }), file("x", "second, longer", { mode: 0o644 })]],
  "directory with whiteouts, replaced and made again": [
    base,
    [
      root,
      dir("a"),
      file("a/.wh.one", ""),
      file("a/sub/.wh.deep", ""),
      file("a", "file"),
      dir("a"),
      dir("a/sub"),
      file("a/sub/x"),
    ],
  ],
  "directory replaced by a link, then a whiteout through it": [
    base,
    [root, file("b/.wh.x", ""), link("b", "a"), file("b/.wh.one", ""), file("b/three")],
  ],
  "opaque root first": [base, [root, file(".wh..wh..opq", ""), dir("a"), file("a/new"), file("n")]],
  "opaque root last": [
    base,
    [root, dir("a"), file("a/.wh.one", ""), file("a/new"), file(".wh.f", ""), file(".wh..wh..opq", "")],
    [root, file("b/y")],
  ],
  "directory made for a whiteout, then its own whiteout": [
    base,
    [root, file("a/sub/.wh.deep", ""), file("a/.wh..wh..opq", ""), file("b/.wh..wh..opq", ""), file(".wh.b", "")],
  ],
  "whiteout below, then opaque above": [
    base,
    [root, file("a/sub/.wh.deep", ""), file("a/n"), file("a/.wh..wh..opq", "")],
  ],
  "hard link to a lower file, then its whiteout": [
    base,
    [root, hard("kept", "a/one"), file("a/.wh.one", ""), hard("too", "a/two"), file("a/.wh..wh..opq", "")],
  ],
  "whiteout, then a file two levels below": [base, [root, file(".wh.a", ""), file("a/sub/deeper/x")]],
  "opaque through a link that it hides": [
    [...base, link("a/l", "/a")],
    [root, file("a/l/.wh..wh..opq", ""), file("a/l/x")],
  ],
  "whiteouts below a file": [base, [root, file("f/.wh.x", ""), file("f/.wh..wh..opq", ""), file("f/x/.wh.y", "")]],
  "empty layer": [base, []],
  "old V7 headers": [
    [
      root,
      { name: "d/", type: "\0", mode: 0o755, magic: "\0\0\0\0\0\0\0\0" },
      { name: "d/f", type: "\0", magic: "\0\0\0\0\0\0\0\0", data: "v7" },
    ],
  ],
};

/**
 * umoci takes away what an opaque marker or whiteout hides after a directory's entry has set its time, and so loses the
 * time that the layer gives; it does the same when a name with ".." passes by the root. There times of directories are
 * left out.
 */
export const timesLost = new Set([
  "the name, then its whiteout",
  "opaque last",
  "opaque root last",
  "whiteout below, then opaque above",
  "hard link to a lower file, then its whiteout",
  "whiteout, then a file two levels below",
  "opaque through a link that it hides",
  "unclean names",
]);

/**
 * Listings made comparable: directories that no entry describes have the time of unpacking, links counted in other
 * directories may differ.
 */
export function comparable(listing: string, name: string): string[] {
  return listing.split("\n").map((line) =>
    line.replace(/^([^|]*\|d\|.*)\|(\d+)\.\d+\|\|$/, (whole: string, head: string, seconds: string) => {
      if (timesLost.has(name)) return `${head}|-||`;
      return Number(seconds) > 1_700_000_000 ? `${head}|now||` : whole;
    }),
  );
}
