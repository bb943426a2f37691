/**
 * Who may import whom, as a table, and its checker. A file's imports and globals are read by Bun's own parser, so that
 * comments, strings and local variables of the same name do not count.
 */

import { posix } from "node:path";

/** One room of src/: its files, the rooms and outside modules it may import, the globals it may use. */
export interface Room {
  readonly name: string;
  /** A file, or a folder with a final "/". The first room of the table that matches a file owns it. */
  readonly files: readonly string[];
  /** Rooms that may be imported, beside the room itself. */
  readonly rooms: readonly string[];
  /** Outside modules: exact, or with a final "*". */
  readonly modules: readonly string[];
  /** Of WATCHED: exact, or with a final "*". */
  readonly globals: readonly string[];
}

/** Globals that reach the machine. Members of process count each for itself. */
const WATCHED = ["Bun", "process", "console", "globalThis"] as const;

/** For the command line alone, whatever a room's row says: the library does not read argv or env,
 * print, or end the process. */
const COMMAND_LINE_ONLY = /^(?:console|process|process\.(?:argv|argv0|env|exit|exitCode|stdin|stdout|stderr))$/;

/** Imported from everywhere: plain words, errors, byte strings. */
const WORDS = ["spec", "step", "facts", "errors", "bytes"];
const PURE = { modules: [], globals: [] };
const EFFECTS = { modules: ["node:*", "bun:sqlite"], globals: ["Bun", "process.*"] };
const COMMANDS = { modules: ["node:*", "bun:sqlite", "citty", "consola", "consola/*"], globals: ["*"] };

/** The table. Pure rooms see no node:*, no bun:*, no Bun, no process and no call of libc. */
export const ROOMS: readonly Room[] = [
  { name: "spec", files: ["src/spec.ts"], rooms: [], ...PURE },
  { name: "errors", files: ["src/errors.ts"], rooms: [], ...PURE },
  { name: "bytes", files: ["src/bytes.ts"], rooms: [], ...PURE },
  { name: "step", files: ["src/step.ts"], rooms: ["spec", "errors"], ...PURE },
  { name: "facts", files: ["src/facts.ts"], rooms: ["spec", "step"], ...PURE },
  { name: "defaults", files: ["src/defaults.ts"], rooms: WORDS, ...PURE },
  {
    name: "validate",
    files: ["src/validate.ts"],
    rooms: [...WORDS, "defaults", "namespaces", "process", "resources"],
    ...PURE,
  },
  { name: "build-spec", files: ["src/build-spec.ts"], rooms: [...WORDS, "defaults"], ...PURE },
  { name: "explain", files: ["src/explain.ts"], rooms: WORDS, ...PURE },

  // Numbers and names of the kernel's interface: data, without a call.
  {
    name: "tables",
    files: ["src/libc/constants.ts", "src/libc/errno.ts", "src/libc/syscalls.ts"],
    rooms: [],
    ...PURE,
  },
  {
    name: "libc",
    files: ["src/libc/"],
    rooms: [...WORDS, "tables"],
    modules: ["bun:ffi", "node:*"],
    globals: EFFECTS.globals,
  },

  { name: "namespaces", files: ["src/namespaces/"], rooms: [...WORDS, "defaults"], ...PURE },
  { name: "process", files: ["src/process/"], rooms: [...WORDS, "defaults", "tables"], ...PURE },
  { name: "resources", files: ["src/cgroups/resources.ts"], rooms: WORDS, ...PURE },
  {
    name: "plan",
    files: ["src/plan.ts"],
    rooms: [...WORDS, "defaults", "namespaces", "process", "resources"],
    ...PURE,
  },

  {
    name: "launch",
    files: ["src/launch/"],
    rooms: [...WORDS, "explain", "tables", "libc", "process", "plan"],
    ...EFFECTS,
  },
  {
    name: "prelinked",
    files: ["src/prelinked/"],
    rooms: [...WORDS, "defaults", "build-spec", "tables", "libc", "process", "plan", "launch"],
    modules: [],
    globals: [],
  },
  {
    name: "running",
    files: ["src/running/"],
    rooms: [...WORDS, "tables", "libc", "process", "launch"],
    ...EFFECTS,
  },
  { name: "selftest", files: ["src/selftest/"], rooms: [...WORDS, "tables", "process", "launch"], ...PURE },
  { name: "host", files: ["src/host.ts"], rooms: [...WORDS, "defaults", "tables", "libc"], ...EFFECTS },
  { name: "rootfs", files: ["src/rootfs/"], rooms: [...WORDS, "tables", "libc"], ...EFFECTS },
  { name: "image", files: ["src/image/"], rooms: [...WORDS, "tables", "libc"], ...EFFECTS },
  { name: "sessions", files: ["src/sessions/"], rooms: [...WORDS, "tables", "libc"], ...EFFECTS },
  { name: "nix", files: ["src/nix/"], rooms: [...WORDS, "tables", "libc", "sessions"], ...EFFECTS },
  { name: "cgroups", files: ["src/cgroups/"], rooms: [...WORDS, "tables", "libc", "resources"], ...EFFECTS },
  { name: "judge", files: ["src/judge/"], rooms: [...WORDS, "plan", "launch", "resources"], ...EFFECTS },

  {
    name: "doctor",
    files: ["src/doctor/"],
    rooms: [...WORDS, "defaults", "validate", "tables", "libc", "process", "plan", "launch", "host"],
    ...EFFECTS,
  },

  {
    name: "library",
    files: ["src/library.ts", "src/library-options.ts"],
    rooms: [
      ...[...WORDS, "defaults", "build-spec", "validate", "explain", "tables", "libc", "process", "plan", "host"],
      ...["rootfs", "launch"],
    ],
    ...EFFECTS,
  },
  {
    name: "index",
    files: ["src/index.ts"],
    rooms: [...WORDS, "plan", "launch", "library", "doctor"],
    ...PURE,
  },
  {
    name: "cli",
    files: ["src/cli/"],
    rooms: [
      ...[...WORDS, "defaults", "build-spec", "validate", "explain", "tables", "libc", "process", "resources"],
      ...[
        "namespaces",
        "plan",
        "launch",
        "prelinked",
        "running",
        "selftest",
        "host",
        "rootfs",
        "image",
        "nix",
        "cgroups",
      ],
      ...["judge", "doctor", "sessions"],
    ],
    ...COMMANDS,
  },
  { name: "main", files: ["src/main.ts"], rooms: ["cli", "errors", "bytes"], ...COMMANDS },
];

