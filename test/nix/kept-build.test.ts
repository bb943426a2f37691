import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { decodeBytes } from "../../src/bytes.ts";
import { failedPhase, logPaths, readBuildLog, readLogFile } from "../../src/nix/build-log.ts";
import { formatDerivation, parseDerivation } from "../../src/nix/derivation.ts";
import { buildEnvironment, rebuiltVariables } from "../../src/nix/environment.ts";
import { formatEnvVars, parseEnvVars, valueOf } from "../../src/nix/env-vars.ts";
import { checkBuildVariables, findKeptBuild, readBuildVariables } from "../../src/nix/kept-build.ts";
import { findDerivation, readDerivation, readDerivationFile } from "../../src/nix/kept-derivation.ts";
import { askDatabase, inputClosure, partialOutputs, referenceGraph } from "../../src/nix/nix-database.ts";
import { onHost, type Store } from "../../src/nix/store-path.ts";
import { run, workshop, type Workshop } from "./builds.ts";

const isRoot = process.getuid?.() === 0;

let shop: Workshop;
let store: Store;
let kept = "";
beforeAll(() => {
  shop = workshop();
  ({ store } = shop);
  ({ kept } = shop.fail("package.nix"));
});
afterAll(() => shop[Symbol.dispose]());

const database = (s: Store) => onHost(s, `${s.stateDir}/db`);

