/** hutch doctor, on this machine and on machines made worse for it. */

import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { eachCaller, expectFailure, needs, type Result } from "./hutch.ts";

interface Finding {
  readonly id: string;
  readonly status: string;
  readonly detail: string;
  readonly mend?: string;
}

function findings(result: Result): Readonly<Record<string, Finding>> {
  expect(result.stderr).toBe("");
  const report = JSON.parse(result.stdout) as { schema: number; works: boolean; findings: readonly Finding[] };
  expect(report.schema).toBe(1);
  expect(result.code).toBe(report.works ? 0 : 1);
  return Object.fromEntries(report.findings.map((finding) => [finding.id, finding]));
}

const JSON_WORDS = "doctor --format json";

eachCaller("hutch doctor", (bench) => {
  /** doctor behind a script that makes its machine worse, in namespaces of its own. */
  const worse = async (unshare: readonly string[], script: string, words = JSON_WORDS) => {
    needs("unshare");
    const command = ["unshare", ...unshare, "sh", "-euc", `${script}\nexec "$HUTCH" ${words}`];
    return bench.shell('exec "$@"', command);
  };
  const asRoot = bench.caller.root ? [] : ["-Ur"]; // an ordinary user is root in a user namespace

  test("here, where hutch run works", async () => {
    const found = findings(await bench.hutch(["doctor", "--format", "json"]));
    expect(found).toMatchObject({
      "run-scratch": { status: "yes" },
      "run-directory": { status: "yes" },
      "user-namespaces": { status: "yes" },
      namespaces: { status: "yes", detail: "mount pid network ipc uts cgroup" },
      "mount-api": { status: "yes" },
      overlay: { status: "yes" },
      "idmapped-mounts": { status: bench.caller.root ? "yes" : "unneeded" },
      seccomp: { status: "yes" },
      "memory-exec": { status: "yes" },
      pty: { status: "yes" },
      terminal: { status: "unneeded", detail: "none here" },
    });
    for (const { status, mend } of Object.values(found)) expect(mend !== undefined).toBe(status === "no");
  });

  test("a caller that ignores SIGCHLD sees the same, and so does selftest", async () => {
    const ignoring = (...words: readonly string[]) => bench.shell(`exec env --ignore-signal=CHLD "$HUTCH" "$@"`, words);
    expect(await ignoring("doctor")).toEqual(await bench.hutch(["doctor"]));
    const tried = await ignoring("selftest", "B15");
    expect(tried).toMatchObject({ stderr: "", code: 0 });
    expect(tried.stdout).toContain("held   B15");
  });

  test("text: aligned, and the sum", async () => {
    const { stdout, stderr, code } = await bench.hutch(["doctor"]);
    expect(stderr).toBe("");
    expect(stdout).toMatch(new RegExp(`^Linux \\S+, (x64|arm64), uid ${bench.caller.uid}\n\nyes  hutch run scratch `));
    expect(stdout).toEndWith("\n\nhutch run works here\n");
    expect(code).toBe(0);
  });

  test("user.max_user_namespaces is 0", async () => {
    const result = await worse(["-Ur"], "echo 0 > /proc/sys/user/max_user_namespaces");
    expect(result.code).toBe(1);
    const mend = "sysctl -w user.max_user_namespaces=15000";
    expect(findings(result)).toMatchObject({
      "run-scratch": { status: "no", mend },
      "user-namespaces": { status: "no", mend, detail: expect.stringContaining("unshare: ENOSPC") },
      "max-user-namespaces": { status: "no", detail: "0", mend },
      overlay: { status: "no", mend },
      seccomp: { status: "yes" },
    });
    const text = await worse(["-Ur"], "echo 0 > /proc/sys/user/max_user_namespaces", "doctor");
    expect(text.stdout).toContain(`→ ${mend}\n`);
    expect(text.stdout).toEndWith("\nhutch run does not work here\n");
    // And the command itself says so in one line.
    const run = await worse(["-Ur"], "echo 0 > /proc/sys/user/max_user_namespaces", "run --add true scratch true");
    expectFailure(run, 125, "clone", "ENOSPC", "user.max_user_namespaces=15000");
  });

  test("in a chroot", async () => {
    const script = `mount --rbind / /mnt\nexec chroot /mnt "$HUTCH" ${JSON_WORDS}`;
    const found = findings(await worse([...asRoot, "-m", "--propagation", "private"], script));
    expect(found["user-namespaces"]).toMatchObject({ status: "no", mend: expect.stringContaining("chroot") });
    expect(found["user-namespaces"]?.detail).toContain("EPERM");
  });

  test("where /proc is covered in parts", async () => {
    const script = "mount -t tmpfs none /proc/sys/fs";
    const found = findings(await worse([...asRoot, "-mpf", "--mount-proc"], script));
    expect(found).toMatchObject({
      "user-namespaces": { status: "yes" },
      proc: { status: "no", mend: expect.stringContaining("systempaths=unconfined") },
      "run-scratch": { status: "no", detail: expect.stringContaining("new proc") },
    });
  });

  test("where no cgroup is mounted", async () => {
    const script = "umount -R /sys/fs/cgroup || mount -t tmpfs none /sys/fs/cgroup";
    const result = await worse([...asRoot, "-m", "--propagation", "private"], bench.caller.root ? script : "true");
    const found = findings(result);
    // An ordinary user cannot take the host's mounts away, and may not write to any of them.
    expect(found["cgroup-memory"]).toMatchObject({ status: "unneeded", detail: expect.any(String) });
    expect(found["cgroup-memory"]).not.toHaveProperty("mend"); // hutch uses no cgroups
    expect(found["run-scratch"]).toMatchObject({ status: "yes" });
  });

  test("wrong use", async () => {
    expectFailure(await bench.hutch(["doctor", "now"]), 125, "unexpected now");
    expectFailure(await bench.hutch(["doctor", "--format", "xml"]), 125, "--format must be text or json");
  });

  test("needs no place to write to", async () => {
    const found = findings(await bench.hutch(["doctor", "--format", "json"], { env: { TMPDIR: "/proc" } }));
    expect(found).toMatchObject({ "run-directory": { status: "yes" }, overlay: { status: "yes" } });
  });

  if (bench.caller.root) {
    // The switch is of the process tree; only root may set it.
    test("where memory files are not executed", async () => {
      const place = bench.folder();
      const script = `echo 2 > /proc/sys/vm/memfd_noexec\nexport TMPDIR=${place}`;
      const found = findings(await worse(["-mpf", "--mount-proc"], script));
      expect(readdirSync(place)).toEqual([]);
      const nowhere = await worse(["-mpf", "--mount-proc"], script.replace(place, "/proc"));
      expect(findings(nowhere)["user-namespaces"]).toMatchObject({ status: "no" });
      expect(found["memory-exec"]).toMatchObject({ status: "no", mend: "sysctl -w vm.memfd_noexec=0" });
      expect(found["user-namespaces"]).toMatchObject({ status: "yes" }); // the rest is still tried
    });

    test("root without capabilities is told to run it as an ordinary user", async () => {
      const command = [needs("setpriv"), "--bounding-set", "-sys_admin", bench.binary, "doctor", "--format=json"];
      const found = findings(await bench.shell('exec "$@"', command));
      const mend = expect.stringContaining("run hutch as an ordinary user, or let root keep CAP_SYS_ADMIN");
      expect(found).toMatchObject({
        capabilities: { status: "no", detail: "without CAP_SYS_ADMIN", mend },
        "run-scratch": { status: "no", mend },
        "user-namespaces": { status: "yes" },
      });
    });
  }
});
