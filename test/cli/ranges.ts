/** Ranges of ids for a caller, whatever the machine's own files say. Needs root. */

import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Words in front of a command: /etc/subuid and /etc/subgid have this text for it alone; `folder` keeps the file. */
export function withRanges(folder: string, text: string): readonly string[] {
  const file = join(folder, "ranges");
  writeFileSync(file, text);
  chmodSync(file, 0o644);
  const script = 'mount --bind "$0" /etc/subuid && mount --bind "$0" /etc/subgid && exec "$@"';
  return ["unshare", "-m", "--propagation", "private", "sh", "-c", script, file];
}
