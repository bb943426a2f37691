/**
 * Build what users get, into dist/: the executable `hutch` with its other names, and the npm package's JavaScript.
 *   npm run build
 * Builds are made aside and renamed into place, so that two at once, or a test run during a build, see whole files.
 */

import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import packageJson from "../package.json" with { type: "json" };
import { alignSegments, writeInPieces } from "./executable.ts";
import { mustRun, ROOT } from "./run.ts";

/** The other names of the executable: main.ts picks the command by the name it is called by. */
const APPLETS = ["mydocker", "nix-build-shell"] as const;

/**
 * What Bun must not do when it starts inside a user's folder: read .env or bunfig.toml, install packages, or take code
 * from BUN_OPTIONS. main.ts refuses to run as an executable whose build does not say that it has them (HUTCH_HARDENED).
 */
const RUNTIME_FLAGS = "--no-env-file --no-install --no-ffi-cc --disallow-code-generation-from-strings=strict";

/** The npm package runs on the user's own Bun, so its first line must say the same. */
const SHEBANG = `#!/usr/bin/env -S bun --config=/dev/null ${RUNTIME_FLAGS}\n`;

/** A thread's own entry point: src/nix/copy-crew.ts says where it is in what is built. */
const WORKER = "src/nix/copy-worker.ts";

const DEFINES = { HUTCH_VERSION: JSON.stringify(packageJson.version) };

const EXECUTABLE_DEFINES = { ...DEFINES, HUTCH_HARDENED: "true", "process.arch": JSON.stringify(process.arch) };

/** The short way of a plain run, whose imports are bundled into it. */
const LANE = "src/cli/lane.ts";

/**
 * LANE as one module: what it imports is in it, although the rest of the executable imports the same. Only the prelinked
 * launchers for images, 4 MB, stay a module of their own. It is made first: one build within another waits for ever (Bun 1.4.5).
 */
async function bundleLane(): Promise<Bun.BunPlugin> {
  const { outputs } = await Bun.build({
    entrypoints: [LANE],
    target: "bun",
    format: "esm",
    define: EXECUTABLE_DEFINES,
    plugins: [PRELINKED_ASIDE],
  });
  const [lane, ...others] = outputs;
  if (lane === undefined || others.length > 0) throw new Error(`${LANE} is not one module`);
  const contents = await lane.text();
  return {
    name: "the short way in one module",
    setup: (build) => {
      build.onLoad({ filter: /\/src\/cli\/lane\.ts$/ }, () => ({ contents, loader: "js" }));
    },
  };
}

const PRELINKED_ASIDE: Bun.BunPlugin = {
  name: "prelinked launchers for images aside",
  setup: (build) => {
    build.onResolve({ filter: /\/prelinked\/images\.ts$/ }, ({ path }) => ({ path, external: true }));
  },
};

/** dist/hutch, one file with everything in it, and symbolic links to it under its other names. */
async function buildExecutable(aside: string, dist: string): Promise<void> {
  const outfile = join(aside, "hutch");
  await Bun.build({
    entrypoints: ["src/main.ts", WORKER],
    target: "bun",
    format: "esm",
    splitting: true,
    minify: true,
    sourcemap: "linked",
    bytecode: true,
    define: EXECUTABLE_DEFINES,
    plugins: [await bundleLane()],
    compile: {
      outfile,
      execArgv: RUNTIME_FLAGS.split(" "),
      autoloadDotenv: false,
      autoloadBunfig: false,
      // Start-up code runs once: compiling it costs more than interpreting it (measured: 10 ms less per start).
      jitPolicy: 32,
    },
  });
  const laidOut = join(aside, "laid-out");
  await writeInPieces(laidOut, alignSegments(await readFile(outfile)), 0o755);
  await rename(laidOut, join(dist, "hutch"));
  for (const name of APPLETS) {
    await symlink("hutch", join(aside, name));
    await rename(join(aside, name), join(dist, name));
  }
}

/** dist/main.js and its other names (bunx), dist/index.js (the library), and the chunks that they share. */
async function buildPackage(aside: string, dist: string): Promise<void> {
  const outdir = join(aside, "package");
  await mustRun([
    ...[process.execPath, "build", "--target=bun", "--format=esm", "--splitting"],
    ...Object.entries(DEFINES).flatMap(([name, value]) => ["--define", `${name}=${value}`]),
    ...["--define", "HUTCH_PRELINKED=false"],
    ...["--chunk-naming=chunks/[name]-[hash].[ext]", "--asset-naming=chunks/[name]-[hash].[ext]"],
    ...["src/main.ts", "src/index.ts", WORKER, "--outdir", outdir],
  ]);
  const main = await Bun.file(join(outdir, "main.js")).text();
  await Bun.write(join(outdir, "main.js"), SHEBANG + main.replace(/^#!.*\n/, ""));
  // Bun resolves a symbolic link before the program sees its name: each name needs a file of its own.
  for (const name of APPLETS) await Bun.write(join(outdir, `${name}.js`), `${SHEBANG}import "./main.js";\n`);
  for (const name of ["main", ...APPLETS]) await chmod(join(outdir, `${name}.js`), 0o755);

  // New chunks first, then the files that name them, and only then are the old chunks nobody's.
  const made = (await readdir(outdir, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(outdir.length + 1))
    .toSorted((a, b) => Number(b.startsWith("chunks/")) - Number(a.startsWith("chunks/")));
  for (const name of made) {
    await mkdir(dirname(join(dist, name)), { recursive: true });
    await rename(join(outdir, name), join(dist, name));
  }
  for (const name of await readdir(join(dist, "chunks")).catch(() => [])) {
    if (!made.includes(`chunks/${name}`)) await rm(join(dist, "chunks", name), { force: true });
  }
}

const dist = join(ROOT, "dist");
await mkdir(dist, { recursive: true });
const aside = await mkdtemp(join(dist, ".build-"));
try {
  await buildExecutable(aside, dist);
  await buildPackage(aside, dist);
} catch (error) {
  console.error(error instanceof AggregateError ? error.errors.map(String).join("\n") : String(error));
  process.exitCode = 1;
} finally {
  await rm(aside, { recursive: true, force: true });
}
if (process.exitCode === undefined) {
  const { size } = await stat(join(dist, "hutch"));
  console.log(`dist/hutch ${(size / 1e6).toFixed(0)} MB`);
}
