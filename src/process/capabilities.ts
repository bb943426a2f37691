/** Capabilities by name and number (capabilities(7), linux/capability.h up to Linux 6.x), and docker's two options. */

import { UsageError } from "../errors.ts";

/** All capabilities; the index is the number. */
export const CAPABILITIES: readonly string[] = [
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_DAC_READ_SEARCH",
  "CAP_FOWNER",
  "CAP_FSETID",
  "CAP_KILL",
  "CAP_SETGID",
  "CAP_SETUID",
  "CAP_SETPCAP",
  "CAP_LINUX_IMMUTABLE",
  "CAP_NET_BIND_SERVICE",
  "CAP_NET_BROADCAST",
  "CAP_NET_ADMIN",
  "CAP_NET_RAW",
  "CAP_IPC_LOCK",
  "CAP_IPC_OWNER",
  "CAP_SYS_MODULE",
  "CAP_SYS_RAWIO",
  "CAP_SYS_CHROOT",
  "CAP_SYS_PTRACE",
  "CAP_SYS_PACCT",
  "CAP_SYS_ADMIN",
  "CAP_SYS_BOOT",
  "CAP_SYS_NICE",
  "CAP_SYS_RESOURCE",
  "CAP_SYS_TIME",
  "CAP_SYS_TTY_CONFIG",
  "CAP_MKNOD",
  "CAP_LEASE",
  "CAP_AUDIT_WRITE",
  "CAP_AUDIT_CONTROL",
  "CAP_SETFCAP",
  "CAP_MAC_OVERRIDE",
  "CAP_MAC_ADMIN",
  "CAP_SYSLOG",
  "CAP_WAKE_ALARM",
  "CAP_BLOCK_SUSPEND",
  "CAP_AUDIT_READ",
  "CAP_PERFMON",
  "CAP_BPF",
  "CAP_CHECKPOINT_RESTORE",
];

/** Full name of a capability given as docker takes it: any case, CAP_ optional. @throws UsageError when unknown. */
export function parseCapability(word: string, from: string): string {
  const upper = word.toUpperCase();
  const name = upper.startsWith("CAP_") ? upper : `CAP_${upper}`;
  if (!CAPABILITIES.includes(name)) throw new UsageError(`unknown capability ${JSON.stringify(word)}`, { from });
  return name;
}

/**
 * The set that `--cap-add` and `--cap-drop` make of the default one. As docker does: `ALL` first (dropping all or
 * starting from all), then single names; a drop wins over the defaults, an add over a dropped ALL.
 */
export function chooseCapabilities(
  defaults: readonly string[],
  add: readonly string[],
  drop: readonly string[],
): readonly string[] {
  const all = (words: readonly string[]) => words.some((word) => word.toUpperCase() === "ALL");
  const named = (words: readonly string[], option: string) =>
    words.filter((word) => word.toUpperCase() !== "ALL").map((word) => parseCapability(word, `${option} ${word}`));
  const added = named(add, "--cap-add");
  const dropped = named(drop, "--cap-drop");
  const both = added.find((name) => dropped.includes(name));
  if (both !== undefined) {
    throw new UsageError(`${both} is both added and dropped`, { from: `--cap-add ${both} --cap-drop ${both}` });
  }
  const start = all(add) ? CAPABILITIES : all(drop) ? [] : defaults;
  const kept = new Set([...start, ...added].filter((name) => !dropped.includes(name)));
  return CAPABILITIES.filter((name) => kept.has(name));
}

/** Capability names as the two 32-bit words of capset(2)'s version 3, low word first. */
export function capabilityWords(names: readonly string[]): readonly [low: number, high: number] {
  let low = 0;
  let high = 0;
  for (const name of names) {
    const number = CAPABILITIES.indexOf(name);
    if (number >= 32) high |= 1 << (number - 32);
    else low |= 1 << number;
  }
  return [low >>> 0, high >>> 0];
}
