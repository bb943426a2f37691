/** The library, as a program that imports it sees it: from source, from the package, and in a compiled program. */

import { afterAll, describe, expect, test } from "bun:test";
import { chmodSync, copyFileSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const ROOT = resolve(import.meta.dir, "..");
const probe = join(import.meta.dir, "library-probe.ts");
const folder = mkdtempSync(join(tmpdir(), "hutch-library-"));
chmodSync(folder, 0o755);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const asRoot = process.getuid?.() === 0;
const CALLERS = [
  ["as we are", []],
  ...(asRoot ? [["uid 65534", ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]] as const] : []),
] as const;

/** A program that has the library in it. */
async function compiled(library: string): Promise<string> {
  const entry = join(folder, "entry.ts");
  const source = (await Bun.file(probe).text())
    .replace(/\(await import\(path\)\) as typeof Library/, "Hutch")
    .replace(/^import type .*$/m, `import * as Hutch from ${JSON.stringify(library)};`);
  await Bun.write(entry, source);
  const outfile = join(folder, "compiled");
  const made = Bun.spawnSync([process.execPath, "build", "--compile", entry, "--outfile", outfile], { cwd: folder });
  expect(made.stderr.toString()).not.toContain("error");
  expect(made.exitCode).toBe(0);
  return outfile;
}

/** Our own Bun, where everybody may execute it. */
function runtime(): string {
  const copy = join(folder, "bun");
  if (!existsSync(copy)) copyFileSync(process.execPath, copy);
  chmodSync(copy, 0o755);
  return copy;
}

describe.each(CALLERS)("%s", (_name, prefix) => {
  test.each(["source", "package", "compiled"])("from %s", async (form) => {
    const built = join(ROOT, "dist/index.js");
    if (!existsSync(built)) throw new Error(`${built} is not there: build it first (npm run build)`);
    const library = form === "source" ? join(ROOT, "src/index.ts") : built;
    const argv = form === "compiled" ? [await compiled(built)] : [runtime(), "--no-install", probe];
    const made = Bun.spawnSync([...prefix, ...argv, library, folder], {
      cwd: "/",
      env: { PATH: process.env["PATH"], HOME: "/", SECRET: "leaked" },
      timeout: 60_000,
    });
    expect(made.stderr.toString()).toBe("");
    const said = JSON.parse(made.stdout.toString()) as Record<string, unknown>;
    expect(said["plain"]).toMatchObject({ exitCode: 7, signal: null, stdout: "words\nout\n", stderr: "err\n" });
    expect(Object.keys((said["plain"] as { namespaces: object }).namespaces)).toContain("user");
    expect(said).toMatchObject({
      killed: [null, "SIGKILL", 137],
      both: ["first got from-second\n", "second got from-first\n", 0, 0],
      counted: "500000",
      large: 3_000_000,
      aborted: "Error: enough",
      before: "Error: too late",
      terminated: "SIGTERM",
      missing: {
        name: "HutchError",
        message: "nothing-there: command not found",
        step: "exec nothing-there",
        errno: 2,
        code: "ENOENT",
        hint: true,
        exitCode: 127,
      },
      refused: { name: "SystemError", step: "chdir /proc/nothing", code: "ENOENT", hint: true },
      wrong: { usage: true, message: 'root "nowhere" is not a directory\'s path' },
      absent: { usage: true, message: `root ${folder}/absent does not exist` },
      descriptors: "0\n1\n2\n3\n".length,
    });
    expect(said["environment"]).toBe(
      "/root /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin hutch b c\n/tmp\n0\n",
    );
  });
});

test.each(["source", "package"])("from %s, by a caller that ignores SIGCHLD", (form) => {
  const library = join(ROOT, form === "source" ? "src/index.ts" : "dist/index.js");
  const script = `import { doctor, run } from ${JSON.stringify(library)};
    const busybox = { source: "/bin/busybox", target: "/bin/busybox" };
    const command = ["/bin/busybox", "sh", "-c", "exit 3"];
    const { exitCode } = await run({ root: "scratch", volumes: [busybox], command });
    console.log(exitCode, (await doctor()).works);`;
  const file = join(folder, "ignoring.ts");
  writeFileSync(file, script);
  const made = Bun.spawnSync(["env", "--ignore-signal=CHLD", process.execPath, "--no-install", file], { cwd: "/" });
  expect([made.stdout.toString(), made.stderr.toString()]).toEqual(["3 true\n", ""]);
});

/** The package as npm would publish it, installed below a folder; its index.js. */
function packed(): string {
  const pack = ["npm", "pack", "--ignore-scripts", "--silent", "--pack-destination", folder];
  const made = Bun.spawnSync(pack, { cwd: ROOT });
  expect(made.exitCode).toBe(0);
  const tar = ["tar", "-xzf", join(folder, made.stdout.toString().trim()), "-C", folder];
  expect(Bun.spawnSync(tar).exitCode).toBe(0);
  return join(folder, "package/dist/index.js");
}

test("errors of the packed package have the names of its exports", () => {
  const script = `import * as library from ${JSON.stringify(packed())};
    const { HutchError, SystemError, UsageError, plan, run, specOf, start } = library;
    const wrong = { root: "nowhere", command: ["x"] };
    const busybox = { root: "scratch", volumes: [{ source: "/bin/busybox", target: "/bin/busybox" }] };
    const ways = {
      ...Object.fromEntries(Object.entries({ plan, run, specOf, start }).map(([name, call]) => [name, () => call(wrong)])),
      "specOf, add": () => specOf({ root: "scratch", command: ["x"], add: ["no-such-program"] }),
      "run, exec": () => run({ ...busybox, command: ["x"] }),
      "run, kernel": () => run({ ...busybox, command: ["/bin/busybox"], cwd: "/proc/nothing" }),
    };
    for (const [way, call] of Object.entries(ways)) {
      const error = await call().then(() => undefined, (thrown) => thrown);
      const kinds = [HutchError, UsageError, SystemError].filter((kind) => error instanceof kind);
      console.log(way, error?.constructor.name, ...kinds.map(({ name }) => name));
    }`;
  const file = join(folder, "names.ts");
  writeFileSync(file, script);
  const made = Bun.spawnSync([process.execPath, "--no-install", file], { cwd: "/" });
  expect([made.stdout.toString(), made.stderr.toString()]).toEqual([
    [
      ...["plan", "run", "specOf", "start"].map((name) => `${name} UsageError HutchError UsageError`),
      "specOf, add HutchError HutchError",
      "run, exec HutchError HutchError",
      "run, kernel SystemError HutchError SystemError",
      "",
    ].join("\n"),
    "",
  ]);
});
