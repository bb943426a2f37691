/**
 * A tar file as a stream of entries: chunks are pushed in, entries and their data come out at once, nothing but one
 * header's worth is kept. Names are byte strings; extended attributes are bytes.
 *
 * Follows Go's archive/tar where tools differ, since registries' images are made and unpacked with it: global PAX
 * headers change nothing, links and directories have no data whatever their size field says.
 */

import { decodeBytes } from "../bytes.ts";
import {
  BLOCK,
  isZeroBlock,
  parsePax,
  parsePaxNumber,
  parsePaxTime,
  parseTarHeader,
  type PaxRecords,
  refuseTar,
  type TarHeader,
} from "./tar-header.ts";
import {
  checkRuns,
  createMapReader,
  dataLength,
  parseGnuRealSize,
  parseGnuRuns,
  parsePaxSparse,
  type SparseRun,
} from "./tar-sparse.ts";

export type TarEntryType = "file" | "directory" | "symlink" | "hardlink" | "character" | "block" | "fifo";

export type TarEntry = {
  readonly name: string;
  readonly type: TarEntryType;
  /** Permission bits with suid, sgid and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Length of the file, holes included, in bytes. */
  readonly size: number;
  /** Nanoseconds since 1970. */
  readonly mtime: bigint;
  readonly link: string;
  readonly device: readonly [major: number, minor: number];
  readonly xattrs: ReadonlyMap<string, Uint8Array>;
};

/** Takes a file's data: pieces in order, each with its offset in the file; holes are left out. */
export type TarSink = { readonly data: (bytes: Uint8Array, offset: number) => void; readonly end: () => void };

export type TarReader = {
  /** Push the next bytes of the archive. @throws HutchError when they are malformed */
  readonly write: (chunk: Uint8Array) => void;
  /** Say that there are no more. @throws HutchError when the archive is cut short */
  readonly end: () => void;
  /** Whether the two blocks of zeros have been read that mark the end. */
  readonly hasEnded: () => boolean;
};

const META_LIMIT = 1024 * 1024;
const HEADER_ONLY = new Set(["1", "2", "3", "4", "5", "6"]);
const TYPES: Readonly<Record<string, TarEntryType>> = {
  "\0": "file",
  "0": "file",
  "7": "file",
  S: "file",
  "1": "hardlink",
  "2": "symlink",
  "3": "character",
  "4": "block",
  "5": "directory",
  "6": "fifo",
};

/** Records of an `x` header and names of `L` and `K`, waiting for their entry. */
type Pending = { pax: PaxRecords; longName?: string; longLink?: string };

const padding = (size: number): number => (BLOCK - (size % BLOCK)) % BLOCK;

/**
 * Create a reader. `onEntry` is called for every entry, and what it returns takes the entry's data (undefined: skipped;
 * for entries without data `end` alone is called).
 */
