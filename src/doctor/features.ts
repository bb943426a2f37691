/** Features of the kernel, one finding each, and what mends their absence. */

import { tmpdir } from "node:os";
import { rawCall } from "../libc/call.ts";
import { AT_FDCWD, LANDLOCK_CREATE_RULESET_VERSION, O_CLOEXEC, O_NOCTTY, O_RDWR } from "../libc/constants.ts";
import { errnoText } from "../libc/errno.ts";
import { isTerminal, readText, workingDirectory } from "../libc/files.ts";
import { attempt, formatRefusal, type Refusal } from "./attempt.ts";
import type { Finding } from "./finding.ts";
import { type Mend, no, type Tests, tried } from "./tests.ts";
import * as trials from "./trials.ts";

/** Namespaces of every `hutch run` beside user and mount. */
export async function otherNamespaces(tests: Tests): Promise<Finding> {
  const names = ["mount", "pid", "network", "ipc", "uts", "cgroup"] as const;
  const [id, name] = ["namespaces", "other namespaces"];
  for (const one of names) {
    const finding = await tried(tests, id, name, trials.otherNamespace(tests.ids, one), ({ errno }) =>
      errno === "ENOSPC" ? `sysctl -w user.max_${SYSCTL[one]}_namespaces=15000` : "a kernel with all of CONFIG_*_NS",
    );
    if (finding.status !== "yes") return finding;
  }
  return { id, name, status: "yes", detail: names.join(" ") };
}

const SYSCTL = { mount: "mnt", pid: "pid", network: "net", ipc: "ipc", uts: "uts", cgroup: "cgroup" } as const;

export const mendProc: Mend = ({ errno }) =>
  errno === "EPERM"
    ? "the present /proc is covered in parts, as in a container: docker run --security-opt systempaths=unconfined"
    : undefined;

export const mendKernel: Mend = ({ errno }) =>
  errno === "ENOSYS" ? "Linux 5.12 or newer, or a container whose filter knows these calls" : undefined;

export const mendOverlay: Mend = ({ call, errno }) => {
  if (call === "fsopen" && errno === "ENODEV") return "as root: modprobe overlay";
  if (errno === "EIO")
    return "Linux 6.6 or newer, whose tmpfs has user.* attributes; until then hutch run writes to disk, beside its images, when those are on ext4, xfs, btrfs or f2fs";
  return "Linux 5.11 or newer; until then hutch run --read-only";
};

/** Only root may show files under other owners, and only root's sandboxes need it. */
export async function idmappedFinding({ executor, root, ids, first }: Tests): Promise<Finding> {
  const [id, name] = ["idmapped-mounts", "idmapped mounts"];
  if (!root) return { id, name, status: "unneeded", detail: "for sandboxes that root starts" };
  const [good, bad]: [string[], string[]] = [[], []];
  let refusal: Refusal | undefined;
  for (const place of new Set(["/", tmpdir(), workingDirectory()])) {
    const failed = await attempt(executor, trials.idmappedMount(ids, place));
    (failed === undefined ? good : bad).push(place);
    refusal ??= failed;
  }
  if (refusal === undefined) return { id, name, status: "yes", detail: good.join(" ") };
  const detail = `${bad.join(" ")}: ${refusal.call}: ${refusal.errno} ${refusal.meaning}`;
  const others = good.length > 0 ? ` (${good.join(" ")} can)` : "";
  return no(
    id,
    name,
    detail,
    first?.mend ?? `a ROOT on ext4, xfs, btrfs or, from Linux 6.3, tmpfs${others}, or run as an ordinary user`,
  );
}

/** Landlock's version of its interface (landlock(7)), which the strict security profile needs. */
export function landlockFinding(): Finding {
  const [id, name] = ["landlock", "landlock"];
  const version = rawCall("landlock_create_ruleset", null, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (version > 0) return { id, name, status: "yes", detail: `ABI ${version}` };
  const { name: errno, meaning } = errnoText(-version);
  const off = errno === "EOPNOTSUPP" || errno === "ENOTSUP";
  const mend = off
    ? "boot with landlock in lsm= of the kernel's command line"
    : "a kernel with CONFIG_SECURITY_LANDLOCK";
  return no(id, name, `landlock_create_ruleset: ${errno} ${meaning}`, mend);
}

export function memoryFinding(refusal: Refusal | undefined): Finding {
  const [id, name] = ["memory-exec", "programs in memory"];
  if (refusal === undefined) return { id, name, status: "yes", detail: "memfd_create, execve" };
  const forbidden = Number(readText("/proc/sys/vm/memfd_noexec") ?? 0) > 0;
  const mend = forbidden
    ? "sysctl -w vm.memfd_noexec=0"
    : "a policy (SELinux, AppArmor) that lets memory files be executed";
  return no(id, name, formatRefusal(refusal), mend);
}

/** Which of the standard descriptors are a terminal, and whether there is a controlling one (tty(4)). */
export function terminalFinding(): Finding {
  const [id, name] = ["terminal", "terminal"];
  const standard = ["stdin", "stdout", "stderr"].filter((_, descriptor) => isTerminal(descriptor));
  const controlling = rawCall("openat", AT_FDCWD, "/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (controlling >= 0) rawCall("close", controlling);
  if (standard.length === 0 && controlling < 0) return { id, name, status: "unneeded", detail: "none here" };
  return { id, name, status: "yes", detail: [...standard, ...(controlling < 0 ? [] : ["/dev/tty"])].join(" ") };
}
