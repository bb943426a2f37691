/** What the profiles promise beside their filters, as a program inside finds it. */

import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Arch } from "../../src/libc/syscalls.ts";
import { syscallNumbers } from "../../src/process/syscall-numbers.ts";
import { BUSYBOX, expectSuccess, needs } from "../cli/hutch.ts";
import { eachAttacker, results } from "./attackers.ts";

const NATIVE: Arch = process.arch === "arm64" ? "arm64" : "x64";
const WHOLE = ["--read-only", "/"] as const;
const call = (name: string, ...args: readonly (number | bigint)[]) =>
  [syscallNumbers(NATIVE).get(name) ?? -1, ...args].join(",");

/** An ELF of 32 bits for i386 whose program is `exit(0)` by int 0x80 (elf(5): Elf32_Ehdr, one Elf32_Phdr). */
function program386(): Uint8Array {
  const code = [0xb8, 1, 0, 0, 0, 0x31, 0xdb, 0xcd, 0x80]; // mov eax, 1; xor ebx, ebx; int 0x80
  const [base, headers] = [0x08048000, 52 + 32];
  const image = new Uint8Array(headers + code.length);
  const view = new DataView(image.buffer);
  image.set([0x7f, 0x45, 0x4c, 0x46, 1, 1, 1]);
  for (const [at, value] of [[16, 2], [18, 3], [40, 52], [42, 32], [44, 1]] as const) view.setUint16(at, value, true); // prettier-ignore
  for (const [at, value] of [
    ...[
      [20, 1],
      [24, base + headers],
      [28, 52],
    ],
    ...[
      [52, 1],
      [60, base],
      [64, base],
      [68, image.length],
      [72, image.length],
      [76, 5],
      [80, 0x1000],
    ],
  ] as const)
    view.setUint32(at ?? 0, value ?? 0, true);
  image.set(code, headers);
  return image;
}