describe("a real failed build", () => {
  test("its env-vars reads, and is written back byte for byte", () => {
    const text = decodeBytes(fs.readFileSync(`${kept}/env-vars`));
    expect(formatEnvVars(parseEnvVars(text))).toBe(text);
    const build = readBuildVariables(findKeptBuild(kept), store);
    expect(build).toMatchObject({
      name: "sample",
      workingDirectory: "/build/source",
      buildTop: "/build",
      store: "/nix/store",
    });
    expect(build.shell).toMatch(/^\/nix\/store\/[0-9a-z]{32}-bash-5\/bin\/bash$/);
    expect(valueOf(build.variables, "notes")).toBe(
      "a \"quoted\" word, a $dollar, a `tick`, a back\\slash\nand 'a second' line: é",
    );
  });

  test("is found by its directory, a link to it, its parent, its build/ and b/", () => {
    const plain = findKeptBuild(kept);
    expect(plain).toMatchObject({ directory: kept, envVars: "readable", uid: process.getuid?.() });
    fs.symlinkSync(kept, `${shop.root}/link`);
    expect(findKeptBuild(`${shop.root}/link`)).toEqual(plain);
    for (const [parent, layer] of [
      ["nix-12-34", "build"],
      ["lix", "b"],
    ] as const) {
      fs.mkdirSync(`${shop.root}/${parent}/${layer}`, { recursive: true });
      fs.copyFileSync(`${kept}/env-vars`, `${shop.root}/${parent}/${layer}/env-vars`);
      for (const given of [`${shop.root}/${parent}`, `${shop.root}/${parent}/${layer}/`])
        expect(findKeptBuild(given)).toMatchObject({
          directory: `${shop.root}/${parent}/${layer}`,
          envVars: "readable",
        });
      fs.unlinkSync(`${shop.root}/${parent}/${layer}/env-vars`);
    }
    expect(findKeptBuild(`${shop.root}/nix-12-34`)).toMatchObject({
      directory: `${shop.root}/nix-12-34/build`,
      envVars: "absent",
    });
  });

  test("its derivation, by the database", () => {
    const found = findDerivation(store, readBuildVariables(findKeptBuild(kept), store));
    expect(found.path).toMatch(/-sample\.drv$/);
    expect(found.note).toBeUndefined();
    expect(found.derivation.env.get("name")).toBe("sample");
    expect(readDerivationFile(onHost(store, found.path))).toEqual(found.derivation);
    expect(() => readDerivationFile(`${kept}/env-vars`)).toThrow("is not a .drv file");
  });

  test("every derivation of the store is written back byte for byte", () => {
    const directory = onHost(store, store.storeDir);
    const names = fs.readdirSync(directory).filter((name) => name.endsWith(".drv"));
    expect(names.length).toBeGreaterThan(2);
    for (const name of names) {
      const text = decodeBytes(fs.readFileSync(`${directory}/${name}`));
      expect(formatDerivation(parseDerivation(text))).toBe(text);
    }
  });

  test("its log tells the failed phase, compressed or not, and none without a log", () => {
    const { path } = findDerivation(store, readBuildVariables(findKeptBuild(kept), store));
    const log = readBuildLog(store, path);
    expect(log).toEqual({ phases: ["unpackPhase", "buildPhase", "checkPhase"], complete: true });
    expect(log && failedPhase(log)).toBe("checkPhase");
    const [compressed = ""] = logPaths(store, path);
    fs.writeFileSync(`${shop.root}/log`, run(["bzip2", "-dc", compressed]).stdout);
    expect(readLogFile(`${shop.root}/log`)).toEqual(log);
    expect(readLogFile(`${shop.root}/no-log`)).toBeUndefined();
    expect(() => readLogFile(shop.root)).toThrow("read build log");
  });

  test("its input closure is what Nix computes", () => {
    const { path, derivation } = findDerivation(store, readBuildVariables(findKeptBuild(kept), store));
    const closure = askDatabase(store, (db) => inputClosure(db, derivation, (p) => readDerivation(store, p)));
    const inputs = [...derivation.inputSources, ...derivation.inputDerivations.map((input) => input.path)];
    const outputs = run([
      "nix-store",
      "--store",
      store.root,
      "-q",
      "--outputs",
      ...inputs.filter((p) => p.endsWith(".drv")),
    ]);
    const roots = [...inputs.filter((p) => !p.endsWith(".drv")), ...outputs.stdout.trim().split("\n")];
    const expected = run(["nix-store", "--store", store.root, "-qR", ...roots]);
    expect(expected.code).toBe(0);
    expect(closure.paths).toEqual(expected.stdout.trim().split("\n").toSorted());
    expect(closure.missing).toEqual([]);
    expect(path).not.toBe("");
  });

  test("the output that it has left is found, and only that", () => {
    const left = (directory: string) => {
      const { derivation } = findDerivation(store, readBuildVariables(findKeptBuild(directory), store));
      return askDatabase(store, (db) => [...partialOutputs(db, store, derivation).values()]);
    };
    expect(left(kept)).toEqual([]);
    // made by hand: Nix 2.8 moves what a build in a chroot store has left to the machine's own /nix/store
    const { out = "" } = readBuildVariables(findKeptBuild(kept), store);
    fs.mkdirSync(onHost(store, out));
    expect(left(kept)).toEqual([out]);
    fs.rmdirSync(onHost(store, out));
  });

  test("phases by name: a build that fails in another", () => {
    const { kept: other } = shop.fail("package.nix", ["--argstr", "failIn", "buildPhase", "--argstr", "name", "other"]);
    const build = readBuildVariables(findKeptBuild(other), store);
    const log = readBuildLog(store, findDerivation(store, build).path);
    expect(log?.phases).toEqual(["unpackPhase", "buildPhase"]);
  });
});

