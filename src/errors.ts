/**
 * The errors that hutch throws on purpose. Everything that reaches a user as one clear line is one of these; anything
 * else is a bug. This file imports nothing.
 */

/** Exit codes of commands that pass a program's status on (docker's and the shell's convention). */
export const EXIT = { failure: 125, notExecutable: 126, notFound: 127, signalBase: 128 } as const;

interface ErrorDetail {
  readonly from?: string;
  readonly hint?: string;
  readonly step?: string;
  readonly errno?: number;
  readonly code?: string;
}

/**
 * An error whose message is meant for the user, as it stands, on one line.
 * `from` quotes the user's own words that asked for what failed; `hint` says what to do about it.
 */
export class HutchError extends Error {
  /** A bundler may rename the class. */
  static override readonly name: string = "HutchError";
  override name = "HutchError";
  readonly from: string | undefined;
  readonly hint: string | undefined;
  readonly exitCode: number;
  /** The step of the plan that failed, in words. */
  readonly step: string | undefined;
  /** The kernel's error number and its name, such as 2 and ENOENT, when it was the kernel that refused. */
  readonly errno: number | undefined;
  readonly code: string | undefined;

  constructor(message: string, detail: ErrorDetail & { readonly exitCode?: number; readonly cause?: unknown } = {}) {
    super(message, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.step = detail.step;
    this.errno = detail.errno;
    this.code = detail.code;
    this.from = detail.from;
    this.hint = detail.hint;
    this.exitCode = detail.exitCode ?? EXIT.failure;
  }
}

/** Bad input: an unknown option, a malformed value, a path that is not there. Found before anything is started. */
export class UsageError extends HutchError {
  static override readonly name: string = "UsageError";
  override name = "UsageError";
}

/** A call to the kernel that failed: `call` with its arguments as text, the error's number and its name. */
export class SystemError extends HutchError {
  static override readonly name: string = "SystemError";
  override name = "SystemError";
  readonly call: string;
  declare readonly errno: number;
  declare readonly code: string;

  constructor(
    call: string,
    errno: number,
    code: string,
    meaning: string,
    detail: { from?: string; hint?: string; step?: string } = {},
  ) {
    super(`${call}: ${code} ${meaning}`, { ...detail, errno, code });
    this.call = call;
  }
}
