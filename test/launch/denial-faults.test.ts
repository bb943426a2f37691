/**
 * Every call by which denials are told, made to fail in turn, and everybody killed after every one: the start fails and
 * says so, or the sandbox ends, or nothing is different. No call is ever answered otherwise, and nothing stays behind.
 */

import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { DEFAULT_CAPABILITIES } from "../../src/defaults.ts";
import { gatherFacts } from "../../src/host.ts";
import { ARCH } from "../../src/libc/call.ts";
import { plan } from "../../src/plan.ts";
import { profileFilter } from "../../src/process/filter.ts";
import { syscallNumbers } from "../../src/process/syscall-numbers.ts";
import { CALLERS, makeFolder, makeRoot } from "../kernel/sandbox.ts";
import { scratchMounts, specOf, tmpfs, volume } from "../plans.ts";
import * as faults from "./faults.ts";

const SCRIPT =
  "exec 2>&1; busybox mount -t tmpfs x /tmp; busybox mount -t tmpfs x /tmp; echo status $?; busybox grep Seccomp: /proc/self/status";
const mountCall = syscallNumbers(ARCH).get("mount");

/** What is forgiven beside what always is (faults.FORGIVEN). */
const FORGIVEN: ReadonlySet<string> = new Set([
  // Turns in waiting for each other; the teller's name.
  ...["seccomp: sched_yield", "clone: prctl"],
  // How the kernel wakes the teller.
  "clone: ioctl",
  // The account of the run.
  ...["launcher: statx", "clone: clock_gettime"],
  // Waiting for what does not happen: the launcher's death.
  "clone: ppoll",
]);

/** The teller's own, once it has said that it is there: without one of them it ends, and the sandbox with it. */
const TELLERS = ["ioctl", "ppoll", "pwrite64"].map((operation) => `clone: ${operation}`);

describe.each(CALLERS)("started by %s", (caller) => {
  const [folder, root, workspace] = [makeFolder(), makeRoot(), makeFolder()];
  faults.giveTo(caller, root);

  describe.each([[true], [false]])("with a reaper: %p", (init) => {
    const subject = async () => {
      const filter = await profileFilter("default", { pid1: !init, arch: ARCH, capabilities: DEFAULT_CAPABILITIES });
      const spec = specOf({
        root: { kind: "scratch", readonly: false, from: "scratch" },
        mounts: [...scratchMounts(), tmpfs("/tmp"), volume(join(root, "bin/busybox"), "/bin/busybox", ["ro"])],
        process: { args: ["/bin/busybox", "sh", "-c", SCRIPT], seccomp: filter, explainDenials: true },
        init,
      });
      const facts = { ...gatherFacts(spec), workspace, terminal: false };
      const ids = caller === "nobody" ? { uid: 65534, gid: 65534, root: false, ranges: undefined } : {};
      return faults.subject(plan(spec, { ...facts, ...ids }), caller, folder);
    };
    const calls = ({ records }: faults.Subject) =>
      records.filter(
        ({ step, operation }) =>
          (step === undefined || step.op === "clone" || step.op === "seccomp") && !/^(sub|and|load64)$/.test(operation),
      );
    const told = ({ denials }: faults.Ended) =>
      denials.calls.flatMap(({ nr, errno, count }) => (nr === mountCall ? [`${errno} ${count}`] : [])).join();
    let whole: faults.Ended;

    test("as it is, it runs and tells", async () => {
      const it = await subject();
      whole = await faults.runProgram(it, it.program);
      expect(whole).toMatchObject({ exitCode: 0, failure: undefined, endless: false, left: 0 });
      expect(whole.stdout).toMatch(/permission denied.*permission denied.*status 1.*Seccomp:\s+2\n$/s);
      expect(told(whole)).toBe("1 2");
      expect(whole.denials).toMatchObject({ others: 0, lost: false });
      expect(calls(it).length).toBeGreaterThan(80);
    });

    /** What is wrong with how it ended, or undefined. */
    const wrongWith = (ended: faults.Ended, deaths: boolean): string | undefined => {
      const { exitCode, failure, endless, left, stdout, denials } = ended;
      if (endless || left > 0) return "endless";
      if (failure !== undefined) return exitCode === 125 ? undefined : `${exitCode}, ${failure.message}`;
      if (exitCode === 0)
        return stdout === whole.stdout && told(ended) === "1 2" ? undefined : `another end: ${stdout}`;
      // Nobody has seen another answer: what was said by then is how it always begins.
      if (!whole.stdout.startsWith(stdout)) return `another beginning: ${stdout}`;
      return exitCode === 137 && (deaths || denials.lost) ? undefined : `${exitCode}, ${stdout}`;
    };

    test("a call that fails is reported, ends the sandbox, or is one that is not needed", async () => {
      const it = await subject();
      const [wrong, forgiven, lost] = [[] as string[], new Set<string>(), new Set<string>()];
      let reported = 0;
      for (const record of calls(it)) {
        if (faults.LOOKING_AFTER.has(record.operation)) continue;
        const ended = await faults.runProgram(it, faults.failing(it, record.index));
        const fault = wrongWith(ended, false);
        const name = faults.nameOf(record);
        if (fault !== undefined) wrong.push(`${record.index} ${name}: ${fault}`);
        else if (ended.failure !== undefined) reported += 1;
        else (ended.exitCode === 0 ? forgiven : lost).add(name);
      }
      expect(wrong).toEqual([]);
      expect([...lost].toSorted()).toEqual(TELLERS);
      const known = (name: string) => FORGIVEN.has(name) || faults.FORGIVEN.has(name) || name.endsWith(": close");
      expect([...forgiven].filter((name) => !known(name)).toSorted()).toEqual([]);
      expect(reported).toBeGreaterThan(10);
    }, 120_000);

    test("whoever dies after whichever call, no answer is another, and nothing stays behind", async () => {
      const it = await subject();
      const wrong: string[] = [];
      let died = 0;
      for (const record of calls(it)) {
        const ended = await faults.runProgram(it, faults.dying(it, record.index));
        const fault = wrongWith(ended, true);
        if (ended.exitCode !== 0) died += 1;
        if (fault !== undefined) wrong.push(`${record.index} ${faults.nameOf(record)}: ${fault}`);
      }
      expect(wrong).toEqual([]);
      expect(died).toBeGreaterThan(40);
    }, 120_000);
  });
});
