/** The interactive shell of nix-build-shell: which bash, with which files, and the lines around it. */

import { ownEnvironment } from "../launch/become.ts";
import { pathStatus } from "../libc/files.ts";
import { failedPhase, readBuildLog, readLogFile } from "../nix/build-log.ts";
import { findInteractiveShell } from "../nix/interactive-shell.ts";
import type { BuildVariables } from "../nix/kept-build.ts";
import { findDerivation } from "../nix/kept-derivation.ts";
import { greeting, keptDiffFunction, type ShellFacts, shellStartup } from "../nix/phases.ts";
import { onHost, parseStorePath, type Store } from "../nix/store-path.ts";
import { shellQuote } from "../nix/structured-attributes.ts";
import { computeClosure } from "../rootfs/closure.ts";
import { realHostFiles } from "../rootfs/host-files.ts";
import { UsageError } from "../errors.ts";
import { ADDED_PATH } from "./nix-add.ts";
import type { HostPath, Mount, SandboxPath } from "../spec.ts";

/** Where hutch's own things are inside: nothing of it is there for a command. */
const OWN = "/tmp/hutch";

/** What a shell is made from. */
export interface ShellRequest {
  readonly store: Store;
  readonly variables: BuildVariables;
  /** What `$?` begins with; a shell without a command ends with it. */
  readonly status?: number;
  /** Programs of the host that are brought along. */
  readonly added: readonly unknown[];
  /** Host path of the kept directory, if there is one. */
  readonly kept: string | undefined;
  /** Host path that changes are kept in; undefined when they are thrown away. */
  readonly changes: string | undefined;
  /** Host path of a build log that was given; else the store's is looked for. */
  readonly log: string | undefined;
  /** The derivation, where it is known: its store path, or the host path of a file elsewhere. */
  readonly derivation: { readonly path: string } | undefined;
  /** Whether standard input is a terminal. */
  readonly terminal: boolean;
  /** Whether a bash of the store is not where it was, since only the build's inputs are. */
  readonly outside: boolean;
}

/** A shell in the sandbox, ready to be planned. */
export interface PreparedShell {
  readonly args: readonly string[];
  readonly env: readonly string[];
  readonly mounts: readonly Mount[];
  /** What to say before it starts; empty without a terminal. */
  readonly lines: readonly string[];
}

/** Prepare the shell. @throws HutchError when a given log cannot be read */
export function prepareShell(request: ShellRequest): PreparedShell {
  const { store, variables, kept, terminal } = request;
  const facts = shellFacts(request);
  const path = request.added.length > 0 ? { added: ADDED_PATH } : {};
  const settings = { shell: variables.shell, buildTop: "/build", stateDirectory: `${OWN}/state`, ...path };
  const keptInside = `${OWN}/kept`;
  const startup = [
    shellStartup(settings, facts),
    ...(kept === undefined ? [] : [keptDiffFunction(keptInside, "/build")]),
  ];
  const last = request.status === undefined ? [] : [`(exit ${request.status})\n`];
  const mounts: Mount[] = [directory(`${OWN}/state`, 0o700), ...(kept === undefined ? [] : [bind(kept, keptInside)])];
  if (!terminal) {
    return {
      args: [variables.shell, "-s"],
      env: [`BASH_ENV=${OWN}/startup`],
      mounts: [...mounts, startupFile([...startup, ...last])],
      lines: [],
    };
  }
  const bash = interactiveBash(store, variables.shell, request.outside);
  const term = terminalDescription();
  startup.push(...term.startup);
  return {
    args: [...bash.args, "--rcfile", `${OWN}/startup`, "-i"],
    env: [],
    mounts: [...mounts, ...bash.mounts, ...term.mounts, startupFile([...startup, ...last])],
    lines: [greeting(facts), ...bash.lines],
  };
}

const inside = (path: string): SandboxPath => path as SandboxPath;
const from = "default";

function directory(path: string, mode: number): Mount {
  return { type: "directory", destination: inside(path), mode, from };
}

function bind(source: string, destination: string): Mount {
  const attributes = ["ro", "nosuid", "nodev"] as const;
  return { type: "bind", source: source as HostPath, destination: inside(destination), attributes, idmap: false, from };
}

