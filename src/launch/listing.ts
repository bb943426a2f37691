/** The launcher's side of a named sandbox: the file in which it is listed, and who removes that when hutch is killed. */

import type { Assembler, Content } from "./assembler.ts";
import { end } from "./processes.ts";

/** A file about the running sandbox, by descriptors. */
export interface State {
  /** The file, locked: it gets the account when the program has started. */
  readonly fd: number;
  /** Where it is, for its removal at the end. */
  readonly directoryFd: number;
  readonly name: string;
  /** Pid of its remover (remover.ts), a child of hutch's own process. */
  readonly remover: number;
}

/** Remove the file, by a descriptor of its directory, and end the remover: a keeper's is none of the launcher's children. */
export function forget(asm: Assembler, directory: number | Content, { name, remover }: State): void {
  asm.call("unlinkat", [directory, name, 0], { onError: "ignore" });
  end(asm, remover);
}
