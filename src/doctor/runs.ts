/** Findings about whole sandboxes, and what root needs for them. */

import { tmpdir } from "node:os";
import { type HutchError, UsageError } from "../errors.ts";
import { pathStatus, readText } from "../libc/files.ts";
import type { HostPath, Root } from "../spec.ts";
import type { Finding } from "./finding.ts";
import { sandboxSpec, trySandbox } from "./sandbox.ts";
import { no, type Tests } from "./tests.ts";

/** Directories that are there for certain, or nearly: one of them under an overlay is enough. */
const directories = (): readonly string[] => ["/usr", "/etc", tmpdir()];

/** The real thing: with an empty root, and with a directory under an overlay. */
export async function runFindings({ executor, first }: Tests): Promise<readonly Finding[]> {
  const finding = (word: string, detail: string, error: HutchError | undefined): Finding => {
    const [id, name] = [`run-${word}`, `hutch run ${word === "scratch" ? word : "DIR"}`];
    if (error === undefined) return { id, name, status: "yes", detail };
    return no(id, name, error.message, first?.mend ?? error.hint);
  };
  const tryRoot = async (root: Root) => trySandbox(executor, await sandboxSpec(root, "default"));
  const scratch = await tryRoot({ kind: "scratch", readonly: false, from: "scratch" });
  let refusal: HutchError | undefined;
  for (const path of directories()) {
    const error = await tryRoot({ kind: "overlay", lower: [path as HostPath], from: path });
    if (error === undefined)
      return [finding("scratch", "an empty root", scratch), finding("directory", path, undefined)];
    refusal ??= error;
    const ofDirectory = error.step !== undefined || error instanceof UsageError;
    if (!ofDirectory) break; // it would be the same elsewhere
  }
  return [finding("scratch", "an empty root", scratch), finding("directory", "", refusal)];
}

/** Capabilities by number (capabilities(7)) that root's way of starting a sandbox takes. */
const ROOT_CAPABILITIES: readonly (readonly [string, number])[] = [
  ["CAP_SYS_ADMIN", 21],
  ["CAP_SETUID", 7],
  ["CAP_SETGID", 6],
  ["CAP_SETFCAP", 31],
];

/** A container's root may be without them; hutch does not give it the ordinary user's way, whose programs would be uid 0. */
export function capabilitiesFinding(root: boolean): Finding {
  const [id, name] = ["capabilities", "root's capabilities"];
  if (!root) return { id, name, status: "unneeded", detail: "an ordinary user needs none" };
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(readText("/proc/self/status") ?? "")?.[1] ?? "0"}`);
  const lacking = ROOT_CAPABILITIES.filter(([, bit]) => ((effective >> BigInt(bit)) & 1n) === 0n).map(([word]) => word);
  if (lacking.length === 0) return { id, name, status: "yes", detail: "" };
  const keep = lacking.map((word) => `--cap-add ${word.slice(4)}`).join(" ");
  const mend = `run hutch as an ordinary user, or let root keep ${lacking.join(" ")}: docker run ${keep}`;
  return no(id, name, `without ${lacking.join(" ")}`, mend);
}

/** Ranges of ids; started by root always, else what `--userns auto` takes. */
export async function rangesFinding({ executor, root, first }: Tests): Promise<Finding> {
  const [id, name] = ["id-ranges", "id ranges"];
  const error = await trySandbox(
    executor,
    await sandboxSpec({ kind: "scratch", readonly: false, from: "--userns auto" }, "range"),
  );
  const detail = root ? "written by root" : "of /etc/subuid and /etc/subgid, by newuidmap (--userns auto)";
  if (error === undefined) return { id, name, status: "yes", detail };
  const mapper = ["/usr/bin", "/bin", "/usr/sbin", "/run/wrappers/bin"].some(
    (place) => typeof pathStatus(`${place}/newuidmap`) !== "number",
  );
  if (!root && !mapper) return no(id, name, "newuidmap is not installed", "apt-get install uidmap");
  return no(id, name, error.message, first?.mend ?? error.hint);
}
