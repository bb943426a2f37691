/** `--security`, `--seccomp`, `--seccomp-fd`, `--cap-add` and `--cap-drop` → what the Spec says of rights. */

import type { Rights } from "../build-spec.ts";
import * as defaults from "../defaults.ts";
import { HutchError, SystemError, UsageError } from "../errors.ts";
import { ARCH, rawCall, systemError } from "../libc/call.ts";
import { F_GETFD } from "../libc/constants.ts";
import { SYSCALLS } from "../libc/syscalls.ts";
import { closeDescriptor, openForReading, readAll, readText } from "../libc/files.ts";
import { CAPABILITIES, chooseCapabilities } from "../process/capabilities.ts";
import { profileFilter } from "../process/filter.ts";
import { masksProc, SECURITY_PROFILES } from "../process/security.ts";
import type { SeccompFlag, SecurityProfile } from "../spec.ts";
import { all, last, type Occurrence, oneOf, type Parsed } from "./options.ts";

/** More than any filter or profile has: docker's is 20 KB, the kernel's limit for a compiled one 32 KB. */
const MOST_BYTES = 1 << 20;

/** @throws UsageError */
export async function chooseRights(parsed: Parsed, init: boolean): Promise<Rights> {
  const security = oneOf(parsed, "security", SECURITY_PROFILES, "default");
  const capabilities = capabilitiesOf(parsed, security);
  const masked = masksProc(security);
  return {
    security,
    capabilities,
    ...(await explained(parsed, await filterOf(parsed, security, { pid1: !init, arch: ARCH, capabilities }))),
    maskedPaths: masked ? defaults.MASKED_PATHS : [],
    readonlyPaths: masked ? defaults.READONLY_PATHS : [],
  };
}

function capabilitiesOf(parsed: Parsed, security: SecurityProfile): readonly string[] {
  const added = all(parsed, "cap-add");
  const dropped = all(parsed, "cap-drop");
  if (security === "strict") {
    const [first] = added;
    if (first !== undefined) {
      throw new UsageError("strict keeps no capability", { from: `--security strict ${first.words}` });
    }
    return [];
  }
  const words = (list: readonly Occurrence[]) => list.map(({ value }) => value);
  const start = security === "none" ? CAPABILITIES : defaults.DEFAULT_CAPABILITIES;
  return chooseCapabilities(start, words(added), words(dropped));
}

interface Filter {
  readonly seccomp: Uint8Array | undefined;
  readonly seccompFlags: readonly SeccompFlag[];
}

async function filterOf(
  parsed: Parsed,
  security: SecurityProfile,
  options: { readonly pid1: boolean; readonly arch: typeof ARCH; readonly capabilities: readonly string[] },
): Promise<Filter> {
  const file = last(parsed, "seccomp");
  const descriptor = last(parsed, "seccomp-fd");
  if (file !== undefined && descriptor !== undefined) {
    throw new UsageError("--seccomp and --seccomp-fd are two filters", { from: `${file.words} ${descriptor.words}` });
  }
  if (descriptor !== undefined) {
    const seccomp = await readCompiled(descriptor);
    await demandStart(seccomp, descriptor.words);
    return { seccomp, seccompFlags: [] };
  }
  if (file?.value === "none") return { seccomp: undefined, seccompFlags: [] };
  if (file !== undefined) {
    const { seccomp, seccompFlags } = await readProfile(file, options.capabilities);
    return { seccomp, seccompFlags };
  }
  const seccomp = security === "none" ? undefined : await profileFilter(security, options);
  return { seccomp, seccompFlags: [] };
}

/** What `--explain-denials` adds to a filter. @throws UsageError where nothing could be told */
async function explained(parsed: Parsed, filter: Filter): Promise<Filter & { readonly explainDenials?: boolean }> {
  const option = last(parsed, "explain-denials");
  if (option === undefined) return filter;
  const compiled = last(parsed, "seccomp-fd");
  if (compiled !== undefined) {
    throw new UsageError("a compiled filter cannot be explained", {
      from: `${option.words} ${compiled.words}`,
      hint: "give the profile itself: --seccomp FILE",
    });
  }
  const other = last(parsed, "seccomp") ?? last(parsed, "security");
  const from = other === undefined ? option.words : `${option.words} ${other.words}`;
  if (filter.seccomp === undefined) {
    throw new UsageError("there is no filter whose denials could be explained", {
      from,
      hint: "leave one of the two out",
    });
  }
  const { hasRefusals } = await import("../process/notify.ts");
  if (!hasRefusals(filter.seccomp)) {
    throw new UsageError("the filter refuses no call with an error number, so there is nothing to explain", {
      from,
      hint: "only SCMP_ACT_ERRNO is explained; what kills the program is told by its exit status",
    });
  }
  demandNoFilter(option.words);
  return { ...filter, explainDenials: true };
}

