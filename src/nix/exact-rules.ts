/**
 * What Nix's own sandbox forbids by seccomp, version by version (nix's `linux-derivation-builder.cc`,
 * setupSeccomp, and its release notes). Pure.
 */

/** A version of Nix: `2.18.5` is [2, 18, 5]. */
export type NixVersion = readonly [major: number, minor: number, patch: number];

/** The newest that hutch knows the rules of: for a machine whose Nix cannot be asked. */
const NEWEST: NixVersion = [2, 35, 0];

/** Whose rules are followed. */
export interface Installed {
  readonly version: NixVersion;
  /** Why that is not the version of the machine's own Nix; undefined when it is. */
  readonly instead: string | undefined;
}

/** Of `nix --version`'s output, undefined where there is no Nix. */
export function parseInstalled(text: string | undefined): Installed {
  if (text === undefined) return { version: NEWEST, instead: "there is no nix here to ask" };
  const lix = /\(Lix[^)]*\)\s+([\d.]+)/.exec(text)?.[1];
  if (lix !== undefined) return { version: NEWEST, instead: `Lix ${lix} is here, whose own rules hutch does not know` };
  const version = parseNixVersion(text);
  return { version: version ?? NEWEST, instead: version === undefined ? "nix --version names none" : undefined };
}

/** Of `nix --version`'s output; undefined when it is not Nix's. */
export function parseNixVersion(text: string): NixVersion | undefined {
  const [, major, minor, patch] = /\(Nix\)\s+(\d+)\.(\d+)(?:\.(\d+))?/.exec(text) ?? [];
  if (major === undefined || minor === undefined) return undefined;
  return [Number(major), Number(minor), Number(patch ?? 0)];
}

/**
 * Whether a version has what came with `major.minor` (and with a patch of an older one, for each of those that had
 * it brought back).
 */
function since(
  version: NixVersion,
  wanted: readonly [number, number, number?],
  ...back: readonly NixVersion[]
): boolean {
  const [major, minor, patch] = version;
  if (back.some(([m, n, p]) => major === m && minor === n && patch >= p)) return true;
  const order = major - wanted[0] || minor - wanted[1] || patch - (wanted[2] ?? 0);
  return order >= 0;
}

/** What else has changed from version to version; since when, as nix's tags and release notes have it. */
export interface VersionRules {
  /** Permissions of /etc. */
  readonly etcMode: number;
  /** Whether the soft limit of open files is the hard one, to which Nix raises its own. */
  readonly raisesFiles: boolean;
  /** Whether abstract sockets outside are out of reach, by landlock(7). */
  readonly scopesSockets: boolean;
  /** Whether a fixed-output derivation gets the certificates of the host. */
  readonly certificates: boolean;
}

/** @see VersionRules */
export function versionRules(version: NixVersion): VersionRules {
  return {
    etcMode: since(version, [2, 12, 1]) ? 0o555 : 0o755,
    raisesFiles: since(version, [2, 34]),
    scopesSockets: since(version, [2, 35], [2, 31, 4], [2, 32, 7], [2, 33, 4], [2, 34, 5]),
    certificates: since(version, [2, 16]),
  };
}

const S_ISUID = 0o4000;
const S_ISGID = 0o2000;
const EPERM = 1;
const ENOTSUP = 95;

/** Nix's filter as an OCI seccomp profile: no set-id bits, no extended attributes, all else allowed. */
export function nixSeccompProfile(version: NixVersion) {
  const chmods: readonly (readonly [name: string, index: number])[] = [
    ["chmod", 1],
    ["fchmod", 1],
    ["fchmodat", 2],
    ...(since(version, [2, 22], [2, 18, 3]) ? ([["fchmodat2", 2]] as const) : []),
  ];
  const setting = ["setxattr", "lsetxattr", "fsetxattr"];
  const reading = ["getxattr", "lgetxattr", "fgetxattr", "listxattr", "llistxattr", "flistxattr"];
  return {
    defaultAction: "SCMP_ACT_ALLOW",
    architectures: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"],
    syscalls: [
      ...chmods.flatMap(([name, index]) =>
        [S_ISUID, S_ISGID].map((bit) => ({
          names: [name],
          action: "SCMP_ACT_ERRNO",
          errnoRet: EPERM,
          args: [{ index, value: bit, valueTwo: bit, op: "SCMP_CMP_MASKED_EQ" }],
        })),
      ),
      {
        names: since(version, [2, 35]) ? [...setting, ...reading] : setting,
        action: "SCMP_ACT_ERRNO",
        errnoRet: ENOTSUP,
      },
    ],
  };
}

/**
 * The store path that nix.conf's `sandbox-paths` (or `extra-`, or by its old name) puts at /bin/sh; undefined when none
 * does. What Nix itself was built with is not known to files.
 */
export function parseSandboxShell(configuration: string): string | undefined {
  let shell: string | undefined;
  for (const line of configuration.split("\n")) {
    const [, name, value = ""] = /^\s*((?:extra-)?(?:build-)?sandbox-paths)\s*=(.*?)(?:#.*)?$/.exec(line) ?? [];
    if (name === undefined) continue;
    const found = value.split(/\s+/).find((word) => /^\/bin\/sh=\/./.test(word));
    if (found !== undefined) shell = found.slice("/bin/sh=".length).replace(/\?$/, "");
    else if (!name.startsWith("extra-")) shell = undefined; // it replaces the list
  }
  return shell;
}
