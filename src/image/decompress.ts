/**
 * Streams of layers and archives, decompressed by what their first bytes say, never by their name or media type.
 *
 * node:zlib's streams are the ones that neither lose gzip's further members nor accept a truncated one; a zstd stream
 * that is cut short ends without an error there, so every caller checks a digest of what came out.
 */

import { constants, createGunzip, createZstdDecompress } from "node:zlib";
import { HutchError } from "../errors.ts";

export type Compression = "none" | "gzip" | "zstd";

/** Tell a compression by its magic number (RFC 1952, RFC 8878 with skippable frames). */
export function sniffCompression(head: Uint8Array): Compression {
  const [a = 0, b = 0, c = 0, d = 0] = head;
  if (a === 0x1f && b === 0x8b) return "gzip";
  if (a === 0x28 && b === 0xb5 && c === 0x2f && d === 0xfd) return "zstd";
  if ((a & 0xf0) === 0x50 && b === 0x2a && c === 0x4d && d === 0x18) return "zstd";
  return "none";
}

/** Output comes in pieces of this size: fewer turns of the event loop, and still little memory. */
const CHUNK = 512 * 1024;

export type DecompressLimits = {
  /** More output than `floor` bytes must not exceed `ratio` times the input. */
  readonly floor: number;
  readonly ratio: number;
};

/** A gibibyte of zeros compresses a thousandfold; nothing that people ship in layers comes near 200 beyond that. */
export const DECOMPRESS_LIMITS: DecompressLimits = { floor: 2 ** 30, ratio: 200 };

function refuse(where: string, error: unknown): never {
  const text = error instanceof Error ? error.message : String(error);
  const isWindow = /window|too much memory/i.test(text);
  throw new HutchError(`${where}: ${text}`, {
    cause: error,
    ...(isWindow ? { hint: "frames with a window above 128 MiB are refused: compress without --long" } : {}),
  });
}

/** Decompress a stream of bytes. Memory stays bounded. @throws HutchError on corrupt data or a bomb */
export async function* decompress(
  source: AsyncIterable<Uint8Array>,
  where: string,
  limits: DecompressLimits = DECOMPRESS_LIMITS,
): AsyncGenerator<Uint8Array> {
  const iterator = source[Symbol.asyncIterator]();
  const head: Uint8Array[] = [];
  let length = 0;
  while (length < 4) {
    const next = await iterator.next();
    if (next.done === true) break;
    head.push(next.value);
    length += next.value.byteLength;
  }
  const kind = sniffCompression(Buffer.concat(head.map((part) => part.subarray(0, 4))));
  let input = 0;
  async function* whole(): AsyncGenerator<Uint8Array> {
    try {
      for (const part of head) {
        input += part.byteLength;
        yield part;
      }
      for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) {
        input += next.value.byteLength;
        yield next.value;
      }
    } finally {
      await iterator.return?.();
    }
  }
  if (kind === "none") {
    yield* whole();
    return;
  }
  let output = 0;
  for await (const chunk of inflate(whole(), kind, where)) {
    output += chunk.byteLength;
    if (output > limits.floor && output > input * limits.ratio) {
      throw new HutchError(`${where}: decompresses to more than ${limits.ratio} times its size`);
    }
    yield chunk;
  }
}

/** Run a zlib stream by hand: write, wait for drain, hand out what comes; errors of both sides end it. */
async function* inflate(
  source: AsyncGenerator<Uint8Array>,
  kind: "gzip" | "zstd",
  where: string,
): AsyncGenerator<Uint8Array> {
  const stream =
    kind === "gzip"
      ? createGunzip({ chunkSize: CHUNK })
      : createZstdDecompress({ chunkSize: CHUNK, params: { [constants.ZSTD_d_windowLogMax]: 27 } });
  let sourceError: Error | undefined;
  const pump = (async () => {
    try {
      for await (const chunk of source) {
        if (stream.destroyed) return;
        if (!stream.write(chunk)) await drained(stream);
      }
      stream.end();
    } catch (error) {
      sourceError = error instanceof Error ? error : new Error(String(error));
      stream.destroy(sourceError);
    }
  })();
  try {
    for await (const chunk of stream) yield chunk as Uint8Array;
  } catch (error) {
    if (sourceError !== undefined) throw sourceError;
    refuse(where, error);
  } finally {
    stream.destroy();
    await pump;
  }
}

function drained(stream: NodeJS.WritableStream): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      for (const event of ["drain", "close", "error"]) stream.removeListener(event, done);
      resolve();
    };
    for (const event of ["drain", "close", "error"]) stream.once(event, done);
  });
}
