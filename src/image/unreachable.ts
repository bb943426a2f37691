/** Registries that gave no answer, remembered for a while so that offline runs do not wait each time. */

import { join } from "node:path";
import { HutchError } from "../errors.ts";
import { readFileBounded, type Store, writeFileAtomic } from "./store.ts";
import { RegistryError } from "./registry-error.ts";

type Memory = Readonly<Record<string, number>>;

const pathOf = (store: Store): string => join(store.root, "unreachable.json");

/** What is remembered: milliseconds since 1970 by domain. A damaged file is an empty memory. */
function recall(store: Store): Memory {
  try {
    const bytes = readFileBounded(pathOf(store), 1024 * 1024);
    const parsed: unknown = bytes === undefined ? {} : JSON.parse(new TextDecoder().decode(bytes));
    const entries = Object.entries(parsed as object).filter(([, time]) => typeof time === "number");
    return Object.fromEntries(entries) as Memory;
  } catch {
    return {};
  }
}

/** Throw at once when the registry was found unreachable less than `within` milliseconds ago. */
export function refuseUnreachable(store: Store, domain: string, within: number): void {
  if (within <= 0) return;
  const age = Date.now() - (recall(store)[domain] ?? 0);
  if (age < 0 || age >= within) return;
  throw new RegistryError(`${domain}: gave no answer ${Math.round(age / 1000)} s ago`, { connection: "unreachable" });
}

/** Note that the registry gave no answer just now. Where that cannot be noted (a full disk), it is asked again. */
export function rememberUnreachable(store: Store, domain: string): void {
  try {
    writeFileAtomic(store, pathOf(store), JSON.stringify({ ...recall(store), [domain]: Date.now() }));
  } catch (error) {
    if (!(error instanceof HutchError)) throw error;
  }
}

/** Note that it answers again. */
export function forgetUnreachable(store: Store, domain: string): void {
  const { [domain]: known, ...rest } = recall(store);
  if (known !== undefined) writeFileAtomic(store, pathOf(store), JSON.stringify(rest));
}
