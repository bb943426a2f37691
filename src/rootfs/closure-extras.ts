/** Apply closure-rules.ts to a closure in the making, until nothing new is wanted. */

import type { ClosureFile, Collector } from "./closure.ts";
import { type Extra, type ExtraContext, RULES, type Rule } from "./closure-rules.ts";
import type { HostFiles } from "./host-files.ts";
import { ProgramError } from "./program.ts";

/** How deep and how wide a directory is searched for ELF files that need libraries. */
const MAX_DEPTH = 8;
const MAX_FILES = 20_000;

/**
 * Add to a collector what its programs open at run time (`rules`, by default all of closure-rules.ts). What a rule
 * names and the host does not have is passed over; a library that an optional part needs and that is missing is noted
 * in the closure's `missing`.
 */
export function addExtras(
  host: HostFiles,
  collector: Collector,
  context: ExtraContext,
  rules: readonly Rule[] = RULES,
): void {
  const done = new Set<string>();
  for (let fresh = true; fresh;) {
    fresh = false;
    const { files } = collector.closure();
    for (const rule of rules) {
      for (const file of files) {
        const key = `${rule.name}\0${file.path}`;
        if (done.has(key) || !rule.when(file)) continue;
        done.add(key);
        fresh = true;
        for (const extra of rule.add(file, context)) addExtra(host, collector, files, rule, file, extra);
      }
    }
  }
}

function addExtra(
  host: HostFiles,
  collector: Collector,
  files: readonly ClosureFile[],
  rule: Rule,
  file: ClosureFile,
  extra: Extra,
): void {
  if (extra.as === "program") {
    try {
      collector.program(extra.path, { wantedBy: file.path, rule: rule.name });
    } catch (error) {
      // Not there: the part of the program that starts it does not work on the host either.
      if (!(error instanceof ProgramError)) throw error;
    }
    return;
  }
  for (const path of expandPattern(host, extra.path)) {
    collector.extra(path, { kind: "data", wantedBy: file.path, rule: rule.name, yields: extra.yields });
    if (extra.as !== "objects") continue;
    const owner = ownerOf(files, file);
    if (owner !== undefined) for (const object of objectsIn(host, path)) collector.object(object, owner);
  }
}

/** The program in whose process a file's modules are loaded: itself, or the first that wants the library. */
function ownerOf(files: readonly ClosureFile[], file: ClosureFile): string | undefined {
  const seen = new Set<string>();
  const queue = [file];
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    if (next.kind === "program") return next.path;
    if (seen.has(next.path)) continue;
    seen.add(next.path);
    queue.push(...files.filter((other) => next?.wantedBy.includes(other.path)));
  }
  return undefined;
}

/** Paths of the host that a pattern stands for, in order. Without `*` the path itself, whether it is there or not. */
export function expandPattern(host: HostFiles, pattern: string): string[] {
  let paths = [""];
  for (const component of pattern.split("/").slice(1)) {
    if (!component.includes("*")) {
      paths = paths.map((path) => `${path}/${component}`);
      continue;
    }
    const parts = component.split("*").map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"));
    const matches = new RegExp(`^${parts.join(".*")}$`, "s");
    paths = paths.flatMap((path) =>
      host
        .list(path === "" ? "/" : path)
        .filter((name) => matches.test(name))
        .map((name) => `${path}/${name}`),
    );
  }
  return paths;
}

/** Files below a path that may be ELF: shared objects by name, and whatever has no suffix (programs). */
function objectsIn(host: HostFiles, path: string): string[] {
  const found: string[] = [];
  let left = MAX_FILES;
  const visit = (at: string, depth: number): void => {
    for (const name of host.list(at)) {
      if (--left < 0) return;
      const place = `${at}/${name}`;
      if (/\.so(\.[\d.]+)?$/.test(name) || !name.includes(".")) {
        const target = host.readLink(place);
        if (target === undefined || typeof target === "string") continue;
        if (host.status(place).kind === "file") found.push(place);
        else if (depth < MAX_DEPTH) visit(place, depth + 1);
      } else if (depth < MAX_DEPTH && !/\.(py|pyc|pl|pm|h|a|o|json|txt|md)$/.test(name)) {
        if (host.readLink(place) === null && host.status(place).kind === "directory") visit(place, depth + 1);
      }
    }
  };
  const { kind } = host.status(path);
  if (kind === "directory") visit(path, 0);
  else if (kind === "file") found.push(path);
  return found;
}