export function createTarReader(onEntry: (entry: TarEntry) => TarSink | undefined): TarReader {
  let pending: Pending = { pax: [] };
  let zeroBlocks = 0;
  let ended = false;
  // Bytes being collected until `wanted` of them are there, for `collected` to read.
  let buffer = new Uint8Array(BLOCK);
  let filled = 0;
  let wanted = BLOCK;
  let collected: (bytes: Uint8Array) => void = header;
  // A body that passes through: bytes left of data, then of padding.
  let left = 0;
  let pad = 0;
  let sink: TarSink | undefined;
  let runs: readonly SparseRun[] = [];
  let runIndex = 0;
  let runDone = 0;

  function collect(size: number, then: (bytes: Uint8Array) => void): void {
    if (buffer.byteLength < size) buffer = new Uint8Array(size);
    filled = 0;
    wanted = size;
    collected = then;
  }

  function header(block: Uint8Array): void {
    if (isZeroBlock(block)) {
      zeroBlocks += 1;
      ended = zeroBlocks === 2;
      return collect(BLOCK, header);
    }
    if (zeroBlocks > 0) refuseTar("a single zero block between entries");
    const raw = parseTarHeader(block);
    if (raw.size < 0) refuseTar("negative size");
    if ("xgLK".includes(raw.type)) return meta(raw);
    const type = TYPES[raw.type];
    if (type === undefined)
      return refuseTar(`unknown entry type ${JSON.stringify(raw.type)} of ${JSON.stringify(raw.name)}`);
    const { pax, longName, longLink } = pending;
    pending = { pax: [] };
    const named = { ...raw, name: longName ?? raw.name, link: longLink ?? raw.link };
    const isDirectory = raw.type === "\0" && (lastText(pax, "path") ?? named.name).endsWith("/");
    const entry = mergePax(named, isDirectory ? "directory" : type, pax);
    const stored = HEADER_ONLY.has(raw.type) ? 0 : paxSize(pax, raw.size);
    if (raw.type === "S") return gnuSparse(block, entry, stored);
    const sparse = type === "file" ? parsePaxSparse(pax) : undefined;
    if (sparse === undefined) return body(type === "file" ? { ...entry, size: stored } : entry, stored, undefined);
    const realSize = lastText(pax, "GNU.sparse.realsize") ?? lastText(pax, "GNU.sparse.size");
    const name = lastText(pax, "GNU.sparse.name");
    const size = realSize === undefined ? stored : parsePaxNumber("GNU.sparse.realsize", realSize);
    const whole = { ...entry, size, ...(name === undefined || name === "" ? {} : { name }) };
    return sparse.mapInData ? mapInData(whole, stored) : body(whole, stored, sparse.runs ?? []);
  }

  /** `x`, `g`, `L`, `K`: their body speaks of the next entry (or of nothing we heed). */
  function meta(raw: TarHeader): void {
    if (raw.size > META_LIMIT) refuseTar(`a header of ${raw.size} bytes`);
    const done = (bytes: Uint8Array): void => {
      const content = bytes.slice(0, raw.size);
      if (raw.type === "x") pending = { ...pending, pax: parsePax(content) };
      else if (raw.type === "g") parsePax(content);
      else {
        const nul = content.indexOf(0);
        const name = decodeBytes(nul < 0 ? content : content.subarray(0, nul));
        pending = raw.type === "L" ? { ...pending, longName: name } : { ...pending, longLink: name };
      }
      collect(BLOCK, header);
    };
    const size = raw.size + padding(raw.size);
    if (size === 0) done(new Uint8Array(0));
    else collect(size, done);
  }

  function gnuSparse(block: Uint8Array, entry: TarEntry, stored: number): void {
    const all: SparseRun[] = [];
    const size = parseGnuRealSize(block);
    const next = (bytes: Uint8Array, first: boolean): void => {
      const { runs: some, more } = parseGnuRuns(bytes, first);
      all.push(...some);
      if (all.length > 1_000_000) refuseTar("too many sparse runs");
      if (more) collect(BLOCK, (extension) => next(extension, false));
      else body({ ...entry, size }, stored, all);
    };
    next(block, true);
  }

  function mapInData(entry: TarEntry, stored: number): void {
    const read = createMapReader();
    const next = (length: number): void => {
      if (length + BLOCK > stored + padding(stored)) refuseTar("sparse map longer than its file");
      if (length >= 32 * META_LIMIT) refuseTar("sparse map too long");
      collect(BLOCK, (block) => {
        const found = read(block);
        if (found === undefined) next(length + BLOCK);
        else body(entry, stored - length - BLOCK, found);
      });
    };
    next(0);
  }

  function body(entry: TarEntry, stored: number, sparse: readonly SparseRun[] | undefined): void {
    if (entry.name.includes("\0") || entry.link.includes("\0")) refuseTar("NUL in a name");
    if (sparse !== undefined) {
      checkRuns(sparse, entry.size);
      if (dataLength(sparse) !== stored) refuseTar("sparse map and size disagree");
    }
    if (entry.size < 0 || stored < 0) refuseTar("negative size");
    sink = onEntry(entry);
    runs = sparse ?? [{ offset: 0, length: stored }];
    [runIndex, runDone, left, pad] = [0, 0, stored, padding(stored)];
    collect(BLOCK, header);
    if (left === 0) finishBody();
  }

  function finishBody(): void {
    const done = sink;
    sink = undefined;
    done?.end();
  }

  /** Hand `bytes` of the body to the sink, cut where runs end. */
  function deliver(bytes: Uint8Array): void {
    let rest = bytes;
    while (rest.byteLength > 0) {
      const run = runs[runIndex] ?? refuseTar("more data than the sparse map holds");
      const piece = rest.subarray(0, run.length - runDone);
      if (piece.byteLength > 0) sink?.data(piece, run.offset + runDone);
      runDone += piece.byteLength;
      rest = rest.subarray(piece.byteLength);
      if (runDone === run.length) [runIndex, runDone] = [runIndex + 1, 0];
    }
  }

  function write(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.byteLength && !ended) {
      const available = chunk.byteLength - at;
      if (left > 0) {
        const count = Math.min(left, available);
        deliver(chunk.subarray(at, at + count));
        left -= count;
        at += count;
        if (left === 0) finishBody();
      } else if (pad > 0) {
        const count = Math.min(pad, available);
        pad -= count;
        at += count;
      } else {
        const count = Math.min(wanted - filled, available);
        buffer.set(chunk.subarray(at, at + count), filled);
        filled += count;
        at += count;
        if (filled === wanted) collected(buffer.subarray(0, wanted));
      }
    }
  }

  function end(): void {
    if (ended) return;
    // An archive may end without its zero blocks, but not within an entry (padding at the very end may be missing).
    const cut = left > 0 || filled > 0 || collected !== header || pending.pax.length > 0;
    if (cut || pending.longName !== undefined || pending.longLink !== undefined) refuseTar("cut short");
  }

  return { write, end, hasEnded: () => ended };
}

