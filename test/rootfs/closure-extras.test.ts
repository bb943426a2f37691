import { describe, expect, test } from "bun:test";
import { computeClosure, createCollector } from "../../src/rootfs/closure.ts";
import { addExtras, expandPattern } from "../../src/rootfs/closure-extras.ts";
import { closureJson, formatClosure, formatSize } from "../../src/rootfs/closure-format.ts";
import { measureDirectories } from "../../src/rootfs/closure-size.ts";
import { parseNsswitch } from "../../src/rootfs/closure-rules.ts";
import { elfBytes, type Table, tableHost } from "./fixtures.ts";

const loader = "/lib64/ld-linux-x86-64.so.2";
const lib = (...needed: string[]) => elfBytes({ needed });
const some = new Uint8Array(1500);
const base: Table = {
  [loader]: elfBytes({ soname: "ld-linux-x86-64.so.2" }),
  "/usr/lib64/libc.so.6": elfBytes({ soname: "libc.so.6" }),
  "/usr/lib64/gconv/a.so": lib(),
  "/usr/lib64/libtinfo.so.6": lib("libc.so.6"),
  "/usr/lib64/libnss_myhostname.so.2": lib("libcap.so.2"),
  "/usr/lib64/libcap.so.2": lib(),
  "/usr/lib/locale/C.utf8/LC_CTYPE": some,
  "/usr/lib/locale/de_DE.utf8/LC_CTYPE": some,
  "/usr/share/terminfo/f/foot": some,
  "/usr/share/terminfo/x/xterm": some,
  "/usr/bin/p": elfBytes({ interpreter: loader, needed: ["libtinfo.so.6"] }),
};

function added(table: Table, program: string, env: Record<string, string> = {}, nss: string[] = ["files", "dns"]) {
  const host = tableHost(table);
  const collector = createCollector(host, { path: "/usr/bin", cwd: "/" });
  collector.program(program);
  addExtras(host, collector, { env, nss });
  return collector.closure();
}
const byRule = (closure: ReturnType<typeof added>) =>
  closure.files.flatMap(({ path, rule, kind }) =>
    rule === undefined ? [] : [`${rule}: ${path}${kind === "directory" ? "/" : ""}`],
  );

describe("addExtras", () => {
  test("glibc: character sets, locale, terminfo of the caller", () => {
    expect(byRule(added(base, "p", { TERM: "foot", LANG: "de_DE.UTF-8", LC_TIME: "POSIX" }))).toEqual([
      "gconv: /usr/lib64/gconv/",
      "locale: /usr/lib/locale/C.utf8/",
      "locale: /usr/lib/locale/de_DE.utf8/",
      "terminfo: /usr/share/terminfo/f/foot",
    ]);
    expect(byRule(added(base, "p", { TERM: "../x/xterm" })).filter((line) => line.startsWith("terminfo"))).toEqual([]);
  });

  test("name services that are not in libc, with what they need", () => {
    const paths = added(base, "p", {}, ["files", "myhostname", "none"]).files.map(({ path }) => path);
    expect(paths).toContain("/usr/lib64/libnss_myhostname.so.2");
    expect(paths).toContain("/usr/lib64/libcap.so.2");
  });

  test("python: its tree, and the libraries of its modules; missing ones are noted", () => {
    const table: Table = {
      ...base,
      "/usr/bin/python3": { link: "python3.12" },
      "/usr/bin/python3.12": elfBytes({ interpreter: loader, needed: ["libc.so.6"] }),
      "/usr/lib/python3.12/os.py": some,
      "/usr/lib/python3.12/lib-dynload/_ssl.so": lib("libssl.so.3"),
      "/usr/lib/python3.12/lib-dynload/_tk.so": lib("libtk8.6.so"),
      "/usr/lib64/libssl.so.3": lib(),
      "/etc/ssl/certs/all.pem": some,
      "/etc/ssl/private/key.pem": some,
    };
    const closure = added(table, "python3");
    const rules = byRule(closure);
    expect(rules).toContain("python: /usr/lib/python3.12/");
    expect(rules).toContain("certificates: /etc/ssl/certs/");
    expect(closure.files.map(({ path }) => path)).toContain("/usr/lib64/libssl.so.3");
    expect(closure.files.filter(({ path }) => path.includes("private"))).toEqual([]);
    expect(closure.missing).toEqual([{ name: "libtk8.6.so", wantedBy: "/usr/lib/python3.12/lib-dynload/_tk.so" }]);
  });

  test("the root's own configuration is not replaced, code is", () => {
    const table: Table = {
      ...base,
      "/usr/bin/vim": base["/usr/bin/p"] ?? some,
      "/etc/vim/vimrc": some,
      "/usr/share/vim/x": some,
    };
    const yields = Object.fromEntries(added(table, "vim").files.map((file) => [file.path, file.yields]));
    expect(yields).toMatchObject({ "/etc/vim": true, "/usr/share/vim": false, "/usr/lib64/libc.so.6": false });
  });
});

