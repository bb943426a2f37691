/**
 * The one way from TypeScript to the kernel: syscall(2), bound once through bun:ffi.
 *
 * bun:ffi checks nothing (a missing argument is 0, a string ends at its first NUL), so everything passes through
 * {@link call}, which encodes strings losslessly, refuses NUL, keeps buffers alive, and turns -1 into a SystemError.
 */

import { dlopen, FFIType, ptr, read } from "bun:ffi";
import { encodeTerminated } from "../bytes.ts";
import { HutchError, SystemError } from "../errors.ts";
import { errnoNumber, errnoText } from "./errno.ts";
import { type Arch, SYSCALLS, type SyscallName } from "./syscalls.ts";

/** What a system call takes: a number, a path or other string (passed as NUL-terminated bytes), a buffer, or NULL. */
export type Argument = number | bigint | string | Uint8Array | BigUint64Array | null;

const SYMBOLS = {
  syscall: { args: ["i64", "i64", "i64", "i64", "i64", "i64", "i64"], returns: FFIType.i64_fast },
  __errno_location: { args: [], returns: "ptr" },
} as const;

/** The architecture that this process runs on, by the kernel's two tables that hutch knows. */
export const ARCH: Arch = process.arch === "arm64" ? "arm64" : "x64";

function bind() {
  try {
    return dlopen("libc.so.6", SYMBOLS).symbols;
  } catch (first) {
    try {
      return dlopen("libc.so", SYMBOLS).symbols; // musl
    } catch {
      throw new HutchError(`bind libc: ${first instanceof Error ? first.message : String(first)}`, {
        hint: "bun:ffi needs the JIT: run without BUN_JSC_useJIT=0, a limit of address space (ulimit -v), MemoryDenyWriteExecute= or an execmem policy",
        cause: first,
      });
    }
  }
}

type Libc = ReturnType<typeof bind>;
let libc: Libc | undefined; // a cache of an immutable binding, not state
let errnoAddress: ReturnType<Libc["__errno_location"]>;

/** NUL-terminated bytes of a string. @throws HutchError when the string itself has a NUL. */
export function cString(text: string): Uint8Array {
  if (text.includes("\0")) throw new HutchError(`${JSON.stringify(text)} contains a NUL byte`);
  return encodeTerminated(text);
}

/** What the arguments of the last call point to, lest it be collected meanwhile. Made once: a start makes many calls. */
const kept: (Uint8Array | BigUint64Array | undefined)[] = [
  undefined,
  undefined,
  undefined,
  undefined,
  undefined,
  undefined,
];

function argument(value: Argument | undefined, index: number): number | bigint {
  if (value === undefined || value === null) return 0;
  if (typeof value === "number" || typeof value === "bigint") return value;
  const buffer = typeof value === "string" ? cString(value) : value;
  if (buffer.byteLength === 0) return 0;
  kept[index] = buffer;
  return ptr(buffer);
}

/** Make a system call; returns its result, or minus the error number. Never throws for the kernel's sake. */
export function rawCall(
  name: SyscallName,
  a?: Argument,
  b?: Argument,
  c?: Argument,
  d?: Argument,
  e?: Argument,
  f?: Argument,
): number {
  libc ??= bind();
  const result = libc.syscall(
    SYSCALLS[name][ARCH],
    argument(a, 0),
    argument(b, 1),
    argument(c, 2),
    argument(d, 3),
    argument(e, 4),
    argument(f, 5),
  );
  if (Number(result) !== -1) return Number(result);
  errnoAddress ??= libc.__errno_location();
  return errnoAddress === null ? -1 : -read.i32(errnoAddress, 0);
}

/** Make a system call; returns its result (a count or descriptor). @throws SystemError naming the call and errno. */
export function call(
  name: SyscallName,
  a?: Argument,
  b?: Argument,
  c?: Argument,
  d?: Argument,
  e?: Argument,
  f?: Argument,
): number {
  const result = rawCall(name, a, b, c, d, e, f);
  if (result < 0) throw systemError(`${name} ${describe([a, b, c, d, e, f])}`.trimEnd(), -result);
  return result;
}

/** A SystemError for a call described in words. */
export function systemError(what: string, errno: number, detail: { from?: string; hint?: string } = {}): SystemError {
  const { name, meaning } = errnoText(errno);
  const many = name === "EMFILE" ? { hint: "raise the limit of open files (ulimit -n)" } : {};
  return new SystemError(what, errno, name, meaning, { ...many, ...detail });
}

/**
 * An error of node's own (mkdir, open, spawn, …) as the SystemError that a call of ours would have thrown; anything else
 * as it is.
 */
export function asSystemError(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof HutchError) return error;
  const { code, syscall, path } = error as { code?: unknown; syscall?: unknown; path?: unknown };
  const errno = typeof code === "string" ? errnoNumber(code) : undefined;
  if (errno === undefined) return error;
  // Bun's spawn names its calls in the message only: `EMFILE: too many open files, socketpair`.
  const what = typeof syscall === "string" ? syscall : (/, (\w+)$/.exec(error.message)?.[1] ?? error.message);
  return systemError(typeof path === "string" ? `${what} ${path}` : what, errno);
}

function describe(args: readonly unknown[]): string {
  return args.filter((value) => typeof value === "string").join(" ");
}

/** Address of a buffer's first byte, for structures that hold pointers. The caller keeps the buffer alive. */
export function addressOf(buffer: Uint8Array | BigUint64Array): number {
  return Number(ptr(buffer));
}
