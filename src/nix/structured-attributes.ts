/**
 * Structured attributes (`__structuredAttrs = true`): what Nix writes to `.attrs.json` and `.attrs.sh` in the build
 * directory (nix's `parsed-derivations.cc`).
 */

import { HutchError } from "../errors.ts";
import { type Derivation, outputPaths } from "./derivation.ts";
import { formatJson, isJsonNumber, type Json, type JsonNumber, parseJson, sortedEntries } from "./json.ts";

/** A store object as `exportReferencesGraph` describes it. `narHash` is `sha256:` and base 32; sizes in bytes. */
export interface PathInfo {
  readonly path: string;
  readonly narHash: string;
  readonly narSize: number;
  readonly references: readonly string[];
  readonly ca: string | undefined;
}

/** The closure of some store paths, sorted by path, the paths themselves included. */
export type ReferenceGraph = (paths: readonly string[]) => readonly PathInfo[];

/**
 * The texts of `.attrs.json` and `.attrs.sh`; undefined for a derivation without structured attributes.
 * `graph` is asked only when the derivation exports reference graphs. @throws HutchError when it does and `graph` is absent
 */
export function structuredAttributes(
  derivation: Derivation,
  graph?: ReferenceGraph,
): { readonly json: string; readonly shell: string } | undefined {
  const text = derivation.env.get("__json");
  if (text === undefined) return undefined;
  const attributes = parseJson(text);
  if (!(attributes instanceof Map)) throw new HutchError("the derivation's __json attribute is not an object");
  const members = new Map<string, Json>(attributes);
  members.set("outputs", new Map(outputPaths(derivation)));
  const exported = members.get("exportReferencesGraph");
  if (exported instanceof Map) {
    for (const [name, paths] of exported) members.set(name, graphJson(paths, graph));
  }
  return { json: formatJson(members), shell: formatShell(members) };
}

function graphJson(paths: Json, graph: ReferenceGraph | undefined): Json {
  if (graph === undefined) throw new HutchError("exportReferencesGraph needs the Nix database, which is not readable");
  const roots = (Array.isArray(paths) ? paths : [paths]).filter((path) => typeof path === "string");
  const integer = (n: number): JsonNumber => ({ integer: BigInt(n) });
  return graph(roots).map((info) => {
    const closureSize = graph([info.path]).reduce((sum, { narSize }) => sum + narSize, 0);
    const members: [string, Json][] = [
      ["closureSize", integer(closureSize)],
      ["narHash", info.narHash],
      ["narSize", integer(info.narSize)],
      ["path", info.path],
      ["references", info.references],
      ["valid", true],
    ];
    if (info.ca !== undefined) members.push(["ca", info.ca]);
    return new Map(members);
  });
}

const SHELL_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** `declare` lines for all that bash can hold: scalars, and arrays and objects of scalars; the rest is left out. */
function formatShell(members: ReadonlyMap<string, Json>): string {
  let text = "";
  for (const [name, value] of sortedEntries(members)) {
    if (!SHELL_NAME.test(name)) continue;
    const scalar = shellScalar(value);
    if (scalar !== undefined) text += `declare ${name}=${scalar}\n`;
    else if (value instanceof Map) {
      const items = sortedEntries(value).map(([key, item]) => [key, shellScalar(item)] as const);
      if (items.some(([, item]) => item === undefined)) continue;
      text += `declare -A ${name}=(${items.map(([key, item]) => `[${shellQuote(key)}]=${item} `).join("")})\n`;
    } else if (Array.isArray(value)) {
      const items = value.map((item: Json) => shellScalar(item));
      if (items.includes(undefined)) continue;
      text += `declare -a ${name}=(${items.map((item) => `${item} `).join("")})\n`;
    }
  }
  return text;
}

function shellScalar(value: Json): string | undefined {
  if (value === null) return "''";
  if (value === true) return "1";
  if (value === false) return "";
  if (typeof value === "string") return shellQuote(value);
  return isJsonNumber(value) ? shellNumber(value) : undefined;
}

/** Nix passes a number that is whole as a float, converted to a C int: 32 bits, as the builder sees them. */
function shellNumber(number: JsonNumber): string | undefined {
  if ("integer" in number) return String(BigInt.asIntN(32, number.integer));
  if (!Number.isInteger(Math.fround(number.double))) return undefined;
  const whole = Math.trunc(number.double);
  return String(whole >= -(2 ** 31) && whole < 2 ** 31 ? whole : -(2 ** 31));
}

/** A word for bash that stands for `text`: single quotes, as Nix writes them. */
export function shellQuote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