describe("the environment rebuilt from the derivation", () => {
  const variables = (directory: string) =>
    new Map(parseEnvVars(fs.readFileSync(`${directory}/env-vars`, "utf8")).map((v) => [v.name, v.value]));

  test("is the builder's own, with attributes as files and a reference graph", () => {
    const { kept: directory } = shop.fail("passed-as-file.nix", [], ["--option", "cores", "3"]);
    const seen = fs
      .readFileSync(`${directory}/environment`, "utf8")
      .split("\0")
      .filter((entry) => entry !== "")
      .map((entry) => [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)] as const);
    const own = new Set(["_", "SHLVL", "OLDPWD"]); // what the builder's bash adds
    const out = variables(directory).get("out") ?? undefined;
    const { derivation } = findDerivation(store, { out });
    const built = askDatabase(store, (db) => buildEnvironment(derivation, { cores: 3, graph: referenceGraph(db) }));
    const given = seen.filter(([name]) => !own.has(name)).map(([name, value]): [string, string] => [name, value ?? ""]);
    expect(Object.fromEntries(built.env)).toEqual(Object.fromEntries(given));
    const names = fs.readdirSync(directory).filter((name) => name !== "environment" && name !== "env-vars");
    expect(built.files.map(({ name }) => name).toSorted()).toEqual(names.toSorted());
    for (const { name, content } of built.files) expect(content).toBe(fs.readFileSync(`${directory}/${name}`, "utf8"));
    expect(() => buildEnvironment(derivation)).toThrow("exportReferencesGraph needs the Nix database");
  });

  test("with structured attributes: .attrs.sh and .attrs.json byte for byte", () => {
    const { kept: directory } = shop.fail("package.nix", [
      "--arg",
      "structured",
      "true",
      "--argstr",
      "name",
      "with-structure",
    ]);
    const out = variables(directory).get("out") ?? undefined;
    const { env, files } = buildEnvironment(findDerivation(store, { out }).derivation);
    expect(files.map(({ name }) => name)).toEqual([".attrs.sh", ".attrs.json"]);
    for (const { name, content } of files) expect(content).toBe(fs.readFileSync(`${directory}/${name}`, "utf8"));
    expect(env.get("NIX_ATTRS_SH_FILE")).toBe("/build/.attrs.sh");
    expect(env.has("src")).toBe(false);
  });

  test("of a fixed-output derivation: impure variables are the caller's", () => {
    const { kept: directory } = shop.fail("package.nix", ["--arg", "fixed", "true", "--argstr", "name", "with-hash"]);
    const seen = variables(directory);
    const found = findDerivation(store, { out: seen.get("out") });
    const { env } = buildEnvironment(found.derivation, { impure: { SAMPLE_IMPURE: "from outside" } });
    for (const name of ["SAMPLE_IMPURE", "http_proxy", "NIX_OUTPUT_CHECKED", "TMPDIR", "HOME", "buildPhase"])
      expect([name, env.get(name)]).toEqual([name, seen.get(name)]);
    expect(env.get("NIX_OUTPUT_CHECKED")).toBe("1");
  });

  test("stands in for an env-vars that was never written: what it has of the real one is the same", () => {
    const { kept: silent } = shop.fail("package.nix", ["--argstr", "noDump", "1", "--argstr", "name", "sample"]);
    expect(findKeptBuild(silent).envVars).toBe("absent");
    const args = ["--argstr", "name", "sample", "--argstr", "noDump", "2"]; // another value that dumps
    const real = variables(shop.fail("package.nix", args).kept);
    const { derivation } = findDerivation(store, { out: real.get("out") });
    const rebuilt = rebuiltVariables(
      derivation,
      buildEnvironment(derivation, { cores: Number(real.get("NIX_BUILD_CORES")) }),
    );
    const build = checkBuildVariables(parseEnvVars(formatEnvVars(rebuilt)), store, "the derivation");
    expect(build.shell).toBe(real.get("SHELL") ?? "");
    const later = new Set(["PATH", "PWD", "OLDPWD", "SHLVL", "CONFIG_SHELL", "SOURCE_DATE_EPOCH", "BUILT_BY"]); // stdenv's
    const differing = [...real].filter(([name, value]) => !later.has(name) && valueOf(rebuilt, name) !== value);
    expect(differing).toEqual([]);
  });

  test("the basics cannot be overridden, PATH and HOME can", () => {
    const text =
      'Derive([("out","/nix/store/o","","")],[],[],"s","b",[],[("HOME","h"),("PWD","p"),("TERM","t"),("TMP","x")])';
    const { env } = buildEnvironment(parseDerivation(text), { buildTop: "/b" });
    expect(Object.fromEntries(env)).toMatchObject({
      HOME: "h",
      PWD: "/b",
      TERM: "xterm-256color",
      TMP: "/b",
      PATH: "/path-not-set",
    });
  });
});

