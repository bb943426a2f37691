import { expect, test } from "bun:test";
import { parseFailedDerivations, parseKeptOutput } from "../../src/nix/kept-output.ts";

test.each([
  ["up to 2.33", "note: keeping build directory '/tmp/nix-build-a.drv-0'\n", ["/tmp/nix-build-a.drv-0"]],
  [
    "2.34 on",
    'note: keeping build directory "/nix/var/nix/builds/nix-1-2/build"',
    ["/nix/var/nix/builds/nix-1-2/build"],
  ],
  ["with escapes", 'keeping build directory "/tmp/a \\"b\\"\\\\c"', ['/tmp/a "b"\\c']],
  ["with colours", "\x1b[35;1mnote:\x1b[0m keeping build directory '\x1b[35;1m/tmp/a\x1b[0m'", ["/tmp/a"]],
  [
    "several, one twice",
    "keeping build directory '/a'\nx\nnote: keeping build directory '/b'\nkeeping build directory '/a'",
    ["/a", "/b"],
  ],
  ["none", "error: build of '/nix/store/x.drv' failed", []],
  ["no path", "keeping build directory 'relative'", []],
  ["cut", "keeping build directory '/tmp/a\n'", []],
])("%s", (_, text, expected) => {
  expect(parseKeptOutput(text).map(({ directory }) => directory)).toEqual(expected);
});

test("failed derivations", () => {
  expect(parseFailedDerivations("error: builder for '/nix/store/x-a.drv' failed with exit code 1")).toEqual([
    "/nix/store/x-a.drv",
  ]);
  expect(parseFailedDerivations("error: Cannot build '/nix/store/x-a.drv'.\n       Reason: builder failed")).toEqual([
    "/nix/store/x-a.drv",
  ]);
});
