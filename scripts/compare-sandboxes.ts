/**
 * The attacks of `hutch selftest` under other sandboxes, each called as its manual's first example does, with all
 * namespaces; a table in Markdown for docs/security.md. As root, by hand; what is not installed is left out.
 *   unshare --mount --propagation private bun scripts/compare-sandboxes.ts
 * crun 1.8 and podman with it want one version of cgroups: where there are both, umount /sys/fs/cgroup/unified before, in there.
 */

import {
  chmodSync,
  chownSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Arch } from "../src/libc/syscalls.ts";
import { type Attack, attackProgram, outcomeOf } from "../src/selftest/attempt.ts";
import { FILE_ATTACKS } from "../src/selftest/attacks-files.ts";
import { KERNEL_ATTACKS } from "../src/selftest/attacks-kernel.ts";
import { mustRun, ROOT } from "./run.ts";

const ARCH: Arch = process.arch === "arm64" ? "arm64" : "x64";
const DESCRIPTOR = 9;
const PATIENCE_MS = 5_000;
const NOBODY = 65534;
const AS_NOBODY = ["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"];

interface Sandbox {
  readonly name: string;
  readonly tool: string;
  /** The command line that runs a program of the host's at /attack. */
  readonly argv: (program: string) => readonly string[];
}

/** An OCI bundle as `crun spec` makes it, with the program bound read-only; `as`: whose it is, nobody's by words in front. */
async function bundle(folder: string, rootfs: string, tool: string, as: readonly string[]): Promise<string> {
  const path = join(folder, `bundle-${tool}-${as.length}`);
  mkdirSync(path);
  chmodSync(path, 0o777);
  const spec = as.length === 0 ? "spec" : "spec --rootless";
  await mustRun([...as, "sh", "-c", `cd ${path} && ${tool} ${spec}`]);
  const config = JSON.parse(readFileSync(join(path, "config.json"), "utf8"));
  config.root.path = rootfs;
  config.process.terminal = false;
  config.process.args = ["/attack"];
  config.process.rlimits = [];
  if (as.length > 0) {
    // The one id that a user has without ranges in /etc/subuid.
    config.linux.uidMappings = config.linux.gidMappings = [{ containerID: 0, hostID: NOBODY, size: 1 }];
  }
  config.mounts.push({ destination: "/attack", type: "bind", source: join(path, "attack"), options: ["bind", "ro"] });
  config.mounts.push({ destination: "/tmp", type: "tmpfs", source: "tmpfs", options: ["mode=1777"] });
  writeFileSync(join(path, "config.json"), JSON.stringify(config));
  return path;
}

async function sandboxes(folder: string, rootfs: string): Promise<readonly Sandbox[]> {
  const hutch = join(folder, "hutch");
  copyFileSync(join(ROOT, "dist/hutch"), hutch);
  const ours =
    (...options: readonly string[]) =>
    (program: string) => {
      const mount = `type=bind,source=${program},target=/attack,readonly`;
      return [...options, "--mount", mount, "scratch", "--", "/attack"];
    };
  const run = [hutch, "run"];
  const bwrap = (program: string) => [
    ...[
      "bwrap",
      "--die-with-parent",
      "--unshare-all",
      "--bind",
      rootfs,
      "/",
      "--tmpfs",
      "/tmp",
      "--proc",
      "/proc",
      "--dev",
      "/dev",
    ],
    ...["--ro-bind", program, "/attack", "/attack"],
  ];
  const home = join(folder, "home");
  mkdirSync(home);
  chownSync(home, NOBODY, NOBODY);
  const asNobody = [...AS_NOBODY, "env", `HOME=${home}`, `XDG_RUNTIME_DIR=${home}`];
  const oci = (tool: string, path: string, as: readonly string[]) => (program: string) => {
    copyFileSync(program, join(path, "attack"));
    const how = tool === "crun" ? ["--cgroup-manager=disabled"] : []; // crun 1.8 refuses hybrid cgroups otherwise
    return [...as, tool, ...how, "run", "--bundle", path, `compare-${process.pid}-${as.length}`];
  };
  const podman = (program: string) => [
    ...[
      "podman",
      "--log-level=fatal",
      "--cgroup-manager=cgroupfs",
      "run",
      "--rm",
      "--network=none",
      "--ulimit=nofile=1024:1024",
      "--ulimit=nproc=1024:1024",
    ],
    ...["--tmpfs=/tmp", `--volume=${program}:/attack:ro`, "--rootfs", rootfs, "/attack"],
  ];
  const firejail = (program: string) => [
    ...["firejail", "--quiet", "--net=none", "--noprofile", "--seccomp", "--caps.drop=all"],
    ...["--nonewprivs", "--private-dev", program],
  ];
  const list: Sandbox[] = [
    { name: "hutch, root", tool: hutch, argv: ours(...run) },
    { name: "hutch, uid 65534", tool: hutch, argv: ours(...AS_NOBODY, ...run) },
    { name: "hutch strict, root", tool: hutch, argv: ours(...run, "--security", "strict") },
    { name: "bwrap, root", tool: "bwrap", argv: bwrap },
    { name: "bwrap, uid 65534", tool: "bwrap", argv: (program) => [...AS_NOBODY, ...bwrap(program)] },
  ];
  for (const tool of ["crun", "runc"]) {
    if (Bun.which(tool) === null) continue;
    for (const [who, as] of [
      ["root", []],
      ["uid 65534", asNobody],
    ] as const)
      list.push({ name: `${tool}, ${who}`, tool, argv: oci(tool, await bundle(folder, rootfs, tool, as), as) });
  }
  list.push({ name: "podman, root", tool: "podman", argv: podman });
  list.push({ name: "podman, uid 65534", tool: "podman", argv: (program) => [...asNobody, ...podman(program)] });
  list.push({ name: "firejail, root", tool: "firejail", argv: firejail }); // it refuses uid 65534
  return list.filter(({ tool }) => Bun.which(tool) !== null);
}