function startupFile(parts: readonly string[]): Mount {
  return { type: "file", destination: inside(`${OWN}/startup`), content: parts.join(""), mode: 0o644, from };
}

function shellFacts({ store, variables, kept, changes, log, derivation }: ShellRequest): ShellFacts {
  const { workingDirectory, buildTop } = variables;
  const below = workingDirectory?.startsWith(buildTop) === true ? workingDirectory.slice(buildTop.length) : "";
  return {
    name: variables.name ?? "a build",
    phase: kept === undefined && log === undefined ? undefined : phaseOf(store, variables, log, derivation?.path),
    keptDirectory: kept ?? "no directory, since it has not failed yet",
    changes,
    workingDirectory: `/build${below}`,
  };
}

/** A log that was asked for must be there; one that is looked for may be missing. */
function phaseOf(
  store: Store,
  variables: BuildVariables,
  log: string | undefined,
  derivation: string | undefined,
): string | undefined {
  if (log !== undefined) {
    const found = readLogFile(log);
    if (found === undefined) throw new UsageError(`${log} does not exist`, { from: `--log ${log}` });
    return failedPhase(found);
  }
  try {
    const inStore = derivation !== undefined && parseStorePath(derivation, store.storeDir) !== undefined;
    const found = readBuildLog(store, inStore ? derivation : findDerivation(store, variables).path);
    return found && failedPhase(found);
  } catch {
    return undefined; // nothing depends on it but a word in the first line
  }
}

interface Bash {
  readonly args: readonly string[];
  readonly mounts: readonly Mount[];
  readonly lines: readonly string[];
}

/** A bash with line editing from the store, else the host's below a directory of its own, else the build's own. */
function interactiveBash(store: Store, plain: string, outside: boolean): Bash {
  const found = findInteractiveShell(store);
  if (found?.from === "store" && !outside) return { args: [found.path], mounts: [], lines: [] };
  const host = found && hostBash(found.from === "store" ? onHost(store, found.path) : found.path);
  if (host !== undefined) return host;
  const word = "no bash with line editing was found, in the store or on this host: arrow keys and Tab will not work";
  return { args: [plain], mounts: [], lines: [word] };
}

/** The host's bash with its libraries, started by its own dynamic loader: nothing of it is where the build looks. */
function hostBash(path: string): Bash | undefined {
  try {
    const { files } = computeClosure(realHostFiles(), { path: "", cwd: "/" }, [path]);
    const program = files.find(({ kind }) => kind === "program");
    const loader = files.find(({ kind }) => kind === "loader");
    if (program === undefined) return undefined;
    const libraries = files.filter(({ kind }) => kind === "library");
    const place = `${OWN}/bash`;
    const start = loader === undefined ? [] : [`${place}/loader`, "--library-path", `${place}/lib`];
    return {
      args: [...start, `${place}/bash`],
      mounts: [
        bind(program.real, `${place}/bash`),
        ...(loader === undefined ? [] : [bind(loader.real, `${place}/loader`)]),
        ...libraries.map((library) => bind(library.real, `${place}/lib/${library.path.split("/").at(-1)}`)),
      ],
      lines: [],
    };
  } catch {
    return undefined; // a bash that cannot be taken along is as good as none
  }
}

/** What line editing must know of the caller's terminal, which the builder's variables say nothing of. */
function terminalDescription(): { readonly startup: readonly string[]; readonly mounts: readonly Mount[] } {
  const term = ownEnvironment()
    .find((entry) => entry.startsWith("TERM="))
    ?.slice(5);
  if (term === undefined || !/^[A-Za-z0-9][A-Za-z0-9._+-]*$/.test(term)) return { startup: [], mounts: [] };
  const first = term.slice(0, 1);
  const source = ["/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo"]
    .map((place) => `${place}/${first}/${term}`)
    .find((path) => typeof pathStatus(path) !== "number");
  const startup = `export TERM=${shellQuote(term)}\n`;
  if (source === undefined) return { startup: [startup], mounts: [] };
  const place = `${OWN}/terminfo`;
  return {
    startup: [startup, `export TERMINFO=${place}\n`],
    mounts: [bind(source, `${place}/${first}/${term}`)],
  };
}
