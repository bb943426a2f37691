/** The filter of a sandbox: one of hutch's profiles, precompiled where it can be. Pure. */

import type { Arch } from "../libc/syscalls.ts";
import { hutchProfile, type ProfileName } from "./profiles.ts";
import { compileSeccomp } from "./seccomp.ts";
import { precompiledSeccomp } from "./seccomp-default.ts";
