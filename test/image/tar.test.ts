/** The tar reader and writer: our own archives in any slicing, and Go's own vectors where Debian's package is there. */

import { afterAll, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { createTarReader, type TarEntry } from "../../src/image/tar-reader.ts";
import { formatTarHeader, writeTar } from "../../src/image/tar-writer.ts";
import { parsePax, parsePaxTime } from "../../src/image/tar-header.ts";
import { removeScratch, run, scratch } from "./helpers/stack.ts";
import { base256, concat, dir, entry, file, hard, header, link, pad, paxRecord, tar } from "./tar-maker.ts";

afterAll(removeScratch);

type Read = { readonly entry: TarEntry; readonly pieces: { offset: number; text: string }[] };

/** Read an archive pushed in pieces of the given sizes. */
function read(bytes: Uint8Array, sizes: readonly number[] = [65_536]): Read[] {
  const all: Read[] = [];
  const reader = createTarReader((item) => {
    const one: Read = { entry: item, pieces: [] };
    all.push(one);
    return {
      data: (chunk, offset) => {
        const last = one.pieces.at(-1);
        const text = Buffer.from(chunk).toString("latin1");
        if (last !== undefined && last.offset + last.text.length === offset) last.text += text;
        else one.pieces.push({ offset, text });
      },
      end: () => undefined,
    };
  });
  for (let at = 0, i = 0; at < bytes.byteLength; i++) {
    const size = sizes[i % sizes.length] ?? 1;
    reader.write(bytes.subarray(at, at + size));
    at += size;
  }
  reader.end();
  return all;
}

const mapped = pad(new TextEncoder().encode("2\n0\n4\n96\n4\n"));
const everything = tar(
  dir("a"),
  file("a/x", "hello"),
  link("l", "a/x"),
  hard("h", "a/x"),
  file(`${"long/".repeat(40)}name`, "y".repeat(1000)),
  { name: "null", type: "3", device: [1, 3] },
  entry(
    file("xattr", "z", {
      pax: { "SCHILY.xattr.security.capability": new Uint8Array([1, 0, 0xff, 10]), mtime: "1.25", uid: "70000" },
    }),
  ),
  entry(
    file("sparse", concat([mapped, new TextEncoder().encode("headtail")]), {
      pax: {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "real",
        "GNU.sparse.realsize": "100",
      },
    }),
  ),
  file("caf\udce9", ""),
);

test("every slicing gives the same entries", () => {
  const whole = read(everything);
  expect(whole.map(({ entry: { name, type, size } }) => [name.slice(-8), type, size])).toEqual([
    ["a/", "directory", 0],
    ["a/x", "file", 5],
    ["l", "symlink", 0],
    ["h", "hardlink", 0],
    ["ong/name", "file", 1000],
    ["null", "character", 0],
    ["xattr", "file", 1],
    ["real", "file", 100],
    ["caf\udce9", "file", 0],
  ]);
  expect(whole[6]?.entry).toMatchObject({ uid: 70_000, mtime: 1_250_000_000n });
  expect(whole[6]?.entry.xattrs.get("security.capability")).toEqual(new Uint8Array([1, 0, 0xff, 10]));
  expect(whole[7]?.pieces).toEqual([
    { offset: 0, text: "head" },
    { offset: 96, text: "tail" },
  ]);
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 1500 }), { minLength: 1, maxLength: 20 }), (sizes) => {
      expect(read(everything, sizes)).toEqual(whole);
    }),
    { numRuns: 30 },
  );
});

test("cut anywhere, it is an error or a prefix of the entries; bytes at random never hang or crash", () => {
  const whole = read(everything);
  fc.assert(
    fc.property(fc.integer({ min: 0, max: everything.byteLength }), (length) => {
      try {
        const some = read(everything.subarray(0, length));
        expect(some.map(({ entry: { name } }) => name)).toEqual(
          whole.slice(0, some.length).map(({ entry: { name } }) => name),
        );
      } catch (error) {
        expect((error as Error).name).toBe("HutchError");
      }
    }),
  );
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 512, maxLength: 2048 }), fc.nat(511), fc.nat(255), (noise, at, byte) => {
      for (const bytes of [noise, everything.with(at, byte)]) {
        try {
          read(bytes);
        } catch (error) {
          expect((error as Error).name).toBe("HutchError");
        }
      }
    }),
  );
});

