/** doctor: what this machine lets this caller do, found by doing it. The order here is the order of the report. */

import { mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { ARCH, rawCall } from "../libc/call.ts";
import { AT_FDCWD, LANDLOCK_CREATE_RULESET_VERSION, O_CLOEXEC, O_NOCTTY, O_RDWR } from "../libc/constants.ts";
import { errnoText } from "../libc/errno.ts";
import { isTerminal, pathStatus, readText } from "../libc/files.ts";
import type { HutchError } from "../errors.ts";
import type { HostPath, Root } from "../spec.ts";
import {
  attempt,
  type Executor,
  fileExecutor,
  formatRefusal,
  memoryExecutor,
  type Refusal,
  type Trial,
} from "./attempt.ts";
import { cgroupFindings } from "./cgroups.ts";
import type { Finding, Report } from "./finding.ts";
import { sandboxSpec, trySandbox } from "./sandbox.ts";
import * as trials from "./trials.ts";
import { userNamespaceFindings } from "./users.ts";

/** How a refusal is mended; undefined when nothing is known that would. */
type Mend = (refusal: Refusal) => string | undefined;

/**
 * Try everything. Nothing is left behind: what is tried happens in processes that end, beside an empty directory in the
 * temporary directory that is removed.
 */
export async function doctor(): Promise<Report> {
  const ids = { uid: rawCall("geteuid"), gid: rawCall("getegid") };
  const root = ids.uid === 0 && /^\s*0\s+0\s+4294967295\s*$/.test(readText("/proc/self/uid_map") ?? "");
  const memory = await attempt(memoryExecutor, []);
  const executor = memory === undefined ? memoryExecutor : fileExecutor;
  const directory = mkdtempSync(`${tmpdir()}/hutch-doctor-`);
  try {
    const runs = await runFindings(executor, directory);
    const findings: readonly Finding[] = [
      ...runs,
      ...(await userNamespaceFindings(executor, ids)),
      await rangesFinding(executor, root),
      await otherNamespaces(executor, ids),
      await tried(executor, "time-namespace", "time namespace", trials.timeNamespace(ids), () => "Linux 5.6 or newer"),
      await tried(executor, "proc", "proc of its own", trials.ownProc(ids), mendProc),
      await tried(executor, "mount-api", "new mount API", trials.mountApi(ids, directory), mendKernel),
      await tried(executor, "overlay", "overlay (userxattr)", trials.overlay(ids, directory), mendOverlay),
      await idmappedFinding(executor, root, ids, directory),
      ...cgroupFindings(ids.uid),
      await tried(
        executor,
        "seccomp",
        "seccomp filters",
        trials.seccompFilter(),
        () => "a kernel with CONFIG_SECCOMP_FILTER",
      ),
      landlockFinding(),
      memoryFinding(memory),
      await tried(executor, "pty", "terminals (devpts)", trials.ownPty(ids), () => "a kernel with CONFIG_UNIX98_PTYS"),
      terminalFinding(),
    ];
    const works = memory === undefined && runs.every(({ status }) => status === "yes");
    const kernel = (readText("/proc/sys/kernel/osrelease") ?? "").trim();
    return { works, kernel, arch: ARCH, uid: ids.uid, findings };
  } finally {
    rmdirSync(directory);
  }
}

/** A finding from steps that are tried in a process of their own. */
async function tried(
  executor: Executor,
  id: string,
  name: string,
  steps: readonly Trial[],
  mend: Mend,
  detail = "",
): Promise<Finding> {
  const refusal = await attempt(executor, steps);
  if (refusal === undefined) return { id, name, status: "yes", detail };
  const first = refusal.step.endsWith("user namespace") || refusal.step === "map ids";
  const how = first ? "see user namespaces" : mend(refusal);
  return { id, name, status: "no", detail: formatRefusal(refusal), ...(how === undefined ? {} : { mend: how }) };
}

function fromError(id: string, name: string, error: HutchError | undefined, detail: string): Finding {
  if (error === undefined) return { id, name, status: "yes", detail };
  return { id, name, status: "no", detail: error.message, ...(error.hint === undefined ? {} : { mend: error.hint }) };
}

/** The real thing: with an empty root, and with a directory under an overlay. */
async function runFindings(executor: Executor, directory: string): Promise<readonly Finding[]> {
  const empty: Root = { kind: "scratch", readonly: false, from: "scratch" };
  const overlay: Root = { kind: "overlay", lower: [directory as HostPath], from: directory };
  const scratch = await trySandbox(executor, await sandboxSpec(empty, "default"));
  const shown = await trySandbox(executor, await sandboxSpec(overlay, "default"));
  return [
    fromError("run-scratch", "hutch run scratch", scratch, "an empty root"),
    fromError("run-directory", "hutch run DIR", shown, `a directory in ${tmpdir()}, which is not changed`),
  ];
}

/** Ranges of ids; started by root always, else what `--userns auto` takes. */
async function rangesFinding(executor: Executor, root: boolean): Promise<Finding> {
  const [id, name] = ["id-ranges", "id ranges"];
  const empty: Root = { kind: "scratch", readonly: false, from: "--userns auto" };
  const error = await trySandbox(executor, await sandboxSpec(empty, "range"));
  const detail = root ? "written by root" : "of /etc/subuid and /etc/subgid, by newuidmap (--userns auto)";
  const finding = fromError(id, name, error, detail);
  if (error === undefined || root) return finding;
  const mapper = ["/usr/bin", "/bin", "/usr/sbin", "/run/wrappers/bin"].some(
    (place) => typeof pathStatus(`${place}/newuidmap`) !== "number",
  );
  return mapper ? finding : { ...finding, detail: "newuidmap is not installed", mend: "apt-get install uidmap" };
}

/** Namespaces of every `hutch run` beside user and mount. */
async function otherNamespaces(executor: Executor, ids: trials.Ids): Promise<Finding> {
  const names = ["mount", "pid", "network", "ipc", "uts", "cgroup"] as const;
  const [id, name] = ["namespaces", "other namespaces"];
  for (const one of names) {
    const finding = await tried(executor, id, name, trials.otherNamespace(ids, one), ({ errno }) =>
      errno === "ENOSPC" ? `sysctl -w user.max_${SYSCTL[one]}_namespaces=15000` : "a kernel with all of CONFIG_*_NS",
    );
    if (finding.status !== "yes") return finding;
  }
  return { id, name, status: "yes", detail: names.join(" ") };
}

const SYSCTL = { mount: "mnt", pid: "pid", network: "net", ipc: "ipc", uts: "uts", cgroup: "cgroup" } as const;

const mendProc: Mend = ({ errno }) =>
  errno === "EPERM"
    ? "the present /proc is covered in parts, as in a container: docker run --security-opt systempaths=unconfined"
    : undefined;

const mendKernel: Mend = ({ errno }) =>
  errno === "ENOSYS" ? "Linux 5.12 or newer, or a container whose filter knows these calls" : undefined;

const mendOverlay: Mend = ({ call, errno }) => {
  if (call === "fsopen" && errno === "ENODEV") return "as root: modprobe overlay";
  if (call === "mkdirat" && errno === "EIO")
    return "Linux 6.6 or newer, whose tmpfs has user.* attributes; until then --read-only";
  return "Linux 5.11 or newer; until then hutch run --read-only";
};

/** Only root may show files under other owners, and only root's sandboxes need it. */
async function idmappedFinding(
  executor: Executor,
  root: boolean,
  ids: trials.Ids,
  directory: string,
): Promise<Finding> {
  const [id, name] = ["idmapped-mounts", "idmapped mounts"];
  if (!root) return { id, name, status: "unneeded", detail: "for sandboxes that root starts" };
  const [good, bad]: [string[], string[]] = [[], []];
  let refusal: Refusal | undefined;
  for (const place of new Set(["/", directory, process.cwd()])) {
    const failed = await attempt(executor, trials.idmappedMount(ids, place));
    (failed === undefined ? good : bad).push(place === directory ? tmpdir() : place);
    refusal ??= failed;
  }
  if (refusal === undefined) return { id, name, status: "yes", detail: good.join(" ") };
  const detail = `${bad.join(" ")}: ${refusal.call}: ${refusal.errno} ${refusal.meaning}`;
  const mend = `a ROOT on ext4, xfs, btrfs or tmpfs${good.length > 0 ? ` (${good.join(" ")} can)` : ""}, or run as an ordinary user`;
  return { id, name, status: "no", detail, mend };
}

/** Landlock's version of its interface (landlock(7)); hutch does not use it yet. */
function landlockFinding(): Finding {
  const [id, name] = ["landlock", "landlock"];
  const version = rawCall("landlock_create_ruleset", null, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (version > 0) return { id, name, status: "yes", detail: `ABI ${version}` };
  const { name: errno, meaning } = errnoText(-version);
  const off = errno === "EOPNOTSUPP" || errno === "ENOTSUP";
  const mend = off
    ? "boot with landlock in lsm= of the kernel's command line"
    : "a kernel with CONFIG_SECURITY_LANDLOCK";
  return { id, name, status: "no", detail: `landlock_create_ruleset: ${errno} ${meaning}`, mend };
}

function memoryFinding(refusal: Refusal | undefined): Finding {
  const [id, name] = ["memory-exec", "programs in memory"];
  if (refusal === undefined) return { id, name, status: "yes", detail: "memfd_create, execve" };
  const forbidden = Number(readText("/proc/sys/vm/memfd_noexec") ?? 0) > 0;
  const mend = forbidden
    ? "sysctl -w vm.memfd_noexec=0"
    : "a policy (SELinux, AppArmor) that lets memory files be executed";
  return { id, name, status: "no", detail: formatRefusal(refusal), mend };
}

/** Which of the standard descriptors are a terminal, and whether there is a controlling one (tty(4)). */
function terminalFinding(): Finding {
  const [id, name] = ["terminal", "terminal"];
  const standard = ["stdin", "stdout", "stderr"].filter((_, descriptor) => isTerminal(descriptor));
  const controlling = rawCall("openat", AT_FDCWD, "/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (controlling >= 0) rawCall("close", controlling);
  if (standard.length === 0 && controlling < 0) return { id, name, status: "unneeded", detail: "none here" };
  return { id, name, status: "yes", detail: [...standard, ...(controlling < 0 ? [] : ["/dev/tty"])].join(" ") };
}
