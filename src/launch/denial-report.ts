/** What a teller has noted (denials.ts): how its memory file is laid out, and reading it. Pure. */

/** Offsets and sizes in bytes; all numbers have 64 bits, in the machine's order. */
export const DENIALS = {
  /** 1 when the teller has ended before the sandbox. */
  lost: 0,
  /** Denials that found no entry of their kind and no free one. */
  others: 8,
  header: 16,
  /** The most kinds of calls. */
  most: 128,
  entry: 96,
  // In an entry, what makes a kind:
  /** Number (32 bits) and architecture (32 bits). */
  call: 0,
  errno: 8,
  /** Up to {@link DENIALS.told} arguments, 32 bits of each. */
  kind: 16,
  told: 3,
  // and what is known of it:
  count: 40,
  /** All six arguments of the first. */
  args: 48,
  bytes: 16 + 128 * 96,
} as const;

/** Calls of one kind that were refused. */
export interface Denial {
  /** Signed: -1 is a tracer's "skip this call". */
  readonly nr: number;
  /** AUDIT_ARCH_ of the call (linux/audit.h). */
  readonly arch: number;
  /** What the program was told; 0: that it had worked. */
  readonly errno: number;
  readonly count: number;
  /** The arguments of the first of them. */
  readonly args: readonly bigint[];
}

/** All that a teller has noted. */
export interface Denials {
  /** In the order of their first. */
  readonly calls: readonly Denial[];
  /** Refused calls of more kinds than there is room for. */
  readonly others: number;
  /** Whether the teller has ended early, and the sandbox with it. */
  readonly lost: boolean;
}

/** Read a teller's file; a short one has nothing. */
export function decodeDenials(bytes: Uint8Array): Denials {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < DENIALS.bytes) return { calls: [], others: 0, lost: false };
  const word = (offset: number) => Number(view.getBigUint64(offset, true));
  const calls: Denial[] = [];
  for (let entry: number = DENIALS.header; entry < DENIALS.bytes; entry += DENIALS.entry) {
    const count = word(entry + DENIALS.count);
    if (count === 0) break;
    calls.push({
      nr: view.getInt32(entry + DENIALS.call, true),
      arch: view.getUint32(entry + DENIALS.call + 4, true),
      errno: word(entry + DENIALS.errno),
      count,
      args: Array.from({ length: 6 }, (_, index) => view.getBigUint64(entry + DENIALS.args + 8 * index, true)),
    });
  }
  return { calls, others: word(DENIALS.others), lost: word(DENIALS.lost) !== 0 };
}
