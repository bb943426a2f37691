/** Starting other programs from the project's own scripts. */

import { resolve } from "node:path";

/** The repository's root, absolute. */
export const ROOT = resolve(import.meta.dir, "..");

/** What a program that has ended left behind. `output` is stdout and stderr together, in the order of writing. */
export interface Ended {
  readonly exitCode: number;
  readonly output: string;
  readonly milliseconds: number;
}

/** Run a program in the repository's root, without stdin; with `show`, its output goes straight to ours. */
export async function run(
  argv: readonly string[],
  options: { readonly show?: boolean; readonly env?: Readonly<Record<string, string>> } = {},
): Promise<Ended> {
  const start = performance.now();
  const env = { ...process.env, ...options.env };
  const ended = (exitCode: number, output: string): Ended => ({
    exitCode,
    output,
    milliseconds: performance.now() - start,
  });
  if (options.show === true) {
    const child = Bun.spawn([...argv], { cwd: ROOT, env, stdio: ["ignore", "inherit", "inherit"] });
    return ended(await child.exited, "");
  }
  // One pipe for both, as the shell makes it: two would lose the order.
  const child = Bun.spawn(["sh", "-c", 'exec "$@" 2>&1', "sh", ...argv], {
    cwd: ROOT,
    env,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const output = await new Response(child.stdout).text();
  return ended(await child.exited, output);
}

/** As {@link run}, but a failure prints the output and is thrown. */
export async function mustRun(
  argv: readonly string[],
  options: { readonly env?: Readonly<Record<string, string>> } = {},
): Promise<Ended> {
  const ended = await run(argv, options);
  if (ended.exitCode === 0) return ended;
  throw new Error(`${argv.join(" ")}: exit code ${ended.exitCode}\n${ended.output}`);
}