const refused: readonly (readonly [string, Uint8Array, RegExp])[] = [
  [
    "a single zero block between entries",
    concat([entry(file("a")), new Uint8Array(512), entry(file("b"))]),
    /single zero block/,
  ],
  ["letters in a number", header({ name: "x", raw: [[100, new TextEncoder().encode("zzzzzzz\0")]] }), /bad number/],
  ["a size beyond 2^53", header({ name: "x", raw: [[124, base256(2n ** 60n, 12)]] }), /out of range/],
  [
    "a PAX record longer than its header",
    concat([header({ name: "x", type: "x", data: "99 a=b\n" }), pad(new TextEncoder().encode("99 a=b\n"))]),
    /malformed PAX/,
  ],
  ["a PAX time of words", tar(entry(file("x", "", { pax: { mtime: "noon" } }))), /bad PAX time/],
  [
    "a sparse map without end",
    tar(
      entry(
        file("x", pad(new TextEncoder().encode("9\n1\n")), {
          pax: { "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9" },
        }),
      ),
    ),
    /sparse map/,
  ],
  [
    "a header for nothing",
    concat([
      header({ name: "x", type: "x", data: "6 a=b\n" }),
      pad(new TextEncoder().encode("6 a=b\n")),
      new Uint8Array(0),
    ]),
    /cut short/,
  ],
];
test.each(refused)("refuses %s", (_, bytes, message) => {
  expect(() => read(bytes)).toThrow(message);
});

test("what follows the end is ignored, a missing end is not missed", () => {
  expect(read(concat([tar(file("a")), new TextEncoder().encode("junk")])).length).toBe(1);
  expect(read(entry(file("a"))).length).toBe(1);
  expect(read(new Uint8Array(0))).toEqual([]);
});

test("PAX records keep bytes; times are exact", () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[a-z.]{1,20}$/), fc.uint8Array({ maxLength: 300 }), (key, value) => {
      expect(parsePax(paxRecord(`v.${key}`, value))).toEqual([[`v.${key}`, value]]);
    }),
  );
  expect(parsePaxTime("1350244992.023960108")).toBe(1_350_244_992_023_960_108n);
  expect(parsePaxTime("-1.5")).toBe(-1_500_000_000n);
});

test("GNU tar and we agree about what it writes", async () => {
  const place = scratch();
  const made =
    "mkdir -p t/d && printf hello >t/d/f && ln -s f t/d/l && ln t/d/f t/h && mkfifo t/p && truncate -s 1M t/s && printf end >>t/s && touch -d @1.5 t/d/f";
  await run(
    [
      "sh",
      "-c",
      `${made} && tar --format=gnu -S -cf gnu.tar t && tar --format=pax -S -cf pax.tar t && tar --format=ustar -cf ustar.tar t && tar --format=v7 -cf v7.tar t/d`,
    ],
    place,
  );
  const names = (form: string): string[] =>
    read(new Uint8Array(readFileSync(join(place, `${form}.tar`))))
      .map(({ entry: { name } }) => name)
      .toSorted();
  for (const form of ["gnu", "pax", "ustar"])
    expect(names(form)).toEqual(["t/", "t/d/", "t/d/f", "t/d/l", "t/h", "t/p", "t/s"]);
  expect(names("v7")).toEqual(["t/d/", "t/d/f", "t/d/l"]);
  for (const form of ["gnu", "pax"]) {
    const sparse = read(new Uint8Array(readFileSync(join(place, `${form}.tar`)))).find(
      ({ entry: { name } }) => name === "t/s",
    );
    expect(sparse?.entry.size).toBe(1_048_579);
    expect(sparse?.pieces.at(-1)?.text.endsWith("end")).toBe(true);
    expect(sparse?.pieces.reduce((sum, { text }) => sum + text.length, 0)).toBeLessThan(10_000);
  }
});

test("our writer's archives are what GNU tar reads", async () => {
  const place = scratch();
  const files = [
    { name: "d/", size: 0, content: new Uint8Array() },
    { name: "d/f", size: 5, content: new TextEncoder().encode("hello") },
  ];
  await Bun.write(join(place, "x.tar"), new Response(writeTar(files) as never));
  expect(await run(["tar", "--numeric-owner", "--utc", "-tvf", "x.tar"], place)).toBe(
    "drwxr-xr-x 0/0               0 1970-01-01 00:00 d/\n-rw-r--r-- 0/0               5 1970-01-01 00:00 d/f\n",
  );
  expect(
    read(
      concat([formatTarHeader("big", 2 ** 40)])
        .with(0, 0x62)
        .slice(0, 0),
    ),
  ).toEqual([]);
  expect(() => formatTarHeader("n".repeat(101), 0)).toThrow("too long");
});