function lastText(pax: PaxRecords, key: string): string | undefined {
  const value = pax.findLast(([name]) => name === key)?.[1];
  return value === undefined ? undefined : decodeBytes(value);
}

function paxSize(pax: PaxRecords, size: number): number {
  const text = lastText(pax, "size");
  return text === undefined || text === "" ? size : parsePaxNumber("size", text);
}

const SCHILY = "SCHILY.xattr.";
const LIBARCHIVE = "LIBARCHIVE.xattr.";

function xattrsOf(pax: PaxRecords): Map<string, Uint8Array> {
  const xattrs = new Map<string, Uint8Array>();
  for (const [key, value] of pax) {
    if (key.startsWith(LIBARCHIVE)) {
      const name = decodeURIComponentLossless(key.slice(LIBARCHIVE.length));
      if (!xattrs.has(name)) xattrs.set(name, new Uint8Array(Buffer.from(decodeBytes(value), "base64")));
    } else if (key.startsWith(SCHILY)) xattrs.set(key.slice(SCHILY.length), value);
  }
  return xattrs;
}

function decodeURIComponentLossless(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** An entry from its header and PAX records; an empty record leaves the header's value. */
function mergePax(raw: TarHeader, type: TarEntryType, pax: PaxRecords): TarEntry {
  const text = (key: string): string | undefined => lastText(pax, key) || undefined;
  const number = (key: string, otherwise: number): number => {
    const value = text(key);
    return value === undefined ? otherwise : parsePaxNumber(key, value);
  };
  const mtime = text("mtime");
  return {
    name: text("path") ?? raw.name,
    type,
    mode: raw.mode & 0o7777,
    uid: number("uid", raw.uid),
    gid: number("gid", raw.gid),
    size: 0,
    mtime: mtime === undefined ? BigInt(raw.mtime) * 1_000_000_000n : parsePaxTime(mtime),
    link: text("linkpath") ?? raw.link,
    device: [raw.devMajor, raw.devMinor],
    xattrs: xattrsOf(pax),
  };
}
