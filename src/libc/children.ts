/** What signals do to this process; children that are waited for. */

import { call } from "./call.ts";
import * as c from "./constants.ts";

/** struct sigaction as the kernel has it: handler, flags, restorer, mask, 8 bytes each. */
const WORDS = 4;
const SIG_IGN = 1n;

/** Whether a signal is ignored, as a caller may have left it to us (`trap '' INT`, nohup(1)). @throws SystemError */
export function isIgnored(signal: number): boolean {
  const present = new BigUint64Array(WORDS);
  call("rt_sigaction", signal, null, present, 8);
  return present[0] === SIG_IGN;
}

/**
 * Let children have an exit status again where a caller that ignores SIGCHLD has left us that: the kernel then keeps none
 * (wait(2), NOTES), and Bun's wait fails with ECHILD. A handler stays. @throws SystemError
 */
export function keepChildren(): void {
  if (isIgnored(c.SIGNALS.SIGCHLD)) call("rt_sigaction", c.SIGNALS.SIGCHLD, new BigUint64Array(WORDS), null, 8);
}