describe("the database is read without a trace", () => {
  const snapshot = (directory: string) =>
    fs.readdirSync(directory).map((name) => {
      const { ino, size, mtimeNs, mode } = fs.statSync(`${directory}/${name}`, { bigint: true });
      return { name, ino, size, mtimeNs, mode };
    });

  test("without a write-ahead log", () => {
    const out = readBuildVariables(findKeptBuild(kept), store).out ?? "";
    const before = snapshot(database(store));
    expect(before.map(({ name }) => name)).not.toContain("db.sqlite-wal");
    expect(askDatabase(store, (db) => db.derivers(out))).toHaveLength(1);
    expect(snapshot(database(store))).toEqual(before);
  });

  test("with one, as while Nix runs: what is only there is seen", async () => {
    const { Database } = await import("bun:sqlite");
    const root = `${shop.root}/copy`;
    fs.mkdirSync(`${root}/nix/var/nix/db`, { recursive: true });
    const copy: Store = { ...store, root };
    fs.copyFileSync(`${database(store)}/db.sqlite`, `${database(copy)}/db.sqlite`);
    using writer = new Database(`${database(copy)}/db.sqlite`);
    writer.run("pragma journal_mode = wal");
    writer.run("pragma wal_autocheckpoint = 0");
    writer.run("insert into ValidPaths (path, hash, registrationTime) values ('/nix/store/new', 'sha256:00', 1)");
    const before = snapshot(database(copy));
    expect(before.find(({ name }) => name === "db.sqlite-wal")?.size).toBeGreaterThan(0n);
    const scratch = () =>
      fs.readdirSync(require("node:os").tmpdir()).filter((name: string) => name.startsWith("hutch-nix-db-"));
    const scratchBefore = scratch();
    expect(askDatabase(copy, (db) => db.isValid("/nix/store/new"))).toBe(true);
    expect(snapshot(database(copy))).toEqual(before);
    expect(scratch()).toEqual(scratchBefore);
  });

  test("when it cannot be used, the store's names are searched, and that is said", () => {
    const root = `${shop.root}/without-database`;
    fs.mkdirSync(`${root}/nix`, { recursive: true });
    fs.symlinkSync(onHost(store, store.storeDir), `${root}/nix/store`);
    const bare: Store = { ...store, root };
    const { out } = readBuildVariables(findKeptBuild(kept), store);
    const found = findDerivation(bare, { out });
    expect(found.path).toBe(findDerivation(store, { out }).path);
    expect(found.note).toContain("no Nix database at");
    expect(() => findDerivation(bare, { out: `${store.storeDir}/${"0".repeat(32)}-nothing` })).toThrow(
      "no derivation found",
    );
    expect(() => findDerivation(bare, { out: undefined })).toThrow("names no output");
    fs.mkdirSync(`${root}/nix/var/nix/db`, { recursive: true });
    fs.writeFileSync(
      `${root}/nix/var/nix/db/db.sqlite`,
      "this is not a database, but it is longer than a header".repeat(40),
    );
    expect(() => askDatabase(bare, (db) => db.isValid("x"))).toThrow("file is not a database");
  });
});

