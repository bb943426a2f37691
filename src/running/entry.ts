/**
 * What an entry holds: first the account that the launcher writes (pid and namespaces of the sandbox), then JSON about
 * the launcher and the steps by which another process becomes part of the sandbox.
 */

import { NAMESPACE_LINKS } from "../launch/account.ts";
import { ACCOUNT, ACCOUNT_OFFSET } from "../launch/report.ts";
import type { NamespaceName } from "../spec.ts";
import type { Plan, Step } from "../step.ts";

export interface Entry {
  readonly name: string;
  /** The launcher: its pid, and when it started, in clock ticks since boot (proc_pid_stat(5), field 22). */
  readonly pid: number;
  readonly startTime: string;
  /** Milliseconds since 1970. */
  readonly created: number;
  readonly command: readonly string[];
  /** Whether the sandbox's first process is hutch's reaper. */
  readonly init: boolean;
  /** What `hutch kill` sends when it is told no other: an image's StopSignal, or SIGTERM. */
  readonly stopSignal: string;
  /** The steps of the plan that change ids after the namespaces have been entered, and all of the program's own. */
  readonly steps: readonly Step[];
}

/** An entry as it was read. */
export interface RunningEntry extends Entry {
  /** The sandbox's first process, or 0 when the program has not started yet. */
  readonly child: number;
  readonly namespaces: Readonly<Partial<Record<NamespaceName, number>>>;
}

const JSON_OFFSET = ACCOUNT_OFFSET + ACCOUNT.bytes;

/** Steps that a process which joins does as well. Nobody listens to its filter: it gives the error numbers itself. */
export function joinSteps({ steps }: Plan): readonly Step[] {
  const joining = steps.filter(({ by, op }) => {
    if (by === "sandbox") return op === "set-ids" || op === "drop-groups";
    return by === "program" && !["process-group", "controlling-terminal", "death-signal", "session"].includes(op);
  });
  return joining.map((step): Step => {
    if (step.op !== "seccomp") return step;
    const { telling: _, ...plain } = step;
    return plain;
  });
}

/** An entry's bytes, with room for the account. */
export function encodeEntry(entry: Entry): Uint8Array {
  const text = JSON.stringify(entry, (_key, value: unknown) => {
    if (value instanceof Uint8Array) return { bytes: value.toBase64() };
    return value === Number.POSITIVE_INFINITY ? { unlimited: true } : value;
  });
  const json = new TextEncoder().encode(text);
  const bytes = new Uint8Array(JSON_OFFSET + json.length);
  bytes.set(json, JSON_OFFSET);
  return bytes;
}

/** The entry of these bytes, or undefined when they are none. Only the caller can have written them. */
export function decodeEntry(bytes: Uint8Array): RunningEntry | undefined {
  if (bytes.length <= JSON_OFFSET) return undefined;
  let entry: Entry;
  try {
    entry = JSON.parse(new TextDecoder().decode(bytes.subarray(JSON_OFFSET)), revive) as Entry;
  } catch {
    return undefined;
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset + ACCOUNT_OFFSET, ACCOUNT.bytes);
  const word = (offset: number) => Number(view.getBigInt64(offset, true));
  const namespaces: Partial<Record<NamespaceName, number>> = {};
  NAMESPACE_LINKS.forEach(([name], index) => (namespaces[name] = word(ACCOUNT.namespaces + 8 * index)));
  return { ...entry, child: word(ACCOUNT.started) === 0 ? 0 : word(ACCOUNT.pid), namespaces };
}

function revive(_key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if ("bytes" in value && typeof value.bytes === "string") return Uint8Array.fromBase64(value.bytes);
  return "unlimited" in value ? Number.POSITIVE_INFINITY : value;
}
