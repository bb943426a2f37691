/** Whole sandboxes, as `hutch run` would make them, around a program that does nothing. */

import { decodeBytes } from "../bytes.ts";
import * as defaults from "../defaults.ts";
import { HutchError } from "../errors.ts";
import { gatherFacts } from "../host.ts";
import { encodeContext } from "../launch/context.ts";
import { decodeFailure } from "../launch/failure.ts";
import { encode } from "../launch/program.ts";
import { assemble } from "../launch/supervise.ts";
import { ARCH, call } from "../libc/call.ts";
import { MFD_CLOEXEC } from "../libc/constants.ts";
import { closeDescriptor, readAll, writeAll } from "../libc/files.ts";
import { plan } from "../plan.ts";
import { profileFilter } from "../process/filter.ts";
import type { IdMap, Mount, Root, SandboxPath, Spec } from "../spec.ts";
import { validate } from "../validate.ts";
import { assembleTrials, type Executor } from "./attempt.ts";

const PROGRAM = "/hutch-doctor" as SandboxPath;
/** argv of the launcher, which it wipes: 16 bytes with its NUL are room for any process's name. */
const ARGV0 = "hutch-doctor-run";

/** `hutch run` with all its defaults, on a root; the program is an executable of a few bytes that ends with 0. */
export async function sandboxSpec(root: Root, idMap: IdMap): Promise<Spec> {
  const from = "default";
  const content = decodeBytes(encode(assembleTrials([]).program));
  const mounts: readonly Mount[] = [
    { type: "proc", destination: "/proc" as SandboxPath, from },
    { type: "dev", destination: "/dev" as SandboxPath, from },
    { type: "file", destination: PROGRAM, content, mode: 0o755, from },
  ];
  const capabilities = defaults.DEFAULT_CAPABILITIES;
  return {
    root,
    process: {
      args: [PROGRAM],
      env: [],
      searchPath: [],
      cwd: "/" as SandboxPath,
      uid: 0,
      gid: 0,
      additionalGids: [],
      umask: defaults.DEFAULT_UMASK,
      capabilities,
      rlimits: [],
      noNewPrivileges: true,
      seccomp: await profileFilter("default", { pid1: false, arch: ARCH, capabilities }),
      preserveFds: 0,
    },
    hostname: defaults.DEFAULT_HOSTNAME,
    domainname: defaults.DEFAULT_DOMAINNAME,
    mounts,
    namespaces: defaults.DEFAULT_NAMESPACES,
    idMap,
    timeOffsets: undefined,
    maskedPaths: defaults.MASKED_PATHS,
    readonlyPaths: defaults.READONLY_PATHS,
    init: true,
    words: {},
  };
}

/** Make a sandbox and run the program in it: undefined when that works, else what `hutch run` would have said. */
export async function trySandbox(executor: Executor, spec: Spec): Promise<HutchError | undefined> {
  try {
    const facts = gatherFacts(spec);
    validate(spec, facts);
    const made = plan(spec, facts);
    const report = call("memfd_create", "hutch-doctor-report", MFD_CLOEXEC);
    try {
      const reporting = { reportFd: 3, argvBytes: ARGV0.length + 1, become: undefined };
      const assembled = assemble(made, ARCH, reporting);
      writeAll(report, encodeContext({ steps: made.steps, assembled }));
      const { code, signal } = await executor.execute(encode(assembled.program), ARGV0, [report]);
      if (code === 0) return undefined;
      if (signal !== null) return new HutchError(`the launcher was ended by ${signal}`);
      call("lseek", report, 0, 0);
      return decodeFailure(readAll(report));
    } finally {
      closeDescriptor(report);
    }
  } catch (error) {
    if (error instanceof HutchError) return error;
    return new HutchError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}
