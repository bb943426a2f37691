/**
 * What the attack tests share: the hostile program, and runs in a mount namespace of their own, so that a mistake in an
 * attack does not reach the machine either.
 */

import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { type Bench, eachCaller, needs, type Options, type Result, type Running, start } from "../cli/hutch.ts";

/** A bench whose every hutch runs in a private mount namespace. */
export interface Field extends Bench {
  /** The program of attacker.c on the host. */
  readonly attacker: string;
  /** Options that show it inside as /attacker. */
  readonly withAttacker: readonly string[];
  /** Start hutch and leave it running. */
  readonly startHutch: (args: readonly string[], options?: Options) => Running;
  /** A script of /bin/sh as the test's own user, in a private mount namespace; $AS is the caller's prefix. */
  readonly script: (script: string, args?: readonly string[], options?: Options) => Promise<Result>;
}

const PRIVATE: readonly string[] =
  process.getuid?.() === 0 ? [needs("unshare"), "--mount", "--propagation", "private"] : [];

/** Describe attacks by every caller of {@link eachCaller}. */
export function eachAttacker(title: string, body: (field: Field) => void): void {
  eachCaller(title, (bench) => {
    const attacker = join(bench.folder(), "attacker");
    const source = join(import.meta.dir, "attacker.c");
    const made = Bun.spawnSync([needs("gcc"), "-static", "-O1", "-Wall", "-Werror", "-o", attacker, source]);
    if (made.exitCode !== 0) throw new Error(`gcc attacker.c: ${made.stderr.toString()}`);
    const startHutch = (args: readonly string[], options: Options = {}) =>
      start([...PRIVATE, ...bench.caller.prefix, bench.binary, ...args], options);
    body({
      ...bench,
      attacker,
      withAttacker: ["-v", `${attacker}:/attacker:ro`],
      startHutch,
      hutch: (args, options) => startHutch(args, { stdin: "", ...options }).ended,
      script: (script, args = [], options = {}) => {
        const env = { HUTCH: bench.binary, AS: bench.caller.prefix.join(" "), ATTACKER: attacker, ...options.env };
        return start([...PRIVATE, "/bin/sh", "-c", script, "sh", ...args], { stdin: "", ...options, env }).ended;
      },
    });
  });
}

/** Lines `NAME RESULT` as an object. */
export function results(text: string): Readonly<Record<string, string>> {
  const lines = text.split("\n").filter((line) => line.includes(" "));
  return Object.fromEntries(
    lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), line.slice(line.lastIndexOf(" ") + 1)]),
  );
}

/** Everything below a folder, no link followed: kinds, modes, owners, times, contents. Two equal ones were not touched. */
export function snapshot(folder: string): Readonly<Record<string, string>> {
  const found: Record<string, string> = {};
  const visit = (path: string) => {
    const { mode, uid, gid, nlink, mtimeMs, ctimeMs } = lstatSync(path);
    const kind = mode & 0o170000;
    const content =
      kind === 0o100000 ? fingerprint(path) : kind === 0o120000 ? readlinkSync(path) : readableNames(path, kind);
    found[path] = [mode.toString(8), uid, gid, nlink, mtimeMs, ctimeMs, content].join(" ");
    if (kind === 0o040000) for (const name of readdirSync(path)) visit(join(path, name));
  };
  visit(folder);
  return found;
}

function readableNames(path: string, kind: number): string {
  return kind === 0o040000 ? readdirSync(path).toSorted().join(",") : "";
}

/** The hash of a file, to be the same later. */
export function fingerprint(path: string): string {
  return Bun.hash(readFileSync(path)).toString(16);
}
