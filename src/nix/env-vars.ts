/**
 * The `env-vars` file that nixpkgs' stdenv leaves in a build directory: bash's own list of exported variables, as
 * `export` without arguments prints it (bash(1), SHELL BUILTIN COMMANDS, "declare" and QUOTING). Strings are bytes by
 * src/bytes.ts: a builder runs in the C locale, where bash writes every byte above 126 as `\nnn`.
 */

import { decodeBytes, encodeBytes } from "../bytes.ts";
import { HutchError } from "../errors.ts";

/** One exported variable. */
export interface EnvVar {
  readonly name: string;
  /** The attributes bash printed, without the minus: `x`, `rx`, `ax`. */
  readonly flags: string;
  /** Its value; undefined for a variable that is exported but not set, and for arrays. */
  readonly value: string | undefined;
  /** For an exported array (never passed to programs): the text between the parentheses, as it stands. */
  readonly elements?: string;
}

/** What else is in the build's environment follows from these. All are undefined when the variable is absent or unset. */
export interface BuildFacts {
  readonly shell: string | undefined;
  /** The working directory when the variables were written, that is, at the start of the last phase. */
  readonly workingDirectory: string | undefined;
  /** Where the build believed its top directory to be: `/build`, or a host path for an unsandboxed build. */
  readonly buildTop: string | undefined;
  readonly store: string | undefined;
  /** The first output's path. */
  readonly out: string | undefined;
  /** `name`, else `pname-version`. */
  readonly name: string | undefined;
}

/** Parse an env-vars file. Linear in its length. @throws HutchError naming the line that is not bash's */
export function parseEnvVars(text: string): readonly EnvVar[] {
  const reader = { text, at: 0 };
  const variables: EnvVar[] = [];
  while (reader.at < text.length) {
    if (text[reader.at] === "\n") reader.at += 1;
    else variables.push(parseDeclaration(reader));
  }
  return variables;
}

interface Reader {
  readonly text: string;
  at: number;
}

const DECLARATION = /declare -([A-Za-z]+) ([A-Za-z_][A-Za-z0-9_]*)|export ([A-Za-z_][A-Za-z0-9_]*)/y;

function parseDeclaration(reader: Reader): EnvVar {
  DECLARATION.lastIndex = reader.at;
  const match = DECLARATION.exec(reader.text);
  if (match === null) return fail(reader, "expected `declare -x NAME`");
  reader.at = DECLARATION.lastIndex;
  const flags = match[1] ?? "x";
  const name = match[2] ?? match[3] ?? "";
  const next = reader.text[reader.at];
  if (next === "\n" || next === undefined) {
    reader.at += 1;
    return { name, flags, value: undefined };
  }
  if (next !== "=") return fail(reader, `expected = after ${name}`);
  reader.at += 1;
  if (reader.text[reader.at] === "(") return { name, flags, value: undefined, elements: parseElements(reader) };
  const value = parseWord(reader);
  endOfLine(reader);
  return { name, flags, value };
}

function endOfLine(reader: Reader): void {
  if (reader.at < reader.text.length && reader.text[reader.at] !== "\n") fail(reader, "expected the end of the line");
  reader.at += 1;
}

/** The rest of an array assignment; quotes are walked so that a parenthesis inside them does not end it. */
function parseElements(reader: Reader): string {
  const start = reader.at + 1;
  reader.at = start;
  for (;;) {
    const char = reader.text[reader.at];
    if (char === undefined) fail(reader, "array without its closing parenthesis");
    if (char === ")") break;
    if (char === '"' || char === "'" || char === "$") parsePiece(reader);
    else reader.at += 1;
  }
  const elements = reader.text.slice(start, reader.at);
  reader.at += 1;
  endOfLine(reader);
  return elements;
}

/** A word of adjoining pieces: "…", $'…', '…', or plain characters. Ends before the end of the line. */
function parseWord(reader: Reader): string {
  const pieces: string[] = [];
  while (reader.at < reader.text.length && reader.text[reader.at] !== "\n") pieces.push(parsePiece(reader));
  const value = pieces.join("");
  // bytes written one by one may be UTF-8 together
  return value.isWellFormed() ? value : decodeBytes(encodeBytes(value));
}

const PLAIN = /[^"'$\\`\s;&|<>()]+/y;

function parsePiece(reader: Reader): string {
  const { text, at } = reader;
  if (text[at] === '"') return parseDoubleQuoted(reader);
  if (text.startsWith("$'", at)) return parseAnsiQuoted(reader);
  if (text[at] === "'") {
    const end = text.indexOf("'", at + 1);
    if (end < 0) fail(reader, "a quote that is not closed");
    reader.at = end + 1;
    return text.slice(at + 1, end);
  }
  if (text[at] === "\\" && at + 1 < text.length) {
    reader.at += 2;
    return text[at + 1] === "\n" ? "" : (text[at + 1] ?? "");
  }
  PLAIN.lastIndex = at;
  const plain = PLAIN.exec(text)?.[0];
  if (plain === undefined) return fail(reader, "not a value that bash would write");
  reader.at += plain.length;
  return plain;
}

function parseDoubleQuoted(reader: Reader): string {
  const { text } = reader;
  const pieces: string[] = [];
  let start = reader.at + 1;
  for (let at = start; at < text.length; at++) {
    const char = text[at];
    if (char === '"') {
      pieces.push(text.slice(start, at));
      reader.at = at + 1;
      return pieces.join("");
    }
    if (char === "$" || char === "`") {
      reader.at = at; // an expansion: bash's list has none, and its value is not in the file
      fail(reader, "an expansion inside a value");
    }
    if (char !== "\\") continue;
    const next = text[at + 1] ?? "";
    if (!'$`"\\\n'.includes(next) || next === "") continue; // then the backslash stands for itself
    pieces.push(text.slice(start, at), next === "\n" ? "" : next);
    start = at + 2;
    at += 1;
  }
  return fail(reader, "a quote that is not closed");
}

const ANSI: Readonly<Record<string, string>> = {
  a: "\x07",
  b: "\b",
  e: "\x1b",
  E: "\x1b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
  "\\": "\\",
  "'": "'",
  '"': '"',
  "?": "?",
};

const NUMERIC = /\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{1,4})|U([0-9A-Fa-f]{1,8})|c([\s\S]))/y;

