import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  type Derivation,
  formatDerivation,
  isFixedOutput,
  outputPaths,
  parseDerivation,
} from "../../src/nix/derivation.ts";
import { baseName, derivationName, formatBase32, parseBase32, parseStorePath } from "../../src/nix/store-path.ts";

const SMALL =
  'Derive([("out","/nix/store/o","","")],[("/nix/store/i.drv",["dev","out"])],["/nix/store/s"],"x86_64-linux","/bin/sh",["-c","a\\nb"],[("k","v\\"\\\\\\t"),("out","/nix/store/o")])';

describe("parseDerivation", () => {
  test("all fields", () => {
    const derivation = parseDerivation(SMALL);
    expect(derivation.args).toEqual(["-c", "a\nb"]);
    expect(derivation.env.get("k")).toBe('v"\\\t');
    expect(derivation.inputDerivations).toEqual([{ path: "/nix/store/i.drv", outputs: ["dev", "out"] }]);
    expect([...outputPaths(derivation)]).toEqual([["out", "/nix/store/o"]]);
    expect(isFixedOutput(derivation)).toBe(false);
    expect(formatDerivation(derivation)).toBe(SMALL);
  });

  test.each([
    ["nothing", ""],
    ["something after it", `${SMALL} `],
    ["cut short", SMALL.slice(0, -1)],
    ["cut inside a string", SMALL.slice(0, 12)],
    ["a backslash at the end", 'Derive([("out\\'],
    ["no outputs", SMALL.replace('("out","/nix/store/o","","")', "")],
    ["spaces", SMALL.replace(",[", ", [")],
    ["an attribute twice", SMALL.replace('("out","/nix/store/o")])', '("k","")])')],
    ["a newer kind", SMALL.replace("Derive(", 'DrvWithVersion("xp-dyn-drv",')],
  ])("%s is refused", (_, text) => {
    expect(() => parseDerivation(text)).toThrow("not a derivation");
  });

  test("a hostile text costs linear time", () => {
    const start = performance.now();
    expect(() => parseDerivation(`Derive([("out","${"\\n".repeat(2_000_000)}`)).toThrow("closing quote");
    expect(performance.now() - start).toBeLessThan(5000);
  });
});

const text = fc.string({ unit: "binary" });
const derivations: fc.Arbitrary<Derivation> = fc.record({
  outputs: fc.array(fc.record({ name: fc.string({ minLength: 1 }), path: text, hashAlgorithm: text, hash: text }), {
    minLength: 1,
  }),
  inputDerivations: fc.array(fc.record({ path: text, outputs: fc.array(text) })),
  inputSources: fc.array(text),
  system: text,
  builder: text,
  args: fc.array(text),
  env: fc.dictionary(text, text).map((env) => new Map(Object.entries(env))),
});

test("formatDerivation and parseDerivation are twins", () => {
  fc.assert(fc.property(derivations, (d) => expect(parseDerivation(formatDerivation(d))).toEqual(d)));
});

test("base 32 reads back, and is what nix prints", () => {
  // nix-hash --type sha256 --to-base32 of the SHA-256 of nothing
  const empty = new Uint8Array(new Bun.CryptoHasher("sha256").digest());
  expect(formatBase32(empty)).toBe("0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73");
  fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), (b) => expect(parseBase32(formatBase32(b))).toEqual(b)));
  expect(parseBase32("eeee")).toBeUndefined();
  expect(parseBase32("zz")).toBeUndefined(); // bits beyond the last byte
});

test("store paths", () => {
  const hash = "a9wwb845gslg00hm50p20k1qrrvsk792";
  expect(parseStorePath(`/nix/store/${hash}-bash-5.2/bin/bash`)).toEqual({
    path: `/nix/store/${hash}-bash-5.2`,
    hash,
    name: "bash-5.2",
    rest: "/bin/bash",
  });
  for (const bad of [
    "/nix/store",
    "/nix/store/",
    "/nix/store/x-y",
    `/nix/storex/${hash}-a`,
    `/nix/store/${hash}-`,
    "/bin/sh",
  ])
    expect(parseStorePath(bad)).toBeUndefined();
  expect(parseStorePath(`/nix/store/${hash}-a/../../../bin/sh`)).toBeUndefined();
  expect(baseName(`/nix/store/${hash}-a.drv`)).toBe(`${hash}-a.drv`);
  expect(() => baseName("/etc/passwd")).toThrow("not a store path");
  expect(derivationName(`/nix/store/${hash}-hello-2.12.drv`)).toBe("hello-2.12");
});
