/**
 * `nix-build-shell --add PROGRAM`: programs of the host for looking at a build (strace, gdb, vim), in a directory of their
 * own at the end of PATH. Where the build looks there is nothing of them: their files lie below one directory, and each is
 * started by its own dynamic loader, which is told where its libraries are (ld.so(8)).
 */

import { HutchError } from "../errors.ts";
import { pathStatus } from "../libc/files.ts";
import { shellQuote } from "../nix/structured-attributes.ts";
import type { Closure } from "../rootfs/closure.ts";
import type { Wanted } from "../rootfs/host-programs.ts";
import type { HostPath, Mount, SandboxPath } from "../spec.ts";
import { hostClosure } from "./host-closure.ts";

/** Where what is added lies inside, and the directory of it that is in PATH. */
const PLACE = "/tmp/hutch/add";
export const ADDED_PATH = `${PLACE}/bin`;

/** What is added to a sandbox. */
export interface Added {
  readonly mounts: readonly Mount[];
  /** What to tell the user, a line each. */
  readonly notes: readonly string[];
}

const from = "--add";

/**
 * The programs with all that they need. `shell` is the store path of the bash that their starters run in.
 * @throws HutchError with the user's word when one is missing, is a script, or two have one name
 */
export function addPrograms(wanted: readonly Wanted[], shell: string): Added {
  if (wanted.length === 0) return { mounts: [], notes: [] };
  const starters = new Map<string, Mount>();
  const files = new Map<string, Mount>();
  for (const program of wanted) {
    const name = program.value.split("/").at(-1) ?? "";
    if (starters.has(name)) throw new HutchError(`${name} is added twice`, { from: program.words });
    const closure = name === "gdb" ? gdbClosure(program) : hostClosure([program], []);
    for (const mount of fileMounts(closure)) files.set(mount.destination, mount);
    starters.set(name, starter(program, closure, name, shell));
  }
  // a directory before what is in it, and nothing into a directory of the host
  const sorted = [...files.values()].toSorted((a, b) => (a.destination < b.destination ? -1 : 1));
  const kept: Mount[] = [];
  let within = "";
  for (const mount of sorted) {
    if (within !== "" && mount.destination.startsWith(`${within}/`)) continue;
    if (mount.type === "bind" && isDirectory(mount.source)) within = mount.destination;
    kept.push(mount);
  }
  const list = [...starters.keys()].join(", ");
  return { mounts: [...kept, ...starters.values()], notes: [`${ADDED_PATH}, at the end of PATH, has ${list}`] };
}

/** With what gdb looks for by itself: its own data, and the modules of the Python that it is linked with. */
function gdbClosure(program: Wanted): Closure {
  const python = hostClosure([program], []).files.flatMap(({ real }) => {
    const [, prefix, version] = /^(.*)\/lib(?:64)?\/(?:.*\/)?libpython(3\.\d+)\.so/.exec(real) ?? [];
    return version === undefined ? [] : [`${prefix}/lib/python${version}`];
  });
  const there = [GDB_DATA, ...new Set(python)].filter(isDirectory);
  return hostClosure(
    [program],
    there.map((value) => ({ value, words: program.words })),
  );
}

const GDB_DATA = "/usr/share/gdb";

const isDirectory = (path: string): boolean => {
  const found = pathStatus(path);
  return typeof found !== "number" && found.kind === "directory";
};

/** All files of the closure, below the place; what is configuration of the host stays there. */
function fileMounts(closure: Closure): readonly Mount[] {
  return closure.files
    .filter((file) => !file.yields)
    .map((file): Mount => ({
      type: "bind",
      source: file.real as HostPath,
      destination: `${PLACE}/root${file.path}` as SandboxPath,
      attributes: ["ro", "nosuid", "nodev"],
      idmap: false,
      from,
    }));
}

/** A script by the program's name that starts it with its own loader, libraries and data. */
function starter(wanted: Wanted, closure: Closure, name: string, shell: string): Mount {
  const program = closure.files.find(({ kind, wantedBy }) => kind === "program" && wantedBy.length === 0);
  if (program === undefined || closure.files.some(({ kind }) => kind === "script"))
    throw new HutchError(`${wanted.value} is a script: only programs of their own can be added`, {
      from: wanted.words,
    });
  const within = (path: string) => shellQuote(`${PLACE}/root${path}`);
  const loader = closure.files.find(({ kind }) => kind === "loader");
  const libraries = closure.files.filter(({ kind }) => kind === "library");
  const places = [...new Set(libraries.map(({ path }) => `${PLACE}/root${path.slice(0, path.lastIndexOf("/"))}`))];
  const words = loader === undefined ? [] : [within(loader.path), "--library-path", shellQuote(places.join(":"))];
  const content = `#!${shell}\n${environment(closure)}exec ${[...words, within(program.path), ...ownArguments(name)].join(" ")} "$@"\n`;
  return { type: "file", destination: `${ADDED_PATH}/${name}` as SandboxPath, content, mode: 0o755, from };
}

/** Where the program finds data that is not where it was built for. */
function environment({ files }: Closure): string {
  const directory = (pattern: RegExp) =>
    files.filter(({ kind }) => kind === "directory").flatMap(({ path }) => pattern.exec(path)?.slice(1, 2) ?? [])[0];
  const variables = {
    PYTHONHOME: directory(/^(\/.*)\/lib\/python3[\d.]*$/),
    VIM: directory(/^(\/.*\/share\/vim)$/),
  };
  return Object.entries(variables)
    .flatMap(([name, value]) =>
      value === undefined ? [] : [`export ${name}=${shellQuote(`${PLACE}/root${value}`)}\n`],
    )
    .join("");
}

/** gdb: its data, and what is set for itself is not for the program that it runs. */
function ownArguments(name: string): readonly string[] {
  if (name !== "gdb") return [];
  return [`--data-directory=${PLACE}/root${GDB_DATA}`, "-iex", "'unset environment PYTHONHOME'"];
}
