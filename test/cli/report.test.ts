/** Errors as their readers see them: one line, nothing in it that a terminal obeys. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { encodeBytes, oneLine } from "../../src/bytes.ts";
import { formatError } from "../../src/cli/report.ts";
import { EXIT, HutchError, SystemError, UsageError } from "../../src/errors.ts";
import { systemError } from "../../src/libc/call.ts";

describe("one line", () => {
  test.each([
    ["plain", "plain"],
    ["ä 中 😀 💀", "ä 中 😀 💀"], // the skull's second half is U+DC80
    ["a\nb\tc\rd", "a\\nb\\tc\\x0dd"],
    ["\u001b[31mred\u0007", "\\x1b[31mred\\x07"],
    ["\u009b31m", "\\x9b31m"],
    ["\u2028\u2029", "\\x2028\\x2029"],
    ["\u007f\0", "\\x7f\\x00"],
    ["\udc9b31m\udcff", "\\x9b31m\\xff"], // bytes that were not UTF-8: 9b alone is CSI to some terminals
  ])("%j", (text, expected) => {
    expect(oneLine(text)).toBe(expected);
  });

  test("whatever the text, no control character is written", () => {
    const unit = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.integer({ min: 0x80, max: 0xff }).map((byte) => String.fromCharCode(0xdc00 + byte)),
    );
    fc.assert(
      fc.property(fc.array(unit), (parts) => {
        const written = new TextDecoder("utf-8", { fatal: true }).decode(encodeBytes(oneLine(parts.join(""))));
        // eslint-disable-next-line no-control-regex -- control characters are the point
        expect(written).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/);
      }),
    );
  });
});

describe("errors", () => {
  test.each<readonly [Error, string]>([
    [new HutchError("it broke"), "hutch run: it broke"],
    [new UsageError("bad word", { from: "-x y" }), "hutch run: bad word (from -x y)"],
    [new UsageError("bad", { from: "default", hint: "do this" }), "hutch run: bad; hint: do this"],
    [new UsageError("bad", { from: "-v a\nb", hint: "no" }), "hutch run: bad (from -v a\\nb); hint: no"],
    [
      systemError("mount /a", 1, { from: "-v /a:/b" }),
      "hutch run: mount /a: EPERM operation not permitted (from -v /a:/b)",
    ],
    [systemError("x", 4095), "hutch run: x: errno 4095 unknown error"],
    [new TypeError("oh\nno"), "hutch run: internal error: TypeError: oh\\nno (this is a bug in hutch)"],
  ])("%s", (error, expected) => {
    expect(formatError(error, "hutch run")).toBe(expected);
  });

  test("something thrown that is no error", () => {
    expect(formatError("text\u001b", "h")).toBe("h: internal error: text\\x1b (this is a bug in hutch)");
    expect(formatError(undefined, "h")).toBe("h: internal error: undefined (this is a bug in hutch)");
  });

  test("carry what programs ask for", () => {
    const error = systemError("open f", 2, { from: "f", hint: "h" });
    expect(error).toBeInstanceOf(SystemError);
    expect(error).toBeInstanceOf(HutchError);
    expect(error).toMatchObject({
      call: "open f",
      errno: 2,
      code: "ENOENT",
      from: "f",
      hint: "h",
      exitCode: EXIT.failure,
    });
    expect(new HutchError("m", { exitCode: EXIT.notFound }).exitCode).toBe(127);
    const cause = new Error("inner");
    expect(new HutchError("m", { cause }).cause).toBe(cause);
    expect(Object.hasOwn(new HutchError("m"), "cause")).toBe(false);
  });
});