/** Longer than the ceiling because a program wrote them. */
export const GENERATED: readonly string[] = [
  "src/launch/interpreter-bytes.ts",
  "src/process/syscall-numbers-x64.ts",
  "src/process/syscall-numbers-arm64.ts",
];
export const MOST_LINES = 400;

/** Files that may pass other files' exports on; every other index.ts, `export … from` and `export *` is a barrel. */
export const BARRELS: readonly string[] = ["src/index.ts", "src/namespaces/index.ts"];

/** What a file refers to. `type` is an import that is gone when compiled. */
export interface Scan {
  readonly imports: readonly { readonly path: string; readonly kind: "value" | "type" }[];
  readonly globals: readonly string[];
  readonly reexports: boolean;
}

const scanner = new Bun.Transpiler({ loader: "ts", target: "bun" });
const marker = "__watched_";
const marking = new Bun.Transpiler({
  loader: "ts",
  target: "bun",
  define: Object.fromEntries(WATCHED.map((name) => [name, `${marker}${name}`])),
});

/** Read a file's imports, types included, and its use of WATCHED. Throws on what does not parse. */
export function scan(text: string): Scan {
  const source = text.replaceAll(/ with \{ type: "macro" \}/g, ""); // Bun would run it
  const values = new Set(scanner.scanImports(source).map((item) => item.path));
  // Bun forgets type imports: so make them ordinary ones.
  const untyped = source
    .replace(/^(import(?=\s+type\s+[{*\w])|export(?=\s+type\s*[{*]))\s+type\b/gm, "$1 ")
    .replace(/^(?:import|export)\b[^"';]*?\{[^}]*\}\s*from\b/gm, (statement) =>
      statement.replace(/([{,]\s*)type\s+(?=\w)/g, "$1"),
    );
  const types = scanner.scanImports(untyped).map((item) => item.path);
  const inline = [...source.matchAll(/\bimport\(\s*"([^"]+)"\s*\)/g)].map((match) => match[1] ?? "");
  const code = marking.transformSync(source);
  const found = code.matchAll(new RegExp(`${marker}(\\w+)(?:\\??\\.(\\w+))?`, "g"));
  const globals = [...found].map(([, name = "", member]) =>
    name === "process" && member !== undefined ? `process.${member}` : name,
  );
  return {
    imports: [...new Set([...values, ...types, ...inline])].map((path) => ({
      path,
      kind: values.has(path) ? ("value" as const) : ("type" as const),
    })),
    globals: [...new Set(globals)].toSorted(),
    reexports: /^export\s+(?:type\s+)?(?:\*|\{[^}]*\}\s*from\b)/m.test(source),
  };
}

function matches(patterns: readonly string[], text: string): boolean {
  return patterns.some((item) => (item.endsWith("*") ? text.startsWith(item.slice(0, -1)) : item === text));
}

function roomOf(path: string): Room | undefined {
  return ROOMS.find((room) => room.files.some((item) => (item.endsWith("/") ? path.startsWith(item) : item === path)));
}

/** A circle of imports, first file repeated at the end, for each file from which one is first met. */
function circles(graph: ReadonlyMap<string, readonly string[]>): readonly (readonly string[])[] {
  const found: string[][] = [];
  const done = new Set<string>();
  const visit = (path: string, trail: readonly string[]): void => {
    const start = trail.indexOf(path);
    if (start >= 0) found.push([...trail.slice(start), path]);
    if (start >= 0 || done.has(path)) return;
    for (const next of graph.get(path) ?? []) visit(next, [...trail, path]);
    done.add(path);
  };
  for (const path of graph.keys()) visit(path, []);
  return found;
}

function checkGlobals(path: string, room: Room, globals: readonly string[]): readonly string[] {
  return globals.flatMap((name) => {
    const allowed = matches(room.globals, name) && (room.globals.includes("*") || !COMMAND_LINE_ONLY.test(name));
    return allowed ? [] : [`${path}: uses ${name}, which ${room.name} may not`];
  });
}

/**
 * Every breach of the rules, as `path: what`, in the order of the files.
 * @param files contents by path from the repository's root. All are held to the ceiling; src/ to the table as well
 */
export function breaches(files: ReadonlyMap<string, string>): readonly string[] {
  const found: string[] = [];
  const graph = new Map<string, readonly string[]>();
  for (const [path, source] of files) {
    const lines = source.split("\n").length - 1;
    if (lines > MOST_LINES && !GENERATED.includes(path)) found.push(`${path}: ${lines} lines, more than ${MOST_LINES}`);
    if (!path.startsWith("src/")) continue;
    const room = roomOf(path);
    if (room === undefined) {
      found.push(`${path}: belongs to no room`);
      continue;
    }
    const { imports, globals, reexports } = scan(source);
    const barrel = reexports || posix.basename(path) === "index.ts";
    if (barrel && !BARRELS.includes(path)) found.push(`${path}: a barrel`);
    found.push(...checkGlobals(path, room, globals));
    const edges: string[] = [];
    for (const item of imports) {
      if (!item.path.startsWith(".")) {
        if (!matches(room.modules, item.path)) found.push(`${path}: imports ${item.path}, which ${room.name} may not`);
        continue;
      }
      const target = posix.normalize(posix.join(posix.dirname(path), item.path));
      const owner = roomOf(target);
      if (owner === undefined || (/\.ts$|\/[^.]*$/.test(target) && !files.has(target))) {
        found.push(`${path}: imports ${item.path}, which is no file of a room`);
        continue;
      }
      edges.push(target);
      if (owner === room || room.rooms.includes(owner.name)) continue;
      found.push(`${path}: imports ${target}, but ${room.name} may not import ${owner.name}`);
    }
    graph.set(path, edges);
  }
  return [...found, ...circles(graph).map((circle) => `${circle[0]}: a circle: ${circle.join(" → ")}`)];
}
