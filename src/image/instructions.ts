/**
 * Instructions of a Dockerfile that change an image's config, as `docker import --change` takes them (Dockerfile reference).
 * Pure. Nothing is expanded: a `$` that docker would expand is refused, so that no image says what was not meant.
 */

import { UsageError } from "../errors.ts";
import { canonicalSignal } from "../libc/signal.ts";
import { pathNames } from "./merged-view.ts";

/** The members of an image's `config` that instructions set (image-spec config.md). */
export type InstructedConfig = {
  readonly User?: string;
  readonly ExposedPorts?: Readonly<Record<string, object>>;
  readonly Env?: readonly string[];
  readonly Entrypoint?: readonly string[];
  readonly Cmd?: readonly string[];
  readonly Volumes?: Readonly<Record<string, object>>;
  readonly WorkingDir?: string;
  readonly Labels?: Readonly<Record<string, string>>;
  readonly StopSignal?: string;
};

type Apply = (config: InstructedConfig, value: string, refuse: (why: string) => never) => InstructedConfig;

const INSTRUCTIONS: Readonly<Record<string, Apply>> = {
  CMD: (config, value, refuse) => ({ ...config, Cmd: commandOf(value, refuse) }),
  ENTRYPOINT: (config, value, refuse) => ({ ...config, Entrypoint: commandOf(value, refuse) }),
  ENV: (config, value, refuse) => {
    const env = new Map((config.Env ?? []).map((entry) => [entry.slice(0, entry.indexOf("=")), entry]));
    for (const [key, text] of pairsOf(value, refuse)) env.set(key, `${key}=${text}`);
    return { ...config, Env: [...env.values()] };
  },
  LABEL: (config, value, refuse) => ({
    ...config,
    Labels: { ...config.Labels, ...Object.fromEntries(pairsOf(value, refuse)) },
  }),
  WORKDIR: (config, value, refuse) => {
    const path = wholeOf(value, refuse);
    return { ...config, WorkingDir: cleanPath(path.startsWith("/") ? path : `${config.WorkingDir ?? ""}/${path}`) };
  },
  USER: (config, value, refuse) => ({ ...config, User: wholeOf(value, refuse) }),
  STOPSIGNAL: (config, value, refuse) => ({ ...config, StopSignal: canonicalSignal(wholeOf(value, refuse), value) }),
  EXPOSE: (config, value, refuse) => {
    const ports = wordsOf(value, refuse).flatMap((word) => portsOf(word, refuse));
    return { ...config, ExposedPorts: { ...config.ExposedPorts, ...emptyObjects(ports) } };
  },
  VOLUME: (config, value, refuse) => {
    const paths = value.startsWith("[") ? listOf(value, refuse) : wordsOf(value, refuse);
    if (paths.length === 0 || paths.includes("")) refuse("an empty path");
    return { ...config, Volumes: { ...config.Volumes, ...emptyObjects(paths) } };
  },
};

/** An absolute path without `.`, `..` and doubled slashes, by its words alone (Go's path.Clean, which docker uses). */
function cleanPath(path: string): string {
  const names: string[] = [];
  for (const name of pathNames(path)) {
    if (name === "..") names.pop();
    else names.push(name);
  }
  return `/${names.join("/")}`;
}

const emptyObjects = (keys: readonly string[]): Record<string, object> =>
  Object.fromEntries(keys.map((key) => [key, {}]));

/**
 * Apply one instruction, `CMD ["sh"]` or podman's `CMD=["sh"]`, to what those before it have made. `from` are the user's words.
 * @throws UsageError when it is none of these, or its value is not what it wants
 */
export function applyInstruction(config: InstructedConfig, text: string, from: string): InstructedConfig {
  const [, word = "", value = ""] = /^([A-Za-z]+)(?:[\s=]\s*([^]*))?$/.exec(text.trim()) ?? [];
  const name = word.toUpperCase();
  const refuse = (why: string): never => {
    throw new UsageError(`${name || "instruction"}: ${why}`, { from });
  };
  const apply = Object.hasOwn(INSTRUCTIONS, name) ? INSTRUCTIONS[name] : undefined;
  if (apply === undefined) {
    const hint = `known are ${Object.keys(INSTRUCTIONS).join(", ")}`;
    throw new UsageError(`unknown instruction ${JSON.stringify((word || text).slice(0, 100))}`, { from, hint });
  }
  if (value === "") refuse("no value");
  if (!value.isWellFormed() || value.includes("\0")) refuse("not UTF-8, or a NUL byte");
  return apply(config, value, refuse);
}

