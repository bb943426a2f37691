/** A plain, deterministic tar file: sorted by the caller, time 0, owner root (POSIX ustar). */

import { HutchError } from "../errors.ts";
import { encodeBytes } from "../bytes.ts";
import { BLOCK } from "./tar-header.ts";

const END = new Uint8Array(2 * BLOCK);

/** Sizes from 8 GiB on do not fit the octal field: base 256, as GNU and all readers of images know it. */
function sizeField(size: number): Uint8Array {
  if (size < 8 ** 11) return encodeBytes(`${size.toString(8).padStart(11, "0")}\0`);
  const field = new Uint8Array(12);
  for (let i = 11, rest = BigInt(size); i >= 4; i--, rest >>= 8n) field[i] = Number(rest & 0xffn);
  field[0] = 0x80;
  return field;
}

/** The header block of a file or (name ends in "/") a directory. @throws HutchError when the name has over 100 bytes */
export function formatTarHeader(name: string, size: number): Uint8Array {
  const block = new Uint8Array(BLOCK);
  const bytes = encodeBytes(name);
  if (bytes.byteLength > 100) throw new HutchError(`name too long for a plain tar file: ${name}`);
  const isDirectory = name.endsWith("/");
  const put = (at: number, value: string): void => block.set(encodeBytes(value), at);
  block.set(bytes);
  put(100, isDirectory ? "0000755\0" : "0000644\0");
  put(108, "0000000\0");
  put(116, "0000000\0");
  block.set(sizeField(size), 124);
  put(136, "00000000000\0");
  put(148, "        ");
  put(156, isDirectory ? "5" : "0");
  put(257, "ustar\x0000");
  put(329, "0000000\0");
  put(337, "0000000\0");
  const sum = block.reduce((total, byte) => total + byte, 0);
  put(148, `${sum.toString(8).padStart(6, "0")}\0 `);
  return block;
}

export type TarFile = {
  readonly name: string;
  readonly size: number;
  readonly content: AsyncIterable<Uint8Array> | Uint8Array;
};

/** The archive's bytes, file after file. @throws HutchError when a file is not as long as it said */
export async function* writeTar(files: Iterable<TarFile> | AsyncIterable<TarFile>): AsyncGenerator<Uint8Array> {
  for await (const { name, size, content } of files) {
    yield formatTarHeader(name, size);
    let length = 0;
    for await (const chunk of content instanceof Uint8Array ? [content] : content) {
      length += chunk.byteLength;
      if (chunk.byteLength > 0) yield chunk;
    }
    if (length !== size) throw new HutchError(`${name}: ${length} bytes instead of ${size}`);
    if (size % BLOCK !== 0) yield new Uint8Array(BLOCK - (size % BLOCK));
  }
  yield END;
}
