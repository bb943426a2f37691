import { describe, expect, test } from "bun:test";
import { copyFileSync, existsSync, mkdirSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Closure, ClosureFile } from "../../src/rootfs/closure.ts";
import { computeClosure, createCollector } from "../../src/rootfs/closure.ts";
import { addExtras } from "../../src/rootfs/closure-extras.ts";
import { closureLayout, emptyRoot, type LayoutEntry, type RootView } from "../../src/rootfs/closure-layout.ts";
import { realHostFiles } from "../../src/rootfs/host-files.ts";
import { runInRoot, temporary } from "./fixtures.ts";

const file = (path: string, real: string, more: Partial<ClosureFile> = {}): ClosureFile => ({
  path,
  real,
  kind: "program",
  size: 1,
  wantedBy: [],
  rule: undefined,
  yields: false,
  cached: false,
  ...more,
});
const closure = (files: ClosureFile[], symlinks: Record<string, string> = {}): Closure => ({
  files,
  symlinks: Object.entries(symlinks).map(([path, to]) => ({ path, to })),
  missing: [],
  size: 0,
});
/** A root as a table: a string is a link's target, true a directory, false a file. */
const rootOf =
  (table: Record<string, string | boolean>): RootView =>
  (path) => {
    const entry = table[path];
    if (entry === undefined) return { kind: "absent" };
    return typeof entry === "string" ? { kind: "symlink", to: entry } : { kind: entry ? "directory" : "file" };
  };
const lines = (entries: readonly LayoutEntry[]) =>
  entries.map((entry) => `${entry.path} ${entry.kind === "symlink" ? `→ ${entry.to}` : `= ${entry.source}`}`);

describe("closureLayout", () => {
  const python = closure([file("/bin/python3", "/usr/bin/python3.11")], {
    "/bin": "usr/bin",
    "/usr/bin/python3": "python3.11",
  });

  test("an empty root: the host's links are made again", () => {
    expect(lines(closureLayout(python, emptyRoot))).toEqual([
      "/bin → usr/bin",
      "/usr/bin/python3 → python3.11",
      "/usr/bin/python3.11 = /usr/bin/python3.11",
    ]);
  });

  test("a real /bin: under the named path, and at the canonical one", () => {
    expect(lines(closureLayout(python, rootOf({ "/bin": true })))).toEqual([
      "/bin/python3 = /usr/bin/python3.11",
      "/usr/bin/python3.11 = /usr/bin/python3.11",
      "/usr/bin/python3 → python3.11",
    ]);
  });

  test("a real /bin and a program named in /usr/bin: /bin/bash too, as on the host", () => {
    const bash = closure([file("/usr/bin/bash", "/usr/bin/bash")], { "/bin": "usr/bin" });
    expect(lines(closureLayout(bash, rootOf({ "/bin": true })))).toEqual([
      "/usr/bin/bash = /usr/bin/bash",
      "/bin/bash = /usr/bin/bash",
    ]);
    expect(lines(closureLayout(bash, rootOf({ "/bin": true, "/bin/bash": false })))).toEqual([
      "/usr/bin/bash = /usr/bin/bash",
    ]);
  });

  test("a link of the root is followed, absolute ones inside of it", () => {
    const root = rootOf({ "/bin": "/sw", "/sw": "store/../tools", "/store": true, "/tools": true });
    expect(lines(closureLayout(python, root))).toEqual([
      "/tools/python3 = /usr/bin/python3.11",
      "/usr/bin/python3.11 = /usr/bin/python3.11",
      "/usr/bin/python3 → python3.11",
    ]);
  });

  test("directories whole: what lies in them has no place of its own, links in them are the host's", () => {
    const tree = closure(
      [
        file("/p/bin/x", "/p/bin/x"),
        file("/p/lib/link/m.so", "/p/lib/real/m.so.1", { kind: "library" }),
        file("/p/lib", "/p/lib", { kind: "directory" }),
        file("/p/lib/real", "/p/lib/real", { kind: "directory" }),
        file("/p/lib/out", "/q/out", { kind: "data" }),
      ],
      { "/p/lib/link": "real", "/p/lib/real/m.so": "m.so.1", "/p/lib/out": "../../q/out" },
    );
    expect(lines(closureLayout(tree, emptyRoot))).toEqual([
      "/p/lib = /p/lib",
      "/p/bin/x = /p/bin/x",
      "/q/out = /q/out",
    ]);
  });

  test("what yields gives way to what the root has", () => {
    const both = closure([
      file("/etc/a", "/etc/a", { kind: "data", yields: true }),
      file("/etc/b", "/etc/b", { kind: "data" }),
      file("/etc/d", "/etc/d", { kind: "directory", yields: true }),
    ]);
    expect(lines(closureLayout(both, rootOf({ "/etc/a": false, "/etc/b": false, "/etc/d": true })))).toEqual([
      "/etc/b = /etc/b",
    ]);
  });

  test("a root with a cache of its own: a link beside libc to what only the host's cache names", () => {
    const both = closure([
      file("/lib64/libc.so.6", "/lib64/libc.so.6", { kind: "library", cached: true }),
      file("/opt/x/liba.so.1", "/opt/x/liba.so.1.2", { kind: "library", cached: true }),
      file("/opt/y/libb.so.1", "/opt/y/libb.so.1", { kind: "library" }),
    ]);
    const plain = [
      "/lib64/libc.so.6 = /lib64/libc.so.6",
      "/opt/x/liba.so.1 = /opt/x/liba.so.1.2",
      "/opt/y/libb.so.1 = /opt/y/libb.so.1",
    ];
    expect(lines(closureLayout(both, emptyRoot))).toEqual(plain);
    const own = { "/etc/ld.so.cache": false };
    expect(lines(closureLayout(both, rootOf(own)))).toEqual([...plain, "/lib64/liba.so.1 → /opt/x/liba.so.1"]);
    expect(lines(closureLayout(both, rootOf({ ...own, "/lib64/liba.so.1": false })))).toEqual(plain);
  });

  test.each([
    ["file in the way", closure([file("/a/b", "/a/b")]), { "/a": false }, "/a/b: the root has a file at /a"],
    [
      "directory in the way",
      closure([file("/a", "/a")]),
      { "/a": true },
      "/a: the root has a directory at /a, the host a file",
    ],
    [
      "endless links",
      closure([file("/a/b", "/a/b")]),
      { "/a": "/c", "/c": "a" },
      "symbolic links in the root never end",
    ],
    [
      "two files in one place",
      closure([file("/lib/x", "/lib/x"), file("/lib64/x", "/lib64/x")]),
      { "/lib64": "lib" },
      "both /lib/x and /lib64/x would be at /lib/x",
    ],
  ])("%s: a clear error", (_, wanted, root, message) => {
    expect(() => closureLayout(wanted, rootOf(root as Record<string, string | boolean>))).toThrow(message);
  });
});