describe("mistakes are one line", () => {
  const said = (path: string, s = store): { message: string; hint: string | undefined } => {
    try {
      readBuildVariables(findKeptBuild(path), s);
    } catch (error) {
      const { message, hint } = error as { message: string; hint?: string };
      expect(message).not.toContain("\n");
      return { message, hint };
    }
    throw new Error("expected an error");
  };
  const directory = (name: string, envVars?: string) => {
    const path = `${shop.root}/${name}`;
    fs.mkdirSync(path);
    if (envVars !== undefined) fs.writeFileSync(`${path}/env-vars`, envVars);
    return path;
  };

  test("what is no kept build", () => {
    expect(said(`${shop.root}/nowhere`).message).toEndWith("nowhere does not exist");
    expect(said(`${kept}/env-vars`).message).toEndWith("env-vars is not a directory");
    expect(said(directory("empty")).message).toMatch(/^no env-vars in .*empty$/);
    expect(said(directory("no-shell", 'declare -x A="b"\n')).message).toMatch(/^no SHELL in .*env-vars$/);
    expect(said(directory("bin-sh", 'declare -x SHELL="/bin/sh"\n')).message).toEndWith("is not in the store: /bin/sh");
    expect(said(directory("broken", "hello\n")).message).toStartWith("env-vars line 1");
    const gone = `/nix/store/${"0".repeat(32)}-bash/bin/bash`;
    expect(said(directory("gone", `declare -x SHELL="${gone}"\n`)).message).toBe(`${gone} is no longer in the store`);
    expect(said(kept, { ...store, root: `${shop.root}/empty` }).message).toMatch(/^no Nix store at .*\/nix\/store$/);
  });

  test("env-vars that is a link or a fifo is not read", () => {
    const link = directory("linked");
    fs.symlinkSync("/etc/passwd", `${link}/env-vars`);
    expect(said(link).message).toStartWith("no env-vars in");
    const fifo = directory("fifo");
    run(["mkfifo", `${fifo}/env-vars`]);
    expect(said(fifo).message).toStartWith("no env-vars in");
  });

  test("a build that dumps nothing, and one whose env-vars is its owner's alone", () => {
    const silent = shop.fail("package.nix", ["--argstr", "noDump", "1", "--argstr", "name", "silent"]);
    expect(said(silent.kept)).toMatchObject({ message: `no env-vars in ${silent.kept}` });
    const secret = shop.fail("package.nix", ["--argstr", "umask", "0077", "--argstr", "name", "secret"]);
    expect(fs.statSync(`${secret.kept}/env-vars`).mode & 0o777).toBe(0o600);
    expect(isRoot, "this test changes users: run the suite as root").toBe(true);
    const module = `${import.meta.dir}/../../src/nix/kept-build.ts`;
    const program = `const { findKeptBuild, readBuildVariables } = await import(${JSON.stringify(module)});
      const kept = findKeptBuild(process.argv.at(-1));
      try { readBuildVariables(kept, { root: "" }); } catch (e) { console.log(kept.envVars + "|" + e.message + "|" + e.hint); }`;
    const { stdout } = run([process.execPath, "-e", program, secret.kept], { uid: 65534, env: {}, cwd: "/" });
    expect(stdout).toBe(
      `unreadable|${secret.kept}/env-vars may only be read by its owner (uid 0)|` +
        `run: sudo nix-build-shell ${secret.kept}, or give the derivation with --drv FILE.drv\n`,
    );
  });
});

test("all of it as an ordinary user, from the user's own build", () => {
  expect(isRoot, "this test changes users: run the suite as root").toBe(true);
  using own = workshop(65534);
  const build = own.fail("package.nix");
  expect(fs.statSync(build.kept).uid).toBe(65534);
  const names = ["kept-build", "kept-derivation", "build-log", "nix-database"];
  const imports = names.map(
    (name) =>
      `const m${names.indexOf(name)} = await import(${JSON.stringify(`${import.meta.dir}/../../src/nix/${name}.ts`)});`,
  );
  const program = `${imports.join("\n")}
    const [kept, store] = [process.argv.at(-2), JSON.parse(process.argv.at(-1))];
    const facts = m0.readBuildVariables(m0.findKeptBuild(kept), store);
    const { path, derivation } = m1.findDerivation(store, facts);
    const closure = m3.askDatabase(store, (db) => m3.inputClosure(db, derivation, (p) => m1.readDerivation(store, p)));
    console.log(JSON.stringify({ uid: process.getuid(), phase: m2.failedPhase(m2.readBuildLog(store, path)), paths: closure.paths.length }));`;
  const command = [process.execPath, "-e", program, build.kept, JSON.stringify(own.store)];
  const { stdout, stderr } = run(command, { uid: 65534, env: {}, cwd: "/" });
  expect(stderr).toBe("");
  expect(JSON.parse(stdout)).toEqual({ uid: 65534, phase: "checkPhase", paths: 6 });
});
