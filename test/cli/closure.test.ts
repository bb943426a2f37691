/** hutch closure and hutch root, on the built binary. */

import { expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { eachCaller, expectFailure, expectSuccess, needs } from "./hutch.ts";

interface Listed {
  readonly schema: number;
  readonly size: number;
  readonly files: readonly { readonly path: string; readonly real: string; readonly wantedBy: readonly string[] }[];
}

eachCaller("hutch closure", (bench) => {
  test("a tree of who needs what, with sizes", async () => {
    const result = await bench.hutch(["closure", "bash"]);
    expect(result.stderr).toBe("");
    expect(result.stdout).toMatch(/^\/(usr\/)?bin\/bash  \(program, [\d.]+ [KM]iB\)\n/);
    expect(result.stdout).toMatch(/^├── \S*\/ld-linux\S*.*loader/m);
    expect(result.stdout).toMatch(/^(├|└)── \S*\/libtinfo\.so\.6 → \S+ {2}\(\d+ KiB\)\n│ {3}(├|└)── \S*\/libc\.so\.6/m);
    expect(result.stdout).toMatch(/\n\n\d+ entries, \d+ of them directories, \d+ links, [\d.]+ MiB\n$/);
    expect(result.code).toBe(0);
  });

  test("JSON: the same files, of which each is on this machine", async () => {
    const { stdout, stderr } = await bench.hutch(["closure", "bash", "ls", "--format=json"]);
    expect(stderr).toBe("");
    const listed = JSON.parse(stdout) as Listed;
    expect(listed.schema).toBe(1);
    expect(listed.size).toBeGreaterThan(1_000_000);
    for (const { path, real } of listed.files) expect([path, existsSync(real)]).toEqual([path, true]);
    const paths = listed.files.map(({ path }) => path);
    for (const { wantedBy } of listed.files) for (const wanter of wantedBy) expect(paths).toContain(wanter);
    expect(listed.files.filter(({ wantedBy }) => wantedBy.length === 0)).toHaveLength(2);
  });

  test("wrong use", async () => {
    expectFailure(await bench.hutch(["closure"]), 125, "PROGRAM is missing");
    expectFailure(await bench.hutch(["closure", "no-such-program"]), 125, "no-such-program", "no such program in PATH");
    expectFailure(await bench.hutch(["closure", "--format", "xml", "sh"]), 125, "--format must be text or json");
    expectFailure(await bench.hutch(["closure", "sh", "--formt", "json"]), 125, "did you mean --format?");
  });
});

eachCaller("hutch root", (bench) => {
  const made = async () => {
    const output = `${bench.folder()}/root`;
    const programs = ["sh", "ls", "cat", "id", "/usr/bin/python3"].flatMap((name) => ["--add", name]);
    const result = await bench.hutch(["root", ...programs, "-o", output]);
    expect(result.stderr).toBe("");
    expect(result.stdout).toMatch(/^\/\S+: \d+ files, \d+ directories, \d+ links, [\d.]+ MiB\n/);
    expect(result.code).toBe(0);
    return output;
  };

  test("a tree that runs as a ROOT, and by chroot", async () => {
    const output = await made();
    const script = "import json, ssl, sqlite3; print(json.dumps(open('/etc/hostname').read()))";
    const inside = await bench.hutch(["run", output, "/usr/bin/python3", "-c", script]);
    expectSuccess(inside, '"hutch\\n"\n');
    // chroot(2) is root's: an ordinary user is root in a user namespace.
    const chroot = bench.caller.root ? [needs("chroot")] : [needs("unshare"), "-r", needs("chroot")];
    const words = [...chroot, output, "/bin/sh", "-c", "/usr/bin/python3 -c 'import ssl' && ls / && id -un"];
    const { stdout, stderr } = await bench.shell('"$@"', words);
    expect(stderr).toBe("");
    expect(stdout).toMatch(/^bin\ndev\netc\n(?:\w+\n)*root\n$/);
  });

  test("relative, and again with --force: nothing but copies of the same", async () => {
    const cwd = bench.folder();
    const args = ["root", "--add", "true", "-o", "./here"];
    expect(await bench.hutch(args, { cwd })).toMatchObject({ stderr: "", code: 0 });
    const before = readdirSync(`${cwd}/here`, { recursive: true, encoding: "utf8" }).toSorted();
    expectFailure(await bench.hutch(args, { cwd }), 125, "/here is not empty", "--force");
    const again = await bench.hutch([...args, "--force"], { cwd });
    expect(again).toMatchObject({ stderr: "", code: 0 });
    expect(again.stdout).toContain(" 0 directories, 0 links, ");
    expect(readdirSync(`${cwd}/here`, { recursive: true, encoding: "utf8" }).toSorted()).toEqual(before);
  });

  test("a link in the output leads nowhere outside", async () => {
    const outside = bench.folder();
    const output = bench.folder({ "usr/bin": { link: outside } });
    const result = await bench.hutch(["root", "--add", "/usr/bin/true", "--force", "-o", output]);
    expect(readdirSync(outside)).toEqual([]);
    // Followed inside of the output, as a chroot would.
    expect(result).toMatchObject({ stderr: "", code: 0 });
    expect(readFileSync(`${output}${outside}/true`)).toEqual(readFileSync("/usr/bin/true"));
  });

  test("wrong use", async () => {
    const output = `${bench.folder()}/root`;
    expectFailure(await bench.hutch(["root", "--add", "sh"]), 125, "-o DIR is missing");
    expectFailure(await bench.hutch(["root", "-o", output]), 125, "nothing to write");
    expectFailure(await bench.hutch(["root", "sh", "-o", output]), 125, "unexpected sh", "--add");
    expectFailure(await bench.hutch(["root", "--add", "no-such", "-o", output]), 125, "no-such", "--add no-such");
    expectFailure(await bench.hutch(["root", "--add", "sh", "-o", "/proc/root-of-hutch"]), 125, "/proc/root-of-hutch");
    expectFailure(await bench.hutch(["root", "--add", "sh", "-o", `${output}/x`]), 125, `first: mkdir -p ${output}`);
    expect(existsSync(output)).toBe(false);
    const proc = await bench.hutch(["root", "--add-path", "/proc", "-o", output]);
    expectFailure(proc, 125, "/proc cannot be copied: the kernel's answers about processes");
  });
});