/** Go's archive/tar vectors: name, size and data bytes of each entry, or that it is refused, as its reader_test.go says. */
const vectors: Readonly<Record<string, readonly string[] | "refused">> = {
  "gnu.tar": ["small.txt 5 5", "small2.txt 11 11"],
  "star.tar": ["small.txt 5 5", "small2.txt 11 11"],
  "v7.tar": ["small.txt 5 5", "small2.txt 11 11"],
  "sparse-formats.tar": [
    "sparse-gnu 200 95",
    "sparse-posix-0.0 200 95",
    "sparse-posix-0.1 200 95",
    "sparse-posix-1.0 200 95",
    "end 4 4",
  ],
  "pax.tar": ["…596979899100 7 7", "a/b 0 0"],
  "pax-bad-hdr-file.tar": "refused",
  "pax-bad-mtime-file.tar": "refused",
  "pax-pos-size-file.tar": ["foo 999 999"],
  "pax-records.tar": ["file 0 0"],
  "pax-global-records.tar": ["file1 0 0", "file2 0 0", "file3 0 0", "file4 0 0"],
  "nil-uid.tar": ["P1050238.JPG.log 14 14"],
  "xattrs.tar": ["small.txt 5 5", "small2.txt 11 11"],
  "gnu-multi-hdrs.tar": ["GNU2/GNU2/long-path-name 0 0"],
  "pax-multi-hdrs.tar": ["bar 0 0"],
  "gnu-long-nul.tar": ["0123456789 0 0"],
  "gnu-utf8.tar": ["…☺☻☹☺☻☹☺☻☹☺☻☹ 0 0"],
  "gnu-not-utf8.tar": ["hi\udc80\udc81\udc82\udc83bye 0 0"],
  "pax-nul-xattrs.tar": "refused",
  "pax-nul-path.tar": "refused",
  "neg-size.tar": "refused",
  "issue10968.tar": "refused",
  "issue11169.tar": "refused",
  "issue12435.tar": "refused",
  "invalid-go17.tar": ["…aaaaaaaa/foo 0 0"],
  "ustar-file-devs.tar": ["file 0 0"],
  "ustar-file-reg.tar": ["foo 684 684"],
  "gnu-nil-sparse-data.tar": ["sparse.db 1000 1000"],
  "gnu-nil-sparse-hole.tar": ["sparse.db 1000 0"],
  "pax-nil-sparse-data.tar": ["sparse.db 1000 1000"],
  "pax-nil-sparse-hole.tar": ["sparse.db 1000 0"],
  "trailing-slash.tar": ["…9/123456789/ 0 0"],
  "hardlink.tar": ["file.txt 15 15", "hard.txt 0 0"],
  // Twice: with sizes of 0, and with sizes that header-only entries must not believe.
  "hdr-only.tar": [
    "dir/ 0 0",
    "fifo 0 0",
    "file 46 46",
    "hardlink 0 0",
    "null 0 0",
    "sda 0 0",
    "symlink 0 0",
    "badlink 0 0",
    "dir/ 0 0",
    "fifo 0 0",
    "file 46 46",
    "hardlink 0 0",
    "null 0 0",
    "sda 0 0",
    "symlink 0 0",
    "badlink 0 0",
  ],
  "file-and-dir.tar": ["small.txt 5 5", "dir/ 0 0"],
  "ustar.tar": ["…ame/file.txt 6 6"],
  "writer.tar": ["small.txt 5 5", "small2.txt 11 11", "link.txt 0 0"],
  "pax-path-hdr.tar": "refused", // a header without its entry, which Go's own test puts behind it
  // The headers of files of 16 GiB, without these.
  "writer-big.tar": "refused",
  "writer-big-long.tar": "refused",
  "gnu-sparse-big.tar": ["gnu-sparse 60000000000 3072"],
  "pax-sparse-big.tar": ["pax-sparse 60000000000 3072"],
};
/** Directories of GNU's incremental archives do not occur in layers. */
const beyond: readonly string[] = ["gnu-incremental.tar"];

const goData = ["/usr/share", "/usr/lib", process.env["HUTCH_GO_SOURCES"] ?? "/nonexistent"]
  .flatMap((root) =>
    existsSync(root)
      ? readdirSync(root)
          .filter((name) => name.startsWith("go-1"))
          .map((name) => join(root, name))
      : [],
  )
  .map((root) => join(root, "src/archive/tar/testdata"))
  .find((path) => existsSync(path));

test.skipIf(goData === undefined).each([...Object.keys(vectors), ...beyond])(
  "Go's vector %s (Debian: golang-1.19-src)",
  (name) => {
    const outcome = ((): readonly string[] | "refused" => {
      try {
        return read(new Uint8Array(readFileSync(join(goData ?? "", name)))).map(({ entry: item, pieces }) => {
          const short = item.name.length > 30 ? `…${item.name.slice(-12)}` : item.name;
          return `${short} ${item.size} ${pieces.reduce((sum, { text }) => sum + text.length, 0)}`;
        });
      } catch (error) {
        expect((error as Error).name).toBe("HutchError");
        return "refused";
      }
    })();
    expect(outcome).toEqual(vectors[name] ?? "refused");
  },
);
