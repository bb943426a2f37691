/**
 * Boot the built hutch on Debian 12's kernel, Linux 6.1, in a virtual machine (QEMU without KVM, half a minute), and run
 * a list of checks there as root and as an ordinary user. Not a part of `npm test`.
 *   apt-get install qemu-system-x86 cpio busybox-static e2fsprogs uidmap && npm run build
 *   bun scripts/old-kernel.ts [KERNEL_PACKAGE]
 * The kernel's package is downloaded and unpacked, never installed.
 */

import { chmod, copyFile, cp, mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { imageOf, layerOf, writeLayout } from "../test/image/helpers/layout.ts";
import { dir, file, link, tar } from "../test/image/tar-maker.ts";
import { mustRun, ROOT } from "./run.ts";

const BUSYBOX = "/usr/bin/busybox";
const MODULES = ["virtio_pci", "virtio_blk", "overlay"];

/** A check: its name, a shell command inside, and all that it must print. */
type Check = readonly [name: string, command: string, output: string];

const TREE = "cd /a && echo * && ls /gone 2>&1 | grep -c No";
const REMADE =
  "rm -r /a && mkdir /a && echo $(ls -A /a) new > /a/n && cat /a/n && rm /a/n && rmdir /a && ls -d /a 2>&1 | grep -c No";
const CHECKS: readonly Check[] = [
  ["empty root", "hutch run --add /bin/busybox scratch /bin/busybox echo hello", "hello"],
  ["directory", "hutch run /rootfs /bin/sh -c 'cat /a/x; echo new > /tmp/y; cat /tmp/y'; ls /rootfs/tmp", "x\nnew"],
  ["directory: a removed directory made again", `hutch run /rootfs /bin/sh -c '${REMADE}'; ls /rootfs/a`, "new\n1\nx"],
  [
    "directory, read-only",
    "hutch run --read-only /rootfs /bin/sh -c 'cat /a/x; touch /b 2>&1 | grep -c Read-only'",
    "x\n1",
  ],
  [
    "a layer that is kept: goes on after a kill, is one sandbox's, is compared and removed",
    "hutch run --persist w oci:/image3 /bin/sh -c 'rm -r /a; mkdir /a; echo one > /a/n; exec sleep 100' & until hutch diff w 2>/dev/null | grep -q /a/n; do sleep 0.2; done; hutch run --persist w oci:/image3 /bin/true 2>&1 | grep -c 'in use by'; kill -9 $!; hutch run --persist w oci:/image3 /bin/sh -c 'ls /a; cat /a/n'; hutch diff w | grep /a/n; hutch rm w; ls -A $HUTCH_STORE/persisted | wc -l",
    "1\nn\none\nA /a/n\nw\n0",
  ],
  ["volume", "hutch run -v /rootfs/a:/mnt:ro /rootfs /bin/cat /mnt/x", "x"],
  ["3 layers", `hutch run oci:/image3 /bin/sh -c '${TREE}'`, "z\n1"],
  ["3 layers: a removed directory made again", `hutch run oci:/image3 /bin/sh -c '${REMADE}'`, "new\n1"],
  [
    "ranges of ids: a removed directory made again, and nothing left",
    `hutch run --userns auto oci:/image3 /bin/sh -c '${REMADE}; mkdir /a; echo > /a/x; /bin/busybox chown -R 7:8 /a; ls -ln /a/x | grep -c "7 *8"'; ls -A $HUTCH_STORE/sessions | wc -l`,
    "new\n1\n1\n0",
  ],
  [
    "a store in memory, 101 layers: a removed directory made again in a copy",
    `export HUTCH_STORE=/mem/$USER; hutch run oci:/image100 /bin/sh -c '${REMADE}'; ls -A $HUTCH_STORE/sessions | wc -l`,
    "new\n1\n0",
  ],
  ["100 layers", "hutch run oci:/image100 /bin/sh -c 'ls /n | wc -l; cat /top'", "100\n99"],
  ["exit status", "hutch run /rootfs /bin/sh -c 'exit 7'; echo $?", "7"],
  ["mydocker", "mydocker run oci:/image3 /bin/sh -c 'echo $$; cat /a/z'", "1\nz"],
  [
    "json",
    "hutch run --json /tmp/$USER-json /rootfs /bin/sh -c 'rm -r /a; exit 3'; echo $?; grep -c '\"exitCode\":3' /tmp/$USER-json",
    "3\n1",
  ],
  [
    "signals",
    "hutch run /rootfs /bin/sh -c 'trap \"echo caught; exit 4\" TERM; echo > /ready; sleep 100 & wait' & until ls $HUTCH_STORE/sessions/*/upper/ready; do sleep 0.2; done >/dev/null 2>&1; kill $!; wait $!; echo $?",
    "caught\n4",
  ],
  [
    "named: another joins it, and it is ended by its name",
    "hutch run --name one /rootfs /bin/sh -c 'trap \"exit 4\" TERM; echo > /ready; sleep 100 & wait' & until hutch exec one /bin/ls /ready 2>/dev/null; do sleep 0.2; done; hutch kill one; wait $!; echo $?; ls -A $HUTCH_STORE/sessions | wc -l",
    "/ready\n4\n0",
  ],
  ...["--init", "--no-init"].flatMap((options): Check[] => [
    [
      `denials are told, ${options}`,
      `hutch run --explain-denials ${options} /rootfs /bin/sh -c '/bin/busybox unshare -n /bin/ls; exit 7' 2>&1; echo $?`,
      "unshare: unshare(0x40000000): Operation not permitted\nhutch: blocked: unshare(CLONE_NEWNET) = EPERM, once: not in the default profile\n7",
    ],
    [
      `hutch is killed, and the teller ends, ${options}`,
      `tellers() { ps -o stat,comm | grep -v "^Z" | grep -c hutch-teller; }; hutch run --explain-denials ${options} /rootfs /bin/sleep 100 & n=0; until [ $(tellers) = 1 ] || [ $n = 100 ]; do n=$((n + 1)); sleep 0.2; done; echo $(tellers); sleep 1; kill -9 $!; n=0; until [ $(tellers) = 0 ] || [ $n = 50 ]; do n=$((n + 1)); sleep 0.2; done; tellers`,
      "1\n0",
    ],
  ]),
  [
    "denials cannot be told of a PID 1 whose clocks are moved",
    "hutch run --explain-denials --no-init --time-offset 5 /rootfs /bin/true 2>&1 | grep -c 'leave --no-init out'",
    "1",
  ],
  ["doctor", "hutch doctor >/dev/null; echo $?", "0"],
  ["every attack of the self-test is held", "hutch selftest >/dev/null; echo $?", "0"],
  ["nothing left", "ls -A $HUTCH_STORE/sessions | wc -l", "0"],
  [
    "nothing left by a kill, after the next prune",
    "cd $HUTCH_STORE/sessions; hutch run /rootfs /bin/sh -c 'echo > /ready; exec sleep 100' & until ls */upper/ready; do sleep 0.2; done >/dev/null 2>&1; kill -9 $!; ls | wc -l; hutch prune >/dev/null; ls | wc -l",
    "1\n0",
  ],
];

/** A busybox with the names that the checks use. */
function shellLayer(program: Uint8Array): Uint8Array {
  const names = ["sh", "ls", "cat", "rm", "mkdir", "rmdir", "grep", "wc", "touch", "echo"];
  return tar(
    ...[dir("bin"), dir("tmp"), dir("a"), dir("n"), dir("mnt"), file("a/x", "x\n"), file("gone", "gone\n")],
    ...[file("bin/busybox", program, { mode: 0o755 }), ...names.map((name) => link(`bin/${name}`, "busybox"))],
  );
}

async function makeImages(root: string): Promise<void> {
  const base = layerOf(shellLayer(await Bun.file(BUSYBOX).bytes()));
  const middle = layerOf(tar(file("a/y", "y\n"), file(".wh.gone", "")));
  const opaque = layerOf(tar(dir("a"), file("a/.wh..wh..opq", ""), file("a/z", "z\n")));
  writeLayout(join(root, "image3"), imageOf([base, middle, opaque]));
  const many = Array.from({ length: 100 }, (_, index) => layerOf(tar(file(`n/${index}`), file("top", `${index}\n`))));
  writeLayout(join(root, "image100"), imageOf([base, ...many]));
}

/** hutch with the libraries that it wants, at the same paths. */
async function makeRoot(root: string): Promise<void> {
  for (const name of [
    "bin",
    "proc",
    "sys",
    "dev",
    "tmp",
    "run",
    "etc",
    "root",
    "home/user",
    "usr/bin",
    "var/lib",
    "rootfs/bin",
    "rootfs/proc",
    "rootfs/dev",
    "rootfs/mnt",
  ])
    await mkdir(join(root, name), { recursive: true });
  await copyFile(join(ROOT, "dist/hutch"), join(root, "usr/bin/hutch"));
  for (const name of ["mydocker", "nix-build-shell"]) await symlink("hutch", join(root, "usr/bin", name));
  const mappers = ["/usr/bin/newuidmap", "/usr/bin/newgidmap"];
  for (const path of mappers) await copyFile(path, join(root, path));
  const { output } = await mustRun(["ldd", join(ROOT, "dist/hutch"), ...mappers]);
  for (const path of output.match(/\/\S+(?= \()/g) ?? []) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await cp(path, join(root, path), { dereference: true });
  }
  for (const name of ["subuid", "subgid"])
    await Bun.write(join(root, "etc", name), "root:200000:65536\nuser:100000:65536\n");
  for (const place of ["bin", "rootfs/bin"]) await copyFile(BUSYBOX, join(root, place, "busybox"));
  await symlink("busybox", join(root, "bin/sh"));
  for (const name of ["sh", "ls", "cat", "rm", "mkdir", "rmdir", "grep", "touch", "sleep"])
    await symlink("busybox", join(root, "rootfs/bin", name));
  for (const name of ["tmp", "a"]) await mkdir(join(root, "rootfs", name));
  await Bun.write(join(root, "rootfs/a/x"), "x\n");
  await Bun.write(join(root, "etc/passwd"), "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n");
  await Bun.write(join(root, "etc/group"), "root:x:0:\nuser:x:1000:\n");
  await makeImages(root);
  const checks = CHECKS.map(([name, command], index) => {
    return `echo "BEGIN ${index} ${name}"; (${command}) 2>&1 | cat; echo "END ${index}"\n`;
  }).join("");
  const reports = "echo REPORT doctor; hutch doctor; echo REPORT plan; hutch plan /rootfs /bin/true | grep overlay";
  await Bun.write(join(root, "checks"), `export PATH=/usr/bin:/bin\ncd /\n${checks}${reports}\n`);
  await Bun.write(
    join(root, "init2"),
    `#!/bin/sh
/bin/busybox --install -s /bin
export PATH=/usr/bin:/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t cgroup2 none /sys/fs/cgroup
mkdir /mem; mount -t tmpfs -o mode=1777 mem /mem
chmod 1777 /tmp; chown -R 0:0 /rootfs; chown -R 1000:1000 /home/user; chmod 4755 /usr/bin/newuidmap /usr/bin/newgidmap
ip link set lo up
echo "KERNEL $(uname -r)"
echo "AS root"; USER=root HOME=/root HUTCH_STORE=/var/lib/hutch sh /checks
chown -R 1000:1000 /rootfs
echo "AS user"; USER=user HUTCH_STORE=/home/user/store su user -c "sh /checks"
echo FINISHED
poweroff -f
`,
  );
  await chmod(join(root, "init2"), 0o755);
}

/** Paths of modules and of all that they need (`depends=` of their .modinfo), in the order in which they are loaded. */
async function inOrder(paths: readonly string[], names: readonly string[]): Promise<readonly string[]> {
  const order: string[] = [];
  for (const name of names) {
    const path = paths.find((one) => basename(one) === `${name}.ko`);
    if (path === undefined) throw new Error(`the kernel's package has no ${name}.ko`);
    const text = Buffer.from(await Bun.file(path).bytes()).toString("latin1");
    const needs = (/\0depends=([^\0]*)\0/.exec(text)?.[1] ?? "").split(",").filter((one) => one !== "");
    for (const one of [...(await inOrder(paths, needs)), path]) if (!order.includes(one)) order.push(one);
  }
  return order;
}

async function makeInitrd(folder: string, modules: string): Promise<string> {
  const early = join(folder, "early");
  for (const name of ["bin", "proc", "dev", "new"]) await mkdir(join(early, name), { recursive: true });
  await copyFile(BUSYBOX, join(early, "bin/busybox"));
  const { output } = await mustRun(["find", modules, "-name", "*.ko"]);
  const paths = await inOrder(output.trim().split("\n"), MODULES);
  for (const path of paths) await copyFile(path, join(early, basename(path)));
  await Bun.write(
    join(early, "init"),
    `#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t devtmpfs dev /dev
for module in ${paths.map((path) => basename(path)).join(" ")}; do insmod /$module; done
tries=0; until [ -b /dev/vda ] || [ $tries = 100 ]; do sleep 0.1; tries=$((tries + 1)); done
mount -t ext4 /dev/vda /new && exec switch_root /new /init2
poweroff -f
`,
  );
  await chmod(join(early, "init"), 0o755);
  const initrd = join(folder, "initrd");
  await mustRun(["sh", "-c", `cd ${early} && find . | cpio --quiet -o -H newc -R 0:0 > ${initrd}`]);
  return initrd;
}

/** Unpack the newest of Debian's 6.1 kernels for clouds. Returns the package's tree. */
async function fetchKernel(folder: string, name: string | undefined): Promise<string> {
  const pattern = "^linux-image-6\\.1\\..*-cloud-amd64-unsigned$";
  const search = ["sh", "-c", `apt-cache search --names-only '${pattern}' | cut -d' ' -f1 | sort -V | tail -n1`];
  const wanted = name ?? (await mustRun(search)).output.trim();
  if (wanted === "") throw new Error("apt knows no kernel 6.1: name a package");
  if (!wanted.endsWith(".deb")) await mustRun(["sh", "-c", `cd ${folder} && apt-get -q download ${wanted}`]);
  await mustRun(["sh", "-c", `dpkg -x ${wanted.endsWith(".deb") ? wanted : `${folder}/*.deb`} ${folder}/kernel`]);
  return join(folder, "kernel");
}

/** What each check printed, by user and number. */
function judge(log: string): { readonly lines: readonly string[]; readonly passed: number; readonly failed: number } {
  let [passed, failed] = [0, 0];
  const lines = ["root", "user"].flatMap((user) => {
    const part = log.split(`AS ${user}\n`)[1]?.split(/^AS /m)[0] ?? "";
    const judged = CHECKS.map(([name, , wanted], index) => {
      const printed = part.split(`BEGIN ${index} ${name}\n`)[1]?.split(`END ${index}\n`)[0];
      const good = printed?.trimEnd() === wanted;
      if (good) passed += 1;
      else failed += 1;
      return good ? `ok    ${user}  ${name}` : `FAIL  ${user}  ${name}: ${JSON.stringify(printed)}`;
    });
    return [...judged, part.split("REPORT doctor\n")[1] ?? ""];
  });
  return { lines, passed, failed };
}

async function main(): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), "hutch-old-kernel-"));
  try {
    const kernel = await fetchKernel(folder, process.argv[2]);
    await makeRoot(join(folder, "root"));
    const initrd = await makeInitrd(folder, join(kernel, "lib/modules"));
    const disk = join(folder, "disk");
    await mustRun(["mke2fs", "-q", "-t", "ext4", "-d", join(folder, "root"), disk, "512M"]);
    const { output: vmlinuz } = await mustRun(["sh", "-c", `ls ${kernel}/boot/vmlinuz-*`]);
    const { output: log, milliseconds } = await mustRun([
      ...[
        "timeout",
        "1800", // seconds, on a machine that does other things as well
        "qemu-system-x86_64",
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max",
        "-smp",
        "2",
        "-m",
        "1536",
      ],
      ...["-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio", "-kernel", vmlinuz.trim(), "-initrd", initrd],
      ...["-drive", `file=${disk},if=virtio,format=raw,cache=unsafe`, "-append", "console=ttyS0 quiet panic=-1"],
    ]);
    const { lines, passed, failed } = judge(log.replaceAll("\r", ""));
    if (!log.includes("FINISHED")) console.log(log);
    console.log(`${/KERNEL .*/.exec(log)?.[0].trim()}, ${Math.round(milliseconds / 1000)} s\n${lines.join("\n")}`);
    console.log(`${passed} passed, ${failed} failed`);
    return failed === 0 ? 0 : 1;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
