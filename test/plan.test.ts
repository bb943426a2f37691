/** Plans, without privileges: what each kind of caller would do for each kind of root, and the orders that must hold. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { formatPlan } from "../src/explain.ts";
import type { HostFacts } from "../src/facts.ts";
import { plan } from "../src/plan.ts";
import type { Mount, Root, Spec } from "../src/spec.ts";
import type { Action, Actor, Step } from "../src/step.ts";
import { host, HOSTS, inside, SPECS, scratchMounts, specOf, tmpfs, volume } from "./plans.ts";

const ranged: Readonly<Record<keyof typeof HOSTS, Partial<Spec>>> = {
  user: {},
  ranges: { idMap: "range", words: { idMap: "--userns auto" } },
  root: {},
};

describe.each(Object.entries(SPECS))("the plan of %s", (_, spec) => {
  test.each(["user", "ranges", "root"] as const)("by %s", (caller) => {
    const { words, ...changes } = ranged[caller];
    const wanted = { ...spec, ...changes, words: { ...spec.words, ...words } };
    expect(formatPlan(plan(wanted, HOSTS[caller]))).toMatchSnapshot();
  });
});

describe("kernels before 6.7", () => {
  const lower = [host("/srv/layer"), host("/srv/root")];
  const spec = specOf({ root: { kind: "overlay", lower, from: "r" } });
  const overlay = (facts: HostFacts) => plan(spec, facts).steps.find(({ op }) => op === "overlay");

  test("all layers in one option of mount(2)", () => {
    expect(overlay({ ...HOSTS.user, kernel: 6_006 })).toMatchObject({ classic: true });
    expect(overlay({ ...HOSTS.user, kernel: 6_007 })).not.toHaveProperty("classic");
  });

  test("before 6.6, without a place on disk, the plan says what does not work", () => {
    expect(formatPlan(plan(spec, { ...HOSTS.user, tmpfsAttributes: false }))).toContain(
      "writes in memory: without user.*",
    );
    expect(overlay({ ...HOSTS.user, tmpfsAttributes: false, disk: "/x" })).not.toHaveProperty("unmarked");
    expect(overlay(HOSTS.user)).not.toHaveProperty("unmarked");
  });

  test.each(["user", "root"] as const)("by %s: nothing else differs", (caller) => {
    const lines = (kernel: number) => formatPlan(plan(spec, { ...HOSTS[caller], kernel })).split("\n");
    const [old, young] = [lines(6_001), lines(6_007)];
    expect(old.filter((line) => !young.includes(line))).toHaveLength(1);
    expect(old).toHaveLength(young.length);
  });
});

test.each(["user", "root"] as const)("the writable layer on disk, by %s", (caller) => {
  const facts: HostFacts = { ...HOSTS[caller], kernel: 6_001, disk: "/var/cache/x" };
  const { steps } = plan(specOf(), facts);
  expect(steps.find(({ op }) => op === "overlay")).toMatchObject({ disk: "disk" });
  const opened = steps.find((step) => step.op === "open-tree" && step.source === "/var/cache/x");
  expect(opened).toMatchObject({ by: caller === "root" ? "launcher" : "sandbox", idmapped: false });
  expect(opened).toMatchObject({ attributes: ["nosuid", "nodev"], recursive: false });
});

const roots = fc.constantFrom<Root>(
  { kind: "scratch", readonly: false, from: "scratch" },
  { kind: "scratch", readonly: true, from: "scratch" },
  { kind: "overlay", lower: [host("/srv/root")], from: "r" },
  { kind: "overlay", lower: [host("/srv/layer"), host("/srv/root")], from: "r" },
  { kind: "bind", path: host("/"), readonly: true, from: "r" },
  { kind: "bind", path: host("/srv/root"), readonly: false, from: "r" },
);
const places = fc.constantFrom("/a", "/a/b", "/a/b/c", "/tmp", "/tmp/x", "/proc/x", "/dev/shm", "/dev/y");
const mounts = fc.array(
  fc.oneof(
    places.map((to): Mount => volume("/data", to)),
    places.map((to): Mount => volume("/data/file", to, ["ro"])),
    places.map((to): Mount => tmpfs(to)),
    places.map((to): Mount => ({ type: "symlink", destination: inside(to), target: "/x", from: "l" })),
  ),
  { maxLength: 5 },
);
const specs = fc
  .record({
    root: roots,
    more: mounts,
    init: fc.boolean(),
    time: fc.boolean(),
    network: fc.boolean(),
    cwd: fc.constantFrom("/", "/a/b", "/tmp", "/proc"),
    preserveFds: fc.nat(3),
    filtered: fc.boolean(),
  })
  .map(({ root, more, init, time, network, cwd, preserveFds, filtered }): Spec => {
    const { process, namespaces, ...rest } = specOf();
    const { seccomp } = process;
    return {
      ...rest,
      root,
      init,
      mounts: [...scratchMounts(), ...more],
      namespaces: [...namespaces.filter((name) => network || name !== "network"), ...(time ? (["time"] as const) : [])],
      timeOffsets: time ? { monotonic: 1, boottime: 1 } : undefined,
      process: { ...process, cwd: inside(cwd), preserveFds, seccomp: filtered ? seccomp : undefined },
    };
  });
const facts = fc
  .record({ name: fc.constantFrom("user", "ranges", "root"), terminal: fc.boolean() })
  .map(({ name, terminal }): HostFacts => ({ ...HOSTS[name], terminal }));

/** Indices of the steps of some kinds. */
const indices = (steps: readonly Step[], ...ops: readonly Action["op"][]): readonly number[] =>
  steps.flatMap((step, index) => (ops.includes(step.op) ? [index] : []));