describe("programs run by chroot in what a layout says", () => {
  const host = realHostFiles();
  const search = { path: "/usr/bin:/bin", cwd: "/" };
  const whole = (...programs: string[]): Closure => {
    const collector = createCollector(host, search);
    for (const program of programs) collector.program(program);
    addExtras(host, collector, { env: { TERM: "xterm", LANG: "C.UTF-8" }, nss: ["files", "dns"] });
    return collector.closure();
  };
  const folderView =
    (root: string): RootView =>
    (path) => {
      const target = host.readLink(root + path);
      if (typeof target === "string") return { kind: "symlink", to: target };
      const { kind } = host.status(root + path);
      return { kind: kind === "other" ? "file" : kind };
    };
  const run = (root: string, programs: Closure, command: string[], env: Record<string, string> = {}) =>
    runInRoot(root, closureLayout(programs, folderView(root)), command, env);

  test("bash and ls as real copies", () => {
    using folder = temporary();
    for (const entry of closureLayout(computeClosure(host, search, ["bash", "ls"]), emptyRoot)) {
      mkdirSync(dirname(folder.path + entry.path), { recursive: true });
      if (entry.kind === "symlink") symlinkSync(entry.to, folder.path + entry.path);
      else copyFileSync(entry.source, folder.path + entry.path);
    }
    const { exitCode, stdout } = runInRoot(folder.path, [], ["/bin/bash", "-c", "ls /; exit 7"]);
    expect(stdout.split("\n")).toEqual(expect.arrayContaining(["bin", "lib", "lib64", "usr"]));
    expect(exitCode).toBe(7);
  });

  test("a folder with real bin, etc and home", () => {
    using folder = temporary();
    mkdirSync(join(folder.path, "bin"));
    folder.write("etc/passwd", "me:x:0:0::/home:/bin/bash\n");
    folder.write("etc/nsswitch.conf", "passwd: files\n");
    folder.write("home/hello.txt", "hello there\n");
    const command = ["bash", "-c", "ls /home && cat /home/hello.txt && whoami && /bin/bash -c 'echo $0'"];
    const { stdout, stderr, exitCode } = run(folder.path, whole("bash", "ls", "cat", "whoami"), command);
    expect(stderr).toBe("");
    expect(stdout).toBe("hello.txt\nhello there\nme\n/bin/bash\n");
    expect(exitCode).toBe(0);
  });

  test.each([
    [
      "python3",
      [
        "python3",
        "-c",
        "import json, ssl, sqlite3, ctypes; print(ssl.create_default_context().cert_store_stats()['x509'] > 50)",
      ],
      "True\n",
    ],
    ["perl", ["perl", "-MPOSIX", "-MList::Util=sum", "-e", "print sum(floor(1.5), 2), qq(\\n)"], "3\n"],
    [
      "node",
      ["node", "-e", "console.log(require('crypto').createHash('md5').update('').digest('hex'))"],
      "d41d8cd98f00b204e9800998ecf8427e\n",
    ],
    ["git", ["git", "-c", "alias.hi=!echo hi", "hi"], "hi\n"],
  ])("%s", (program, command, output) => {
    if (!existsSync(`/usr/bin/${program}`)) throw new Error(`this test needs ${program}, which is not installed`);
    using folder = temporary();
    const { stdout, stderr, exitCode } = run(folder.path, whole(program), command);
    expect(stderr).toBe("");
    expect(stdout).toBe(output);
    expect(exitCode).toBe(0);
  });

  test("gcc compiles a program with headers and libm, which runs", () => {
    using folder = temporary();
    folder.write(
      "tmp/x.c",
      '#include <stdio.h>\n#include <math.h>\nint main(int n, char **v) { printf("%g\\n", sqrt(n * 4.0)); }\n',
    );
    const command = ["bash", "-c", "cd /tmp && gcc -O2 -o x x.c -lm && ./x && gcc --version | head -n 1"];
    const { stdout, stderr, exitCode } = run(folder.path, whole("bash", "gcc", "head"), command);
    expect(stderr).toBe("");
    expect(stdout.split("\n")[0]).toBe("2");
    expect(exitCode).toBe(0);
  });

  test("curl and vim", () => {
    using folder = temporary();
    folder.write("tmp/a", "one\n");
    const command = ["bash", "-c", "curl --version && vim -es -c 's/one/two/' -c wq /tmp/a </dev/null; cat /tmp/a"];
    const { stdout, stderr } = run(folder.path, whole("bash", "cat", "curl", "vim"), command);
    expect(stderr).toBe("");
    expect(stdout).toMatch(/^curl \d[\s\S]*\ntwo\n$/);
  });
});
