/** `nix-build-shell --verify`: point by point, what of Nix's own sandbox is as it was and what is not. */

import { versionRules } from "../nix/exact-rules.ts";
import type { Exact } from "./nix-exact.ts";

/** What the answer depends on. */
export interface VerifyFacts {
  readonly exact: Exact | undefined;
  /** Host ids that 1000 and 100 lead to, and those that the kept directory belongs to, if there is one. */
  readonly ids: { readonly uid: number; readonly gid: number };
  readonly owner: { readonly uid: number; readonly gid: number } | undefined;
  readonly kvm: boolean;
}

/** One point: whether it is as Nix has it, and how it is. */
interface Point {
  readonly what: string;
  readonly same: boolean;
  readonly how: string;
}

/** The points as a table, and how many of them differ. */
export function formatVerification(facts: VerifyFacts): string {
  const points = [...pointsOf(facts)];
  const width = Math.max(...points.map(({ what }) => what.length));
  const lines = points.map(
    ({ what, same, how }) => `${same ? "as in Nix" : "differs  "}  ${what.padEnd(width)}  ${how}\n`,
  );
  const differing = points.filter(({ same }) => !same).length;
  return `${lines.join("")}${points.length - differing} points as in Nix, ${differing} differ\n`;
}

const like = (what: string, how: string): Point => ({ what, same: true, how });
const unlike = (what: string, how: string): Point => ({ what, same: false, how });

/** What depends on the version of Nix. */
function* versionPoints(exact: Exact | undefined): Generator<Point> {
  if (exact === undefined) {
    yield like("/etc", "group, passwd, hosts byte for byte");
    yield unlike("seccomp", "hutch's own, which forbids more");
    yield unlike("landlock", "hutch's own, which forbids changes of mounts");
    yield unlike("limits", "the caller's");
    return;
  }
  const { version, instead } = exact.nix;
  const { etcMode, raisesFiles, scopesSockets } = versionRules(version);
  const name = `as Nix ${version.join(".")}`;
  if (instead !== undefined) yield unlike("version", `${name}, the newest that hutch knows: ${instead}`);
  yield like("/etc", `group, passwd, hosts byte for byte; mode ${etcMode.toString(8)}`);
  yield like("seccomp", name);
  yield like("landlock", scopesSockets ? "abstract sockets outside are out of reach, where the kernel can" : "none");
  yield like("limits", `no core files${raisesFiles ? ", as many open files as may be" : ""}; all others the caller's`);
}

function* pointsOf({ exact, ids, owner, kvm }: VerifyFacts): Generator<Point> {
  const choose = (what: string, yes: string, no: string) => (exact === undefined ? unlike(what, no) : like(what, yes));
  yield like(
    "namespaces",
    `user, mount, pid, ipc, uts${exact?.fixedOutput === true ? "; the network is the host's" : ", network"}`,
  );
  yield owner === undefined || owner.uid === ids.uid
    ? like("ids", `uid 1000 is ${ids.uid} outside, gid 100 is ${ids.gid}; setgroups denied`)
    : unlike("ids", `uid 1000 is ${ids.uid} outside, and was ${owner.uid}: run as root for that`);
  yield like("process", "the command is PID 1, with parent 0");
  yield like("names", "localhost, (none)");
  yield choose(
    "store",
    `${exact?.closure.length ?? 0} inputs, no /nix/var`,
    "all of /nix: --exact shows the inputs alone",
  );
  yield choose("outputs", "can be made; what the build has left of them is there", "cannot be made: --exact");
  if (exact !== undefined && exact.missing.length > 0) yield unlike("missing inputs", exact.missing.join(" "));
  yield choose("/bin/sh", exact?.shell ?? "absent: nix.conf's sandbox-paths names none", "env-vars' SHELL");
  yield choose("/dev/ptmx", "a link to the own devpts'", "the own devpts' device");
  yield like("/dev/kvm", kvm ? "there" : "absent, since it may not be used");
  yield like("/dev/shm, /tmp", "empty, for everybody");
  yield* versionPoints(exact);
  yield like("no_new_privs", "set");
  yield choose("capabilities", "none; the bounding set is full", "none, and none in the bounding set");
  yield choose("personality", "no address randomisation", "the caller's");
  yield choose("user namespaces", "can be made", "cannot be made");
  yield ids.uid === 0 || exact === undefined
    ? unlike(
        "/proc",
        "/proc/sys is read-only and a few files are covered, since 1000 leads to root or --exact is not given",
      )
    : like("/proc", "whole");
  yield unlike("store paths", "read-only mounts, plain files too; Nix has writable ones and hard links");
  yield unlike(
    "root directory",
    owner === undefined || owner.uid === ids.uid
      ? "a tmpfs; Nix's is on disk"
      : "a read-only tmpfs with the builder as its owner; Nix's is root's, on disk",
  );
  yield unlike("/dev", "a tmpfs of the builder's own; Nix has a directory");
  yield unlike("terminal", "the caller's standard streams; Nix has /dev/null, and a raw terminal of its own");
}
