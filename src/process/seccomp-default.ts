/**
 * hutch's own filters without a compiler: the usual ones are in seccomp-precompiled.ts, made by
 * scripts/generate-seccomp.ts and held equal to the profiles by a test. This file must not import the compiler or the
 * profiles: what it saves is loading them.
 */

import type { ProfileName, ProfileOptions } from "./profiles.ts";
import type { SeccompTarget } from "./seccomp.ts";
import { DECIDING_CAPABILITIES, PRECOMPILED } from "./seccomp-precompiled.ts";

/** The name of a precompiled filter; `chroot`: CAP_SYS_CHROOT is held (only default asks). */
export function precompiledKey(
  name: ProfileName,
  { pid1 }: ProfileOptions,
  arch: SeccompTarget["arch"],
  chroot: boolean,
): string {
  return [name, arch, ...(pid1 ? ["pid1"] : []), ...(chroot && name === "default" ? ["chroot"] : [])].join(" ");
}

/**
 * The filter of one of hutch's profiles, if it was compiled beforehand: default and nested with no deciding capability but
 * CAP_SYS_CHROOT, strict with any, on kernels from 4.8. Otherwise undefined, and the caller compiles:
 * `compileSeccomp(hutchProfile(name, options), target)`, importing both only then.
 */
export function precompiledSeccomp(
  name: ProfileName,
  options: ProfileOptions,
  { arch, capabilities, kernel }: SeccompTarget,
): Uint8Array | undefined {
  if (kernel[0] < 4 || (kernel[0] === 4 && kernel[1] < 8)) return undefined;
  const deciding = capabilities.filter((capability) => DECIDING_CAPABILITIES.includes(capability));
  const chroot = deciding.includes("CAP_SYS_CHROOT");
  if (name !== "strict" && deciding.some((capability) => capability !== "CAP_SYS_CHROOT")) return undefined;
  const text = PRECOMPILED[precompiledKey(name, options, arch, chroot)];
  return text === undefined ? undefined : Uint8Array.fromBase64(text);
}
