/**
 * What a list of needed libraries misses: the files that programs open by themselves once they run. One table; a rule
 * applies to each file of the closure that its `when` accepts, and names paths of the host, of which those that exist
 * are added. Directories are bound whole. Pure.
 *
 * Patterns: `*` stands for any part of one component.
 */

import type { ClosureFile } from "./closure.ts";
import { baseOf, parentOf } from "./walk.ts";

/** Of the caller and of the sandbox to be, what rules depend on. */
export interface ExtraContext {
  /** Variables that the sandbox will have: TERM, LANG, LC_ALL, LC_CTYPE, TERMINFO, … */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Services that the sandbox's nsswitch.conf names: `["files", "dns"]`. See {@link parseNsswitch}. */
  readonly nss: readonly string[];
}

/** What a rule adds. `path` may be a pattern. */
export interface Extra {
  readonly path: string;
  /**
   * - data: the file or directory as it is.
   * - objects: that, and the libraries which the ELF files in it need (Python's modules).
   * - program: a program with its own closure, by path or by name in PATH; nothing when it is not there.
   */
  readonly as: "data" | "objects" | "program";
  /** The root's own wins where it has one: configuration, certificates. Code must fit its program and replaces. */
  readonly yields: boolean;
}

export interface Rule {
  readonly name: string;
  readonly when: (file: ClosureFile) => boolean;
  readonly add: (file: ClosureFile, context: ExtraContext) => readonly Extra[];
}

const data = (...paths: string[]): Extra[] => paths.map((path) => ({ path, as: "data", yields: false }));
const config = (...paths: string[]): Extra[] => paths.map((path) => ({ path, as: "data", yields: true }));
const objects = (...paths: string[]): Extra[] => paths.map((path) => ({ path, as: "objects", yields: false }));
const programs = (...paths: string[]): Extra[] => paths.map((path) => ({ path, as: "program", yields: false }));

/** A library by the beginning of its name, as wanted or as it is called on disk. */
const library = (pattern: RegExp) => (file: ClosureFile) =>
  file.kind === "library" && (pattern.test(baseOf(file.path)) || pattern.test(baseOf(file.real)));

/** A program by its name, as called or as it is called on disk (vim → vim.basic). */
const program = (pattern: RegExp) => (file: ClosureFile) =>
  (file.kind === "program" || file.kind === "script") &&
  (pattern.test(baseOf(file.path)) || pattern.test(baseOf(file.real)));

const glibc = library(/^libc\.so\.6$|^libc-2\.\d+\.so$/);
/** Directory of a library: where its distribution keeps modules. */
const beside = (file: ClosureFile) => parentOf(file.real);
/** `/usr` of `/usr/bin/git`. */
const prefix = (file: ClosureFile) => parentOf(parentOf(file.real)).replace(/\/$/, "");

const GCC = /^(?:[a-z0-9_]+-[a-z0-9_-]+-)?(?:gcc|g\+\+|cc|c\+\+|c89|c99|cpp)(?:-\d+(?:\.\d+)*)?$/;
const PYTHON = /^python(\d+\.\d+)[a-z]*$/;

