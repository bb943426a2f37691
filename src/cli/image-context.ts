/** What every command about images starts from: the caller's store, and who the caller is. */

import { ownEnvironment } from "../launch/become.ts";
import { rawCall } from "../libc/call.ts";
import { openStore, ownStore, type Store, storePath } from "../image/store.ts";

export interface ImageContext {
  readonly store: Store;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly uid: number;
}

/**
 * The caller's store if there is one; for who only looks whether it has something. On the way of a start, so that `process`
 * is not asked for (run-plain.ts).
 */
export function presentStore(): Store | undefined {
  const uid = rawCall("geteuid");
  const env: Record<string, string> = {};
  for (const entry of ownEnvironment()) {
    const equals = entry.indexOf("=");
    env[entry.slice(0, equals)] ??= entry.slice(equals + 1); // as getenv(3): the first of a name
  }
  return ownStore(storePath(env, uid), uid);
}

/** Open the caller's store. @throws HutchError when it cannot be made or is somebody else's */
export function imageContext(): ImageContext {
  const uid = process.getuid?.() ?? 0;
  const { env } = process;
  return { store: openStore(storePath(env, uid)), env, uid };
}
