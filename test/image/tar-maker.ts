/** Tar files by hand, good and bad: every field of a header can be said. Used by the image tests only. */

import { encodeBytes } from "../../src/bytes.ts";

export type Made = {
  readonly name?: string;
  /** Type flag; "0" when absent. */
  readonly type?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  readonly link?: string;
  readonly data?: string | Uint8Array;
  /** What the size field says instead of the data's length. */
  readonly size?: number;
  readonly device?: readonly [number, number];
  readonly pax?: Readonly<Record<string, string | Uint8Array>>;
  readonly magic?: string;
  readonly prefix?: string;
  /** Raw bytes written over the finished header before its checksum: [offset, bytes]. */
  readonly raw?: readonly (readonly [number, Uint8Array])[];
};

const bytes = (value: string | Uint8Array): Uint8Array => (typeof value === "string" ? encodeBytes(value) : value);

export const concat = (parts: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));

export function pad(data: Uint8Array): Uint8Array {
  const padded = new Uint8Array(Math.ceil(data.byteLength / 512) * 512);
  padded.set(data);
  return padded;
}

const octal = (value: number, width: number): string => value.toString(8).padStart(width - 1, "0") + "\0";

/** A number in base 256, as GNU writes those that octal cannot hold. */
export function base256(value: bigint, width: number): Uint8Array {
  const out = new Uint8Array(width);
  let rest = BigInt.asUintN(width * 8, value);
  for (let i = width - 1; i >= 0; i--) {
    out[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  out[0] = (out[0] ?? 0) | 0x80;
  return out;
}

export function header(made: Made): Uint8Array {
  const block = new Uint8Array(512);
  const put = (at: number, value: string | Uint8Array): void => block.set(bytes(value), at);
  const data = bytes(made.data ?? "");
  put(0, bytes(made.name ?? "").subarray(0, 100));
  put(100, octal(made.mode ?? 0o644, 8));
  put(108, octal(made.uid ?? 0, 8));
  put(116, octal(made.gid ?? 0, 8));
  put(124, octal(made.size ?? data.byteLength, 12));
  put(136, octal(made.mtime ?? 1_700_000_000, 12));
  put(156, made.type ?? "0");
  put(157, bytes(made.link ?? "").subarray(0, 100));
  put(257, made.magic ?? "ustar\x0000");
  put(329, octal(made.device?.[0] ?? 0, 8));
  put(337, octal(made.device?.[1] ?? 0, 8));
  put(345, made.prefix ?? "");
  for (const [at, value] of made.raw ?? []) put(at, value);
  put(148, "        ");
  put(
    148,
    octal(
      block.reduce((sum, byte) => sum + byte, 0),
      7,
    ) + " ",
  );
  return block;
}

/** One PAX record with its own length in front. */
export function paxRecord(key: string, value: string | Uint8Array): Uint8Array {
  const body = concat([encodeBytes(` ${key}=`), bytes(value), encodeBytes("\n")]);
  let length = body.byteLength + 1;
  while (String(length).length + body.byteLength !== length) length = String(length).length + body.byteLength;
  return concat([encodeBytes(String(length)), body]);
}

export function entry(made: Made): Uint8Array {
  const parts: Uint8Array[] = [];
  const pax = { ...made.pax };
  if (bytes(made.name ?? "").byteLength > 100 && made.prefix === undefined) pax["path"] ??= made.name ?? "";
  if (bytes(made.link ?? "").byteLength > 100) pax["linkpath"] ??= made.link ?? "";
  if (Object.keys(pax).length > 0) {
    const body = concat(Object.entries(pax).map(([key, value]) => paxRecord(key, value)));
    parts.push(header({ name: "PaxHeaders/x", type: "x", data: body }), pad(body));
  }
  parts.push(header(made), pad(bytes(made.data ?? "")));
  return concat(parts);
}

/** A whole archive with its two zero blocks. */
export function tar(...entries: readonly (Made | Uint8Array)[]): Uint8Array {
  const parts = entries.map((item) => (item instanceof Uint8Array ? item : entry(item)));
  return concat([...parts, new Uint8Array(1024)]);
}

/** Short forms for the usual entries. */
export const dir = (name: string, more: Made = {}): Made => ({ name: `${name}/`, type: "5", mode: 0o755, ...more });
export const file = (name: string, data: string | Uint8Array = name, more: Made = {}): Made => ({
  name,
  data,
  ...more,
});
export const link = (name: string, to: string, more: Made = {}): Made => ({
  name,
  type: "2",
  link: to,
  mode: 0o777,
  ...more,
});
export const hard = (name: string, to: string, more: Made = {}): Made => ({ name, type: "1", link: to, ...more });
