/**
 * Each way of making the root's overlay that some kernel needs shows the same tree, and takes the same writes: layers one
 * by one or all at once, writes in memory or on disk.
 */

import { afterAll, describe, expect, test } from "bun:test";
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { HostFacts } from "../../src/facts.ts";
import { gatherFacts } from "../../src/host.ts";
import { spawn } from "../../src/launch/spawn.ts";
import { plan } from "../../src/plan.ts";
import { specOf as sandboxSpec } from "../../src/library.ts";
import type { HostPath, Spec } from "../../src/spec.ts";
import { need } from "./sandbox.ts";

const folder = mkdtempSync(join(tmpdir(), "hutch-overlay-,:\\"));
chmodSync(folder, 0o755);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Layers with a file each, one that all have, and a directory that only the lowest has. */
function layers(count: number): readonly HostPath[] {
  return Array.from({ length: count }, (_, index) => {
    const layer = join(folder, `${count}-${index}`);
    mkdirSync(join(layer, "n"), { recursive: true });
    writeFileSync(join(layer, "n", `${index}`), "");
    writeFileSync(join(layer, "top"), `${index}\n`);
    if (index === 0) mkdirSync(join(layer, "old/below"), { recursive: true });
    return layer as HostPath;
  });
}

const SCRIPT =
  "cd /; ls /n | sort -n | tr '\\n' ' '; cat /top; rm -r /old && mkdir /old && ls -A /old && echo new > /top && cat /top";

async function seen(spec: Spec, facts: HostFacts): Promise<string> {
  const running = spawn(plan(spec, facts), { stdin: { kind: "null" }, stdout: "pipe", stderr: "inherit" });
  const output = await new Response(running.stdout).text();
  const { status } = await running.outcome;
  return `${output}${status}`;
}

/** A directory on disk for the writes, owned by the sandbox's root. */
function disk(facts: HostFacts, name: string): string {
  const directory = join(folder, name);
  for (const path of [directory, join(directory, "upper"), join(directory, "work")]) {
    mkdirSync(path);
    if (facts.root) chownSync(path, facts.ranges?.uid.start ?? 0, facts.ranges?.gid.start ?? 0);
  }
  return directory;
}

describe.each([1, 3, 300])("%d layers", (count) => {
  test("are the same whichever way", async () => {
    const busybox = need("busybox", "busybox-static");
    const lower = layers(count);
    const base = await sandboxSpec({
      root: lower[0] ?? "",
      command: [busybox, "sh", "-c", SCRIPT],
      add: [busybox],
    });
    const spec: Spec = { ...base, root: { kind: "overlay", lower, from: "image" } };
    const facts = gatherFacts(spec);
    const expected = await seen(spec, { ...facts, kernel: 6_007 });
    expect(expected).toContain(`${count - 1} ${count - 1}\nnew\n`);
    expect(await seen(spec, { ...facts, kernel: 6_001 })).toBe(expected);
    const place = disk(facts, `disk${count}`);
    expect(await seen(spec, { ...facts, kernel: 6_001, disk: place })).toBe(expected);
    expect(readdirSync(join(place, "upper")).toSorted()).toContain("top");
    for (const kernel of [6_001, 6_007]) {
      const kept: HostFacts = { ...facts, kernel, disk: disk(facts, `kept${count}-${kernel}`), kept: true };
      expect(await seen(spec, kept)).toBe(expected);
      expect(await seen(spec, kept)).toBe(expected.replace(` ${count - 1}\nnew`, " new\nnew")); // and goes on
    }
  });
});
