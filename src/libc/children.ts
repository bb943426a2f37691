/** Children of this process that are waited for. */

import { call } from "./call.ts";
import * as c from "./constants.ts";

/** struct sigaction as the kernel has it: handler, flags, restorer, mask, 8 bytes each. */
const WORDS = 4;
const SIG_IGN = 1n;

/**
 * Let children have an exit status again where a caller that ignores SIGCHLD has left us that: the kernel then keeps none
 * (wait(2), NOTES), and Bun's wait fails with ECHILD. A handler stays. @throws SystemError
 */
export function keepChildren(): void {
  const present = new BigUint64Array(WORDS);
  call("rt_sigaction", c.SIGNALS.SIGCHLD, null, present, 8);
  if (present[0] === SIG_IGN) call("rt_sigaction", c.SIGNALS.SIGCHLD, new BigUint64Array(WORDS), null, 8);
}
