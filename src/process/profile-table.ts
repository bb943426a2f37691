/** What a profile's filter refuses, as text: for `hutch plan` and docs/security.md. Pure. */

import { PROFILE_NAMES, profileRefusals, type ProfileName, type RefusalLine } from "./profiles.ts";

const answerOf = ({ answer, unless }: RefusalLine): string =>
  unless.length === 0 ? answer : `${answer}, unless ${unless.join(" or ")}`;

/** One profile, a line for each group: `  kernel modules → EPERM: init_module …`. */
export function formatRefusals(name: ProfileName, pid1: boolean): string {
  const lines = profileRefusals(name, { pid1 }).map(
    (line) => `  ${line.title} → ${answerOf(line)}${line.calls[0] === "every" ? "" : `: ${line.calls.join(" ")}`}`,
  );
  return `refused by the filter of ${name}\n${lines.join("\n")}\n`;
}

/** All profiles side by side, as a table in Markdown. A cell is what the refused calls get; empty: they are allowed. */
export function refusalTable(): string {
  const columns = PROFILE_NAMES.map(
    (name) => new Map(profileRefusals(name, { pid1: true }).map((line) => [rowOf(line), answerOf(line)])),
  );
  const rows = [...new Set(columns.flatMap((column) => [...column.keys()]))];
  const cell = (text: string) => text.replaceAll("|", "\\|");
  return [
    `| refused | ${PROFILE_NAMES.join(" | ")} |`,
    `| --- | ${PROFILE_NAMES.map(() => "---").join(" | ")} |`,
    ...rows.map((row) => `| ${cell(row)} | ${columns.map((column) => cell(column.get(row) ?? "")).join(" | ")} |`),
    "",
  ].join("\n");
}

function rowOf({ title, calls }: RefusalLine): string {
  return calls[0] === "every" ? title : `${title}: ${calls.map((name) => `\`${name}\``).join(" ")}`;
}
