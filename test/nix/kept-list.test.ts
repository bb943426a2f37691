import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { findInteractiveShell, hasReadline } from "../../src/nix/interactive-shell.ts";
import { findKeptBuild } from "../../src/nix/kept-build.ts";
import { listKeptBuilds } from "../../src/nix/kept-list.ts";
import { onHost } from "../../src/nix/store-path.ts";
import { run, workshop } from "./builds.ts";

test("kept builds are listed with package, phase, age and size", () => {
  using shop = workshop();
  const first = shop.fail("package.nix", ["--argstr", "failIn", "buildPhase", "--argstr", "name", "first"]);
  const second = shop.fail("package.nix", ["--argstr", "name", "second", "--argstr", "umask", "0077"]);
  fs.utimesSync(first.kept, 1000, 2000);
  // as newer versions keep them
  const newer = onHost(shop.store, `${shop.store.stateDir}/builds/nix-77-88/build`);
  fs.mkdirSync(newer, { recursive: true });
  fs.copyFileSync(`${second.kept}/env-vars`, `${newer}/env-vars`);
  fs.utimesSync(newer, 1000, 1000);
  const others = ["nix-build-of-mine", "nix-build-x.drv-0.txt"];
  for (const name of others) fs.mkdirSync(`${shop.root}/kept/${name}`);
  fs.symlinkSync(first.kept, `${shop.root}/kept/nix-build-link.drv-0`);
  const listed = listKeptBuilds(shop.store, [`${shop.root}/kept`]);
  expect(listed.map(({ path, name, phase }) => [path, name, phase])).toEqual([
    [second.kept, "second", "checkPhase"],
    [first.kept, "first", "buildPhase"],
    [newer.replace(/\/build$/, ""), "second", "checkPhase"],
  ]);
  expect(listed[1]?.modified).toBe(2_000_000);
  expect(listed[1]?.expires).toBeUndefined();
  expect(listed[2]?.expires).toBe(1_000_000 + 7 * 86_400_000);
  const [blocks] = run(["du", "-s", "--block-size=1", first.kept]).stdout.split("\t");
  expect(listed[1]?.size).toBe(Number(blocks) - 4096); // du counts the directory itself
});

test("a link by the name of build/ is not entered", () => {
  using shop = workshop();
  const { kept } = shop.fail("package.nix");
  const trap = `${shop.root}/nix-5-6`;
  fs.mkdirSync(trap);
  fs.symlinkSync(kept, `${trap}/build`);
  expect(findKeptBuild(trap)).toMatchObject({ directory: trap, envVars: "absent" });
});

test("a bash with readline is found in the store, the newest first, else on the host", () => {
  using shop = workshop();
  const host = Bun.which("bash") ?? "";
  expect(hasReadline(host)).toBe(run([host, "-c", "type bind"]).code === 0);
  expect(hasReadline("/bin/true")).toBe(false);
  expect(hasReadline("/nowhere")).toBe(false);
  expect(findInteractiveShell(shop.store, host)).toEqual({ path: host, from: "host" });
  expect(findInteractiveShell(shop.store, "/bin/true")).toBeUndefined();
  for (const name of ["bash-interactive-5.2p9", "bash-interactive-5.2p37", "bash-interactive-5.2p37-man"]) {
    const bin = onHost(shop.store, `/nix/store/${"0".repeat(32)}-${name}/bin`);
    fs.mkdirSync(bin, { recursive: true });
    fs.copyFileSync(host, `${bin}/bash`);
  }
  const path = `/nix/store/${"0".repeat(32)}-bash-interactive-5.2p37/bin/bash`;
  expect(findInteractiveShell(shop.store, host)).toEqual({ path, from: "store" });
});
