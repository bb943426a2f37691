/**
 * The closure of host programs: the files that the kernel and the dynamic loader open to start them, found by reading
 * the files (ldd(1) may execute them), and the symbolic links on the way. What programs open later by themselves is
 * added by closure-extras.ts; where all of it goes in a root is closure-layout.ts.
 */

import { UsageError } from "../errors.ts";
import { type Elf, formatMachine } from "./elf.ts";
import type { HostFiles } from "./host-files.ts";
import { createInspector, type Inspected } from "./inspect.ts";
import { createLoader, glibcLoader, LD_CACHE, type LoadedObject, type Loader } from "./loader.ts";
import { absolute, envProgram, findProgram, MAX_SCRIPTS, ProgramError, type Search } from "./program.ts";
import { isWithin, type Link, parentOf } from "./walk.ts";

export type FileKind = "program" | "script" | "loader" | "library" | "data" | "directory";

export interface ClosureFile {
  /** As it will be opened; absolute, may pass through links. */
  readonly path: string;
  /** The host's canonical path of the same file. */
  readonly real: string;
  readonly kind: FileKind;
  /** In bytes; 0 for a directory until measureDirectories has been there. */
  readonly size: number;
  /** Paths of the files that want it; empty when the user named it. */
  readonly wantedBy: readonly string[];
  /** Name of the rule in closure-extras.ts that added it. */
  readonly rule: string | undefined;
  /** Gives way to what the root already has at this path. */
  readonly yields: boolean;
  /** A library that ld.so finds through its cache, not by a path in the program. */
  readonly cached: boolean;
}

export interface Closure {
  /** Files in the order they were found: each program before what it needs. */
  readonly files: readonly ClosureFile[];
  /** Links of the host on the way to them, each once, where they stand. */
  readonly symlinks: readonly Link[];
  /** Libraries that optional parts (a Python module, say) want and the host does not have. */
  readonly missing: readonly { readonly name: string; readonly wantedBy: string }[];
  /** Bytes of all files, each file once. */
  readonly size: number;
}

/** How a file comes into a closure. */
export interface Addition {
  readonly kind: FileKind;
  readonly wantedBy: string | undefined;
  readonly rule?: string;
  readonly yields?: boolean;
  readonly cached?: boolean;
}

/** A closure in the making. `program` and `path` take the user's words, the others canonical or absolute paths. */
export interface Collector {
  /** A program by name or path with all that starts it. @throws ProgramError, UsageError for a missing library */
  program(name: string, from?: Omit<Addition, "kind">): void;
  /** A file or directory as it is. @throws UsageError when it is not there */
  path(path: string): void;
  /** A file or directory that a rule found; nothing happens when it is not there. */
  extra(path: string, how: Addition): void;
  /** What a library needs that `program` opens at run time (dlopen); what is missing is noted, not an error. */
  object(path: string, program: string): void;
  /** Everything up to now. */
  closure(): Closure;
}

/**
 * The closure of `programs` (names in `search.path`, or paths) and of `paths` (taken as they are).
 * @throws ProgramError when a program is not there or cannot be executed; UsageError naming a library that is missing
 * or of another machine, and what wants it.
 */
export function computeClosure(
  host: HostFiles,
  search: Search,
  programs: readonly string[],
  paths: readonly string[] = [],
): Closure {
  const collector = createCollector(host, search);
  for (const program of programs) collector.program(program);
  for (const path of paths) collector.path(path);
  return collector.closure();
}

/** One program and the libraries in its address space. */
interface Process {
  readonly main: LoadedObject;
  readonly loader: Loader;
  /** By every name under which ld.so would take it for loaded: as wanted, soname, path. */
  readonly loaded: Map<string, LoadedObject>;
  /** By canonical path. */
  readonly byReal: Map<string, LoadedObject>;
}

