/** The closure that `hutch closure` shows and `hutch root` writes: that of `run --add` in an empty root. */

import { workingDirectory } from "../libc/files.ts";
import * as defaults from "../defaults.ts";
import { ownEnvironment } from "../launch/become.ts";
import type { Closure } from "../rootfs/closure.ts";
import { measureDirectories } from "../rootfs/closure-size.ts";
import { realHostFiles } from "../rootfs/host-files.ts";
import { programsClosure, type Wanted } from "../rootfs/host-programs.ts";

/** Variables by which terminfo and locales are chosen. */
const CHOOSING = /^(?:TERM|TERMINFO|LANG|LC_[A-Z]+)=/;

/**
 * The closure of programs and paths, with the sizes of directories. The caller's PATH and directory say what names mean,
 * the caller's TERM, LANG and LC_* which terminfo entry and locales are wanted.
 * @throws HutchError with the user's word when something is missing
 */
export function hostClosure(programs: readonly Wanted[], paths: readonly Wanted[]): Closure {
  const caller = ownEnvironment();
  const path = caller.find((entry) => entry.startsWith("PATH="))?.slice(5) ?? defaults.DEFAULT_PATH;
  const nsswitch = defaults.scratchFiles(defaults.DEFAULT_HOSTNAME).find(([name]) => name === "/etc/nsswitch.conf");
  const host = realHostFiles();
  const closure = programsClosure(
    {
      programs,
      paths,
      search: { path, cwd: workingDirectory() },
      env: caller.filter((entry) => CHOOSING.test(entry)),
      nsswitch: nsswitch?.[1] ?? "",
    },
    host,
  );
  return measureDirectories(host, closure);
}
