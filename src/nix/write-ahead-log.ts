/** A SQLite database and its write-ahead log as one image in memory (https://www.sqlite.org/fileformat2.html#walformat). Pure. */

import { HutchError } from "../errors.ts";

const HEADER = { bytes: 32, magic: 0, pageSize: 8, salts: 16, checksum: 24 } as const;
/** `commit` is the database's size in pages after a transaction's last frame, else 0. */
const FRAME = { bytes: 24, page: 0, commit: 4, salts: 8, checksum: 16 } as const;
const MAGIC = 0x37_7f_06_82; // the last bit tells in which byte order the checksums are
const PAGE_SIZES: readonly number[] = [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536];
/** Two bytes of the database's header: 2 where there is a log, 1 where there is none. */
const FORMAT_VERSIONS = 18;

interface Frame {
  readonly page: number;
  readonly commit: number;
  readonly content: Uint8Array;
}

/** The frames of all transactions that are complete, in order, and the size of a page. */
function committedFrames(log: Uint8Array): { readonly frames: readonly Frame[]; readonly pageSize: number } {
  const view = new DataView(log.buffer, log.byteOffset, log.byteLength);
  if (log.length < HEADER.bytes) return { frames: [], pageSize: 0 };
  const magic = view.getUint32(HEADER.magic);
  const pageSize = view.getUint32(HEADER.pageSize);
  const known = magic >>> 1 === MAGIC >>> 1 && PAGE_SIZES.includes(pageSize);
  if (!known) throw new HutchError("the write-ahead log is of an unknown form");
  const littleEndian = (magic & 1) === 0;
  let sums: readonly [number, number] = [0, 0];
  const add = (from: number, bytes: number): void => {
    let [a, b] = sums;
    for (let at = from; at < from + bytes; at += 8) {
      a = (a + view.getUint32(at, littleEndian) + b) >>> 0;
      b = (b + view.getUint32(at + 4, littleEndian) + a) >>> 0;
    }
    sums = [a, b];
  };
  const same = (at: number) => view.getUint32(at) === sums[0] && view.getUint32(at + 4) === sums[1];
  add(0, HEADER.checksum);
  if (!same(HEADER.checksum)) return { frames: [], pageSize: 0 };
  const frames: Frame[] = [];
  let complete = 0;
  for (let at: number = HEADER.bytes; at + FRAME.bytes + pageSize <= log.length; at += FRAME.bytes + pageSize) {
    if (view.getBigUint64(at + FRAME.salts) !== view.getBigUint64(HEADER.salts)) break; // left from before
    add(at, FRAME.salts);
    add(at + FRAME.bytes, pageSize);
    if (!same(at + FRAME.checksum)) break;
    const content = log.subarray(at + FRAME.bytes, at + FRAME.bytes + pageSize);
    const commit = view.getUint32(at + FRAME.commit);
    frames.push({ page: view.getUint32(at + FRAME.page), commit, content });
    if (commit !== 0) complete = frames.length;
  }
  return { frames: frames.slice(0, complete), pageSize };
}

/** What the database is with all transactions of its log, as a file that needs none. @throws HutchError */
export function withLog(database: Uint8Array, log: Uint8Array): Uint8Array {
  const { frames, pageSize } = committedFrames(log);
  const pages = frames.at(-1)?.commit;
  const size = pages === undefined ? database.length : pages * pageSize;
  if (size > database.length + log.length)
    throw new HutchError("the write-ahead log tells of many more pages than there are");
  const image = new Uint8Array(size);
  image.set(database.subarray(0, image.length));
  for (const { page, content } of frames) {
    if (page > 0 && page * pageSize <= image.length) image.set(content, (page - 1) * pageSize);
  }
  image.fill(1, FORMAT_VERSIONS, FORMAT_VERSIONS + 2);
  return image;
}