/** Every plan of the machine's dreams: `rule` is checked on the plans of arbitrary Specs on all three machines. */
function always(rule: (steps: readonly Step[], spec: Spec, facts: HostFacts) => void): void {
  fc.assert(
    fc.property(specs, facts, (spec, machine) => {
      const wanted: Spec = { ...spec, idMap: machine.ranges === undefined ? "default" : "range" };
      rule(plan(wanted, machine).steps, wanted, machine);
    }),
    { numRuns: 300 },
  );
}

describe("in every plan", () => {
  test("the actors come one after the other", () => {
    always((steps) => {
      const order: readonly Actor[] = ["launcher", "sandbox", "program"];
      const seen = steps.map((step) => order.indexOf(step.by));
      expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    });
  });

  test("there is one clone, and it ends the launcher's part", () => {
    always((steps) => {
      const [clone, ...more] = indices(steps, "clone");
      expect(more).toEqual([]);
      expect(clone).toBe(steps.findLastIndex((step) => step.by === "launcher"));
    });
  });

  test("a tree is opened before it is used, attached or made in, and once", () => {
    always((steps) => {
      const trees = new Set<string>();
      for (const step of steps) {
        const { op } = step;
        // Trees of the launcher are known to the sandbox by path only.
        if (op === "clone") trees.clear();
        if (op === "open-tree" || op === "open-directory" || op === "new-filesystem") trees.add(step.tree);
        if (op === "overlay") step.lower.forEach((tree) => expect(trees).toContain(tree));
        if (op === "overlay") trees.add(step.tree);
        if (op === "stage") step.trees.forEach(({ tree }) => expect(trees).toContain(tree));
        if (op === "attach" || op === "attach-root") expect(trees).toContain(step.tree);
        if ((op === "attach" || op === "directory" || op === "file" || op === "symlink") && step.make !== undefined)
          expect(trees).toContain(step.make.tree);
      }
    });
  });

  test("things are made only in trees of hutch's own, never in a bind mount or below one", () => {
    always((steps, spec) => {
      const bound = new Set(
        steps.flatMap((step) => (step.op === "open-tree" || step.op === "open-directory" ? [step.tree] : [])),
      );
      for (const step of steps) {
        if (!("make" in step) || step.make === undefined) continue;
        expect(bound).not.toContain(step.make.tree);
        const path = step.op === "attach" ? step.target : step.path;
        expect(path === step.make.at || path.startsWith(step.make.at === "/" ? "/" : `${step.make.at}/`)).toBe(true);
      }
      if (spec.root.kind === "bind") {
        expect(steps.some((step) => "make" in step && step.make?.at === "/")).toBe(false);
      }
    });
  });

  test("sources are cloned before anything is mounted over them", () => {
    always((steps) => {
      const covering = indices(steps, "workspace", "attach-root", "stage")[0] ?? Number.POSITIVE_INFINITY;
      const fromHost = steps.flatMap((step, index) =>
        step.op === "open-tree" && !step.source.startsWith("/tmp/") ? [index] : [],
      );
      expect(Math.max(-1, ...fromHost)).toBeLessThan(covering);
    });
  });

  test("started by root, sources are cloned by the launcher and nothing is idmapped writable", () => {
    always((steps, _, machine) => {
      for (const step of steps) {
        if (step.op !== "open-tree") continue;
        if (step.idmapped) expect([step.by, step.attributes.includes("ro")]).toEqual(["launcher", true]);
        if (machine.root && step.by === "sandbox") expect(step.source.startsWith(`${machine.workspace}/`)).toBe(true);
      }
    });
  });

  test("the program has ids of a range, never the machine's root, when root starts it", () => {
    always((steps, _, machine) => {
      if (!machine.root) return;
      const maps = steps.flatMap((step) => (step.op === "hold-ids" || step.op === "map-ids" ? [step] : []));
      expect(maps.length).toBe(1);
      for (const { uidMappings, gidMappings } of maps)
        for (const { hostID } of [...uidMappings, ...gidMappings]) expect(hostID).toBeGreaterThan(0);
    });
  });

  test("ids are mapped before mounts, and the time offsets are written before that", () => {
    always((steps, spec, machine) => {
      const mapped = steps.findIndex((step) => step.by === "sandbox" && /^(map-ids|set-ids)$/.test(step.op));
      expect(mapped).toBeLessThan(indices(steps, "private-mounts")[0] ?? -1);
      const time = indices(steps, "time-offsets");
      expect(time.length).toBe(spec.timeOffsets === undefined ? 0 : 1);
      for (const index of time) expect(index).toBeLessThan(mapped);
      const held = machine.root ? ["hold-ids"] : ["hold-ids", "enter-ids"]; // root's holder makes the sandbox itself
      const kinds = machine.ranges === undefined ? ["map-ids"] : held;
      for (const kind of kinds) expect(steps.filter((step) => step.op === kind).length).toBe(1);
    });
  });

  test("user namespaces are used up and /proc is covered before the root is entered", () => {
    always((steps) => {
      const [pivot, ...more] = indices(steps, "pivot");
      expect(more).toEqual([]);
      const [limit = -1] = indices(steps, "write");
      const [first = -1] = indices(steps, "mask", "read-only");
      expect(limit).toBeLessThan(first);
      expect(Math.max(...indices(steps, "mask", "read-only", "seal-root", "attach"))).toBeLessThan(pivot ?? -1);
    });
  });

  test("paths are made read-only before others are covered, which may lie below them", () => {
    always((steps) => {
      expect(Math.max(...indices(steps, "read-only"))).toBeLessThan(Math.min(...indices(steps, "mask")));
    });
  });

  test("the process that can be left behind dies with the launcher, from after its last change of ids", () => {
    always((steps, spec) => {
      const deaths = indices(steps, "death-signal");
      expect(deaths.length).toBe(1);
      const death = deaths[0] ?? -1;
      const actor = steps[death]?.by;
      expect(actor).toBe(spec.init ? "sandbox" : "program");
      const ids = indices(steps, "set-ids", "map-ids", "enter-ids").filter(
        (index) => !spec.init || steps[index]?.by !== "program",
      );
      expect(Math.max(...ids)).toBeLessThan(death);
      expect(indices(steps, "pivot")[0]).toBeLessThan(death);
    });
  });

  test("privileges go in the one order that works, and execve is last", () => {
    always((steps, spec) => {
      const ends = steps.filter((step) => step.by === "program").map((step) => step.op);
      const order: readonly Action["op"][] = [
        ...(["not-dumpable", "bounding-set", "securebits", "set-ids", "check-groups", "capabilities"] as const),
        ...(["chdir", "no-new-privileges", "close-descriptors", "landlock", "seccomp", "exec"] as const),
      ];
      const present = order.filter((op) => ends.includes(op));
      expect(ends.filter((op) => order.includes(op))).toEqual(present);
      expect(present.includes("seccomp")).toBe(spec.process.seccomp !== undefined);
      expect(ends.at(-1)).toBe("exec");
      expect(steps.findLast((step) => step.op === "close-descriptors")).toMatchObject({
        from: 3 + spec.process.preserveFds,
      });
    });
  });

  test("without a terminal the caller's session is left, with one it is kept", () => {
    always((steps, spec, machine) => {
      expect(indices(steps, "session").length).toBe(machine.terminal ? 0 : 1);
      expect(indices(steps, "process-group").length).toBe(!machine.terminal && spec.init ? 1 : 0);
    });
  });

  test("each mount of the Spec is attached, in the Spec's order", () => {
    always((steps, spec) => {
      const own = new Set(spec.mounts.flatMap((mount) => (mount.type === "dev" ? [] : [mount.destination as string])));
      const attached = steps.flatMap((step) => (step.op === "attach" && own.has(step.target) ? [step] : []));
      const device = /^(dev-|devpts$|shm$)/;
      const targets = attached.filter((step) => !device.test(step.tree)).map((step) => step.target);
      const wanted = spec.mounts
        .filter((mount) => mount.type === "bind" || mount.type === "tmpfs" || mount.type === "proc")
        .map((mount) => mount.destination as string);
      expect(targets).toEqual(wanted);
    });
  });

  test("every step says why it is there", () => {
    always((steps) => {
      for (const step of steps) expect(step.why).not.toBe("");
    });
  });
});
