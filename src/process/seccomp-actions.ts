/** What a filter can answer: the kernel's 32 bits (action and data) and OCI's words for them. seccomp(2), linux/seccomp.h. */

import { errnoText } from "../libc/errno.ts";

/** OCI's action words to SECCOMP_RET_ numbers, the most restrictive first: the kernel's own order of precedence. */
export const ACTIONS = {
  SCMP_ACT_KILL_PROCESS: 0x80000000,
  SCMP_ACT_KILL_THREAD: 0x00000000,
  SCMP_ACT_KILL: 0x00000000, // the older name of KILL_THREAD
  SCMP_ACT_TRAP: 0x00030000,
  SCMP_ACT_ERRNO: 0x00050000,
  SCMP_ACT_NOTIFY: 0x7fc00000,
  SCMP_ACT_TRACE: 0x7ff00000,
  SCMP_ACT_LOG: 0x7ffc0000,
  SCMP_ACT_ALLOW: 0x7fff0000,
} as const;

export type Action = keyof typeof ACTIONS;

/** Actions that carry 16 bits of data: an error number, or a tracer's message. */
export const WITH_DATA: ReadonlySet<Action> = new Set(["SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"]);

/** Order of precedence of a raw answer, as when the kernel has several filters: the lowest (signed) action wins. */
export function severity(raw: number): number {
  return (raw & 0xffff0000) | 0;
}

/** A raw answer as text: `allow`, `errno EPERM`, `kill process`, `trace 7`. */
export function formatAction(raw: number): string {
  const word = (Object.keys(ACTIONS) as Action[]).find((name) => ACTIONS[name] === (raw & 0xffff0000) >>> 0);
  if (word === undefined) return `unknown 0x${raw.toString(16)} (the kernel kills the process)`;
  const data = raw & 0xffff;
  const text = word.slice("SCMP_ACT_".length).toLowerCase().replace("_", " ");
  if (word === "SCMP_ACT_ERRNO") return `${text} ${data === 0 ? "0" : errnoText(data).name}`;
  return word === "SCMP_ACT_TRACE" ? `${text} ${data}` : text;
}
