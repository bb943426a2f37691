/** The attack list: what hostile layers try, and whether they must be refused or confined. */

import { base256, concat, dir, entry, file, hard, header, link, type Made, pad } from "../tar-maker.ts";

type Layer = readonly (Made | Uint8Array)[];
export type Attack = {
  readonly layers: readonly Layer[];
  readonly refused?: RegExp;
  /** Paths that must be there, in the last layer. */ readonly has?: readonly string[];
  /** Extended attributes that a path of the last layer must have, byte for byte, or must not. */
  readonly xattrs?: Readonly<Record<string, Readonly<Record<string, Uint8Array | undefined>>>>;
};

const BINARY = new Uint8Array([0xff, 0, 0x0a, 0x3d, 0x80, 0]);
/** A map that says to hold 900,000 runs, for a file that ends before: reading it must not take the square of its length. */
const MAP = `900000\n${"1\n".repeat(400_000)}`;
/** What would make overlayfs hide, rename or take content from elsewhere (Linux, filesystems/overlayfs.rst). */
const MARKS = ["opaque", "whiteout", "redirect", "metacopy", "origin"].flatMap((name) => [
  `user.overlay.${name}`,
  `trusted.overlay.${name}`,
]);
const FORGED = Object.fromEntries(MARKS.map((name) => [`SCHILY.xattr.${name}`, "y"]));
const UNMARKED = Object.fromEntries(MARKS.map((name) => [name, undefined]));
const SPARSE_1_0 = { "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "5" };

/** Layers cannot know where they are unpacked: attacks aim at this many levels up and at absolute paths. */
const up = "../".repeat(12);

/** All of them, aimed at the absolute path of a directory with the file `victim`. */
export const attacksOn = (guard: string): Readonly<Record<string, Attack>> => ({
  "absolute path": { layers: [[file(`/${guard.slice(1)}/victim`, "bad")]], has: [`${guard.slice(1)}/victim`] },
  "dot dot": { layers: [[file(`${up}${guard.slice(1)}/victim`, "bad")]], has: [`${guard.slice(1)}/victim`] },
  "dot dot inside": { layers: [[file(`a/../../${up}${guard.slice(1)}/new`, "bad")]], has: [`${guard.slice(1)}/new`] },
  "absolute link, file through it": {
    layers: [[link("l", guard), file("l/victim", "bad")]],
    has: [`${guard.slice(1)}/victim`],
  },
  "relative link, file through it": {
    layers: [[link("l", `${up}${guard.slice(1)}`), file("l/victim", "bad")]],
    has: [`${guard.slice(1)}/victim`],
  },
  "chained links": {
    layers: [[link("a", "/"), link("b", `a/${guard.slice(1)}`), file("b/victim", "bad")]],
    has: [`${guard.slice(1)}/victim`],
  },
  "link through dot": {
    layers: [[link("l", `/./${guard.slice(1)}/.`), file("./l/./victim", "bad")]],
    has: [`${guard.slice(1)}/victim`],
  },
  "link in a lower layer, file above": {
    layers: [[link("l", guard)], [file("l/victim", "bad")]],
    has: [`${guard.slice(1)}/victim`],
  },
  "link over a directory, then through it": {
    layers: [[dir("d"), link("d", guard), file("d/victim", "bad")]],
    has: [`${guard.slice(1)}/victim`],
  },
  "link, then a file of the same name": { layers: [[link("l", `${guard}/victim`), file("l", "bad")]], has: ["l"] },
  "link below, then a file of the same name": {
    layers: [[link("l", `${guard}/victim`)], [file("l", "bad")]],
    has: ["l"],
  },
  "link, then a directory of the same name": {
    layers: [[link("l", guard), dir("l"), file("l/victim", "bad")]],
    has: ["l/victim"],
  },
  "link loop": { layers: [[link("a", "b"), link("b", "a"), file("a/x")]], refused: /too many symbolic links/ },
  "hard link to an absolute path": {
    layers: [[hard("h", `${guard}/victim`), file("h", "bad")]],
    refused: /the image has no/,
  },
  "hard link upward": { layers: [[hard("h", `${up}${guard.slice(1)}/victim`)]], refused: /the image has no/ },
  "hard link through a link": { layers: [[link("l", guard), hard("h", "l/victim")]], refused: /the image has no/ },
  "hard link to a link, then written": {
    layers: [[link("l", `${guard}/victim`), hard("h", "l"), file("h", "bad")]],
    has: ["l", "h"],
  },
  "hard link to a directory": { layers: [[dir("d"), hard("h", "d")]], refused: /to a directory/ },
  "hard link to a lower directory": { layers: [[dir("d")], [hard("h", "d")]], refused: /to a directory/ },
  "hard link to the root": { layers: [[hard("h", "/")]], refused: /to the root/ },
  "link named .": { layers: [[link(".", guard)], [file("victim", "bad")]], refused: /replace the root/ },
  "link named /.": { layers: [[link("/.", guard)], [file("victim", "bad")]], refused: /replace the root/ },
  "link named ..": { layers: [[link("a/..", guard)]], refused: /replace the root/ },
  "file named /": { layers: [[file("/", "x")]], refused: /replace the root/ },
  "whiteout of ..": { layers: [[file(".wh...", "")]], refused: /invalid whiteout/ },
  "whiteout of .": { layers: [[file(".wh..", "")]], refused: /invalid whiteout/ },
  "whiteout of nothing": { layers: [[file("a/.wh.", "")]], refused: /invalid whiteout/ },
  "whiteout through a link": { layers: [[link("l", guard), file("l/.wh.victim", "")]], has: ["l"] },
  "whiteout through a lower link": { layers: [[link("l", guard)], [file("l/.wh.victim", "")]] },
  "opaque on a link": { layers: [[link("l", guard)], [file("l/.wh..wh..opq", "")]] },
  "aufs metadata": {
    layers: [[dir(".wh..wh.plnk"), file(".wh..wh.plnk/1.2"), file(".wh..wh.aufs", ""), file("x")]],
    has: ["x"],
  },
  "directory to link and back": {
    layers: [[dir("d"), file("d/a")], [link("d", guard)], [dir("d"), file("d/victim", "bad")]],
    has: ["d/victim"],
  },
  "NUL in a PAX path": { layers: [[entry(file("x", "", { pax: { path: "a\0b" } }))]], refused: /NUL/ },
  "NUL in a PAX link": { layers: [[entry(link("x", "y", { pax: { linkpath: "a\0b" } }))]], refused: /NUL/ },
  "NUL in the name of an extended attribute": {
    layers: [[entry(file("x", "", { pax: { "SCHILY.xattr.user.a\0b": "c" } }))]],
    refused: /NUL/,
  },
  "NUL in a long name": {
    layers: [[{ name: "././@LongLink", type: "L", data: `kept\0/../../${up}${guard.slice(1)}/victim\0` }, file("x")]],
    has: ["kept"],
  },
  "extended attributes of every byte": {
    layers: [
      [
        entry(
          file("x", "", {
            pax: {
              "SCHILY.xattr.user.binary": BINARY,
              "LIBARCHIVE.xattr.user.encoded": Buffer.from(BINARY).toString("base64"),
            },
          }),
        ),
      ],
    ],
    xattrs: { x: { "user.binary": BINARY, "user.encoded": BINARY } },
  },
  "forged marks of overlayfs": {
    layers: [
      [dir("d"), file("d/kept")],
      [entry(dir("d", { pax: FORGED })), entry(file("x", "", { pax: FORGED })), entry(dir("new", { pax: FORGED }))],
    ],
    xattrs: { d: UNMARKED, x: UNMARKED, new: UNMARKED },
  },
  "negative size": {
    layers: [[header({ name: "x", raw: [[124, base256(-1n, 12)]] })]],
    refused: /negative size|out of range/,
  },
  "size of 8 EiB": {
    layers: [[header({ name: "x", raw: [[124, base256(2n ** 63n, 12)]] })]],
    refused: /out of range|negative/,
  },
  "size of 4 PiB": {
    layers: [[header({ name: "x", raw: [[124, base256(2n ** 52n, 12)]] })]],
    refused: /bytes in one layer/,
  },
  "sparse file of 4 PiB": {
    layers: [
      [
        entry(
          file("x", "", {
            pax: { "GNU.sparse.map": "", "GNU.sparse.size": String(2 ** 52), "GNU.sparse.numblocks": "0" },
          }),
        ),
      ],
    ],
    refused: /bytes in one layer/,
  },
  "PAX size larger than the data": {
    layers: [[entry(file("x", "12345", { pax: { size: "999999" } }))]],
    refused: /cut short/,
  },
  // PAX has the last word (Go, GNU tar): what is behind it is the archive's next entry, and inside like any other.
  "PAX size smaller than the data": {
    layers: [
      [
        entry(
          file(
            "x",
            concat([header(file(`${up}${guard.slice(1)}/victim`, "bad")), pad(new TextEncoder().encode("bad"))]),
            { pax: { size: "0" } },
          ),
        ),
      ],
    ],
    has: ["x", `${guard.slice(1)}/victim`],
  },
  "sparse map of 400,000 lines": {
    layers: [[entry(file("x", MAP, { pax: SPARSE_1_0 }))]],
    refused: /sparse map longer than its file/,
  },
  "a header of a gigabyte": { layers: [[header({ name: "x", type: "x", size: 2 ** 30 })]], refused: /a header of/ },
  "overlapping sparse map": {
    layers: [[entry(file("x", "aaaabbbb", { pax: { "GNU.sparse.map": "0,4,2,4", "GNU.sparse.size": "10" } }))]],
    refused: /invalid sparse map/,
  },
  "1,500 levels": { layers: [[entry(file(`${"d/".repeat(1500)}x`))]], refused: /path too long/ },
  "path of 5,000 bytes": { layers: [[entry(file(`${"a/".repeat(2500)}x`))]], refused: /path too long/ },
  "name of 300 bytes": { layers: [[entry(file("n".repeat(300)))]], refused: /path too long/ },
  "a thousand levels": { layers: [[entry(file(`${"d/".repeat(1000)}x`))]], has: [`${"d/".repeat(1000)}x`] },
  "too many entries": {
    layers: [Array.from({ length: 60 }, (_, i) => file(`f${i}`, ""))],
    refused: /more than 50 entries/,
  },
  "unknown type": { layers: [[{ name: "x", type: "Z" }]], refused: /unknown entry type/ },
  "duplicate entries": {
    layers: [[file("x", "one"), file("x", "two"), dir("x"), file("x/y"), link("x", guard), file("x/victim", "bad")]],
    has: ["x", `${guard.slice(1)}/victim`],
  },
  "hard link, then its first name written": {
    layers: [[file("a", "one"), hard("h", "a"), file("a", "bad")]],
    has: ["h"],
  },
  "hard link to a lower file, then written": {
    layers: [[file("a", "one")], [hard("h", "a"), file("h", "bad")]],
    has: ["a", "h"],
  },
  "device nodes": {
    layers: [
      [
        { name: "mem", type: "3", device: [1, 1], mode: 0o666 },
        { name: "disk", type: "4", device: [8, 0], mode: 0o666 },
        { name: "gone", type: "3", device: [0, 0] },
      ],
    ],
    has: ["mem", "disk", "gone"],
  },
  "whiteouts that are directories": {
    layers: [
      [dir("d"), file("d/x")],
      [dir("d"), dir("d/.wh.x"), file("d/.wh.y/z"), link(".wh.l", guard)],
    ],
  },
  "names that are no UTF-8": { layers: [[file("\xff\xfe", "x"), link("l\xff", guard), file("l\xff/victim", "bad")]] },
  "wrong checksum": { layers: [[header({ name: "x" }).with(0, 0x79)]], refused: /checksum/ },
  "file below a file": { layers: [[file("x"), file("x/y")]], refused: /is not a directory/ },
  "cut short": { layers: [[header({ name: "x", size: 100_000 })]], refused: /cut short/ },
});
