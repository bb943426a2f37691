/**
 * Build logs: where Nix keeps them, and which phase a build failed in. A log has a line
 * `@nix {"action":"setPhase","phase":"…"}` for each phase that stdenv began; the last one is the one that failed.
 */

import { readFileSync } from "node:fs";
import { decodeBytes, fsPath } from "../bytes.ts";
import { HutchError } from "../errors.ts";
import { decompressBzip2 } from "./bzip2.ts";
import { baseName, onHost, type Store } from "./store-path.ts";

/** What a log tells of its build. */
export interface BuildLog {
  /** Phases in the order begun. */
  readonly phases: readonly string[];
  /** False when the log stops in the middle, as when the build was killed, or was cut at the limit. */
  readonly complete: boolean;
}

const MAX_LINE = 65536; // a longer line is no message of Nix's
const MAX_PHASES = 10_000;
const MAX_LOG = 4 * 2 ** 30; // bytes after decompression

/** Host paths where the log of a derivation may be, the likeliest first. @throws UsageError for what is no store path */
export function logPaths(store: Store, derivation: string): readonly string[] {
  const base = baseName(derivation, store.storeDir);
  const plain = onHost(store, `${store.logDir}/drvs/${base.slice(0, 2)}/${base.slice(2)}`);
  return [`${plain}.bz2`, plain];
}

/**
 * Read the log of a derivation; undefined when there is none (a remote build, or `keep-build-log = false`).
 * @throws HutchError when it is there and cannot be read or is corrupt
 */
export function readBuildLog(store: Store, derivation: string): BuildLog | undefined {
  for (const path of logPaths(store, derivation)) {
    const log = readLogFile(path);
    if (log !== undefined) return log;
  }
  return undefined;
}

/** Read a log by its host path, compressed or not, told apart by its first bytes; undefined when it is not there. */
export function readLogFile(path: string): BuildLog | undefined {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(fsPath(path));
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw new HutchError(`read build log ${path}: ${code ?? String(error)}`, { cause: error });
  }
  const isBzip2 = bytes[0] === 0x42 && bytes[1] === 0x5a && bytes[2] === 0x68;
  try {
    return parseBuildLog(isBzip2 ? decompressBzip2(bytes) : [bytes]);
  } catch (error) {
    if (error instanceof HutchError) throw new HutchError(`read build log ${path}: ${error.message}`, { cause: error });
    throw error;
  }
}

const NEWLINE = 0x0a;
const PREFIX = new TextEncoder().encode("@nix ");

/** Find the phases in a log that comes in pieces, cut anywhere. */
export function parseBuildLog(pieces: Iterable<Uint8Array, boolean | undefined>): BuildLog {
  const phases: string[] = [];
  let rest = new Uint8Array(0); // the start of a line whose end is in the next piece
  let skipping = false; // inside a line that is no message
  let seen = 0;
  const iterator = pieces[Symbol.iterator]();
  for (;;) {
    const next = iterator.next();
    if (next.done) {
      if (!skipping) addPhase(rest, phases);
      return { phases, complete: next.value !== false };
    }
    seen += next.value.length;
    let start = 0;
    for (let end = next.value.indexOf(NEWLINE); end >= 0; end = next.value.indexOf(NEWLINE, start)) {
      const line = next.value.subarray(start, end);
      if (!skipping) addPhase(rest.length === 0 ? line : Buffer.concat([rest, line]), phases);
      rest = new Uint8Array(0);
      skipping = false;
      start = end + 1;
    }
    const tail = next.value.subarray(start);
    if (!skipping) {
      const line = Uint8Array.from(Buffer.concat([rest, tail]));
      skipping = line.length > MAX_LINE || !startsLikeMessage(line);
      rest = skipping ? new Uint8Array(0) : line;
    }
    if (seen > MAX_LOG) return { phases, complete: false };
  }
}

/** Whether the line, as far as it goes, may be one of Nix's messages. */
function startsLikeMessage(line: Uint8Array): boolean {
  return PREFIX.every((byte, i) => i >= line.length || line[i] === byte);
}

function addPhase(line: Uint8Array, phases: string[]): void {
  if (line.length > MAX_LINE || !startsLikeMessage(line)) return;
  const phase = parseSetPhase(decodeBytes(line));
  if (phase === undefined) return;
  if (phases.length >= MAX_PHASES) phases.shift(); // a log that floods: the last ones matter
  phases.push(phase);
}

/** The phase named by a log line `@nix {…}`; undefined for any other line. */
export function parseSetPhase(line: string): string | undefined {
  const match = /^@nix (\{.*\})\s*$/.exec(line);
  if (match === null) return undefined;
  try {
    const message: unknown = JSON.parse(match[1] ?? "");
    if (typeof message !== "object" || message === null) return undefined;
    const { action, phase } = message as { action?: unknown; phase?: unknown };
    return action === "setPhase" && typeof phase === "string" && phase !== "" ? phase : undefined;
  } catch {
    return undefined; // a builder may print anything after @nix
  }
}

/** The phase that the build was in when it ended; undefined when the log names none. */
export function failedPhase(log: BuildLog): string | undefined {
  return log.phases.at(-1);
}
