/** User namespaces, and the three things that forbid them on machines which otherwise have them. */

import { readText } from "../libc/files.ts";
import { attempt, type Executor, formatRefusal, type Refusal } from "./attempt.ts";
import type { Finding } from "./finding.ts";
import { type Ids, userNamespace } from "./trials.ts";

/** A switch of the kernel's: where it is, which value forbids, whom, and what turns it back. */
interface Switch {
  readonly id: string;
  readonly name: string;
  readonly forbids: number;
  /** The errno by which it does. */
  readonly errno: readonly string[];
  /** Whether it holds for root too. */
  readonly all: boolean;
  readonly mend: string;
}

const SWITCHES: readonly Switch[] = [
  {
    id: "max-user-namespaces",
    name: "user.max_user_namespaces",
    forbids: 0,
    errno: ["ENOSPC"],
    all: true,
    mend: "sysctl -w user.max_user_namespaces=15000",
  },
  {
    // Debian's and Arch's, not in the kernel's own source.
    id: "unprivileged-userns-clone",
    name: "kernel.unprivileged_userns_clone",
    forbids: 0,
    errno: ["EPERM"],
    all: false,
    mend: "sysctl -w kernel.unprivileged_userns_clone=1",
  },
  {
    // Ubuntu's, from 23.10 on: the namespace is made, and has no capabilities.
    id: "apparmor-userns",
    name: "kernel.apparmor_restrict_unprivileged_userns",
    forbids: 1,
    errno: ["EPERM", "EACCES"],
    all: false,
    mend: "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for hutch with userns",
  },
];

/** Whether they can be made, and one line for each switch. `mend`: what mends a refusal whose cause is known already. */
export async function userNamespaceFindings(
  executor: Executor,
  ids: Ids,
  root: boolean,
  mend: string | undefined,
): Promise<readonly [Finding, ...Finding[]]> {
  const refusal = await attempt(executor, userNamespace(ids));
  const value = (name: string) => {
    const text = readText(`/proc/sys/${name.replaceAll(".", "/")}`);
    return text === undefined ? undefined : Number(text);
  };
  return judgeUserNamespaces({ refusal, root, value, mend });
}

/** What was seen. */
export interface Seen {
  readonly refusal: Refusal | undefined;
  /** Whether the caller is the machine's root. */
  readonly root: boolean;
  /** A switch's value, undefined where the kernel does not have it. */
  readonly value: (name: string) => number | undefined;
  /** What mends a refusal whose cause is known to be no switch. */
  readonly mend: string | undefined;
}

/** The findings from it, the whole first. Pure. */
export function judgeUserNamespaces({ refusal, root, value, mend: known }: Seen): readonly [Finding, ...Finding[]] {
  const switches = SWITCHES.map((one): Finding => {
    const { id, name, forbids, all, mend } = one;
    const found = value(name);
    if (found === undefined) return { id, name, status: "unneeded", detail: "not in this kernel" };
    if (found !== forbids) return { id, name, status: "yes", detail: String(found) };
    if (refusal === undefined) return { id, name, status: "yes", detail: `${found}, but not for this caller` };
    if (!all && root) return { id, name, status: "yes", detail: `${found}, which does not hold for root` };
    return { id, name, status: "no", detail: String(found), mend };
  });
  const [id, name] = ["user-namespaces", "user namespaces"];
  if (refusal === undefined) return [{ id, name, status: "yes", detail: "" }, ...switches];
  // Another cause than the switch that is also set: a seccomp filter answers EPERM where the number says ENOSPC.
  const guilty = switches.find(
    ({ id: one, status }) =>
      status === "no" && SWITCHES.find((entry) => entry.id === one)?.errno.includes(refusal.errno) === true,
  );
  return [
    { id, name, status: "no", detail: formatRefusal(refusal), mend: known ?? guilty?.mend ?? otherwise(refusal) },
    ...switches,
  ];
}

/** What is left when no switch is to blame (user_namespaces(7), unshare(2), clone(2)). */
function otherwise({ errno }: Refusal): string {
  if (errno === "EINVAL" || errno === "ENOSYS") return "a kernel with CONFIG_USER_NS";
  if (errno === "EUSERS" || errno === "ENOSPC")
    return "fewer of them: 32 may be inside of one another, and each above has its own user.max_user_namespaces";
  return "a chroot or a container forbids them: leave it, or docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined";
}
