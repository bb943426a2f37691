/** What nix-build and `nix build` print about a build that failed and was kept. */

/** One kept build, in the order printed. */
export interface KeptMessage {
  /** Host path of the kept directory. */
  readonly directory: string;
}

// Nix up to 2.33 and Lix write '…', Nix from 2.34 on "…"; old versions say "build directory", some "temporary build directory"
const KEEPING = /keeping (?:temporary )?build directory (?:'([^'\n]+)'|"((?:[^"\\\n]|\\.)+)"|‘([^’\n]+)’)/g;
const ANSI = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*[A-Za-z]`, "g");

/** The kept directories that the text names, each once, in order. Colours do not matter. */
export function parseKeptOutput(text: string): readonly KeptMessage[] {
  const found = new Set<string>();
  for (const match of text.replace(ANSI, "").matchAll(KEEPING)) {
    const [, single, double, curly] = match;
    const directory = single ?? curly ?? (double ?? "").replace(/\\(.)/g, "$1");
    if (directory.startsWith("/")) found.add(directory);
  }
  return [...found].map((directory) => ({ directory }));
}

/** The derivations that the text says have failed, each once, in order. */
export function parseFailedDerivations(text: string): readonly string[] {
  const failed = /(?:builder for|Cannot build) ['"‘]([^'"’\n]+\.drv)['"’](?: failed|\.)/g;
  return [...new Set([...text.replace(ANSI, "").matchAll(failed)].map((match) => match[1] ?? ""))];
}
