/**
 * The Debian packages that tests and benchmarks use, beyond Node's npm.
 *   bun scripts/system-packages.ts      install what is missing (root on Debian), or name it
 */

import { accessSync, constants, existsSync, rmSync, writeFileSync } from "node:fs";
import { DOCKER_PROFILE, fetchDebianFile } from "./debian-files.ts";
import { run } from "./run.ts";

/** A package; a program or an absolute file by which it is known on other systems; what needs it. */
interface SystemPackage {
  readonly name: string;
  readonly probe: string;
  readonly usedBy: string;
}

const TABLE = `
bash                       bash                        nix phases, .ci/run
git                        git                         promises test
python3                    python3                     programs to run in sandboxes
perl                       perl                        programs to run in sandboxes
curl                       curl                        network tests
procps                     ps                          process tree tests
less                       less                        terminal tests
vim-nox                    vim.nox                     terminal tests
tmux                       tmux                        terminal tests
gdb                        gdb                         Nix tests
strace                     strace                      launcher tests
busybox-static             busybox                     rootfs tests
bzip2                      bzip2                       image layers
gcc                        gcc                         probe programs, judge
libc6-dev                  /usr/include/stdio.h        probe programs, judge
musl-tools                 musl-gcc                    static probe programs
binutils                   as                          interpreter.x64.S
binutils-aarch64-linux-gnu aarch64-linux-gnu-as        interpreter.arm64.S
qemu-user-static           qemu-aarch64-static         interpreter.arm64.S
libseccomp-dev             /usr/include/seccomp.h      seccomp compared with libseccomp
uidmap                     newuidmap                   rootless id ranges
bubblewrap                 bwrap                       compared with bwrap, benchmarks
crun                       crun                        compared with crun
runc                       runc                        compared with runc
nix-bin                    nix-build                   nix-build-shell
docker-registry            docker-registry             image pull
apache2-utils              htpasswd                    image pull with a password
skopeo                     skopeo                      image pull compared with skopeo
golang-github-containers-common  /usr/share/containers/seccomp.json  podman's seccomp profile
umoci                      umoci                       image unpacking compared with umoci
golang-1.19-src            /usr/share/go-1.19/src/archive/tar/testdata/gnu.tar  tar vectors
hyperfine                  hyperfine                   benchmarks
`;

/** Every package of the table. */
export const SYSTEM_PACKAGES: readonly SystemPackage[] = TABLE.trim()
  .split("\n")
  .map((line) => {
    const [name = "", probe = "", ...usedBy] = line.split(/ +/);
    return { name, probe, usedBy: usedBy.join(" ") };
  });

/**
 * Names of packages that `dpkg-query -W -f='${Package} ${db:Status-Status}\n'` reports as installed.
 * A removed package whose configuration is left is "config-files".
 */
export function parseInstalled(output: string): ReadonlySet<string> {
  const words = output.split("\n").map((line) => line.split(" "));
  return new Set(words.flatMap(([name, status]) => (name !== undefined && status === "installed" ? [name] : [])));
}

function isPresent(probe: string): boolean {
  return probe.startsWith("/") ? existsSync(probe) : Bun.which(probe) !== null;
}

/** The packages that are missing: asked of dpkg on Debian, else looked for by program and file. */
export async function missingPackages(): Promise<readonly SystemPackage[]> {
  if (Bun.which("dpkg-query") === null) return SYSTEM_PACKAGES.filter((item) => !isPresent(item.probe));
  const names = SYSTEM_PACKAGES.map((item) => item.name);
  const asked = await run(["dpkg-query", "-W", "-f=${Package} ${db:Status-Status}\\n", ...names]);
  const installed = parseInstalled(asked.output);
  return SYSTEM_PACKAGES.filter((item) => !installed.has(item.name));
}

/** One paragraph for people: what is missing, what will fail, how to get it. */
export function formatMissing(missing: readonly SystemPackage[]): string {
  const lines = missing.map((item) => `  ${item.name.padEnd(27)}${item.usedBy}`);
  const command = `apt-get install ${missing.map((item) => item.name).join(" ")}`;
  return [
    "these system packages are missing, and tests that use them will fail:",
    ...lines,
    `as root: ${command}`,
  ].join("\n");
}

const APT = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-q", "-y"] as const;
const APT_ENV = { DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C" } as const;
const POLICY = "/usr/sbin/policy-rc.d";

/** Install packages without starting their services (docker-registry has one): tests start their own. */
async function aptInstall(names: readonly string[]): Promise<string | undefined> {
  const ownPolicy = !existsSync(POLICY);
  if (ownPolicy) writeFileSync(POLICY, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  try {
    const installed = await run([...APT, "install", "--no-install-recommends", ...names], { env: APT_ENV });
    return installed.exitCode === 0 ? undefined : installed.output;
  } finally {
    if (ownPolicy) rmSync(POLICY, { force: true });
  }
}

function isRootOnDebian(): boolean {
  if (process.getuid?.() !== 0 || Bun.which("apt-get") === null) return false;
  try {
    accessSync("/var/lib/dpkg", constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Install what is missing when we may, else say what is missing. Never throws: the tests that need a package fail by
 * themselves, with its name. Returns the packages that are still missing.
 */
export async function ensureSystemPackages(): Promise<readonly SystemPackage[]> {
  const left = await ensureInstalled();
  const trouble = await fetchDebianFile(DOCKER_PROFILE);
  if (trouble !== undefined) console.log(trouble);
  return left;
}

async function ensureInstalled(): Promise<readonly SystemPackage[]> {
  const missing = await missingPackages();
  if (missing.length === 0) return missing;
  if (!isRootOnDebian()) {
    console.log(formatMissing(missing));
    return missing;
  }
  const names = missing.map((item) => item.name);
  console.log(`installing ${names.join(" ")}`);
  const updated = await run([...APT, "update"], { env: APT_ENV });
  const trouble = await aptInstall(names);
  if (trouble !== undefined) {
    console.log(updated.output + trouble);
    // One package that this release of Debian does not have stops all: then each by itself.
    for (const name of names) await aptInstall([name]);
  }
  const left = await missingPackages();
  if (left.length > 0) console.log(formatMissing(left));
  return left;
}

if (import.meta.main) process.exitCode = (await ensureSystemPackages()).length === 0 ? 0 : 1;
