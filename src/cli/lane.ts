/**
 * The short way, tried before anything else is loaded: a plain run (run-plain.ts). The build makes one module of the entry
 * and all that this imports (scripts/build.ts): each more costs a start 0.1 to 0.2 ms. The long way has them a second
 * time, in modules of its own, so nothing may be shared with it but the kernel's state.
 */

import { runPlain } from "./run-plain.ts";
import { APPLETS, commandLine, isHardened } from "./self.ts";

/** Become the launcher of a plain run, or return: then cli/main.ts does all from the beginning, and says what is wrong. */
export async function shortWay(): Promise<void> {
  try {
    const { name, args, self } = commandLine();
    if (!isHardened() || APPLETS.includes(name) || args[0] !== "run") return;
    await runPlain(args.slice(1), { ...self, label: "hutch run" });
  } catch {
    // The long way meets the same, and has the words for it.
  }
}
