/** hutch's default beside what docker and podman publish: what they refuse of the calls that they know, it refuses too. */

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { debianFile, DOCKER_PROFILE } from "../../scripts/debian-files.ts";
import type { Arch } from "../../src/libc/syscalls.ts";
import { validateBpf } from "../../src/process/bpf.ts";
import { evaluateBpf } from "../../src/process/bpf-evaluate.ts";
import { hutchProfile, type ProfileName } from "../../src/process/profiles.ts";
import { ARCHITECTURES, compileSeccomp } from "../../src/process/seccomp.ts";
import { formatAction } from "../../src/process/seccomp-actions.ts";
import { checkProfile, parseSeccompJson, type SeccompProfile } from "../../src/process/seccomp-profile.ts";
import { syscallNumbers } from "../../src/process/syscall-numbers.ts";
import { telling } from "./profile-arbitrary.ts";

const ALLOW = 0x7fff0000;
const ARCHES: Arch[] = ["x64", "arm64"];

/** Where the default is wider, and why. */
const WIDER: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  podman: {},
  docker: {
    get_mempolicy: "docker wants CAP_SYS_NICE; podman does not, and only the caller's own memory is arranged",
    mbind: "the same",
    set_mempolicy: "the same",
    unshare: "only with flags that make no namespace",
  },
};
const FILES = { podman: "/usr/share/containers/seccomp.json", docker: debianFile(DOCKER_PROFILE) };

describe.each(["podman", "docker"] as const)("beside %s's published profile", (whose) => {
  const published = parseSeccompJson(readFileSync(FILES[whose], "utf8")) as SeccompProfile;
  const known = new Set(checkProfile(published).rules.flatMap(({ names }) => names));
  const sets = [[], ["CAP_SYS_CHROOT", "CAP_NET_RAW", "CAP_MKNOD", "CAP_AUDIT_WRITE"], ["CAP_SYS_PTRACE"]];
  const cases = ARCHES.flatMap((arch) =>
    (["default", "strict"] as const).map((name): [ProfileName, Arch] => [name, arch]),
  );

  test.each(cases)("%s on %s is not wider", (name, arch) => {
    const wider = new Set<string>();
    for (const capabilities of sets) {
      const target = { arch, capabilities, kernel: [6, 18] } as const;
      const theirs = validateBpf(compileSeccomp(published, target));
      const profile = hutchProfile(name, { pid1: true });
      const ours = validateBpf(compileSeccomp(profile, target));
      const vectors = [...telling(profile), ...telling(published)];
      const rules = [profile, published].flatMap((one) => checkProfile(one).rules);
      const conditional = new Set(rules.flatMap(({ conditions, names }) => (conditions.length > 0 ? names : [])));
      for (const [call, nr] of syscallNumbers(arch)) {
        if (!known.has(call)) continue; // newer than the file
        for (const args of conditional.has(call) ? vectors : vectors.slice(0, 1)) {
          const data = { arch: ARCHITECTURES[arch].audit, nr, args };
          if (evaluateBpf(ours, data) !== ALLOW) continue;
          // The kernel's personality is an unsigned int: what stands above it is not compared here, and there it is.
          const low = call === "personality" ? args.map((value) => value & 0xffffffffn) : args;
          if (evaluateBpf(theirs, { ...data, args: low }) !== ALLOW) wider.add(call);
        }
      }
    }
    expect([...wider].filter((call) => !(call in (WIDER[whose] ?? {})))).toEqual([]);
  });

  test("every exception is one", () => {
    const target = { arch: "x64", capabilities: [], kernel: [6, 18] } as const;
    const theirs = validateBpf(compileSeccomp(published, target));
    for (const call of Object.keys(WIDER[whose] ?? {})) {
      const nr = syscallNumbers("x64").get(call) ?? -1;
      expect([call, formatAction(evaluateBpf(theirs, { arch: ARCHITECTURES.x64.audit, nr }))]).toEqual([
        call,
        "errno EPERM",
      ]);
    }
  });
});