/** An empty collector over the host's files. */
export function createCollector(host: HostFiles, search: Search): Collector {
  const inspector = createInspector(host);
  const inspect = inspector.inspect;
  const files = new Map<string, ClosureFile>();
  const links = new Map<string, string>();
  const missing: { name: string; wantedBy: string }[] = [];
  const processes = new Map<string, Process>();
  /** Scripts in a row from a program to an ELF file; "open" while it is being found out. */
  const scripts = new Map<string, number | "open">();

  function add(path: string, real: string, size: number, via: readonly Link[], how: Addition): void {
    for (const link of via) links.set(link.path, link.to);
    const known = files.get(path);
    const wanted = how.wantedBy === undefined ? [] : [how.wantedBy];
    const wantedBy = known === undefined ? wanted : [...new Set([...known.wantedBy, ...wanted])];
    const yields = (how.yields ?? false) && (known?.yields ?? true);
    const cached = (how.cached ?? false) || (known?.cached ?? false);
    files.set(path, {
      path,
      real,
      kind: known?.kind ?? how.kind,
      size,
      wantedBy,
      rule: known?.rule ?? how.rule,
      yields,
      cached,
    });
  }
  const addInspected = (path: string, file: Inspected, how: Addition) =>
    add(path, file.real, file.size, file.links, how);

  /** Returns how many scripts in a row lead from here to an ELF file. */
  function addProgram(path: string, from: Omit<Addition, "kind">): number {
    const file = inspect(path);
    if (typeof file === "string") throw new ProgramError("absent", `${path}: ${file}`);
    const { content } = file;
    addInspected(path, file, { ...from, kind: content.kind === "script" ? "script" : "program" });
    const before = scripts.get(path);
    if (before === "open") throw tooManyScripts(path);
    if (before !== undefined) return before;
    scripts.set(path, "open");
    let depth = 0;
    if (content.kind === "elf") startElf(path, file, content.elf);
    else if (content.kind === "script") {
      const { interpreter } = content.shebang;
      if (!interpreter.startsWith("/")) {
        throw new ProgramError("not-executable", `${path}: interpreter ${interpreter} is not an absolute path`);
      }
      requireProgram(interpreter, path);
      depth = 1 + addProgram(interpreter, { ...from, wantedBy: path });
      if (depth > MAX_SCRIPTS) throw tooManyScripts(path);
      const named = envProgram(content.shebang);
      scripts.set(path, depth);
      if (named !== undefined) {
        const target = requireProgram(named, path);
        if (scripts.get(target) !== "open") addProgram(target, { ...from, wantedBy: path });
      }
    } else throw new ProgramError("not-executable", `${path}: ${content.reason}`);
    scripts.set(path, depth);
    return depth;
  }

  function requireProgram(name: string, wantedBy: string): string {
    try {
      return findProgram(host, name, search);
    } catch (error) {
      if (!(error instanceof ProgramError)) throw error;
      throw new ProgramError(error.reason, `${error.message}, wanted by the #! line of ${wantedBy}`);
    }
  }

  function startElf(path: string, file: Inspected, elf: Elf): void {
    if (elf.type !== "executable" && elf.type !== "shared") {
      throw new ProgramError("not-executable", `${path}: a ${elf.type} ELF file is no program`);
    }
    const main = { path, elf, by: undefined, origin: parentOf(file.real) };
    const interpreter = elf.interpreter;
    if (interpreter === undefined) {
      // Static, or a library: then what it needs is added as a program of its machine would find it.
      if (elf.needed.length === 0) return;
      const process = {
        main,
        loader: glibcLoader(host, undefined, elf),
        loaded: new Map([[path, main]]),
        byReal: new Map([[file.real, main]]),
      };
      processes.set(path, process);
      loadNeeded(process, [main], false);
      return;
    }
    const found = interpreter.startsWith("/") ? inspect(interpreter) : "absent";
    if (typeof found === "string" || found.content.kind !== "elf") {
      const why = typeof found === "string" ? found : "not an ELF file";
      throw new UsageError(`${path}: its loader ${interpreter} is not usable: ${why}`);
    }
    const loaderElf = found.content.elf;
    if (!fits(loaderElf, elf))
      throw new UsageError(`${path}: its loader ${interpreter} is ${mismatch(loaderElf, elf)}`);
    addInspected(interpreter, found, { kind: "loader", wantedBy: path });
    const loader = createLoader(host, interpreter, found.real, loaderElf);
    for (const config of loader.config) extra(config, { kind: "data", wantedBy: interpreter, yields: true });
    const self: LoadedObject = { path: interpreter, elf: loaderElf, by: main, origin: parentOf(interpreter) };
    const loaded = new Map<string, LoadedObject>([[interpreter, self]]);
    if (loaderElf.soname !== undefined) loaded.set(loaderElf.soname, self);
    const process = { main, loader, loaded, byReal: new Map([[found.real, self]]) };
    processes.set(path, process);
    loadNeeded(process, [main], false);
  }

  /** Breadth first, as ld.so does: which of two files of one soname is loaded depends on it. */
  function loadNeeded(process: Process, queue: LoadedObject[], lenient: boolean): void {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const { needed, filters, auxiliaries } = next.elf;
      for (const name of [...filters, ...needed]) queue.push(...load(process, name, next, lenient));
      for (const name of auxiliaries) queue.push(...load(process, name, next, true));
    }
  }

  /** Load one name; the objects that are new in the process (a library, and its variants for newer processors). */
  function load(process: Process, wanted: string, by: LoadedObject, lenient: boolean): LoadedObject[] {
    const { loader, loaded } = process;
    const name = loader.expand(wanted, by);
    if (loader.provides(name)) return [];
    const known = loaded.get(name);
    if (known !== undefined) {
      const file = files.get(known.path);
      if (file !== undefined && known !== process.main) {
        add(file.path, file.real, file.size, [], { kind: "library", wantedBy: by.path });
      }
      return [];
    }
    const { chosen, variants, wrong, places } = findLibrary(process, name, by);
    if (chosen === undefined && variants.length === 0) {
      if (!lenient) throw libraryError(name, by, wrong, places);
      missing.push({ name, wantedBy: by.path });
      return [];
    }
    const fresh: LoadedObject[] = [];
    for (const { path, file, elf, cached } of chosen === undefined ? variants : [chosen, ...variants]) {
      // ld.so knows files by device and inode: another name for a loaded one loads nothing new.
      const same = process.byReal.get(file.real);
      addInspected(path, file, { kind: "library", wantedBy: by.path, cached });
      const object = same ?? { path, elf, by, origin: parentOf(path) };
      if (same === undefined) {
        fresh.push(object);
        process.byReal.set(file.real, object);
      }
      for (const key of [path, name, elf.soname]) if (key !== undefined && !loaded.has(key)) loaded.set(key, object);
    }
    return fresh;
  }

  function findLibrary(process: Process, name: string, by: LoadedObject) {
    const variants: Hit[] = [];
    const wrong: string[] = [];
    const places = new Set<string>();
    let chosen: Hit | undefined;
    const direct = name.includes("/");
    const candidates = direct
      ? [{ path: name, where: "by path", variant: false }]
      : process.loader.candidates(name, by);
    for (const { path, where, variant } of candidates) {
      places.add(where);
      const file = path.startsWith("/") ? inspect(path) : "absent";
      if (typeof file === "string") continue;
      // ld.so gives up here too ("invalid ELF header") rather than look further.
      if (file.content.kind !== "elf") throw new UsageError(`${path}: not a library: ${describe(file)}${chain(by)}`);
      const elf = file.content.elf;
      if (!fits(elf, process.main.elf)) {
        wrong.push(`${path} is ${mismatch(elf, process.main.elf)}`);
        continue;
      }
      const hit = { path, file, elf, cached: where === LD_CACHE };
      if (variant) variants.push(hit);
      else {
        chosen = hit;
        break;
      }
    }
    return { chosen, variants, wrong, places };
  }

  function extra(path: string, how: Addition): void {
    const walked = inspector.walk(path);
    if (walked === undefined) return;
    const { kind, size } = host.status(walked.real);
    if (kind === "absent") return;
    const directory = kind === "directory";
    add(path, walked.real, directory ? 0 : size, walked.links, { ...how, kind: directory ? "directory" : how.kind });
  }

  return {
    program(name, from = { wantedBy: undefined }) {
      addProgram(findProgram(host, name, search), from);
    },
    path(path) {
      const full = absolute(path, search.cwd);
      const walked = inspector.walk(full);
      if (walked === undefined) throw new UsageError(`${full}: no such file or directory`);
      if (walked.real === "/") throw new UsageError(`${full} is the whole machine`, { hint: "name directories of it" });
      extra(full, { kind: "data", wantedBy: undefined });
    },
    extra,
    object(path, program) {
      const process = processes.get(program);
      const file = inspect(path);
      if (process === undefined || typeof file === "string" || file.content.kind !== "elf") return;
      if (!fits(file.content.elf, process.main.elf)) return;
      const object = { path, elf: file.content.elf, by: process.main, origin: parentOf(path) };
      loadNeeded(process, [object], true);
    },
    closure() {
      const all = [...files.values()];
      for (const link of mergedLinks(inspector.walk, all)) links.set(link.path, link.to);
      const symlinks: Link[] = [];
      for (const [path, to] of links) symlinks.push({ path, to });
      const counted = new Set<string>();
      let size = 0;
      for (const file of all) {
        if (!counted.has(file.real)) size += file.size;
        counted.add(file.real);
      }
      return { files: all, symlinks, missing: [...missing], size };
    },
  };
}