test.each([
  [
    "passwd: files systemd\nhosts: files [!UNAVAIL=return] dns # x y\n# group: nis\n\nbad line",
    ["files", "systemd", "dns"],
  ],
  ["", []],
])("parseNsswitch %j", (text, services) => {
  expect(parseNsswitch(text)).toEqual(services);
});

test.each([
  ["/usr/share/terminfo/*/x*", ["/usr/share/terminfo/x/xterm"]],
  ["/usr/lib*/libc.so.6", ["/usr/lib/libc.so.6", "/usr/lib64/libc.so.6"]],
  ["/none/*", []],
  ["/usr/lib64/lib(.*", []],
])("expandPattern %s", (pattern, paths) => {
  expect(expandPattern(tableHost(base), pattern)).toEqual(paths);
});

describe("formatClosure", () => {
  test("a tree, links, missing, sum", () => {
    const table: Table = { ...base, "/bin": { link: "usr/bin" }, "/usr/bin/q": { link: "p" } };
    expect(formatClosure(added(table, "/bin/q"))).toMatchInlineSnapshot(`
      "/bin/q → /usr/bin/p  (program, 1.1 KiB)
      ├── /lib64/ld-linux-x86-64.so.2  (loader, 1.1 KiB)
      └── /usr/lib64/libtinfo.so.6  (1.1 KiB)
          └── /usr/lib64/libc.so.6  (1.1 KiB)
              ├── /usr/lib64/gconv  (directory, whole, gconv)
              └── /usr/lib/locale/C.utf8  (directory, whole, locale)

      links:
        /bin → usr/bin
        /usr/bin/q → p

      6 entries, 2 of them directories, 2 links, 4.3 KiB
      "
    `);
  });
  test("directories are measured when asked, each file once", () => {
    const table: Table = {
      "/d/a": some,
      "/d/sub/b": some,
      "/d/link": { link: "/usr/lib64/libc.so.6" },
      "/usr/lib64/libc.so.6": some,
    };
    const host = tableHost(table);
    const closure = computeClosure(host, { path: "", cwd: "/" }, [], ["/d", "/d/a", "/usr/lib64/libc.so.6"]);
    expect(closure.size).toBe(3000);
    const measured = measureDirectories(host, closure);
    expect(measured.files.map(({ path, size }) => [path, size])).toEqual([
      ["/d", 3000],
      ["/d/a", 1500],
      ["/usr/lib64/libc.so.6", 1500],
    ]);
    expect(measured.size).toBe(4500);
  });
  test("JSON", () => {
    const json = closureJson(added(base, "p"));
    expect(JSON.parse(JSON.stringify(json))).toMatchObject({
      schema: 1,
      files: expect.arrayContaining([
        {
          path: "/usr/lib64/libtinfo.so.6",
          real: "/usr/lib64/libtinfo.so.6",
          kind: "library",
          size: 1104,
          wantedBy: ["/usr/bin/p"],
        },
      ]),
    });
  });
  test.each([
    [0, "0 B"],
    [1023, "1023 B"],
    [1024, "1.0 KiB"],
    [200_000, "195 KiB"],
    [3_600_000, "3.4 MiB"],
    [5e15, "4547 TiB"],
  ])("formatSize %d", (bytes, text) => {
    expect(formatSize(bytes)).toBe(text);
  });
});
