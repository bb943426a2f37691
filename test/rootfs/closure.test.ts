import { describe, expect, test } from "bun:test";
import { chmodSync, existsSync, realpathSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { type Closure, computeClosure } from "../../src/rootfs/closure.ts";
import { realHostFiles } from "../../src/rootfs/host-files.ts";
import { elfBytes, type Table, tableHost, temporary, tool } from "./fixtures.ts";

const search = { path: "/usr/local/bin:/usr/bin:/bin", cwd: "/" };
const host = realHostFiles();
const real = (...programs: string[]) => computeClosure(host, search, programs);
const libraries = (closure: Closure) =>
  closure.files
    .filter(({ kind }) => kind === "library" || kind === "loader")
    .map((file) => file.real)
    .toSorted();

/** Canonical paths of what ld.so itself says that a program needs. Only for this machine's own and our own programs. */
function listed(program: string): string[] {
  const loader = /interpreter: (.*)\]/.exec(tool("readelf", "-lW", program))?.[1] ?? "";
  const paths = [...tool(loader, "--list", program).matchAll(/(?:=> |^\t)(\/\S+) \(0x/gm)].map(
    (match) => match[1] ?? "",
  );
  return [...new Set(paths.map((path) => realpathSync(path)))].toSorted();
}

describe("as ld.so --list says", () => {
  test.each([
    ["/bin/bash"],
    ["/usr/bin/vim"],
    ["/usr/bin/python3"],
    ["/usr/bin/git"],
    ["/usr/bin/curl"],
    ["/usr/bin/perl"],
    ["/usr/bin/node"],
    ["/usr/bin/gcc"],
  ])("%s", (program) => {
    if (!existsSync(program)) throw new Error(`this test needs ${program}, which is not installed`);
    expect(libraries(real(program))).toEqual(listed(program));
  });
});

describe("programs built here", () => {
  const source = "int a(void); int main(void) { return a(); }\n";
  const library = (body: string) => `${body}\n`;

  test("RUNPATH does not reach the libraries of a library, RPATH does; $ORIGIN and $LIB", () => {
    using folder = temporary();
    const at = folder.path;
    folder.write("deep/x", "");
    folder.write("lib/x", "");
    folder.write("lib/lib/x86_64-linux-gnu/x", "");
    const b = folder.write("b.c", library("int b(void) { return 0; }"));
    const a = folder.write("a.c", library("int b(void); int a(void) { return b(); }"));
    const main = folder.write("main.c", source);
    tool("gcc", "-shared", "-fPIC", "-o", `${at}/deep/libb.so`, b);
    tool("gcc", "-shared", "-fPIC", "-o", `${at}/lib/liba.so`, a, `-L${at}/deep`, "-lb");
    const link = (name: string, ...flags: string[]) =>
      tool("gcc", "-o", `${at}/${name}`, main, `-L${at}/lib`, "-la", "-Wl,--allow-shlib-undefined", ...flags);
    link("rpath", "-Wl,--disable-new-dtags,-rpath,$ORIGIN/lib:$ORIGIN/deep");
    link("runpath", "-Wl,--enable-new-dtags,-rpath,$ORIGIN/lib:$ORIGIN/deep");
    const found = real(`${at}/rpath`);
    expect(libraries(found)).toEqual(listed(`${at}/rpath`));
    expect(found.files.map(({ path }) => path)).toContain(`${at}/deep/libb.so`);
    expect(() => real(`${at}/runpath`)).toThrow(
      `library libb.so is missing, wanted by ${at}/lib/liba.so, wanted by ${at}/runpath`,
    );
    // Called by a link elsewhere, $ORIGIN is still the directory of the file itself.
    symlinkSync(`${at}/rpath`, `${at}/deep/link`);
    expect(libraries(real(`${at}/deep/link`))).toEqual(libraries(found));
  });

  test("static and static-pie programs need nothing", () => {
    using folder = temporary();
    const main = folder.write("main.c", "int main(void) { return 0; }\n");
    for (const flag of ["-static", "-static-pie"]) {
      const program = join(folder.path, flag);
      tool("gcc", flag, "-o", program, main);
      expect(real(program).files).toMatchObject([{ path: program, kind: "program", wantedBy: [] }]);
    }
  });

  test("a musl program", () => {
    using folder = temporary();
    const program = join(folder.path, "hello");
    tool("musl-gcc", "-o", program, folder.write("main.c", '#include <stdio.h>\nint main(void) { puts("hi"); }\n'));
    const loader = `/lib/ld-musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`;
    const { files } = real(program);
    expect(files.map(({ path, kind }) => [path, kind])).toEqual([
      [program, "program"],
      [loader, "loader"],
      ...(existsSync("/etc/ld-musl-x86_64.path") ? [["/etc/ld-musl-x86_64.path", "data"]] : []),
    ]);
  });

  test("scripts: interpreters in a row, env's program, the kernel's limit", () => {
    using folder = temporary();
    const script = (name: string, line: string) => {
      const path = folder.write(name, `${line}\n`);
      chmodSync(path, 0o755);
      return path;
    };
    let last = "/bin/sh";
    const chain = [1, 2, 3, 4, 5, 6].map((n) => (last = script(`s${n}`, `#!${last} -e`)));
    const five = chain[4] ?? "";
    expect(real(five).files.map(({ path }) => path)).toEqual(expect.arrayContaining(["/bin/sh", ...chain.slice(0, 5)]));
    // The same limit as this kernel's.
    expect(Bun.spawnSync([five]).exitCode).toBe(0);
    expect(() => Bun.spawnSync([chain[5] ?? ""])).toThrow(/ELOOP|symbolic/);
    expect(() => real(chain[5] ?? "")).toThrow("more than 5 #! files in a row");

    const env = script("env-bash", "#!/usr/bin/env bash");
    const kinds = Object.fromEntries(real(env).files.map(({ path, kind, wantedBy }) => [path, { kind, wantedBy }]));
    expect(kinds[env]).toEqual({ kind: "script", wantedBy: [] });
    expect(kinds["/usr/bin/env"]).toEqual({ kind: "program", wantedBy: [env] });
    expect(kinds["/usr/bin/bash"]).toEqual({ kind: "program", wantedBy: [env] });
    expect(() => real(script("self", `#!${folder.path}/self`))).toThrow("more than 5 #! files in a row");
    expect(() => real(script("none", "#!/none/such"))).toThrow(
      `/none/such: no such file, wanted by the #! line of ${folder.path}/none`,
    );
    expect(() => real(script("relative", "#!bin/sh"))).toThrow("is not an absolute path");
    expect(() => real(script("plain", "echo hi"))).toThrow("neither ELF nor a script");
  });
});

describe("a table of files", () => {
  const loader = "/lib64/ld-linux-x86-64.so.2";
  const libc = elfBytes({ soname: "libc.so.6" });
  const base: Table = {
    [loader]: elfBytes({ soname: "ld-linux-x86-64.so.2" }),
    "/lib64/libc.so.6": libc,
    "/bin/p": elfBytes({ interpreter: loader, needed: ["libx.so.1", "libc.so.6"] }),
  };
  const paths = (table: Table, program = "/bin/p") =>
    computeClosure(tableHost(table), search, [program]).files.map(({ path }) => path);

  test("a library of another machine is passed over", () => {
    const wrong = elfBytes({ machine: 3, class: 32 });
    expect(paths({ ...base, "/lib64/libx.so.1": wrong, "/usr/lib64/libx.so.1": libc })).toContain(
      "/usr/lib64/libx.so.1",
    );
    expect(() => paths({ ...base, "/lib64/libx.so.1": wrong })).toThrow(
      "library libx.so.1: /lib64/libx.so.1 is for i386, 32 bit, not for x86-64, 64 bit, wanted by /bin/p",
    );
  });

  test("a file that is no library stops the search, as in ld.so", () => {
    const text = new TextEncoder().encode("INPUT(libx.a)");
    expect(() => paths({ ...base, "/lib64/libx.so.1": text, "/usr/lib64/libx.so.1": libc })).toThrow(
      "/lib64/libx.so.1: not a library: neither ELF nor a script with a #! line, wanted by /bin/p",
    );
  });

  test("a loaded soname answers for a name", () => {
    const table = {
      ...base,
      "/lib64/libx.so.1": elfBytes({ soname: "liby.so.7", needed: ["liby.so.7", "ld-linux-x86-64.so.2"] }),
    };
    expect(paths(table)).toEqual(["/bin/p", loader, "/lib64/libx.so.1", "/lib64/libc.so.6"]);
  });

  test("DT_RPATH beside DT_RUNPATH is ignored; DF_1_NODEFLIB keeps to the program's own directories", () => {
    const program = (more: object) => elfBytes({ interpreter: loader, needed: ["libx.so.1"], ...more });
    const table = { ...base, "/r/libx.so.1": libc, "/run/libx.so.1": libc, "/lib64/libx.so.1": libc };
    expect(paths({ ...table, "/bin/p": program({ rpath: "/r", runpath: "/run" }) })).toContain("/run/libx.so.1");
    expect(paths({ ...table, "/bin/p": program({ rpath: "/r", runpath: "/none" }) })).toContain("/lib64/libx.so.1");
    expect(() => paths({ ...table, "/bin/p": program({ runpath: "/none", flags1: 0x800 }) })).toThrow("is missing");
    expect(paths({ ...table, "/bin/p": program({ runpath: "/run", flags1: 0x800 }) })).toContain("/run/libx.so.1");
  });

  test("the directories that the loader itself holds come before any guess", () => {
    const own = new TextEncoder().encode("\0/own/lib/\0/usr/own/lib/\0");
    const held = new Uint8Array([...elfBytes({}), ...own]);
    expect(
      paths({ ...base, [loader]: held, "/own/lib/libx.so.1": elfBytes({}), "/usr/own/lib/libc.so.6": libc }),
    ).toEqual(["/bin/p", loader, "/own/lib/libx.so.1", "/usr/own/lib/libc.so.6"]);
  });

  test("only a variant for newer processors: taken", () => {
    const path = "/lib64/glibc-hwcaps/x86-64-v3/libx.so.1";
    expect(paths({ ...base, [path]: libc })).toContain(path);
  });

  test("loader absent, for another machine, relative; no program at all", () => {
    const { [loader]: _, ...rest } = base;
    expect(() => paths(rest)).toThrow(`/bin/p: its loader ${loader} is not usable: absent`);
    expect(() => paths({ ...base, [loader]: elfBytes({ machine: 183 }) })).toThrow("is for aarch64, 64 bit");
    expect(() => paths({ ...base, "/bin/p": elfBytes({ interpreter: "ld.so" }) })).toThrow("is not usable");
    expect(() => paths({ ...base, "/bin/p": elfBytes({ type: 1 }) })).toThrow("a relocatable ELF file is no program");
    expect(() => paths({ ...base, "/bin/p": elfBytes({}).slice(0, 70) })).toThrow("bad ELF file");
  });

  test("musl: RPATH up the chain, its path file, its own names", () => {
    const musl = "/lib/ld-musl-x86_64.so.1";
    const table: Table = {
      [musl]: elfBytes({}),
      "/etc/ld-musl-x86_64.path": new TextEncoder().encode("/m\n/m2"),
      "/bin/p": elfBytes({ interpreter: musl, needed: ["libx.so", "libc.so", "libm.so.6"], runpath: "$ORIGIN/../own" }),
      "/own/libx.so": elfBytes({ needed: ["liby.so", "libz.so"] }),
      "/own/liby.so": libc,
      "/m2/libz.so": libc,
    };
    expect(paths(table)).toEqual([
      "/bin/p",
      musl,
      "/etc/ld-musl-x86_64.path",
      "/bin/../own/libx.so",
      "/bin/../own/liby.so",
      "/m2/libz.so",
    ]);
  });

  test("files that are taken as they are", () => {
    const table = tableHost({ ...base, "/data/a": libc, "/link": { link: "data" } });
    const closure = computeClosure(table, { path: "", cwd: "/data" }, [], ["/link", "a"]);
    expect(closure.files).toMatchObject([
      { path: "/link", real: "/data", kind: "directory" },
      { path: "/data/a", real: "/data/a", kind: "data" },
    ]);
    expect(closure.symlinks).toEqual([{ path: "/link", to: "data" }]);
    expect(() => computeClosure(host, search, [], ["/nothing"])).toThrow("/nothing: no such file or directory");
    expect(() => computeClosure(host, search, [], ["/"])).toThrow("/ is the whole machine");
  });
});
