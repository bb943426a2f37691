/**
 * JSON as Nix rewrites it: numbers kept exactly, objects sorted by their keys' bytes, and the text that its C++ library
 * (nlohmann/json's `dump()`) would write, so that a rebuilt `.attrs.json` is the one that the builder saw.
 */

import { HutchError } from "../errors.ts";
import { encodeBytes } from "../bytes.ts";

/** A number by its kind: integers are exact 64-bit, all else is a double. */
export type JsonNumber = { readonly integer: bigint } | { readonly double: number };
export type Json = null | boolean | string | JsonNumber | readonly Json[] | ReadonlyMap<string, Json>;

export function isJsonNumber(value: Json): value is JsonNumber {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Map);
}

interface Reader {
  readonly text: string;
  at: number;
}

const MAX_DEPTH = 1000;

/** Parse a JSON text; of equal keys the last wins. @throws HutchError with the offset */
export function parseJson(text: string): Json {
  const reader = { text, at: 0 };
  const value = parseValue(reader, 0);
  skipSpace(reader);
  if (reader.at !== text.length) fail(reader);
  return value;
}

function skipSpace(reader: Reader): void {
  while (" \t\n\r".includes(reader.text[reader.at] ?? "?")) reader.at += 1;
}

const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
const QUOTE_OR_BACKSLASH = /["\\]/g;

function parseValue(reader: Reader, depth: number): Json {
  if (depth > MAX_DEPTH) throw new HutchError("JSON is nested too deeply");
  skipSpace(reader);
  const { text, at } = reader;
  if (text[at] === '"') return parseText(reader);
  if (text[at] === "[") return parseArray(reader, depth);
  if (text[at] === "{") return parseObject(reader, depth);
  for (const [word, value] of [["null", null] as const, ["true", true] as const, ["false", false] as const]) {
    if (!text.startsWith(word, at)) continue;
    reader.at += word.length;
    return value;
  }
  NUMBER.lastIndex = at;
  const match = NUMBER.exec(text);
  if (match === null) return fail(reader);
  reader.at += match[0].length;
  if (match[1] === undefined && match[2] === undefined) {
    const integer = BigInt(match[0]);
    if (integer >= -(1n << 63n) && integer < 1n << 64n && match[0] !== "-0") return { integer };
  }
  return { double: Number(match[0]) };
}

function parseText(reader: Reader): string {
  const start = reader.at;
  for (let at = start + 1; ;) {
    QUOTE_OR_BACKSLASH.lastIndex = at;
    const match = QUOTE_OR_BACKSLASH.exec(reader.text);
    if (match === null) return fail(reader);
    at = match.index + (match[0] === "\\" ? 2 : 1);
    if (match[0] === "\\") continue;
    reader.at = at;
    try {
      return String(JSON.parse(reader.text.slice(start, at)));
    } catch {
      reader.at = start;
      return fail(reader); // a control character or an escape that JSON does not have
    }
  }
}

function parseArray(reader: Reader, depth: number): Json {
  const items: Json[] = [];
  reader.at += 1;
  skipSpace(reader);
  if (reader.text[reader.at] === "]") {
    reader.at += 1;
    return items;
  }
  for (;;) {
    items.push(parseValue(reader, depth + 1));
    if (separator(reader, "]")) return items;
  }
}

function parseObject(reader: Reader, depth: number): Json {
  const members = new Map<string, Json>();
  reader.at += 1;
  skipSpace(reader);
  if (reader.text[reader.at] === "}") {
    reader.at += 1;
    return members;
  }
  for (;;) {
    skipSpace(reader);
    if (reader.text[reader.at] !== '"') fail(reader);
    const key = parseText(reader);
    skipSpace(reader);
    if (reader.text[reader.at] !== ":") fail(reader);
    reader.at += 1;
    members.set(key, parseValue(reader, depth + 1));
    if (separator(reader, "}")) return members;
  }
}

/** Step over `,` (false) or the closing character (true). */
function separator(reader: Reader, close: string): boolean {
  skipSpace(reader);
  const char = reader.text[reader.at];
  if (char !== "," && char !== close) fail(reader);
  reader.at += 1;
  return char === close;
}

function fail(reader: Reader): never {
  throw new HutchError(`not JSON at offset ${reader.at}`);
}

/** Keys in the order of their bytes, as a C++ map of strings has them. */
export function sortedEntries(members: ReadonlyMap<string, Json>): (readonly [string, Json])[] {
  return [...members].toSorted(([a], [b]) => Buffer.compare(encodeBytes(a), encodeBytes(b)));
}

/** The text without spaces, keys sorted. */
export function formatJson(value: Json): string {
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "string") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(formatJson).join(",")}]`;
  if (value instanceof Map) {
    const members = sortedEntries(value).map(([key, member]) => `${JSON.stringify(key)}:${formatJson(member)}`);
    return `{${members.join(",")}}`;
  }
  return isJsonNumber(value) ? formatNumber(value) : "null";
}

/** A double as nlohmann/json writes it: the shortest digits, `.0` on whole numbers, an exponent of two digits at least. */
function formatNumber(number: JsonNumber): string {
  if ("integer" in number) return String(number.integer);
  const { double } = number;
  if (!Number.isFinite(double)) return "null";
  const sign = double < 0 || Object.is(double, -0) ? "-" : "";
  const [mantissa = "0", exponent = "0"] = Math.abs(double).toExponential().split("e");
  const digits = mantissa.replace(".", "");
  const point = Number(exponent) + 1; // the decimal point stands after this many digits
  if (double === 0) return `${sign}0.0`;
  if (digits.length <= point && point <= 15) return `${sign}${digits.padEnd(point, "0")}.0`;
  if (point > 0 && point <= 15) return `${sign}${digits.slice(0, point)}.${digits.slice(point)}`;
  if (point > -4 && point <= 0) return `${sign}0.${"0".repeat(-point)}${digits}`;
  const power = Math.abs(point - 1)
    .toString()
    .padStart(2, "0");
  const fraction = digits.length > 1 ? `.${digits.slice(1)}` : "";
  return `${sign}${digits[0]}${fraction}e${point - 1 < 0 ? "-" : "+"}${power}`;
}
