/** WWW-Authenticate challenges (RFC 9110 section 11.6.1; distribution's token authentication). Pure. */

export type Challenge = {
  /** Lower case: `bearer`, `basic`. */
  readonly scheme: string;
  /** Keys in lower case. */
  readonly parameters: Readonly<Record<string, string>>;
};

const TOKEN = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y;
const QUOTED = /"((?:[^"\\]|\\.)*)"/suy;

/** Read one or several header values joined by commas; what does not parse ends the list. */
export function parseChallenges(header: string): Challenge[] {
  const challenges: { scheme: string; parameters: Record<string, string> }[] = [];
  let at = 0;
  const match = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    const found = pattern.exec(header);
    if (found === null) return undefined;
    at = pattern.lastIndex;
    return found[1] ?? found[0];
  };
  const skip = (pattern: RegExp): boolean => match(pattern) !== undefined;
  for (;;) {
    skip(/[ \t,]+/y);
    const word = match(TOKEN);
    if (word === undefined) return challenges;
    const current = challenges.at(-1);
    const isParameter = skip(/[ \t]*=[ \t]*/y);
    if (!isParameter) {
      challenges.push({ scheme: word.toLowerCase(), parameters: {} });
      continue;
    }
    const quoted = match(QUOTED)?.replaceAll(/\\(.)/gsu, "$1");
    const value = quoted ?? match(TOKEN);
    if (value === undefined || current === undefined) return challenges;
    current.parameters[word.toLowerCase()] = value;
  }
}

/** The challenge that we can answer best: a bearer token with an address to get it from, else basic. */
export function bestChallenge(challenges: readonly Challenge[]): Challenge | undefined {
  return (
    challenges.find(({ scheme, parameters }) => scheme === "bearer" && parameters["realm"] !== undefined) ??
    challenges.find(({ scheme }) => scheme === "basic")
  );
}
