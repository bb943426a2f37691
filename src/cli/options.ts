/**
 * Options of hutch's commands: parsed by the definitions that citty's usage text is made from.
 *
 * citty itself reads options behind operands too, keeps only the last of repeated ones and takes unknown ones silently;
 * hutch's options end at the first operand, because all after it belongs to the program.
 */

import type { ArgsDef } from "citty";
import { UsageError } from "../errors.ts";

/** One option as it was given: its value, and the user's own words for error messages. */
export interface Occurrence {
  readonly value: string;
  readonly words: string;
}

/** What a command line consists of: options by name, each a list, and what follows them. */
export interface Parsed {
  readonly options: ReadonlyMap<string, readonly Occurrence[]>;
  readonly operands: readonly string[];
  /** Whether `--` stands before the operands. */
  readonly ended: boolean;
}

interface Definition {
  readonly name: string;
  readonly takesValue: boolean;
}

/** The definition of a long or short option. No table is made of them: a start asks for two or three. */
function define(args: ArgsDef, key: string): Definition | undefined {
  const entry = Object.hasOwn(args, key)
    ? ([key, args[key]] as const)
    : Object.entries(args).find(([, other]) => "alias" in other && [other.alias].flat().includes(key));
  const [name, definition] = entry ?? [];
  if (name === undefined || definition === undefined || definition.type === "positional") return undefined;
  return { name, takesValue: definition.type === "string" || definition.type === "enum" };
}

/**
 * Split arguments into options and operands. Long options as `--name value` or `--name=value`, short ones as `-e value`,
 * `-evalue` or clustered (`-it`). `--` ends them. `options` is filled on the way. @throws UsageError for unknown options and missing values.
 */
export function parseOptions(
  args: ArgsDef,
  argv: readonly string[],
  options = new Map<string, Occurrence[]>(),
): Parsed {
  const add = (name: string, occurrence: Occurrence) => {
    const list = options.get(name);
    if (list === undefined) options.set(name, [occurrence]);
    else list.push(occurrence);
  };
  let index = 0;
  let ended = false;
  const following = (word: string): string => {
    index += 1;
    const value = argv[index];
    if (value === undefined) throw new UsageError(`option ${word} needs a value`);
    return value;
  };
  for (; index < argv.length; index++) {
    const word = argv[index] ?? "";
    if (word === "--") {
      index += 1;
      ended = true;
      break;
    }
    if (!word.startsWith("-") || word === "-") break;
    if (word.startsWith("--")) {
      const equals = word.indexOf("=");
      const key = word.slice(2, equals < 0 ? undefined : equals);
      const definition = key.length > 1 ? define(args, key) : undefined;
      if (definition === undefined) throw unknownOption(`--${key}`, args);
      if (definition.takesValue) {
        const value = equals < 0 ? following(word) : word.slice(equals + 1);
        add(definition.name, { value, words: equals < 0 ? `${word} ${value}` : word });
      } else {
        if (equals >= 0) throw new UsageError(`option --${key} takes no value`, { from: word });
        add(definition.name, { value: "", words: word });
      }
      continue;
    }
    for (let at = 1; at < word.length; at++) {
      const key = word[at] ?? "";
      const definition = define(args, key);
      if (definition === undefined) throw unknownOption(`-${key}`, args, word);
      if (!definition.takesValue) {
        add(definition.name, { value: "", words: `-${key}` });
        continue;
      }
      const rest = word.slice(at + 1);
      const value = rest === "" ? following(word) : rest;
      add(definition.name, { value, words: `-${key} ${value}` });
      break;
    }
  }
  return { options, operands: argv.slice(index), ended };
}

/** The options that stand before the first mistake of a command line, or all. */
export function understood(args: ArgsDef, argv: readonly string[]): Parsed {
  const options = new Map<string, Occurrence[]>();
  try {
    return parseOptions(args, argv, options);
  } catch {
    return { options, operands: [], ended: false };
  }
}

/**
 * The same for commands whose operands are no program's arguments: options may stand behind operands too, up to `--`.
 * @throws UsageError
 */
export function parseMixed(args: ArgsDef, argv: readonly string[]): Parsed {
  const options = new Map<string, Occurrence[]>();
  const operands: string[] = [];
  for (let rest = argv; ;) {
    const part = parseOptions(args, rest);
    for (const [name, list] of part.options) options.set(name, [...(options.get(name) ?? []), ...list]);
    const [first, ...more] = part.operands;
    if (first === undefined || part.ended) {
      return { options, operands: [...operands, ...part.operands], ended: part.ended };
    }
    operands.push(first);
    rest = more;
  }
}

function unknownOption(option: string, args: ArgsDef, word = option): UsageError {
  const long = Object.keys(args).filter((key) => key.length > 1 && args[key]?.type !== "positional");
  const near = option.startsWith("--") ? nearest(option.slice(2), long) : undefined;
  const from = word === option ? {} : { from: word };
  return new UsageError(`unknown option ${option}`, {
    ...from,
    ...(near === undefined ? {} : { hint: `did you mean --${near}?` }),
  });
}

/** The most similar of some words, if any is similar at all. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  const letters = (text: string): string => text.split("").toSorted().join("");
  // Short words are all alike: of up to four letters one may be wrong, or their order.
  let least = (word.length <= 2 ? 0 : word.length <= 4 ? 1 : Math.max(2, Math.ceil(word.length / 3))) + 1;
  for (const candidate of candidates) {
    const begins = word !== "" && candidate.startsWith(word);
    const d = begins ? 0 : letters(word) === letters(candidate) ? 1 : distance(word, candidate);
    if (d < least) [best, least] = [candidate, d];
  }
  return best;
}

/** Levenshtein's distance. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = a[i - 1] === b[j - 1] ? 0 : 1;
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + change));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

/** All occurrences of an option. */
export function all(parsed: Parsed, name: string): readonly Occurrence[] {
  return parsed.options.get(name) ?? [];
}

/** The last occurrence of an option, as with most commands. */
export function last(parsed: Parsed, name: string): Occurrence | undefined {
  const given = parsed.options.get(name);
  return given?.[given.length - 1];
}

/** Whether a flag was given. */
export function has(parsed: Parsed, name: string): boolean {
  return parsed.options.has(name);
}

/** An option that must be one of some words. @throws UsageError */
export function oneOf<T extends string>(parsed: Parsed, name: string, values: readonly T[], fallback: T): T {
  const given = last(parsed, name);
  if (given === undefined) return fallback;
  const value = values.find((word) => word === given.value);
  if (value === undefined) {
    throw new UsageError(`--${name} must be ${values.join(" or ")}`, { from: given.words });
  }
  return value;
}