interface Hit {
  readonly path: string;
  readonly file: Inspected;
  readonly elf: Elf;
  readonly cached: boolean;
}

/** Where distributions merged directories (`/bin` → `usr/bin`): users name files by either. */
const MERGED = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/usr/sbin", "/usr/lib64"];

function mergedLinks(walk: ReturnType<typeof createInspector>["walk"], files: readonly ClosureFile[]): Link[] {
  const links: Link[] = [];
  for (const path of MERGED) {
    const walked = walk(path);
    if (walked === undefined || walked.links.length === 0) continue;
    for (const file of files) {
      if (!isWithin(file.real, walked.real)) continue;
      links.push(...walked.links);
      break;
    }
  }
  return links;
}

function fits(elf: Elf, program: Elf): boolean {
  return elf.class === program.class && elf.machine === program.machine && elf.byteOrder === program.byteOrder;
}

function mismatch(elf: Elf, program: Elf): string {
  return `for ${formatMachine(elf)}, not for ${formatMachine(program)}`;
}

function describe(file: Inspected): string {
  return file.content.kind === "other" ? file.content.reason : "a script";
}

function chain(by: LoadedObject): string {
  let text = "";
  for (let object: LoadedObject | undefined = by; object !== undefined; object = object.by) {
    text += `, wanted by ${object.path}`;
  }
  return text;
}

function libraryError(
  name: string,
  by: LoadedObject,
  wrong: readonly string[],
  places: ReadonlySet<string>,
): UsageError {
  if (wrong.length > 0) return new UsageError(`library ${name}: ${wrong.join("; ")}${chain(by)}`);
  const searched = [...places].join(", ");
  return new UsageError(`library ${name} is missing${chain(by)}`, {
    hint:
      name.includes("/") && !name.startsWith("/")
        ? "a relative path, which depends on where it is started"
        : `searched ${searched}`,
  });
}

function tooManyScripts(path: string): ProgramError {
  return new ProgramError("not-executable", `${path}: more than ${MAX_SCRIPTS} #! files in a row`);
}