export const RULES: readonly Rule[] = [
  {
    // What ld.so.conf names beyond the default directories is found through the cache only.
    name: "ld.so.cache",
    when: glibc,
    add: () => config("/etc/ld.so.cache"),
  },
  {
    // Character sets other than ASCII, UTF-8, UTF-16 and UTF-32, which are in libc (iconv(3)).
    name: "gconv",
    when: glibc,
    add: (file) => data(`${beside(file)}/gconv`),
  },
  {
    // nsswitch.conf(5). From glibc 2.34 on, when libc.so.6 stopped being a link to libc-2.NN.so, files and dns are in libc.
    name: "nss",
    when: glibc,
    add: (file, { nss }) =>
      nss
        .filter((service) => baseOf(file.real).startsWith("libc-2.") || !["files", "dns"].includes(service))
        .flatMap((service) => objects(`${beside(file)}/libnss_${service}.so.2`)),
  },
  {
    // locale(7): the caller's, else C.UTF-8, which is a directory up to glibc 2.34 and in Debian.
    name: "locale",
    when: glibc,
    add: (_, { env }) => localePaths(env),
  },
  {
    // terminfo(5), Debian's order of directories.
    name: "terminfo",
    when: library(/^lib(?:tinfo|ncurses)w?\.so/),
    add: (_, { env }) => terminfoPaths(env),
  },
  {
    // Never /etc/ssl or /etc/pki whole: private keys lie there.
    name: "certificates",
    when: library(/^lib(?:ssl|crypto|gnutls|nss3|mbedtls)[.-]/),
    add: () =>
      config(
        "/etc/ssl/certs",
        "/etc/ssl/cert.pem",
        "/etc/ssl/openssl.cnf",
        "/usr/lib/ssl",
        "/usr/share/ca-certificates",
        "/usr/local/share/ca-certificates",
        "/etc/pki/tls/certs",
        "/etc/pki/tls/cert.pem",
        "/etc/pki/tls/openssl.cnf",
        "/etc/pki/ca-trust/extracted",
        "/etc/ca-certificates/extracted",
        "/etc/crypto-policies",
        "/usr/share/crypto-policies",
      ),
  },
  {
    // OpenSSL's providers (legacy.so) and engines.
    name: "openssl-modules",
    when: library(/^libcrypto\.so/),
    add: (file) => data(`${beside(file)}/ossl-modules`, `${beside(file)}/engines-*`),
  },
  {
    name: "magic",
    when: library(/^libmagic\.so/),
    add: () => config("/etc/magic", "/usr/share/misc/magic*", "/usr/share/file", "/usr/lib/file"),
  },
  {
    // The standard library of the version that the file's own name tells (python3 → python3.11).
    name: "python",
    when: program(PYTHON),
    add: (file) => {
      const version = `python${PYTHON.exec(baseOf(file.real))?.[1] ?? PYTHON.exec(baseOf(file.path))?.[1] ?? "3"}`;
      const at = prefix(file);
      return [
        ...objects(`${at}/lib/${version}`, `${at}/lib64/${version}`),
        ...data(`${at}/lib/python3`, `${at}/share/python3`, `${at}/local/lib/${version}`, `/etc/${version}`),
      ];
    },
  },
  {
    // A virtual environment: pyvenv.cfg above the name by which its python was called (site's documentation).
    name: "python-venv",
    when: program(/^python[\d.]*$/),
    add: (file) => {
      const home = parentOf(parentOf(file.path));
      return /^\/(usr(\/local)?)?$/.test(home) ? [] : [...config(`${home}/pyvenv.cfg`), ...objects(`${home}/lib`)];
    },
  },
  {
    // @INC of Debian, Fedora, Arch, and of a perl with a prefix of its own.
    name: "perl",
    when: program(/^perl(?:5[\d.]*)?$/),
    add: (file) => [
      ...objects(
        ...["perl-base", "perl", "perl5"].map((name) => `${prefix(file)}/lib/*-linux-gnu*/${name}`),
        `${prefix(file)}/lib/perl5`,
        `${prefix(file)}/lib64/perl5`,
        `${prefix(file)}/local/lib/*-linux-gnu*/perl`,
      ),
      ...data(
        "/etc/perl",
        ...["perl", "perl5"].flatMap((name) => [
          `${prefix(file)}/share/${name}`,
          `${prefix(file)}/local/share/${name}`,
        ]),
      ),
    ],
  },
  {
    // Node's own modules are in the program; Debian's keeps some outside.
    name: "node",
    when: program(/^node(?:js)?(?:-\d+)?$/),
    add: (file) => data(`${prefix(file)}/lib/node_modules`, `${prefix(file)}/share/nodejs`, "/etc/ssl/openssl.cnf"),
  },
  {
    name: "vim",
    when: program(/^(?:vi|vim|view|vimdiff|rvim|ex)(?:\.[a-z0-9]+)?$/),
    add: (file) => [...data(`${prefix(file)}/share/vim`), ...config("/etc/vim", "/etc/vimrc")],
  },
  {
    // git(1) starts the programs of its exec path, and sh for hooks, aliases and the pager.
    name: "git",
    when: program(/^git$/),
    add: (file) => [
      ...objects(`${prefix(file)}/lib/git-core`, `${prefix(file)}/libexec/git-core`),
      ...data(`${prefix(file)}/share/git-core`),
      ...config("/etc/gitconfig"),
      ...programs("sh"),
    ],
  },
  {
    // The compiler proper, the assembler and the linker, libraries to link against, headers (gcc -print-search-dirs).
    name: "gcc",
    when: program(GCC),
    add: (file) => {
      const at = prefix(file);
      return [
        ...objects(`${at}/lib/gcc`, `${at}/libexec/gcc`),
        ...data(
          `${at}/include`,
          `${at}/local/include`,
          `${at}/lib/*-linux-gnu*/ldscripts`,
          `${at}/*-linux-gnu*/lib/ldscripts`,
        ),
        ...["lib/*-linux-gnu*", "lib64", "lib"].flatMap((directory) =>
          data(
            `${at}/${directory}/*crt*.o`,
            ...["c", "c_nonshared", "m", "mvec", "m-*", "mvec-*", "pthread", "dl", "rt", "util", "resolv"].flatMap(
              (name) => [`${at}/${directory}/lib${name}.so`, `${at}/${directory}/lib${name}.a`],
            ),
          ),
        ),
        ...programs("as", "ld"),
      ];
    },
  },
];