function parseAnsiQuoted(reader: Reader): string {
  const { text } = reader;
  const pieces: string[] = [];
  let start = reader.at + 2;
  for (let at = start; at < text.length; at++) {
    if (text[at] === "'") {
      pieces.push(text.slice(start, at));
      reader.at = at + 1;
      return pieces.join("");
    }
    if (text[at] !== "\\") continue;
    pieces.push(text.slice(start, at));
    const simple = ANSI[text[at + 1] ?? ""];
    NUMERIC.lastIndex = at;
    const numeric = simple === undefined ? NUMERIC.exec(text) : null;
    if (simple !== undefined) pieces.push(simple);
    else if (numeric !== null) pieces.push(numericEscape(numeric, reader));
    else pieces.push("\\"); // an unknown escape keeps its backslash
    start = at + (simple !== undefined ? 2 : (numeric?.[0].length ?? 1));
    at = start - 1;
  }
  return fail(reader, "a quote that is not closed");
}

function numericEscape(match: RegExpExecArray, reader: Reader): string {
  const [, octal, hex, short, long, control] = match;
  if (control !== undefined) return String.fromCharCode(control.charCodeAt(0) & 0x1f);
  const digits = short ?? long;
  if (digits !== undefined) {
    const point = Number.parseInt(digits, 16);
    if (point === 0 || point > 0x10ffff) fail(reader, `\\u${digits} is not a character`);
    return String.fromCodePoint(point);
  }
  const byte = (octal === undefined ? Number.parseInt(hex ?? "", 16) : Number.parseInt(octal, 8)) & 0xff;
  if (byte === 0) fail(reader, "a NUL inside a value");
  return byte < 0x80 ? String.fromCharCode(byte) : String.fromCharCode(0xdc00 + byte);
}

function fail(reader: Reader, what: string): never {
  const line = reader.text.slice(0, reader.at).split("\n").length;
  throw new HutchError(`env-vars line ${line}: ${what}`);
}

/** The list as bash in the C locale writes it; {@link parseEnvVars} reads it back, and bash may source it. */
export function formatEnvVars(variables: readonly EnvVar[]): string {
  return variables
    .map(({ name, flags, value, elements }) => {
      const assigned = elements !== undefined ? `=(${elements})` : value === undefined ? "" : `=${quoteValue(value)}`;
      return `declare -${flags} ${name}${assigned}\n`;
    })
    .join("");
}

const ANSI_NAMES: Readonly<Record<number, string>> = {
  7: "\\a",
  8: "\\b",
  9: "\\t",
  10: "\\n",
  11: "\\v",
  12: "\\f",
  13: "\\r",
  27: "\\E",
  39: "\\'",
  92: "\\\\",
};

/** Quote one value as bash's `declare -p` does in the C locale. @throws HutchError for a NUL, which bash cannot hold */
export function quoteValue(value: string): string {
  if (value.includes("\0")) throw new HutchError("a shell variable cannot hold a NUL byte");
  if (/^[\x20-\x7e]*$/.test(value)) return `"${value.replace(/[\\"$`]/g, "\\$&")}"`;
  let quoted = "";
  for (const byte of encodeBytes(value)) {
    const named = ANSI_NAMES[byte];
    if (named !== undefined) quoted += named;
    else if (byte >= 0x20 && byte < 0x7f) quoted += String.fromCharCode(byte);
    else quoted += `\\${byte.toString(8).padStart(3, "0")}`;
  }
  return `$'${quoted}'`;
}

/** A plain variable as `export NAME=value` makes it. */
export function envVar(name: string, value: string): EnvVar {
  return { name, flags: "x", value };
}

/** The value of the variable `name`; undefined when it is absent or unset. The last of several wins, as in bash. */
export function valueOf(variables: readonly EnvVar[], name: string): string | undefined {
  return variables.findLast((variable) => variable.name === name)?.value;
}

/** Pick out what the sandbox is built from. */
export function buildFacts(variables: readonly EnvVar[]): BuildFacts {
  const value = (name: string) => valueOf(variables, name) || undefined;
  const pname = value("pname");
  const version = value("version");
  const firstOutput = (value("outputs") ?? "out").split(/\s+/)[0] ?? "out";
  return {
    shell: value("SHELL"),
    workingDirectory: value("PWD"),
    buildTop: value("NIX_BUILD_TOP"),
    store: value("NIX_STORE"),
    out: value("out") ?? value(firstOutput),
    name: value("name") ?? (pname === undefined || version === undefined ? pname : `${pname}-${version}`),
  };
}

/** Put `to` in the place of the directory `from` wherever a value names it or something below it (an unsandboxed build). */
export function mapDirectory(variables: readonly EnvVar[], from: string, to: string): readonly EnvVar[] {
  if (from === to || !from.startsWith("/") || from === "/") return variables;
  const place = new RegExp(`${RegExp.escape(from)}(?![A-Za-z0-9_.+-])`, "g");
  return variables.map((variable) =>
    variable.value === undefined ? variable : { ...variable, value: variable.value.replace(place, () => to) },
  );
}
