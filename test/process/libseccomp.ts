/** The references that the compiler is held against: libseccomp, and the kernel, by two small C programs built here. */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Arch } from "../../src/libc/syscalls.ts";
import type { Condition } from "../../src/process/seccomp-profile.ts";

export type ReferenceRule = {
  readonly action: number;
  readonly name: string | number;
  readonly conditions: readonly Condition[];
};
export type ReferenceFilter = {
  readonly arch: Arch;
  readonly defaultAction: number;
  readonly rules: readonly ReferenceRule[];
};

/** A built C program in a directory of its own, gone with `using`. */
export function buildC(source: string, ...libraries: string[]): Disposable & { readonly path: string } {
  const directory = mkdtempSync(join(tmpdir(), "hutch-seccomp-"));
  const path = join(directory, "program");
  const gcc = Bun.which("gcc");
  if (gcc === null) throw new Error("gcc is missing: install gcc and libc6-dev");
  const built = Bun.spawnSync([gcc, "-Wall", "-O1", "-o", path, join(import.meta.dir, source), ...libraries]);
  if (built.exitCode !== 0) {
    throw new Error(
      `${source} does not build (libseccomp-dev, linux-libc-dev installed?):\n${built.stderr.toString()}`,
    );
  }
  return { path, [Symbol.dispose]: () => rmSync(directory, { recursive: true }) };
}

/** Runs a program on a text and returns its output. @throws Error with its stderr when it fails. */
export function run(command: readonly string[], input: string): Uint8Array {
  const result = Bun.spawnSync([...command], { stdin: new TextEncoder().encode(input) });
  if (result.exitCode !== 0) throw new Error(`${command.join(" ")}: ${result.exitCode} ${result.stderr.toString()}`);
  return result.stdout;
}

/** The filters that libseccomp makes of these lists, in order. A rule with the default's action must not be among them. */
export function referenceFilters(program: string, filters: readonly ReferenceFilter[]): Uint8Array[] {
  const output = run([program], filters.map(filterText).join(""));
  const view = new DataView(output.buffer, output.byteOffset, output.byteLength);
  const made: Uint8Array[] = [];
  for (let at = 0; at < output.length;) {
    const length = view.getUint32(at, true);
    made.push(output.slice(at + 4, at + 4 + length));
    at += 4 + length;
  }
  if (made.length !== filters.length) throw new Error(`libseccomp made ${made.length} of ${filters.length} filters`);
  return made;
}

function filterText({ arch, defaultAction, rules }: ReferenceFilter): string {
  const lines = rules.map(({ action, name, conditions }) => {
    const words = conditions.flatMap((c) => [c.index, c.op.slice("SCMP_CMP_".length), c.value, c.valueTwo]);
    return ["rule", action, name, conditions.length, ...words].join(" ");
  });
  return [`arch ${arch}`, `default ${defaultAction}`, ...lines, "end", ""].join("\n");
}

/** The numbers that libseccomp has for names; negative where it knows none for that architecture. */
export function referenceNumbers(program: string, arch: Arch, names: readonly string[]): Map<string, number> {
  const output = run([program], names.map((name) => `resolve ${arch} ${name}\n`).join(""));
  const view = new DataView(output.buffer, output.byteOffset, output.byteLength);
  return new Map(names.map((name, i) => [name, view.getInt32(4 * i, true)]));
}
