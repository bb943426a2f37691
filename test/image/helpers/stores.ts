/** Stores of a test: a fresh directory, and the options of a pull that reads nothing of the machine's configuration. */

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { PullOptions } from "../../../src/image/pull.ts";
import type { PullEvent } from "../../../src/image/source.ts";
import { openStore } from "../../../src/image/store.ts";
import { scratch } from "./stack.ts";

export type TestStore = { readonly dir: string; readonly events: PullEvent[]; readonly options: PullOptions };

export function freshStore(more: Partial<PullOptions> = {}): TestStore {
  const dir = scratch();
  const events: PullEvent[] = [];
  mkdirSync(join(dir, "home"));
  const options: PullOptions = {
    store: openStore(join(dir, "store")),
    env: { HOME: join(dir, "home"), PATH: process.env["PATH"] ?? "", REGISTRY_AUTH_FILE: join(dir, "auth.json") },
    uid: process.getuid?.() ?? 0,
    registries: [],
    retry: { busy: 4, server: 1, transport: 1, delay: 1, total: 60_000 },
    pause: 1,
    firstByte: 30_000,
    idle: 30_000,
    onEvent: (event) => events.push(event),
    ...more,
  };
  return { dir, events, options };
}
