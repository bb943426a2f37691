/**
 * Derivations: the `.drv` files of a store, in the ATerm syntax that Nix itself writes and reads (nix's
 * `derivations.cc`). Parsing is strict and linear: what Nix would refuse is refused, with the place.
 */

import { HutchError } from "../errors.ts";

/** One output: `hash` and `hashAlgorithm` are "" but for fixed-output (and content-addressed) derivations. */
export interface DerivationOutput {
  readonly name: string;
  readonly path: string;
  readonly hashAlgorithm: string;
  readonly hash: string;
}

/** A derivation a builder needs, and which of its outputs. */
export interface InputDerivation {
  readonly path: string;
  readonly outputs: readonly string[];
}

export interface Derivation {
  readonly outputs: readonly DerivationOutput[];
  readonly inputDerivations: readonly InputDerivation[];
  readonly inputSources: readonly string[];
  readonly system: string;
  readonly builder: string;
  readonly args: readonly string[];
  /** Attributes in the file's order, which is sorted by name; no name twice. */
  readonly env: ReadonlyMap<string, string>;
}

/** Parse a `.drv`; strings are bytes by src/bytes.ts. @throws HutchError with the offset of what is not a derivation */
export function parseDerivation(text: string): Derivation {
  const reader: Reader = { text, at: 0 };
  expect(reader, "Derive(");
  const outputs = parseList(reader, parseOutput);
  expect(reader, ",");
  const inputDerivations = parseList(reader, parseInput);
  expect(reader, ",");
  const inputSources = parseList(reader, parseString);
  expect(reader, ",");
  const system = parseString(reader);
  expect(reader, ",");
  const builder = parseString(reader);
  expect(reader, ",");
  const args = parseList(reader, parseString);
  expect(reader, ",");
  const pairs = parseList(reader, parsePair);
  expect(reader, ")");
  if (reader.at !== text.length) fail(reader, "the end");
  const env = new Map(pairs);
  if (env.size !== pairs.length) throw new HutchError("not a derivation: an attribute is there twice");
  if (outputs.length === 0) throw new HutchError("not a derivation: it has no outputs");
  return { outputs, inputDerivations, inputSources, system, builder, args, env };
}

interface Reader {
  readonly text: string;
  at: number;
}

function expect(reader: Reader, text: string): void {
  if (!reader.text.startsWith(text, reader.at)) fail(reader, text);
  reader.at += text.length;
}

function parseList<Item>(reader: Reader, parseItem: (reader: Reader) => Item): Item[] {
  expect(reader, "[");
  const items: Item[] = [];
  if (reader.text[reader.at] === "]") {
    reader.at += 1;
    return items;
  }
  for (;;) {
    items.push(parseItem(reader));
    if (reader.text[reader.at] === "]") break;
    expect(reader, ",");
  }
  reader.at += 1;
  return items;
}

const SPECIAL = /["\\]/g;
const ESCAPES: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t" };

function parseString(reader: Reader): string {
  expect(reader, '"');
  const { text } = reader;
  const pieces: string[] = [];
  for (let start = reader.at; ;) {
    SPECIAL.lastIndex = start;
    const match = SPECIAL.exec(text);
    if (match === null) return fail(reader, "a closing quote");
    pieces.push(text.slice(start, match.index));
    if (match[0] === '"') {
      reader.at = match.index + 1;
      return pieces.join("");
    }
    const escaped = text[match.index + 1];
    if (escaped === undefined) return fail(reader, "a closing quote");
    pieces.push(ESCAPES[escaped] ?? escaped); // any other character stands for itself
    start = match.index + 2;
  }
}

function parseOutput(reader: Reader): DerivationOutput {
  const [name, path, hashAlgorithm, hash] = parseTuple(reader, 4);
  if (name === "" || name === undefined) return fail(reader, "an output's name");
  return { name, path: path ?? "", hashAlgorithm: hashAlgorithm ?? "", hash: hash ?? "" };
}

function parsePair(reader: Reader): [string, string] {
  const [name, value] = parseTuple(reader, 2);
  return [name ?? "", value ?? ""];
}

function parseTuple(reader: Reader, count: number): string[] {
  expect(reader, "(");
  const items: string[] = [];
  for (let i = 0; i < count; i++) {
    if (i > 0) expect(reader, ",");
    items.push(parseString(reader));
  }
  expect(reader, ")");
  return items;
}

function parseInput(reader: Reader): InputDerivation {
  expect(reader, "(");
  const path = parseString(reader);
  expect(reader, ",");
  const outputs = parseList(reader, parseString);
  expect(reader, ")");
  return { path, outputs };
}

function fail(reader: Reader, expected: string): never {
  throw new HutchError(`not a derivation: expected ${expected} at offset ${reader.at}`);
}

/** The file's text as Nix writes it; the twin of {@link parseDerivation}. */
export function formatDerivation(derivation: Derivation): string {
  const outputs = derivation.outputs.map((o) => tuple([o.name, o.path, o.hashAlgorithm, o.hash]));
  const inputs = derivation.inputDerivations.map((input) => `(${quote(input.path)},${list(input.outputs.map(quote))})`);
  const env = [...derivation.env].map((pair) => tuple(pair));
  const fields = [
    list(outputs),
    list(inputs),
    list(derivation.inputSources.map(quote)),
    quote(derivation.system),
    quote(derivation.builder),
    list(derivation.args.map(quote)),
    list(env),
  ];
  return `Derive(${fields.join(",")})`;
}

const UNESCAPES: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

const quote = (text: string): string => `"${text.replace(/[\\"\n\r\t]/g, (char) => UNESCAPES[char] ?? `\\${char}`)}"`;
const list = (items: readonly string[]): string => `[${items.join(",")}]`;
const tuple = (items: readonly string[]): string => `(${items.map(quote).join(",")})`;

/** Output names and their store paths. A floating content-addressed output has none before it is built. */
export function outputPaths(derivation: Derivation): ReadonlyMap<string, string> {
  return new Map(derivation.outputs.filter(({ path }) => path !== "").map(({ name, path }) => [name, path]));
}

/** Whether the output's content is known beforehand, so that the builder has the network. */
export function isFixedOutput(derivation: Derivation): boolean {
  const [output] = derivation.outputs;
  return derivation.outputs.length === 1 && output?.name === "out" && output.hash !== "" && output.hash !== "impure";
}

/** Whether attributes are passed as `.attrs.json` and `.attrs.sh` rather than as variables. */
export function hasStructuredAttributes(derivation: Derivation): boolean {
  return derivation.env.has("__json");
}