eachAttacker("inside", ({ hutch, folder, caller, withAttacker, startHutch, script }) => {
  const attacker = async (options: readonly string[], ...words: readonly string[]) =>
    (await hutch(["run", ...options, ...withAttacker, "scratch", "/attacker", ...words])).stdout;

  test("strict: no capability of any kind, and uid 0 is nobody special, for good", async () => {
    const strict = ["--security", "strict"];
    const sets = await hutch(["run", ...strict, ...WHOLE, "grep", "^Cap", "/proc/self/status"]);
    expect(sets.stdout).toBe(
      ["Inh", "Prm", "Eff", "Bnd", "Amb"].map((name) => `Cap${name}:\t${"0".repeat(16)}\n`).join(""),
    );
    // noroot, no_setuid_fixup, keep_caps cleared and locked, no_cap_ambient_raise, each with its lock
    const bits = Number(await attacker(strict, "securebits"));
    expect(bits).toBe(0xef);
    expect(Number(await attacker([], "securebits"))).toBe(0);
    const unset = call("prctl", 28, 0);
    expect(results(await attacker(strict, "calls", unset))).toEqual({ [unset]: "EPERM" });
  });

  test("strict: the uid 0 of the sandbox is kept out by the modes of files", async () => {
    const tries = "echo x > /tmp/f; chmod 0 /tmp/f; cat /tmp/f; chown 1:1 /tmp/f; echo $?";
    const strict = await hutch(["run", "--security", "strict", ...BUSYBOX, "scratch", "busybox", "sh", "-c", tries]);
    expect(strict.stderr).toContain("can't open '/tmp/f': Permission denied");
    const normal = await hutch(["run", ...BUSYBOX, "scratch", "busybox", "sh", "-c", tries]);
    expect(normal.stdout).toStartWith("x\n"); // the control: CAP_DAC_OVERRIDE
  });

  test("nested: namespaces, mounts and bwrap work inside; by default none of them", async () => {
    needs("bwrap");
    const tries = [
      "unshare -Ur id -u",
      "unshare -Urmpf --mount-proc sh -c 'mount -t tmpfs none /mnt && echo mounted'",
      "bwrap --ro-bind / / --unshare-all --proc /proc --dev /dev echo bwrap",
    ];
    const run = (...options: readonly string[]) => hutch(["run", ...options, ...WHOLE, "sh", "-c", tries.join("; ")]);
    expectSuccess(await run("--security", "nested"), "0\nmounted\nbwrap\n");
    const refused = await run();
    expect(refused.stdout).toBe("");
    expect(refused.code).not.toBe(0);
  });

  test("B15, B16, B22, B23: where ROOT shows the host's /proc and /sys", async () => {
    const writes = [
      ...["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity"],
      ...["/sys/kernel/uevent_helper", "/sys/power/state", "/sys/fs/cgroup/cgroup.procs"],
      ...["/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/memory/cgroup.procs"],
    ];
    const volume = withAttacker[1]?.replace(":/attacker:", ":/usr/bin/true:") ?? "";
    const seen = await hutch(["run", "-v", volume, ...WHOLE, "/usr/bin/true", "write", ...writes]);
    for (const [path, answer] of Object.entries(results(seen.stdout)))
      expect([path, answer]).toEqual([path, expect.stringMatching(/^(EROFS|EACCES|EPERM|ENOENT)$/)]);
    expect(Object.keys(results(seen.stdout))).toEqual(writes);
    const covered = "/proc/acpi /sys/dev/block /sys/devices/virtual/powercap /sys/firmware /sys/fs/selinux";
    const list = await hutch([
      "run",
      ...WHOLE,
      "sh",
      "-c",
      `ls -A ${covered} 2>/dev/null | grep -v ':$' | tr -d '\\n'`,
    ]);
    expect(list.stdout).toBe("");
    const made = await hutch([
      "run",
      ...WHOLE,
      "sh",
      "-c",
      "for d in /sys/fs/cgroup /sys/fs/cgroup/*/; do mkdir $d/x; done",
    ]);
    expect(made.stderr).not.toBe("");
    expect(made.code).not.toBe(0);
  });

  test("B24: a setgid directory and the host's own setuid programs give nothing", async () => {
    const tries = [
      "mkdir /tmp/d; chmod 2777 /tmp/d; : > /tmp/d/f; stat -c %g /tmp/d/f",
      "find /usr/bin -perm -4000 -name 'su*' -exec {} -c id \\; 2>/dev/null; id -u; grep -c NoNewPrivs:.1 /proc/self/status",
    ];
    const id = caller.root ? "7" : "0"; // a user has one id only
    const options = ["--tmpfs", "/tmp:mode=1777", "-u", `${id}:${id}`];
    const { stdout } = await hutch(["run", ...options, ...WHOLE, "sh", "-c", tries.join("; ")], { stdin: "" });
    expect(stdout).toBe(`${id}\n${id}\n1\n`);
  });

  test("B25: priorities and schedulers of the host's processes are out of reach", async () => {
    const beside = startHutch(["run", ...BUSYBOX, "scratch", "busybox", "sh", "-c", "echo up; busybox cat"]);
    await beside.says("up");
    const calls = [beside.pid, process.pid].flatMap((pid) => [
      call("setpriority", 0, pid, 19),
      call("sched_setscheduler", pid, 3, 0),
      call("sched_setaffinity", pid, 8, 0),
      call("prlimit64", pid, 7, 0, 0),
      call("ioprio_set", 1, pid, 0x6007),
      call("kill", pid, 0),
    ]);
    for (const [what, seen] of Object.entries(results(await attacker([], "calls", ...calls))))
      expect([what, seen]).toEqual([what, expect.stringMatching(/^(ESRCH|EPERM|EINVAL|EFAULT)$/)]);
    beside.closeInput();
    expect((await beside.ended).code).toBe(0);
  });

  test.skipIf(NATIVE !== "x64")(
    "B28: a program of 32 bits is killed at its first call (only x86-64 runs any)",
    async () => {
      const place = folder();
      writeFileSync(join(place, "program"), program386(), { mode: 0o755 });
      const run = (...options: readonly string[]) =>
        hutch(["run", ...options, "-v", `${place}/program:/program:ro`, "scratch", "/program"]);
      for (const profile of ["default", "strict", "nested"]) {
        const { code } = await run("--security", profile);
        expect([profile, code]).toEqual([profile, 128 + 31]);
      }
      expectSuccess(await run("--security", "none"), ""); // the control
    },
  );

  test.skipIf(process.getuid?.() !== 0).each(["link", "directory"])(
    "A10: the places of the list and the store, a %s planted by somebody else (root can be that)",
    async (kind) => {
      const run = [
        'mount --bind "${HUTCH%/*}" /mnt; for top in /tmp /var/tmp /run; do mount -t tmpfs -o mode=1777 none $top; done',
        "mkdir -m 777 /var/tmp/victim",
        'for place in /tmp /var/tmp; do [ "$1" = link ] && plant="ln -s /var/tmp/victim" || plant="mkdir -m 777"',
        'setpriv --reuid=1234 --regid=1234 --clear-groups $plant "$place/hutch-$2"; done',
        "$AS /mnt/hutch run --name x --read-only / true; echo $?; HUTCH_STORE= $AS /mnt/hutch images >&2; echo $?",
        "ls -A /var/tmp/victim /tmp/hutch-$2/ /var/tmp/hutch-$2/ | grep -v :",
      ];
      const { stdout, stderr } = await script(run.join("\n"), [kind, `${caller.uid}`], { env: { HOME: "/nowhere" } });
      expect(stderr).toMatch(/hutch run: .*\/tmp\/hutch-\d+/);
      if (!caller.root) expect(stderr).toMatch(/hutch images: .*\/var\/tmp\/hutch-\d+/);
      // root's store is in /var/lib, where nobody else can plant anything
      expect(stdout.trim().split("\n")).toEqual(["125", caller.root ? "0" : "125"]);
    },
  );
});
