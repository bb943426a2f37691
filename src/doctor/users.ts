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
  /** Whether it holds for root too. */
  readonly all: boolean;
  readonly mend: string;
}

const SWITCHES: readonly Switch[] = [
  {
    id: "max-user-namespaces",
    name: "user.max_user_namespaces",
    forbids: 0,
    all: true,
    mend: "sysctl -w user.max_user_namespaces=15000",
  },
  {
    // Debian's and Arch's, not in the kernel's own source.
    id: "unprivileged-userns-clone",
    name: "kernel.unprivileged_userns_clone",
    forbids: 0,
    all: false,
    mend: "sysctl -w kernel.unprivileged_userns_clone=1",
  },
  {
    // Ubuntu's, from 23.10 on: the namespace is made, and has no capabilities.
    id: "apparmor-userns",
    name: "kernel.apparmor_restrict_unprivileged_userns",
    forbids: 1,
    all: false,
    mend: "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for hutch with userns",
  },
];

/** Whether they can be made, and one line for each switch. */
export async function userNamespaceFindings(executor: Executor, ids: Ids): Promise<readonly Finding[]> {
  const refusal = await attempt(executor, userNamespace(ids));
  return judgeUserNamespaces(refusal, ids.uid, (name) => {
    const text = readText(`/proc/sys/${name.replaceAll(".", "/")}`);
    return text === undefined ? undefined : Number(text);
  });
}

/** The findings from what was seen. `value`: a switch's, undefined where the kernel does not have it. Pure. */
export function judgeUserNamespaces(
  refusal: Refusal | undefined,
  uid: number,
  value: (name: string) => number | undefined,
): readonly Finding[] {
  const switches = SWITCHES.map((one): Finding => {
    const { id, name, forbids, all, mend } = one;
    const found = value(name);
    if (found === undefined) return { id, name, status: "unneeded", detail: "not in this kernel" };
    if (found !== forbids) return { id, name, status: "yes", detail: String(found) };
    if (refusal === undefined) return { id, name, status: "yes", detail: `${found}, but not for this caller` };
    if (!all && uid === 0) return { id, name, status: "yes", detail: `${found}, which does not hold for root` };
    return { id, name, status: "no", detail: String(found), mend };
  });
  const [id, name] = ["user-namespaces", "user namespaces"];
  if (refusal === undefined) return [{ id, name, status: "yes", detail: "" }, ...switches];
  const guilty = switches.find(({ status }) => status === "no");
  return [
    { id, name, status: "no", detail: formatRefusal(refusal), mend: guilty?.mend ?? otherwise(refusal) },
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
