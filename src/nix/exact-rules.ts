/**
 * What Nix's own sandbox forbids by seccomp, version by version (nix's `linux-derivation-builder.cc`,
 * setupSeccomp, and its release notes). Pure.
 */

/** A version of Nix: `2.18.5` is [2, 18, 5]. */
export type NixVersion = readonly [major: number, minor: number, patch: number];

/** Of `nix --version`'s output; undefined when it is not Nix's. */
export function parseNixVersion(text: string): NixVersion | undefined {
  const [, major, minor, patch] = /\(Nix\)\s+(\d+)\.(\d+)(?:\.(\d+))?/.exec(text) ?? [];
  if (major === undefined || minor === undefined) return undefined;
  return [Number(major), Number(minor), Number(patch ?? 0)];
}

/** Whether a version is at least `major.minor`. */
function since([major, minor]: NixVersion, wanted: readonly [number, number]): boolean {
  return major > wanted[0] || (major === wanted[0] && minor >= wanted[1]);
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
    ...(since(version, [2, 22]) ? ([["fchmodat2", 2]] as const) : []),
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
