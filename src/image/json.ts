/**
 * Reading JSON from strangers: bounded, and every value checked for its type before use. Strings come out well formed
 * (a lone surrogate would mean a raw byte to src/bytes.ts).
 */

import { HutchError } from "../errors.ts";

/** Largest manifest, index or config that is read, in bytes (containerd's and the registries' usual limit). */
export const JSON_LIMIT = 4 * 1024 * 1024;

export type JsonObject = { readonly [key: string]: unknown };

function refuse(where: string, what: string): never {
  throw new HutchError(`${where}: ${what}`);
}

/**
 * Parse bytes that must hold one JSON object. Where they may hold a "secret" the parser's words, which quote them, are left
 * out. @throws HutchError naming `where`
 */
export function parseJsonObject(
  bytes: Uint8Array,
  where: string,
  limit: number = JSON_LIMIT,
  content: "open" | "secret" = "open",
): JsonObject {
  if (bytes.byteLength > limit) refuse(where, `larger than ${limit} bytes`);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8").decode(bytes));
  } catch (error) {
    if (content === "secret") refuse(where, "not JSON");
    refuse(where, `not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  return asObject(value, where);
}

/** A value that must be an object. */
export function asObject(value: unknown, where: string): JsonObject {
  if (typeof value !== "object" || value === null || Array.isArray(value)) refuse(where, "must be an object");
  return value as JsonObject;
}

/** An optional member that must be a string; null and absent are undefined. */
export function optionalString(object: JsonObject, key: string, where: string): string | undefined {
  const value = object[key];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "string") refuse(`${where}.${key}`, "must be a string");
  return value.toWellFormed();
}

/** A member that must be a string. */
export function requiredString(object: JsonObject, key: string, where: string): string {
  return optionalString(object, key, where) ?? refuse(`${where}.${key}`, "is missing");
}

/** An optional array, each item read by `item`; null and absent are undefined. */
export function optionalArray<T>(
  object: JsonObject,
  key: string,
  where: string,
  limit: number,
  item: (value: unknown, where: string) => T,
): T[] | undefined {
  const value = object[key];
  if (value === undefined || value === null) return undefined;
  if (!Array.isArray(value)) refuse(`${where}.${key}`, "must be an array");
  if (value.length > limit) refuse(`${where}.${key}`, `more than ${limit} items`);
  return value.map((entry, i) => item(entry, `${where}.${key}[${i}]`));
}

/** A value that must be a string. */
export function asString(value: unknown, where: string): string {
  if (typeof value !== "string") refuse(where, "must be a string");
  return value.toWellFormed();
}

/** An optional map of strings; null and absent are undefined. */
export function optionalStrings(
  object: JsonObject,
  key: string,
  where: string,
): Readonly<Record<string, string>> | undefined {
  const value = object[key];
  if (value === undefined || value === null) return undefined;
  const pairs = Object.entries(asObject(value, `${where}.${key}`));
  return Object.fromEntries(pairs.map(([name, text]) => [name, asString(text, `${where}.${key}[${name}]`)]));
}
