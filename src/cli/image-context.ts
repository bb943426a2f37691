/** What every command about images starts from: the caller's store, and who the caller is. */

import { openStore, ownStore, type Store, storePath } from "../image/store.ts";

export interface ImageContext {
  readonly store: Store;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly uid: number;
}

/** The caller's store if there is one; for who only looks whether it has something. */
export function presentStore(): Store | undefined {
  const uid = process.getuid?.() ?? 0;
  return ownStore(storePath(process.env, uid), uid);
}

/** Open the caller's store. @throws HutchError when it cannot be made or is somebody else's */
export function imageContext(): ImageContext {
  const uid = process.getuid?.() ?? 0;
  const { env } = process;
  return { store: openStore(storePath(env, uid)), env, uid };
}
