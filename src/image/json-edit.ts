/**
 * Changing members of a JSON text and nothing else of it: what other programs have written stays byte for byte, with their
 * spaces, their order, and numbers that JavaScript does not hold. Pure. The text must be one that JSON.parse takes.
 */

/** Positions in a text: of a member with its key, and of its value alone. The ends are exclusive. */
type Member = {
  readonly key: string;
  readonly start: number;
  readonly valueStart: number;
  readonly end: number;
};

/** An object of a text: where its braces are, and what is in it. */
type Span = { readonly open: number; readonly close: number; readonly members: readonly Member[] };

const STRING = /"[^"\\]*(?:\\.[^"\\]*)*"/sy;
const SPACE = /[\s\ufeff]*/y;
const PLAIN = /[^\s,\]}]+/y;

function match(pattern: RegExp, text: string, at: number): number {
  pattern.lastIndex = at;
  return pattern.test(text) ? pattern.lastIndex : at;
}

/** Where the value that starts at `at` ends. Depth is counted, not recursed into. */
function valueEnd(text: string, start: number): number {
  let depth = 0;
  for (let at = start; ;) {
    const char = text[at];
    if (char === "{" || char === "[") depth += 1;
    if (char === "}" || char === "]") depth -= 1;
    const isMark = char === undefined || "{}[],:".includes(char);
    at = isMark ? at + 1 : match(char === '"' ? STRING : PLAIN, text, at);
    if (depth <= 0 || at >= text.length) return at;
    at = match(SPACE, text, at);
  }
}

/** The object that starts at or behind `from`; undefined when something else does. */
function objectAt(text: string, from: number): Span | undefined {
  const open = match(SPACE, text, from);
  if (text[open] !== "{") return undefined;
  const members: Member[] = [];
  for (let at = open + 1; ;) {
    const start = match(SPACE, text, at);
    if (text[start] !== '"') return { open, close: start, members };
    const keyEnd = match(STRING, text, start);
    const colon = match(SPACE, text, keyEnd);
    const valueStart = match(SPACE, text, colon + 1);
    const end = valueEnd(text, valueStart);
    members.push({ key: JSON.parse(text.slice(start, keyEnd)) as string, start, valueStart, end });
    at = match(SPACE, text, end);
    if (text[at] === ",") at += 1;
  }
}

/** The object that keys lead to from the top, the last of a key as JSON.parse has it; undefined when there is none. */
function find(text: string, path: readonly string[]): Span | undefined {
  let span = objectAt(text, 0);
  for (const key of path) {
    const member = span?.members.findLast((other) => other.key === key);
    span = member === undefined ? undefined : objectAt(text, member.valueStart);
  }
  return span;
}

const splice = (text: string, start: number, end: number, by: string): string =>
  text.slice(0, start) + by + text.slice(end);

/** The text without the members of the object at `path` whose keys are to go. */
export function removeMembers(text: string, path: readonly string[], isGone: (key: string) => boolean): string {
  for (let rest = text; ;) {
    const span = find(rest, path);
    const position = span?.members.findLastIndex(({ key }) => isGone(key)) ?? -1;
    const member = span?.members[position];
    if (span === undefined || member === undefined) return rest;
    const [before, after] = [span.members[position - 1], span.members[position + 1]];
    const [start, end] =
      after !== undefined
        ? [member.start, after.start]
        : before !== undefined
          ? [before.end, member.end]
          : [span.open + 1, span.close];
    rest = splice(rest, start, end, "");
  }
}

/**
 * The text with a member of the object at `path` set to a value, a JSON object or string; objects on the way are made
 * where there are none. New members look like those before them.
 */
export function setMember(text: string, path: readonly string[], key: string, value: object | string): string {
  const span = find(text, path);
  if (span === undefined) {
    const parent = path.slice(0, -1);
    return setMember(setMember(text, parent, path.at(-1) ?? "", {}), path, key, value);
  }
  const present = span.members.findLast((member) => member.key === key);
  const last = span.members.at(-1);
  const indent = present === undefined ? newIndent(text, span) : "";
  const json = JSON.stringify(value, undefined, indent === "" ? undefined : "\t").replaceAll("\n", indent || "\n");
  if (present !== undefined) return splice(text, present.valueStart, present.end, json);
  const member = `${JSON.stringify(key)}:${indent === "" ? "" : " "}${json}`;
  if (last !== undefined) return splice(text, last.end, last.end, `,${indent}${member}`);
  const outer = indent.replace(/\t$/, "");
  return splice(text, span.open + 1, span.close, `${indent}${member}${outer}`);
}

/** What stands before a member: as before the last one, else one step deeper than the object's own line. */
function newIndent(text: string, { open, members }: Span): string {
  const last = members.at(-1);
  if (last !== undefined) return /[\s]*$/.exec(text.slice(0, last.start))?.[0] ?? "";
  if (!text.trimEnd().includes("\n") && text.trim() !== "{}") return "";
  const line = text.slice(text.lastIndexOf("\n", open) + 1, open);
  return `\n${/^[\t ]*/.exec(line)?.[0] ?? ""}\t`;
}
