/** Which of the things that forbid user namespaces is to blame. */

import { describe, expect, test } from "bun:test";
import type { Refusal } from "../../src/doctor/attempt.ts";
import type { Finding } from "../../src/doctor/finding.ts";
import { judgeUserNamespaces } from "../../src/doctor/users.ts";

const refused = (errno: string): Refusal => ({ step: "make a user namespace", call: "unshare", errno, meaning: "…" });
const MAX = "user.max_user_namespaces";
const DEBIAN = "kernel.unprivileged_userns_clone";
const APPARMOR = "kernel.apparmor_restrict_unprivileged_userns";

function judge(
  refusal: Refusal | undefined,
  switches: Readonly<Record<string, number>>,
  root = false,
): Readonly<Record<string, Finding>> {
  const findings = judgeUserNamespaces({ refusal, root, value: (name) => switches[name], mend: undefined });
  return Object.fromEntries(findings.map((finding) => [finding.id, finding]));
}

describe("the switch whose errno it is", () => {
  test.each([
    ["ENOSPC", { [MAX]: 0 }, "sysctl -w user.max_user_namespaces=15000"],
    ["EPERM", { [MAX]: 9, [DEBIAN]: 0 }, "sysctl -w kernel.unprivileged_userns_clone=1"],
    ["EPERM", { [APPARMOR]: 1, [DEBIAN]: 1 }, "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"],
    ["EACCES", { [APPARMOR]: 1 }, "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"],
    ["EPERM", { [MAX]: 0 }, "a chroot or a container forbids them"],
    ["EPERM", { [MAX]: 9 }, "a chroot or a container forbids them"],
    ["ENOSPC", { [MAX]: 9 }, "each above has its own user.max_user_namespaces"],
    ["EUSERS", {}, "32 may be inside of one another"],
    ["EINVAL", {}, "CONFIG_USER_NS"],
  ])("%s with %j", (errno, switches, mend) => {
    const found = judge(refused(errno), switches)["user-namespaces"];
    expect(found?.mend).toContain(mend);
    expect(found).toMatchObject({ status: "no", detail: `make a user namespace: unshare: ${errno} …` });
  });
});

test("a switch that forbids others is no fault", () => {
  const switches = { [MAX]: 9, [DEBIAN]: 0, [APPARMOR]: 1 };
  expect(judge(undefined, switches, true)).toMatchObject({
    "user-namespaces": { status: "yes" },
    "unprivileged-userns-clone": { status: "yes", detail: "0, but not for this caller" },
    "apparmor-userns": { status: "yes", detail: "1, but not for this caller" },
  });
  expect(judge(refused("EPERM"), switches, true)).toMatchObject({
    "user-namespaces": { status: "no", mend: expect.stringContaining("container") },
    "unprivileged-userns-clone": { status: "yes", detail: "0, which does not hold for root" },
  });
});

test("a switch that the kernel does not have", () => {
  expect(judge(undefined, { [MAX]: 7 })).toMatchObject({
    "max-user-namespaces": { status: "yes", detail: "7" },
    "unprivileged-userns-clone": { status: "unneeded", detail: "not in this kernel" },
  });
});
