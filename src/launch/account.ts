/**
 * The launcher's account of a run: times, usage, how it ended, namespaces. It is noted only where somebody asks, in a
 * block that the launcher writes behind its report when the program has ended; outcome.ts reads it.
 *
 * The sandbox tells through a pipe, close-on-exec, that the program never has: first the inode numbers of its
 * namespaces, and as PID 1 at last how the program ended, which its own exit status (128 + signal) cannot say exactly.
 */

import * as c from "../libc/constants.ts";
import type { NamespaceName } from "../spec.ts";
import { type Assembler, at, content } from "./assembler.ts";
import { field, SIGINFO } from "./processes.ts";
import type { Place } from "./program.ts";
import { ACCOUNT, ACCOUNT_OFFSET } from "./report.ts";

/** Links below /proc/PID/ns, by the Spec's names. */
export const NAMESPACE_LINKS: readonly (readonly [name: NamespaceName, link: string])[] = [
  ["user", "user"],
  ["mount", "mnt"],
  ["pid", "pid"],
  ["network", "net"],
  ["ipc", "ipc"],
  ["uts", "uts"],
  ["cgroup", "cgroup"],
  ["time", "time_for_children"],
];
const NAMESPACES_BYTES = 8 * NAMESPACE_LINKS.length;

/** Cells of the account. */
export interface Account {
  readonly block: Place;
  readonly read: Place;
  readonly write: Place;
}

/** Room for an account, and for the ends of its pipe. */
export function openAccount(asm: Assembler): Account {
  return { block: asm.cell(ACCOUNT.bytes), read: asm.cell(), write: asm.cell() };
}

/** The sandbox's part, while it still sees the host's /proc. */
export function tellNamespaces(asm: Assembler, { write }: Account): void {
  const [status, inodes] = [asm.cell(256), asm.cell(NAMESPACES_BYTES)];
  NAMESPACE_LINKS.forEach(([, link], index) => {
    const [known, absent] = [asm.label(), asm.label()];
    const ask = [c.AT_FDCWD, `/proc/self/ns/${link}`, 0, c.STATX_INO, status];
    asm.call("statx", ask, { next: known, onZero: known, onError: absent });
    asm.place(known);
    asm.call("load64", [status, 32], { result: at(inodes, 8 * index) }); // stx_ino
    asm.place(absent);
  });
  asm.call("write", [content(write), inodes, NAMESPACES_BYTES]);
}

/** PID 1's last word, from siginfo_t of the program. */
export function tellEnd(asm: Assembler, { write }: Account, info: Place): void {
  const words = asm.cell(16);
  field(asm, info, SIGINFO.code, words);
  field(asm, info, SIGINFO.status, at(words, 8));
  asm.call("write", [content(write), words, 16], { onError: "ignore" });
}

/** The launcher's part before the start. A sandbox that failed has closed its end: go on. */
export function receiveNamespaces(asm: Assembler, { block, read, write }: Account, child: Place): void {
  asm.call("close", [content(write)]);
  asm.set(at(block, ACCOUNT.pid), content(child));
  asm.call("read", [content(read), at(block, ACCOUNT.namespaces), NAMESPACES_BYTES]);
}

/** The program has started; what is known by now is written to the file about the sandbox, if there is one. */
export function noteStart(asm: Assembler, { block }: Account, stateFd: number | undefined): void {
  asm.call("clock_gettime", [c.CLOCK_MONOTONIC, at(block, ACCOUNT.started)], { onError: "ignore" });
  if (stateFd !== undefined) {
    asm.call("pwrite64", [stateFd, block, ACCOUNT.bytes, ACCOUNT_OFFSET], { onError: "ignore" });
  }
}

/** The program has ended: note when, hear PID 1's word, and write the account to its offset in the report. */
export function closeAccount(asm: Assembler, { block, read }: Account, report: Place, offset: number): void {
  asm.call("clock_gettime", [c.CLOCK_MONOTONIC, at(block, ACCOUNT.ended)], { onError: "ignore" });
  asm.call("read", [content(read), at(block, ACCOUNT.told), 16], { onError: "ignore" });
  asm.call("pwrite64", [content(report), block, ACCOUNT.bytes, offset], { onError: "ignore" });
}