/**
 * Services that an nsswitch.conf names, each once: `["files", "systemd", "dns"]`. Actions in brackets and comments are
 * passed over.
 */
export function parseNsswitch(text: string): string[] {
  const services = text
    .split("\n")
    .map((line) => line.replace(/#.*/, "").replace(/\[[^\]]*\]/g, " "))
    .flatMap((line) =>
      line.includes(":")
        ? line
            .slice(line.indexOf(":") + 1)
            .trim()
            .split(/\s+/)
        : [],
    );
  return [...new Set(services.filter((service) => /^[a-z0-9_]+$/i.test(service)))];
}

function localePaths(env: ExtraContext["env"]): Extra[] {
  const names = ["LC_ALL", "LANG", ...Object.keys(env).filter((name) => name.startsWith("LC_"))];
  const wanted = new Set(["C.UTF-8"]);
  for (const name of names) if (env[name]) wanted.add(env[name]);
  const extras: Extra[] = [];
  for (const locale of wanted) {
    if (locale === "C" || locale === "POSIX" || locale.includes("/")) continue;
    // As glibc normalizes a codeset: en_US.UTF-8 lies in en_US.utf8.
    const normal = locale.replace(
      /\.([^@]*)/,
      (_, codeset: string) => `.${codeset.replace(/[^a-z0-9]/gi, "").toLowerCase()}`,
    );
    extras.push(...config(...new Set([`/usr/lib/locale/${normal}`, `/usr/lib/locale/${locale}`])));
    if (!locale.startsWith("C.")) extras.push(...config("/usr/lib/locale/locale-archive"));
  }
  return extras;
}

function terminfoPaths(env: ExtraContext["env"]): Extra[] {
  const term = env["TERM"];
  if (term === undefined || term === "" || term.includes("/")) return [];
  const directories = ["/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo", "/usr/lib/terminfo"];
  if (env["TERMINFO"]?.startsWith("/")) directories.unshift(env["TERMINFO"]);
  // By first letter, or by its code where file systems know no case.
  const letter = term[0] ?? "";
  const code = letter.charCodeAt(0).toString(16);
  return config(
    ...directories.flatMap((directory) => [`${directory}/${letter}/${term}`, `${directory}/${code}/${term}`]),
  );
}