async function tryIn(sandbox: Sandbox, program: string, bait: number): Promise<string> {
  const child = Bun.spawn([...sandbox.argv(program)], {
    stdio: ["ignore", "ignore", "pipe", ...Array.from({ length: DESCRIPTOR - 3 }, () => "ignore" as const), bait],
    env: { PATH: process.env["PATH"] ?? "/usr/bin:/bin", HOME: "/root" },
    timeout: PATIENCE_MS,
    killSignal: "SIGKILL",
  });
  const [code, errors] = await Promise.all([child.exited, new Response(child.stderr).text()]);
  // The attacks themselves print nothing.
  return errors !== "" ? `did not start: ${errors.trim().slice(0, 100)}` : outcomeOf(code);
}

function table(attacks: readonly Attack[], columns: readonly { name: string; seen: readonly string[] }[]): string {
  const cell = (text: string) => (text === "succeeded" ? "**open**" : text);
  const rows = attacks.flatMap(({ number, name }, index) => {
    const seen = columns.map((column) => column.seen[index] ?? "");
    return seen.includes("succeeded") ? [`| ${number} ${name} | ${seen.map(cell).join(" | ")} |`] : [];
  });
  const open = columns.map(({ seen }) => seen.filter((text) => text === "succeeded").length);
  return [
    `| attack | ${columns.map(({ name }) => name).join(" | ")} |`,
    `| --- | ${columns.map(() => "---").join(" | ")} |`,
    ...rows,
    `| **open, of ${attacks.length}** | ${open.join(" | ")} |`,
  ].join("\n");
}

const folder = mkdtempSync(join(tmpdir(), "hutch-compare-"));
const abstractName = `hutch-compare-${process.pid}`;
const socket = { data: () => {} };
const abstract = Bun.listen({ unix: `\0${abstractName}`, socket });
const tcp = Bun.listen({ hostname: "127.0.0.1", port: 0, socket });
try {
  chmodSync(folder, 0o755);
  const rootfs = join(folder, "rootfs");
  for (const name of ["", "tmp", "proc", "sys", "dev", "etc", "run"]) mkdirSync(join(rootfs, name), { mode: 0o755 });
  writeFileSync(join(rootfs, "attack"), "");
  const { port } = tcp;
  const attacks = [...FILE_ATTACKS, ...KERNEL_ATTACKS].filter(({ arch }) => arch === undefined || arch === ARCH);
  const programs = attacks.map((attack, index) => {
    const path = join(folder, `attack-${index}`);
    writeFileSync(path, attackProgram(attack, ARCH, { descriptor: DESCRIPTOR, abstractName, port }), { mode: 0o755 });
    return path;
  });
  const bait = openSync("/", "r");
  // One after the other in each sandbox, for OCI's bundles; all sandboxes side by side.
  const columns = await Promise.all(
    (await sandboxes(folder, rootfs)).map(async (sandbox) => {
      const seen: string[] = [];
      for (const program of programs) seen.push(await tryIn(sandbox, program, bait));
      console.error(`${sandbox.name}: done`);
      for (const text of new Set(seen.filter((one) => one.startsWith("did not start")))) console.error(`  ${text}`);
      return { name: sandbox.name, seen };
    }),
  );
  console.log(table(attacks, columns));
} finally {
  abstract.stop(true);
  tcp.stop(true);
  rmSync(folder, { recursive: true, force: true }); // nothing is ever mounted here by us
}
