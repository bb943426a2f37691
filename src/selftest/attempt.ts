/**
 * Attacks as Programs: what a hostile program would do, written as system call records, so that they need no compiler
 * and ship with hutch. An attack's exit code tells how it went:
 *
 *   0              it succeeded
 *   1 to 133       the error (errno) of its first call that failed
 *   128 + signal   it was killed; 159 is SIGSYS, a filter's
 *   250            all calls succeeded and there was nothing to be had
 */

import * as c from "../libc/constants.ts";
import { errnoText } from "../libc/errno.ts";
import type { Arch } from "../libc/syscalls.ts";
import { type Argument, Assembler, at, content } from "../launch/assembler.ts";
import { exitLike, SIGINFO } from "../launch/processes.ts";
import { encode, FAILURE, type Place } from "../launch/program.ts";
import { syscallNumbers } from "../process/syscall-numbers.ts";

export const NOTHING = 250;

/** Where the sandbox has a directory of the host that everybody may write to, bound read-only. */
export const BOUND = "/bound";

/** What the machine outside has planted for the attacks to find. */
export interface Bait {
  /** A descriptor that hutch was given and must not pass on. */
  readonly descriptor: number;
  /** A socket in the abstract name space of the host, without its leading NUL. */
  readonly abstractName: string;
  /** A TCP port on the host's 127.0.0.1. */
  readonly port: number;
}

/** Where an attack writes its calls. A call that fails ends the attack. */
export interface Attempt {
  readonly asm: Assembler;
  readonly arch: Arch;
  readonly bait: Bait;
  /** Make a call by name; its result. */
  readonly call: (name: string, ...args: readonly Argument[]) => Place;
  /** Open a path; the descriptor. */
  readonly open: (path: string, flags?: number) => Place;
  /** End: everything worked, and it was of no use. */
  readonly nothing: () => void;
}

export interface Attack {
  /** Section and number of the list in docs/security.md. */
  readonly number: string;
  /** What it tries, in a few words. */
  readonly name: string;
  /** Outcomes that are all right: error names, `killed`, `nothing`. */
  readonly expected: readonly string[];
  /** The only machine that can try it. */
  readonly arch?: Arch;
  /** Least version of landlock without which it is known to succeed. */
  readonly landlock?: number;
  readonly build: (attempt: Attempt) => void;
  /** Machine code, for what the interpreter of records cannot do; then `build` is not asked. */
  readonly code?: Uint8Array;
}

/** The executable of an attack (elf(5)). */
export function attackProgram(attack: Attack, arch: Arch, bait: Bait): Uint8Array {
  if (attack.code !== undefined) return codeProgram(attack.code);
  const asm = new Assembler(arch);
  const failed = asm.label();
  asm.failure = failed;
  attack.build(attemptOn(asm, arch, bait));
  asm.call("exit_group", [0], { onError: "ignore" });
  asm.place(failed);
  const errno = asm.cell();
  asm.call("sub", [0, content(at(FAILURE, 8))], { result: errno });
  asm.call("exit_group", [content(errno)], { onError: "ignore" });
  return encode(asm.finish());
}

/** A static ELF of nothing but x86-64 machine code, which must end the process itself. */
function codeProgram(code: Uint8Array): Uint8Array {
  const [start, headers] = [0x400000, 64 + 56];
  const image = new Uint8Array(headers + code.length);
  const view = new DataView(image.buffer);
  image.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  for (const [offset, value] of [
    [16, 2],
    [18, 62],
    [20, 1],
    [52, 64],
    [54, 56],
    [56, 1],
  ] as const) {
    view.setUint16(offset, value, true); // ET_EXEC, EM_X86_64, EV_CURRENT, sizes of the headers, one program header
  }
  view.setUint32(24, start + headers, true);
  view.setUint32(32, 64, true);
  view.setUint32(64, 1, true); // PT_LOAD
  view.setUint32(68, 5, true); // read, execute
  for (const offset of [80, 88]) view.setUint32(offset, start, true);
  for (const offset of [96, 104]) view.setUint32(offset, image.length, true);
  view.setUint32(112, 0x1000, true);
  image.set(code, headers);
  return image;
}

function attemptOn(asm: Assembler, arch: Arch, bait: Bait): Attempt {
  const numbers = syscallNumbers(arch);
  const call = (name: string, ...args: readonly Argument[]): Place => {
    const number = numbers.get(name);
    if (number === undefined) throw new Error(`an attack uses ${name}, which ${arch} does not have`);
    const result = asm.cell();
    asm.call(number, args, { result });
    return result;
  };
  return {
    asm,
    arch,
    bait,
    call,
    open: (path, flags = c.O_RDONLY) => call("openat", c.AT_FDCWD, path, flags | c.O_NONBLOCK, 0),
    nothing: () => asm.call("exit_group", [NOTHING], { onError: "ignore" }),
  };
}

/** Do the rest in a child, whose end is the attack's. */
export function inChild({ asm, call }: Attempt): void {
  const [child, info, on] = [asm.cell(), asm.cell(SIGINFO.size), asm.label()];
  asm.call("clone", [c.SIGNALS.SIGCHLD, 0, 0, 0, 0], { result: child, onZero: on });
  call("waitid", c.P_PID, content(child), info, c.WEXITED, 0);
  exitLike(asm, info);
  asm.place(on);
}

/** Read from a descriptor: nothing to be had where it is empty. */
export function readSome({ asm, call, nothing }: Attempt, file: Place): void {
  const [empty, some] = [asm.label(), asm.label()];
  const count = call("read", content(file), asm.cell(64), 64);
  asm.ifEqual(content(count), 0, empty);
  asm.jump(some);
  asm.place(empty);
  nothing();
  asm.place(some);
}

/** An exit code of an attack in words: `succeeded`, `nothing`, `killed`, `EPERM`. */
export function outcomeOf(code: number): string {
  if (code === 0) return "succeeded";
  if (code === NOTHING) return "nothing";
  if (code === 128 + 31) return "killed";
  return code > 133 ? `signal ${code - 128}` : errnoText(code).name;
}
