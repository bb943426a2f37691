/** What `hutch doctor` finds, as data, as text and as JSON. Pure. */

/**
 * - `yes`: it works here, for this caller.
 * - `no`: it does not; `mend` says what to do about it.
 * - `unneeded`: it does not apply to this caller.
 */
export type Status = "yes" | "no" | "unneeded";

/** One thing that was tried. */
export interface Finding {
  /** A stable name for programs: `user-namespaces`. */
  readonly id: string;
  /** For people. */
  readonly name: string;
  readonly status: Status;
  /** What was seen: a value, or the call that failed and its errno. Empty where there is nothing to add. */
  readonly detail: string;
  /** A command, or words where none does it, that would make it work. Only with `no`. */
  readonly mend?: string;
}

/** All of it. `works`: whether `hutch run` does, with an empty root and with a directory. */
export interface Report {
  readonly works: boolean;
  /** Of uname(2): `6.1.0-18-amd64`. */
  readonly kernel: string;
  /** `x64` or `arm64`. */
  readonly arch: string;
  /** The caller's effective user id. */
  readonly uid: number;
  readonly findings: readonly Finding[];
}

const WORDS: Readonly<Record<Status, string>> = { yes: "yes", no: "NO", unneeded: "-" };

/** Aligned lines; below each that says NO, what mends it, unless it has been said above. */
export function formatReport(report: Report): string {
  const { findings, works, kernel, arch, uid } = report;
  const width = Math.max(...findings.map(({ name }) => name.length));
  const said = new Set<string | undefined>([undefined]);
  const lines = findings.flatMap(({ name, status, detail, mend }) => {
    const line = `${WORDS[status].padEnd(3)}  ${name.padEnd(width)}  ${detail}`.trimEnd();
    const known = said.has(mend);
    said.add(mend);
    return known ? [line] : [line, `     ${"".padEnd(width)}  → ${mend}`];
  });
  const sum = works ? "hutch run works here" : "hutch run does not work here";
  return `Linux ${kernel}, ${arch}, uid ${uid}\n\n${lines.join("\n")}\n\n${sum}\n`;
}

/** The same for programs: versioned by `schema`. */
export function reportJson(report: Report): string {
  return `${JSON.stringify({ schema: 1, ...report }, null, 2)}\n`;
}
