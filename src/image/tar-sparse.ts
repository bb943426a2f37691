/**
 * Sparse files in tar: the old GNU form (type S) and the PAX forms 0.0, 0.1 and 1.0 (GNU tar's manual, "Storing Sparse
 * Files"). Pure.
 */

import { BLOCK, parseNumeric, type PaxRecords, parsePaxNumber, refuseTar } from "./tar-header.ts";

/** A run of data: where it belongs in the file, and how long it is. Bytes. */
export type SparseRun = { readonly offset: number; readonly length: number };

const RUN_LIMIT = 1_000_000;

/** Runs must be in order, within the file, without overlap. @throws HutchError */
export function checkRuns(runs: readonly SparseRun[], size: number): void {
  if (runs.length > RUN_LIMIT) refuseTar("too many sparse runs");
  let end = 0;
  for (const { offset, length } of runs) {
    if (offset < end || length < 0 || offset + length > size) refuseTar("invalid sparse map");
    end = offset + length;
  }
}

/** Bytes of data that the runs hold. */
export function dataLength(runs: readonly SparseRun[]): number {
  return runs.reduce((sum, { length }) => sum + length, 0);
}

/** Runs in an old GNU header (four at 386) or in an extension block (21 at 0), and whether another block follows. */
export function parseGnuRuns(block: Uint8Array, first: boolean): { runs: SparseRun[]; more: boolean } {
  const runs: SparseRun[] = [];
  const start = first ? 386 : 0;
  for (let i = 0; i < (first ? 4 : 21); i++) {
    const at = start + i * 24;
    if (block[at] === 0) break; // an empty slot ends the list
    runs.push({ offset: parseNumeric(block, at, 12), length: parseNumeric(block, at + 12, 12) });
  }
  return { runs, more: (block[first ? 482 : 504] ?? 0) !== 0 };
}

/** The real size of an old GNU sparse file. */
export function parseGnuRealSize(block: Uint8Array): number {
  return parseNumeric(block, 483, 12);
}

const text = (value: Uint8Array): string => String.fromCharCode(...value.subarray(0, 100));

/** What PAX records say of a sparse file: its runs (0.0, 0.1), or that the map comes first in the data (1.0). */
export function parsePaxSparse(records: PaxRecords): { runs?: SparseRun[]; mapInData: boolean } | undefined {
  const last = (key: string): Uint8Array | undefined => records.findLast(([name]) => name === key)?.[1];
  const major = last("GNU.sparse.major");
  const minor = last("GNU.sparse.minor");
  if (major !== undefined && minor !== undefined && text(major) === "1" && text(minor) === "0")
    return { mapInData: true };
  if (major !== undefined && text(major) !== "0" && text(major) !== "") refuseTar("unknown GNU sparse version");
  const map = last("GNU.sparse.map");
  if (map !== undefined) {
    const decoded = new TextDecoder("latin1").decode(map);
    return { runs: pairs(decoded === "" ? [] : decoded.split(",")), mapInData: false };
  }
  const numbers = records.filter(([key]) => key === "GNU.sparse.offset" || key === "GNU.sparse.numbytes");
  if (numbers.length === 0 && last("GNU.sparse.numblocks") === undefined) return undefined;
  return { runs: pairs(numbers.map(([, value]) => text(value))), mapInData: false };
}

function pairs(numbers: readonly string[]): SparseRun[] {
  if (numbers.length % 2 !== 0 || numbers.length > 2 * RUN_LIMIT) refuseTar("invalid sparse map");
  const runs: SparseRun[] = [];
  for (let i = 0; i < numbers.length; i += 2) {
    const [offset, length] = [numbers[i] ?? "", numbers[i + 1] ?? ""];
    runs.push({ offset: parsePaxNumber("sparse offset", offset), length: parsePaxNumber("sparse length", length) });
  }
  return runs;
}

/**
 * A reader of the map of form 1.0 at the start of a file's data: decimal numbers each ended by a newline, padded to a
 * block. It takes one block after the other, each once, and returns the runs when it has all of them.
 */
export function createMapReader(): (block: Uint8Array) => SparseRun[] | undefined {
  const decoder = new TextDecoder("latin1");
  const lines: string[] = [];
  let wanted = 1;
  let rest = "";
  return (block) => {
    const parts = (rest + decoder.decode(block)).split("\n");
    rest = parts.pop() ?? "";
    for (const line of parts) {
      if (lines.length === wanted) break; // what follows is padding
      lines.push(line.slice(0, 100));
      if (lines.length === 1) wanted = 1 + 2 * parsePaxNumber("sparse count", line);
      if (wanted < 1 || wanted > 2 * RUN_LIMIT) refuseTar("invalid sparse map");
    }
    if (lines.length === wanted) return pairs(lines.slice(1));
    if (rest.length > BLOCK) refuseTar("invalid sparse map");
    return undefined;
  };
}