/**
 * Of several filters the kernel takes the most restrictive answer, and an error number is that beside a notification
 * (seccomp(2)): a filter around hutch would answer with its own, and nobody would be told. @throws UsageError
 */
function demandNoFilter(from: string): void {
  if (/^Seccomp:\t0$/m.test(readText("/proc/self/status") ?? "")) return;
  throw new UsageError("hutch itself is under a seccomp filter, which would answer before denials can be told", {
    from,
    hint: "start it outside of the container or service that has the filter",
  });
}

/**
 * The program's own start comes after its filter: one that stops it would end in silence, for it stops the report too.
 * @throws UsageError with the user's words
 */
async function demandStart(filter: Uint8Array, from: string): Promise<void> {
  const { evaluateBpf } = await import("../process/bpf-evaluate.ts");
  const { ARCHITECTURES } = await import("../process/seccomp.ts");
  const { formatAction } = await import("../process/seccomp-actions.ts");
  for (const name of ["rt_sigprocmask", "execve"] as const) {
    const action = formatAction(evaluateBpf(filter, { arch: ARCHITECTURES[ARCH].audit, nr: SYSCALLS[name][ARCH] }));
    if (action === "allow" || action === "log") continue;
    throw new UsageError(`the filter answers ${name} with ${action}, so that no program could be started`, {
      from,
      hint: "allow rt_sigprocmask and execve: hutch makes these two calls after the filter is on",
    });
  }
}

/** A filter as struct sock_filter's, as seccomp_export_bpf(3) writes them. */
async function readCompiled({ value, words }: Occurrence): Promise<Uint8Array> {
  const descriptor = /^\d{1,6}$/.test(value) ? Number(value) : -1;
  if (descriptor < 0) throw new UsageError("--seccomp-fd needs a number", { from: words });
  if (rawCall("fcntl", descriptor, F_GETFD) < 0) {
    throw new UsageError(`descriptor ${descriptor} is not open`, { from: words });
  }
  const { validateBpf } = await import("../process/bpf.ts");
  const bytes = readAll(descriptor, MOST_BYTES);
  return quoting(words, () => {
    validateBpf(bytes);
    return bytes;
  });
}

/** A profile's text. @throws SystemError with the user's words */
function profileText(path: string, from: string): string {
  const descriptor = openForReading(path);
  if (descriptor < 0) {
    throw systemError(`read ${path}`, -descriptor, { from, hint: "a profile is a JSON file" });
  }
  try {
    return new TextDecoder().decode(readAll(descriptor, MOST_BYTES));
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    throw systemError(`read ${path}`, error.errno, { from, hint: "a profile is a JSON file" });
  } finally {
    closeDescriptor(descriptor);
  }
}

/**
 * A profile in the JSON of OCI, docker or podman, compiled for this machine; `profile`: what was written.
 * @throws SystemError, UsageError, both with the user's words
 */
export async function readProfile(
  { value, words }: Pick<Occurrence, "value" | "words">,
  capabilities: readonly string[],
): Promise<Filter & { readonly profile: unknown }> {
  const text = profileText(value, words);
  const { compileSeccomp } = await import("../process/seccomp.ts");
  const { checkProfile, parseSeccompJson } = await import("../process/seccomp-profile.ts");
  const { ACTIONS } = await import("../process/seccomp-actions.ts");
  const read = quoting(words, () => {
    const profile = parseSeccompJson(text);
    const { flags, rules } = checkProfile(profile);
    if (rules.some(({ action }) => action === ACTIONS.SCMP_ACT_NOTIFY)) {
      throw new UsageError("seccomp profile: SCMP_ACT_NOTIFY needs a listener, which hutch does not have");
    }
    const seccomp = compileSeccomp(profile, { arch: ARCH, capabilities, kernel: kernelVersion() });
    return { seccomp, seccompFlags: flags.filter(isUsefulFlag), profile };
  });
  await demandStart(read.seccomp, words);
  return read;
}

/** TSYNC is about other threads and WAIT_KILLABLE_RECV about listeners: there is neither. */
function isUsefulFlag(flag: string): flag is SeccompFlag {
  return flag === "SECCOMP_FILTER_FLAG_LOG" || flag === "SECCOMP_FILTER_FLAG_SPEC_ALLOW";
}

/** @throws HutchError when /proc does not tell it */
export function kernelVersion(): readonly [major: number, minor: number] {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(readText("/proc/sys/kernel/osrelease") ?? "") ?? [];
  if (major === undefined || minor === undefined) throw new HutchError("the kernel's version cannot be read");
  return [Number(major), Number(minor)];
}

/** Run something whose errors do not know the user's words. */
function quoting<T>(words: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new UsageError(error.message, { from: words, ...(error.hint === undefined ? {} : { hint: error.hint }) });
  }
}
