/**
 * A builder's first environment, from its derivation by Nix's rules (nix's `local-derivation-goal.cc`, initEnv and
 * initTmpDir): for builds whose `env-vars` is absent or not readable, and for builds that have not run yet.
 */

import { encodeBytes } from "../bytes.ts";
import { HutchError } from "../errors.ts";
import { type Derivation, isFixedOutput } from "./derivation.ts";
import { envVar, type EnvVar } from "./env-vars.ts";
import { formatBase32 } from "./store-path.ts";
import { type ReferenceGraph, structuredAttributes } from "./structured-attributes.ts";

export interface EnvironmentOptions {
  /** The build directory as the builder sees it. Default `/build`. */
  readonly buildTop?: string;
  readonly storeDir?: string;
  /** NIX_BUILD_CORES. Default 0, which is Nix's own default in 2.8 and means all. */
  readonly cores?: number;
  /** The caller's environment, which only a fixed-output derivation's `impureEnvVars` are taken from. */
  readonly impure?: Readonly<Record<string, string | undefined>>;
  /** Closures by the Nix database, for `exportReferencesGraph`. */
  readonly graph?: ReferenceGraph;
}

/** A file that Nix puts into the build directory before the builder starts. */
export interface BuildFile {
  readonly name: string;
  readonly content: string;
}

export interface BuildEnvironment {
  /** Sorted by name, as Nix passes them. */
  readonly env: ReadonlyMap<string, string>;
  readonly files: readonly BuildFile[];
}

/**
 * The variables and the files that the builder of `derivation` starts with.
 * Order of overriding: PATH, HOME, NIX_STORE, NIX_BUILD_CORES < the derivation's attributes < NIX_BUILD_TOP, TMPDIR and
 * the like, PWD < NIX_OUTPUT_CHECKED < impureEnvVars < NIX_LOG_FD, TERM.
 * @throws HutchError when it needs reference graphs and there is no `graph`, or its attributes are malformed
 */
export function buildEnvironment(derivation: Derivation, options: EnvironmentOptions = {}): BuildEnvironment {
  const top = options.buildTop ?? "/build";
  const env = new Map<string, string>([
    ["PATH", "/path-not-set"],
    ["HOME", "/homeless-shelter"],
    ["NIX_STORE", options.storeDir ?? "/nix/store"],
    ["NIX_BUILD_CORES", String(options.cores ?? 0)],
  ]);
  const files: BuildFile[] = [];
  const structured = structuredAttributes(derivation, options.graph);
  if (structured === undefined) {
    addAttributes(derivation, top, env, files);
    files.push(...referenceFiles(derivation, options.graph));
  }
  env.set("NIX_BUILD_TOP", top);
  for (const name of ["TMPDIR", "TEMPDIR", "TMP", "TEMP", "PWD"]) env.set(name, top);
  if (structured !== undefined) {
    files.push({ name: ".attrs.sh", content: structured.shell }, { name: ".attrs.json", content: structured.json });
    env.set("NIX_ATTRS_SH_FILE", `${top}/.attrs.sh`);
    env.set("NIX_ATTRS_JSON_FILE", `${top}/.attrs.json`);
  }
  if (isFixedOutput(derivation)) {
    env.set("NIX_OUTPUT_CHECKED", "1");
    for (const name of impureNames(derivation, structured?.json)) env.set(name, options.impure?.[name] ?? "");
  }
  env.set("NIX_LOG_FD", "2");
  env.set("TERM", "xterm-256color");
  const sorted = [...env].toSorted(([a], [b]) => Buffer.compare(encodeBytes(a), encodeBytes(b)));
  return { env: new Map(sorted), files };
}

/** Attributes become variables, but those that `passAsFile` names, which become files and `…Path` variables. */
function addAttributes(derivation: Derivation, top: string, env: Map<string, string>, files: BuildFile[]): void {
  const asFile = new Set(words(derivation.env.get("passAsFile")));
  for (const [name, value] of derivation.env) {
    if (!asFile.has(name)) {
      env.set(name, value);
      continue;
    }
    const file = attributeFile(name);
    files.push({ name: file, content: value });
    env.set(`${name}Path`, `${top}/${file}`);
  }
}

/** Name of the file that `passAsFile` puts the attribute `name` into. */
export function attributeFile(name: string): string {
  const digest = new Bun.CryptoHasher("sha256").update(encodeBytes(name)).digest();
  return `.attr-${formatBase32(new Uint8Array(digest))}`;
}

/** `exportReferencesGraph` without structured attributes: pairs of a file's name and a store path. */
function referenceFiles(derivation: Derivation, graph: ReferenceGraph | undefined): BuildFile[] {
  const pairs = words(derivation.env.get("exportReferencesGraph"));
  const files: BuildFile[] = [];
  for (let i = 0; i < pairs.length; i += 2) {
    const [name, path] = [pairs[i], pairs[i + 1]];
    if (name === undefined || path === undefined || !/^[A-Za-z_][A-Za-z0-9_.-]*$/.test(name))
      throw new HutchError("exportReferencesGraph is not a list of pairs of a file name and a store path");
    if (graph === undefined)
      throw new HutchError("exportReferencesGraph needs the Nix database, which is not readable");
    const entries = graph([path]).map(
      (info) => `${info.path}\n\n${info.references.length}\n${info.references.map((ref) => `${ref}\n`).join("")}`,
    );
    files.push({ name, content: entries.join("") });
  }
  return files;
}

function impureNames(derivation: Derivation, json: string | undefined): readonly string[] {
  if (json === undefined) return words(derivation.env.get("impureEnvVars"));
  const names: unknown = (JSON.parse(json) as { impureEnvVars?: unknown }).impureEnvVars;
  return Array.isArray(names) ? names.filter((name) => typeof name === "string") : [];
}

function words(text: string | undefined): string[] {
  return (text ?? "").split(/[ \t\n\r]+/).filter((word) => word !== "");
}

const SHELL_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/**
 * What stands in for a missing `env-vars`: the builder's variables, and SHELL, which stdenv sets only later: the
 * attribute `shell` or `SHELL`, else the builder where it is a shell. Attributes that are no shell names are left out, as
 * bash does. Without such a shell there is no SHELL in the list.
 */
export function rebuiltVariables(derivation: Derivation, environment: BuildEnvironment): readonly EnvVar[] {
  const { builder, env } = derivation;
  const shell =
    env.get("shell") ?? env.get("SHELL") ?? (/\/(?:bash|sh|dash|busybox)$/.test(builder) ? builder : undefined);
  const variables = new Map([...environment.env].filter(([name]) => SHELL_NAME.test(name)));
  if (shell !== undefined) variables.set("SHELL", shell);
  return [...variables].map(([name, value]) => envVar(name, value));
}
