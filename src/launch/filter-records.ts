/** A seccomp filter as records: what it answers to a call whose struct seccomp_data is in memory. */

import { BPF, parseBpf } from "../process/bpf.ts";
import { refusalErrno } from "../process/notify.ts";
import { type Assembler, content, type Content, type Label } from "./assembler.ts";
import { field } from "./processes.ts";
import type { Place } from "./program.ts";

/** The sign of a 64-bit number. */
const SIGN = -(2 ** 63);
const LARGEST = 2 ** 31 - 1;

/**
 * Evaluate a filter of hutch's compiler, exactly: `errno` gets the number of an ERRNO answer, and it goes on at `refused`;
 * with any other answer at `passed`. Whatever is not among the compiler's instructions is an error here.
 * @param data struct seccomp_data, with 8 bytes more behind it
 */
export function evaluateFilter(
  asm: Assembler,
  filter: Uint8Array,
  {
    data,
    errno,
    refused,
    passed,
  }: { readonly data: Place; readonly errno: Place; readonly refused: Label; readonly passed: Label },
): void {
  const [a, result] = [asm.cell(), asm.cell()];
  const program = parseBpf(filter);
  const labels = program.map(() => asm.label());
  const number = (k: number): number | Content => (k <= LARGEST ? k : content(asm.words(k)));
  program.forEach(({ code, jt, jf, k }, index) => {
    const here = labels[index];
    const to = (skipped: number): Label => {
      const label = labels[index + 1 + skipped];
      if (label === undefined) throw new Error(`a jump of the filter's instruction ${index} leaves it`);
      return label;
    };
    if (here !== undefined) asm.place(here);
    switch (code) {
      case BPF.LD:
        return field(asm, data, k, a);
      case BPF.AND:
        return asm.call("and", [content(a), number(k)], { result: a });
      case BPF.JA:
        return asm.jump(to(k));
      case BPF.JEQ:
        return asm.call("sub", [content(a), number(k)], { onZero: to(jt), next: to(jf) });
      case BPF.JSET:
        return asm.call("and", [content(a), number(k)], { onZero: to(jf), next: to(jt) });
      case BPF.JGE: // by the sign of the difference: both are below 2^32
        asm.call("sub", [content(a), number(k)], { result });
        return asm.call("and", [content(result), content(asm.words(SIGN))], { onZero: to(jt), next: to(jf) });
      case BPF.JGT:
        asm.call("sub", [number(k), content(a)], { result });
        return asm.call("and", [content(result), content(asm.words(SIGN))], { onZero: to(jf), next: to(jt) });
      case BPF.RET: {
        const refusal = refusalErrno(k);
        if (refusal === undefined) return asm.jump(passed);
        asm.set(errno, refusal);
        return asm.jump(refused);
      }
      default:
        throw new Error(`the filter's instruction ${index} has opcode ${code}, which the compiler does not make`);
    }
  });
}
