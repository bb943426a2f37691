/** What the repository promises of its committed files, beyond what compilers and linters see. */

import { describe, expect, test } from "bun:test";
import { homedir } from "node:os";
import { join } from "node:path";
import packageJson from "../package.json" with { type: "json" };
import packageLock from "../package-lock.json" with { type: "json" };

const ROOT = join(import.meta.dir, "..");

function git(...argv: readonly string[]): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync(["git", "-C", ROOT, ...argv]);
  if (exitCode !== 0) throw new Error(`git ${argv.join(" ")}: ${stderr.toString()}`);
  return stdout.toString();
}

/** Contents by path of every file that is committed or about to be, binary files apart. */
async function committed(): Promise<ReadonlyMap<string, string>> {
  const files = new Map<string, string>();
  for (const path of git("ls-files", "-z", "--cached").split("\0")) {
    const file = Bun.file(join(ROOT, path));
    if (path === "" || !(await file.exists())) continue;
    const text = await file.text();
    if (!text.includes("\0")) files.set(path, text);
  }
  return files;
}

/** Lines, as `path:number: text`, of committed files that hold a breach. */
async function linesWith(isBad: (line: string, path: string) => boolean): Promise<readonly string[]> {
  const found: string[] = [];
  for (const [path, text] of await committed()) {
    for (const [index, line] of text.split("\n").entries()) {
      if (isBad(line, path)) found.push(`${path}:${index + 1}: ${line.trim().slice(0, 120)}`);
    }
  }
  return found;
}

describe("documents", () => {
  test.each(["README.md", "ARCHITECTURE.md", "AGENTS.md", "SECURITY.md", "CHANGELOG.md", "LICENSE"])(
    "%s is there, and has something to say",
    async (name) => {
      const file = Bun.file(join(ROOT, name));
      expect(await file.exists()).toBe(true);
      expect((await file.text()).trim().split("\n").length).toBeGreaterThan(3);
    },
  );
});

describe("package-lock.json", () => {
  test("names no address to download from", () => {
    const named = Object.entries(packageLock.packages).filter(([, item]) => "resolved" in item);
    expect(named.map(([path]) => path)).toEqual([]);
  });

  test("has what package.json asks for, in the same versions", () => {
    const own = packageLock.packages[""];
    expect(own.version).toBe(packageJson.version);
    expect<object>(own.dependencies).toEqual(packageJson.dependencies);
    expect<object>(own.devDependencies).toEqual(packageJson.devDependencies);
  });

  test("every package has its checksum", () => {
    const without = Object.entries(packageLock.packages).filter(
      ([path, item]) => path !== "" && !("integrity" in item),
    );
    expect(without.map(([path]) => path)).toEqual([]);
  });

  test("package.json asks for exact versions", () => {
    const asked = { ...packageJson.dependencies, ...packageJson.devDependencies };
    for (const version of Object.values(asked)) expect(version).toMatch(/^\d+\.\d+\.\d+$/);
  });
});

describe("committed files", () => {
  test("name no package registry", async () => {
    // In pieces, so that this file does not hold them.
    const hosts = [
      ["registry", "npmjs", "org"],
      ["registry", "yarnpkg", "com"],
      ["registry", "npmmirror", "com"],
      ["npm", "pkg", "github", "com"],
      ["npm", "jsr", "io"],
    ].map((parts) => parts.join("."));
    const own = process.env["npm_config_registry"];
    if (own !== undefined) {
      const { hostname } = new URL(own);
      if (hostname.includes(".") && !hostname.startsWith("127.")) hosts.push(hostname);
    }
    expect(await linesWith((line) => hosts.some((host) => line.includes(host)))).toEqual([]);
  });

  test("name no folder of the machine they were written on", async () => {
    const folders = [ROOT, git("rev-parse", "--show-toplevel").trim(), homedir()]
      // A clone in /src or a home of /root proves nothing: such words stand in Linux programs anyhow.
      .filter((path) => path.split("/").length > 2)
      .map((path) => `${path}/`);
    const homes = /\/(?:home|Users)\/(?!user\b|me\b|you\b|ada\b|alice\b|bob\b|hutch\b|hello\.txt|new\b)[a-z]\w*/;
    const pattern = (line: string): boolean => homes.test(line) || folders.some((path) => line.includes(path));
    expect(await linesWith((line, path) => path !== "test/promises.test.ts" && pattern(line))).toEqual([]);
  });

  test("leave no test out", async () => {
    const left = /\b(?:test|it|describe)\.(?:only|skip|todo)\b|\b(?:xtest|xit|xdescribe)\(/;
    const isBad = (line: string, path: string): boolean => /^test\/.*\.test\.ts$/.test(path) && left.test(line);
    expect(await linesWith(isBad)).toEqual([]);
  });

  test("every script that package.json names is there", async () => {
    for (const command of Object.values(packageJson.scripts)) {
      for (const [path] of command.matchAll(/\b(?:scripts|bench)\/[\w-]+\.\w+/g)) {
        expect([path, await Bun.file(join(ROOT, path)).exists()]).toEqual([path, true]);
      }
    }
  });
});
