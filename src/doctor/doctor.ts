/** doctor: what this machine lets this caller do, found by doing it. The order here is the order of the report. */

import { findWorkspace } from "../host.ts";
import { ARCH, rawCall } from "../libc/call.ts";
import { readText } from "../libc/files.ts";
import { attempt, fileExecutor, memoryExecutor } from "./attempt.ts";
import { cgroupFindings } from "./cgroups.ts";
import * as features from "./features.ts";
import type { Finding, Report } from "./finding.ts";
import { capabilitiesFinding, rangesFinding, runFindings } from "./runs.ts";
import { type Tests, tried } from "./tests.ts";
import * as trials from "./trials.ts";
import { userNamespaceFindings } from "./users.ts";

/** Try everything. Nothing is made on disk: what is tried happens in processes that end, and in memory. */
export async function doctor(): Promise<Report> {
  const ids = { uid: rawCall("geteuid"), gid: rawCall("getegid") };
  const root = ids.uid === 0 && /^\s*0\s+0\s+4294967295\s*$/.test(readText("/proc/self/uid_map") ?? "");
  const memory = await attempt(memoryExecutor, []);
  const executor = memory === undefined ? memoryExecutor : fileExecutor;
  const covered = findWorkspace();
  const capabilities = capabilitiesFinding(root);
  const lacking = capabilities.status === "no" ? capabilities : undefined;
  const users = await userNamespaceFindings(executor, ids, root, lacking?.mend);
  /** What the rest cannot do without; its mending is theirs. */
  const first = lacking ?? (users[0].status === "no" ? users[0] : undefined);
  const tests: Tests = { executor, ids, root, first };
  const runs = await runFindings(tests);
  const findings: readonly Finding[] = [
    ...runs,
    ...users,
    capabilities,
    await rangesFinding(tests),
    await features.otherNamespaces(tests),
    await tried(tests, "time-namespace", "time namespace", trials.timeNamespace(ids), () => "Linux 5.6 or newer"),
    await tried(tests, "proc", "proc of its own", trials.ownProc(ids), features.mendProc),
    await tried(tests, "mount-api", "new mount API", trials.mountApi(ids, covered), features.mendKernel),
    await tried(tests, "overlay", "overlay (userxattr)", trials.overlay(ids, covered), features.mendOverlay),
    await features.idmappedFinding(tests),
    ...cgroupFindings(),
    await tried(
      tests,
      "seccomp",
      "seccomp filters",
      trials.seccompFilter(),
      () => "a kernel with CONFIG_SECCOMP_FILTER",
    ),
    features.landlockFinding(),
    features.memoryFinding(memory),
    await tried(tests, "pty", "terminals (devpts)", trials.ownPty(ids), () => "a kernel with CONFIG_UNIX98_PTYS"),
    features.terminalFinding(),
  ];
  const works = memory === undefined && runs.every(({ status }) => status === "yes");
  const kernel = (readText("/proc/sys/kernel/osrelease") ?? "").trim();
  return { works, kernel, arch: ARCH, uid: ids.uid, findings };
}
