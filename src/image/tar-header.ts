/**
 * One header block of a tar file: V7, USTAR, STAR and GNU forms (tar(5), GNU tar's "Basic Tar Format"), and PAX records
 * (POSIX pax, "Extended Header"). Pure: bytes in, data out.
 */

import { decodeBytes } from "../bytes.ts";
import { HutchError } from "../errors.ts";

export const BLOCK = 512;

/** The fields of a block as they stand; `format` tells how bytes 345 to 511 are used. */
export type TarHeader = {
  readonly format: "v7" | "ustar" | "star" | "gnu";
  readonly name: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  /** Seconds since 1970. */
  readonly mtime: number;
  /** Type flag, one character; NUL is "\0". */
  readonly type: string;
  readonly link: string;
  readonly devMajor: number;
  readonly devMinor: number;
};

/** A malformed archive. @throws always */
export function refuseTar(what: string): never {
  throw new HutchError(`tar: ${what}`);
}

/** Text up to the first NUL. */
function cText(block: Uint8Array, at: number, length: number): string {
  const field = block.subarray(at, at + length);
  const end = field.indexOf(0);
  return decodeBytes(end < 0 ? field : field.subarray(0, end));
}

/** A numeric field: octal text, or base-256 when the first bit is set (two's complement). */
export function parseNumeric(block: Uint8Array, at: number, length: number): number {
  const first = block[at] ?? 0;
  if ((first & 0x80) !== 0) {
    const negative = (first & 0x40) !== 0;
    let value = BigInt(negative ? first : first & 0x7f) - (negative ? 256n : 0n);
    for (let i = 1; i < length; i++) value = value * 256n + BigInt(block[at + i] ?? 0);
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : refuseTar("number out of range");
  }
  // Some writers pad with spaces or NULs at both ends, so both are trimmed.
  const text =
    cText(block, at, length).trim() || String.fromCharCode(...block.subarray(at, at + length)).replace(/[ \0]/g, "");
  if (text === "") return 0;
  if (!/^[0-7]+$/.test(text)) refuseTar(`bad number ${JSON.stringify(text)}`);
  const number = parseInt(text, 8);
  return Number.isSafeInteger(number) ? number : refuseTar("number out of range");
}

/** True for a block of zeros, which ends an archive. */
export function isZeroBlock(block: Uint8Array): boolean {
  return block.every((byte) => byte === 0);
}

/** The checksum must match as unsigned bytes, or as signed ones as old writers counted. */
function checkSum(block: Uint8Array): void {
  let unsigned = 0;
  let signed = 0;
  for (let i = 0; i < BLOCK; i++) {
    const byte = i >= 148 && i < 156 ? 0x20 : (block[i] ?? 0);
    unsigned += byte;
    signed += byte < 128 ? byte : byte - 256;
  }
  const stored = parseNumeric(block, 148, 8);
  if (stored !== unsigned && stored !== signed) refuseTar("wrong header checksum");
}

/**
 * A GNU block has times where others have the prefix. Go before 1.8 wrote a prefix there all the same, and so did the
 * Docker of that time: when the times are no numbers, it is one.
 */
function gnuPrefix(block: Uint8Array): string {
  try {
    for (const at of [345, 357]) if (block[at] !== 0) parseNumeric(block, at, 12);
    return "";
  } catch {
    const prefix = block.subarray(345, 500);
    const end = prefix.indexOf(0);
    const bytes = end < 0 ? prefix : prefix.subarray(0, end);
    return bytes.every((byte) => byte < 0x80) ? decodeBytes(bytes) : "";
  }
}

/** Read a block. @throws HutchError when its checksum or a number is wrong */
export function parseTarHeader(block: Uint8Array): TarHeader {
  checkSum(block);
  const magic = String.fromCharCode(...block.subarray(257, 265));
  const star = String.fromCharCode(...block.subarray(508, 512)) === "tar\0";
  const format = magic === "ustar  \0" ? "gnu" : !magic.startsWith("ustar\0") ? "v7" : star ? "star" : "ustar";
  const prefix =
    format === "ustar"
      ? cText(block, 345, 155)
      : format === "star"
        ? cText(block, 345, 131)
        : format === "gnu"
          ? gnuPrefix(block)
          : "";
  const name = cText(block, 0, 100);
  const devices = format !== "v7";
  return {
    format,
    name: prefix === "" ? name : `${prefix}/${name}`,
    mode: parseNumeric(block, 100, 8),
    uid: parseNumeric(block, 108, 8),
    gid: parseNumeric(block, 116, 8),
    size: parseNumeric(block, 124, 12),
    mtime: parseNumeric(block, 136, 12),
    type: String.fromCharCode(block[156] ?? 0),
    link: cText(block, 157, 100),
    devMajor: devices ? parseNumeric(block, 329, 8) : 0,
    devMinor: devices ? parseNumeric(block, 337, 8) : 0,
  };
}

/** PAX records in order, keys as text, values as bytes (a `SCHILY.xattr.*` value is binary). */
export type PaxRecords = readonly (readonly [key: string, value: Uint8Array])[];

/** Read the body of a PAX header: `LENGTH KEY=VALUE\n` repeated. @throws HutchError */
export function parsePax(body: Uint8Array): PaxRecords {
  const records: [string, Uint8Array][] = [];
  let at = 0;
  while (at < body.byteLength) {
    const space = body.indexOf(0x20, at);
    const digits = space < 0 ? "" : String.fromCharCode(...body.subarray(at, Math.min(space, at + 20)));
    const length = /^\d+$/.test(digits) ? Number(digits) : 0;
    const end = at + length;
    if (length < 5 || end > body.byteLength || body[end - 1] !== 0x0a || space >= end)
      refuseTar("malformed PAX record");
    const equals = body.indexOf(0x3d, space + 1);
    if (equals < 0 || equals >= end || equals === space + 1) refuseTar("malformed PAX record");
    const key = decodeBytes(body.subarray(space + 1, equals));
    const value = body.slice(equals + 1, end - 1);
    const isName = key === "path" || key === "linkpath" || key === "uname" || key === "gname";
    if (key.includes("\0") || (isName && value.includes(0))) refuseTar(`NUL in PAX record ${JSON.stringify(key)}`);
    records.push([key, value]);
    at = end;
  }
  return records;
}

/** A PAX time, `1700000000.25` or negative, in nanoseconds since 1970. @throws HutchError */
export function parsePaxTime(text: string): bigint {
  const match = /^(-?)(\d{1,12})(?:\.(\d*))?$/.exec(text);
  if (match === null) refuseTar(`bad PAX time ${JSON.stringify(text.slice(0, 50))}`);
  const [, sign, seconds = "0", fraction = ""] = match;
  const value = BigInt(seconds) * 1_000_000_000n + BigInt(fraction.slice(0, 9).padEnd(9, "0"));
  return sign === "-" ? -value : value;
}

/** A PAX number. @throws HutchError */
export function parsePaxNumber(key: string, text: string): number {
  const value = Number(text);
  if (!/^-?\d+$/.test(text) || !Number.isSafeInteger(value))
    refuseTar(`bad PAX ${key} ${JSON.stringify(text.slice(0, 50))}`);
  return value;
}
