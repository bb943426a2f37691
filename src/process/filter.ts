/** The filter of a sandbox: one of hutch's profiles, precompiled where it can be. Pure. */

import type { Arch } from "../libc/syscalls.ts";
import type { ProfileName } from "./profiles.ts";
import { precompiledSeccomp } from "./seccomp-default.ts";

/** hutch needs mount_setattr(2), so no older kernel is ever asked. */
const OLDEST_KERNEL = [5, 12] as const;

/** The compiled filter (struct sock_filter's) of a profile; the compiler is only loaded for unusual capabilities. */
export async function profileFilter(
  name: ProfileName,
  options: { readonly pid1: boolean; readonly arch: Arch; readonly capabilities: readonly string[] },
): Promise<Uint8Array> {
  const target = { arch: options.arch, capabilities: options.capabilities, kernel: OLDEST_KERNEL };
  const ready = precompiledSeccomp(name, options, target);
  if (ready !== undefined) return ready;
  const { compileSeccomp } = await import("./seccomp.ts");
  const { hutchProfile } = await import("./profiles.ts");
  return compileSeccomp(hutchProfile(name, options), target);
}
