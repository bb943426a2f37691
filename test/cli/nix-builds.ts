/** Failed builds for the tests of nix-build-shell, and looking after what must stay as it is. */

import { afterAll, beforeAll, expect } from "bun:test";
import { createHash } from "node:crypto";
import { lstatSync, readdirSync, readFileSync, readlinkSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { type Workshop, workshop } from "../nix/builds.ts";
import type { Bench, Options, Result } from "./hutch.ts";

/** A chroot store with one failed build in it, made before the first test of a file and removed after the last. */
export interface FailedBuild {
  readonly shop: () => Workshop;
  readonly kept: () => string;
}

/** Make it; `args` are nix-build's for the fixture's package. */
export function failedBuild(args: readonly string[] = []): FailedBuild {
  let shop: Workshop | undefined;
  let kept = "";
  beforeAll(() => {
    shop = workshop();
    ({ kept } = shop.fail("package.nix", args));
  });
  afterAll(() => shop?.[Symbol.dispose]());
  const made = () => {
    if (shop === undefined) throw new Error("the build is made before the first test");
    return shop;
  };
  return { shop: made, kept: () => kept };
}

/** The binary under the name nix-build-shell, in the caller's workshop. */
export function applet(bench: Bench): string {
  const path = join(dirname(bench.binary), "nix-build-shell");
  try {
    symlinkSync("hutch", path);
  } catch {
    // made by an earlier test of the file
  }
  return path;
}

/** `nix-build-shell --store STORE …` by the caller, its copies below `temporary`. */
export function enter(
  bench: Bench,
  { shop }: FailedBuild,
  temporary: string,
  args: readonly string[],
  options: Options = {},
): Promise<Result> {
  const argv = [applet(bench), "--store", shop().store.root, ...args];
  return bench.start(argv, {
    stdin: "",
    ...options,
    env: { TMPDIR: temporary, ...options.env },
  }).ended;
}

/** What a tree is, access times apart: names, inodes, types, modes, owners, links, times, contents. */
export function fingerprint(path: string): string {
  const hash = createHash("sha256");
  const walk = (at: string): void => {
    const s = lstatSync(at, { bigint: true });
    hash.update(`${at} ${s.ino} ${s.mode} ${s.uid} ${s.gid} ${s.nlink} ${s.size} ${s.mtimeNs} ${s.ctimeNs}\n`);
    if (s.isSymbolicLink()) hash.update(readlinkSync(at));
    else if (s.isFile()) hash.update(readFileSync(at));
    else if (s.isDirectory()) for (const name of readdirSync(at).toSorted()) walk(join(at, name));
  };
  walk(path);
  return hash.digest("hex");
}

/** Expect that neither the store nor the kept directory is changed by what happens. */
export async function expectUntouched(build: FailedBuild, happens: () => Promise<void>): Promise<void> {
  const look = () => [fingerprint(build.shop().store.root), fingerprint(build.kept())];
  const before = look();
  await happens();
  expect(look()).toEqual(before);
}
