/** Filters as records, run by the interpreter, against the evaluator. */

import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { Assembler } from "../../src/launch/assembler.ts";
import { evaluateFilter } from "../../src/launch/filter-records.ts";
import { encode } from "../../src/launch/program.ts";
import type { Arch } from "../../src/libc/syscalls.ts";
import { assembleBpf, BPF } from "../../src/process/bpf.ts";
import { evaluateBpf, type SeccompData } from "../../src/process/bpf-evaluate.ts";
import { refusalErrno } from "../../src/process/notify.ts";
import { hutchProfile, PROFILE_NAMES } from "../../src/process/profiles.ts";
import { ARCHITECTURES, compileSeccomp } from "../../src/process/seccomp.ts";
import { syscallNumbers } from "../../src/process/syscall-numbers.ts";
import { anyProfile, NAMES, telling } from "../process/profile-arbitrary.ts";

const DATA_BYTES = 64;
const PASSED = -1;

/** A program that reads struct seccomp_data's and writes 8 bytes for each: the error number, or PASSED. */
function evaluator(filter: Uint8Array, arch: Arch): Uint8Array {
  const asm = new Assembler(arch);
  const [data, errno] = [asm.cell(DATA_BYTES + 8), asm.cell()];
  const [loop, refused, passed, done] = [asm.label(), asm.label(), asm.label(), asm.label()];
  asm.place(loop);
  asm.call("read", [0, data, DATA_BYTES], { onZero: done });
  evaluateFilter(asm, filter, { data, errno, refused, passed });
  asm.place(passed);
  asm.set(errno, PASSED);
  asm.place(refused);
  asm.call("write", [1, errno, 8], { next: loop });
  asm.place(done);
  asm.call("exit_group", [0]);
  return encode(asm.finish());
}

function encodeData({ arch, nr, args = [] }: SeccompData): Uint8Array {
  const bytes = new Uint8Array(DATA_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, nr, true);
  view.setUint32(4, arch, true);
  view.setBigUint64(8, 0xffff_ffff_ffff_ffffn, true); // the instruction's address, which no filter asks for
  args.forEach((value, index) => view.setBigUint64(16 + 8 * index, value, true));
  return bytes;
}

const folder = mkdtempSync(join(tmpdir(), "hutch-filter-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Whatever the records answer that the evaluator does not. */
function differences(filter: Uint8Array, arch: Arch, calls: readonly SeccompData[]): readonly string[] {
  const emulator = `qemu-${arch === "arm64" ? "aarch64" : "x86_64"}-static`;
  const native = process.arch === arch;
  if (!native && Bun.which(emulator) === null)
    throw new Error(`${emulator} is missing: apt-get install qemu-user-static`);
  const path = join(folder, "program");
  rmSync(path, { force: true });
  writeFileSync(path, evaluator(filter, arch), { mode: 0o755 });
  const input = Buffer.concat(calls.map(encodeData));
  const { stdout, exitCode } = Bun.spawnSync([...(native ? [] : [emulator]), path], { stdin: input });
  expect([stdout.length, exitCode]).toEqual([8 * calls.length, 0]);
  return calls.flatMap((call, index) => {
    const is = Number(stdout.readBigInt64LE(8 * index));
    const shouldBe = refusalErrno(evaluateBpf(filter, call)) ?? PASSED;
    return is === shouldBe ? [] : [`${call.nr}(${(call.args ?? []).join()}): ${is}, not ${shouldBe}`];
  });
}

describe.each(["x64", "arm64"] as const)("on %s", (arch) => {
  const { audit, foreign } = ARCHITECTURES[arch];
  const compile = (profile: unknown) => compileSeccomp(profile, { arch, capabilities: [], kernel: [6, 1] });

  test.each(PROFILE_NAMES)("the profile %s is answered for exactly", (name) => {
    const numbers = [...syscallNumbers(arch).values(), 470, 600, 0x40000000, 0x7fffffff, 0x80000000, 0xffffffff];
    const values = [0n, 1n, 16n, 17n, 0x5412n, 0x10000000n, 0x80000000n, 0xffffffffn, 0x1_0000_0011n];
    const calls = numbers.flatMap((nr) =>
      values.flatMap((one) => values.map((two) => ({ arch: audit, nr, args: [one, two, two] }))),
    );
    const filter = compile(hutchProfile(name, { pid1: true }));
    expect(differences(filter, arch, [...calls, { arch: foreign, nr: 1 }, { arch: 0, nr: 1 }])).toEqual([]);
  });

  test("any profile is", () => {
    fc.assert(
      fc.property(anyProfile, (profile) => {
        const calls = NAMES.flatMap((name) => {
          const nr = syscallNumbers(arch).get(name);
          return nr === undefined ? [] : telling(profile).map((args) => ({ arch: audit, nr, args }));
        });
        expect(differences(compile(profile), arch, calls)).toEqual([]);
      }),
      { numRuns: arch === "x64" ? 60 : 15 },
    );
  });
});

test("the edges of every comparison", () => {
  const edges = [0, 1, 2, 0x7ffffffe, 0x7fffffff, 0x80000000, 0x80000001, 0xfffffffe, 0xffffffff];
  for (const code of [BPF.JEQ, BPF.JGT, BPF.JGE, BPF.JSET]) {
    for (const k of edges) {
      const filter = assembleBpf([
        { code: BPF.LD, jt: 0, jf: 0, k: 0 },
        { code, jt: 1, jf: 0, k },
        { code: BPF.RET, jt: 0, jf: 0, k: 0x00050000 },
        { code: BPF.RET, jt: 0, jf: 0, k: 0x00050001 },
      ]);
      expect(
        differences(
          filter,
          "x64",
          edges.map((nr) => ({ arch: 0, nr })),
        ),
      ).toEqual([]);
    }
  }
});

test("an instruction that the compiler does not make is an error", () => {
  const filter = assembleBpf([{ code: 0x16, jt: 0, jf: 0, k: 0 }]); // ret a
  expect(() => evaluator(filter, "x64")).toThrow("opcode 22");
});
