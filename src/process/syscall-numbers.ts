/**
 * System call numbers by name and names by number, for the filter compiler. Only the compiler loads these tables: a run
 * with a precompiled filter never does.
 */

import type { Arch } from "../libc/syscalls.ts";
import { RUNS_ARM64 } from "./syscall-numbers-arm64.ts";
import { RUNS_X64 } from "./syscall-numbers-x64.ts";

function expand(runs: readonly (readonly [number, string])[]): ReadonlyMap<string, number> {
  return new Map(
    runs.flatMap(([first, names]) => names.split(" ").map((name, i) => [name, first + i] as [string, number])),
  );
}

const NUMBERS: Readonly<Record<Arch, ReadonlyMap<string, number>>> = {
  x64: expand(RUNS_X64),
  arm64: expand(RUNS_ARM64),
};

/** Every system call of an architecture that Linux 6.18 knows: name to number, in order of number. */
export function syscallNumbers(arch: Arch): ReadonlyMap<string, number> {
  return NUMBERS[arch];
}
