/**
 * Hostile images to the built binary: one line, exit code 125, and nothing outside of the store changed. Each by one of its
 * ways; test/image/attack-ways.test.ts tries all of them, and the bombs, whose limits cannot be lowered from outside.
 */

import { expect, test } from "bun:test";
import { lchownSync, mkdirSync } from "node:fs";
import { imageAttacks } from "../image/helpers/image-attacks.ts";
import { placeOffer, serveOffer } from "../image/helpers/ways.ts";
import { eachCaller, expectFailure } from "./hutch.ts";
import { fingerprint, namesBelow } from "./tree.ts";

const WAYS = ["registry", "OCI layout", "OCI archive", "docker archive"] as const;
const names = Object.keys(imageAttacks).filter((name) => imageAttacks[name]?.limits === undefined);

eachCaller("hostile images", (bench) => {
  test.each(names.map((name, i) => [name, i] as const))("%s", async (name, i) => {
    const attack = imageAttacks[name];
    if (attack === undefined) throw new Error("no such attack");
    const outside = bench.folder({ "guard/victim": "untouched" });
    const offer = attack.offer(`${outside}/guard`);
    const ways = WAYS.filter((way) => attack.not?.[way] === undefined);
    const way = ways[(i + (bench.caller.root ? 1 : 0)) % ways.length] ?? "OCI archive";
    const folder = bench.folder();
    const before = fingerprint(outside);
    const refuses = async (image: string): Promise<void> => {
      const result = await bench.hutch(["run", image, "true"], { env: { HUTCH_STORE: `${folder}/store` } });
      expectFailure(result, 125);
      expect(result.stderr).toMatch(attack.refused);
    };
    if (way === "registry") {
      const { name: image, registry } = serveOffer(offer);
      await using server = registry;
      void server;
      await refuses(image);
    } else {
      mkdirSync(`${folder}/source`);
      const image = placeOffer(offer, `${folder}/source`, way);
      for (const each of ["source", ...namesBelow(`${folder}/source`).map((below) => `source/${below}`)])
        if (process.getuid?.() === 0) lchownSync(`${folder}/${each}`, bench.caller.uid, bench.caller.uid);
      await refuses(image);
    }
    expect(fingerprint(outside)).toEqual(before);
  });
});