/** `["a", "b"]` as it is; other text is for a shell. What looks like a list and is none is no text for a shell. */
function commandOf(value: string, refuse: (why: string) => never): readonly string[] {
  return value.startsWith("[") ? listOf(value, refuse) : ["/bin/sh", "-c", value];
}

function listOf(value: string, refuse: (why: string) => never): string[] {
  let list: unknown;
  try {
    list = JSON.parse(value);
  } catch {
    return refuse("not a list in JSON, with double quotes");
  }
  const isText = (item: unknown): item is string =>
    typeof item === "string" && item.isWellFormed() && !item.includes("\0");
  return Array.isArray(list) && list.every(isText) ? list : refuse("not a list of texts in JSON");
}

/** `A=b C="d e"`, or in the old way `A b c`, which is one. */
function pairsOf(value: string, refuse: (why: string) => never): [string, string][] {
  const [, first = "", rest] = /^(\S+)(?:\s+([^]*))?$/.exec(value) ?? [];
  if (!first.includes("=") && !/^["']/.test(first)) {
    if (rest === undefined) return refuse("neither NAME=VALUE nor NAME VALUE");
    return [[wordsOf(first, refuse).join(""), wholeOf(rest, refuse)]];
  }
  return wordsOf(value, refuse).map((word) => {
    const equals = word.indexOf("=");
    return equals > 0
      ? [word.slice(0, equals), word.slice(equals + 1)]
      : refuse(`${JSON.stringify(word)} is not NAME=VALUE`);
  });
}

/** `80`, `80/udp`, `8000-8010/tcp` as the ports that they mean. */
function portsOf(word: string, refuse: (why: string) => never): string[] {
  const [, first, last = first, protocol = "tcp"] = /^(\d{1,5})(?:-(\d{1,5}))?(?:\/(tcp|udp|sctp))?$/i.exec(word) ?? [];
  const [from, to] = [Number(first), Number(last)];
  if (!(from >= 1 && to <= 65_535 && from <= to)) refuse(`${JSON.stringify(word)} is not PORT[-PORT][/tcp|udp|sctp]`);
  return Array.from({ length: to - from + 1 }, (_, i) => `${from + i}/${protocol.toLowerCase()}`);
}

/** A value that is one text, its spaces kept. */
function wholeOf(value: string, refuse: (why: string) => never): string {
  return readWords(value, false, refuse).join("") || refuse("an empty value");
}

function wordsOf(value: string, refuse: (why: string) => never): string[] {
  return readWords(value, true, refuse);
}

/** Quotes and backslashes as a Dockerfile has them: nothing is special in '…', and in "…" a backslash only before " \ $. */
function readWords(text: string, split: boolean, refuse: (why: string) => never): string[] {
  const words: string[] = [];
  let word: string | undefined;
  const token = /'([^']*)'|"((?:[^"\\]|\\[^])*)"|\\([^])|(\s+)|([^\s'"\\]+)/y;
  while (token.lastIndex < text.length) {
    const found = token.exec(text);
    if (found === null) return refuse("a quote or backslash without its end");
    const [, single, double, escaped, space, plain] = found;
    if (/\$/.test(plain ?? double?.replaceAll(/\\[^]/g, "") ?? ""))
      refuse(`variables are not expanded: write \\$ or '$' for a dollar sign`);
    if (space !== undefined && split) {
      if (word !== undefined) words.push(word);
      word = undefined;
      continue;
    }
    word = (word ?? "") + (single ?? double?.replaceAll(/\\(["\\$])/g, "$1") ?? escaped ?? space ?? plain ?? "");
  }
  return word === undefined ? words : [...words, word];
}
