/**
 * Byte strings as JavaScript strings, without loss.
 *
 * Paths, arguments and environment variables are bytes to the kernel, mostly UTF-8. A byte that is not part of valid
 * UTF-8 is kept as a lone low surrogate U+DC80..U+DCFF (Python's "surrogateescape", PEP 383), so that
 * `encodeBytes(decodeBytes(b))` is `b` for every b. This file imports nothing.
 */

// Made when they are needed: most of what a start reads and writes is short and ASCII, and needs neither. A function that
// names one has its class made when it is called, so each has one of its own.
let utf8: TextEncoder | undefined;
let strict: TextDecoder | undefined;
/** Up to this length a loop over ASCII is quicker than the first use of a coder. */
const SHORT = 256;

/** Decode bytes to a string; what is not UTF-8 becomes U+DC80 + (byte - 0x80). Never throws. */
export function decodeBytes(bytes: Uint8Array): string {
  if (bytes.length <= SHORT && isAscii(bytes)) return asciiText(bytes);
  try {
    return decoder().decode(bytes);
  } catch {
    return decodeLossless(bytes);
  }
}

/** Without an array of the characters, which a spread would make first. */
function asciiText(bytes: Uint8Array): string {
  return String.fromCharCode.apply(undefined, bytes as unknown as number[]);
}

function decoder(): TextDecoder {
  return (strict ??= new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }));
}

function isAscii(bytes: Uint8Array): boolean {
  for (let i = 0; i < bytes.length; i++) if ((bytes[i] ?? 0) >= 0x80) return false;
  return true;
}

/** The bytes of a short ASCII string with so many zeros behind, or undefined. */
function encodeAscii(text: string, zeros: number): Uint8Array | undefined {
  if (text.length > SHORT) return undefined;
  const bytes = new Uint8Array(text.length + zeros);
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code >= 0x80) return undefined;
    bytes[i] = code;
  }
  return bytes;
}

/** {@link encodeBytes} with a NUL at the end. */
export function encodeTerminated(text: string): Uint8Array {
  const ascii = encodeAscii(text, 1);
  if (ascii !== undefined) return ascii;
  const bytes = encodeBytes(text);
  const terminated = new Uint8Array(bytes.length + 1);
  terminated.set(bytes);
  return terminated;
}

/** Encode a string made by {@link decodeBytes} (or any well-formed string) back to its bytes, without a final NUL. */
export function encodeBytes(text: string): Uint8Array {
  const ascii = encodeAscii(text, 0);
  if (ascii !== undefined) return ascii;
  return text.isWellFormed() ? encoder().encode(text) : encodeLossless(text);
}

function encoder(): TextEncoder {
  return (utf8 ??= new TextEncoder());
}

function encodeLossless(text: string): Uint8Array {
  const parts: number[] = [];
  for (const char of text) {
    const code = char.codePointAt(0) ?? 0;
    if (code >= 0xdc80 && code <= 0xdcff) parts.push(code - 0xdc00);
    else parts.push(...encoder().encode(char));
  }
  return Uint8Array.from(parts);
}

/** A path for node:fs, which takes strings for UTF-8. */
export function fsPath(path: string): Buffer {
  return Buffer.from(encodeBytes(path));
}

/** Length in bytes of the sequence that starts at `i`, 0 when it is not valid UTF-8 (Unicode 15, table 3-7). */
function sequenceLength(bytes: Uint8Array, i: number): number {
  const first = bytes[i] ?? 0;
  if (first < 0x80) return 1;
  const length =
    first >= 0xc2 && first <= 0xdf ? 2 : first >= 0xe0 && first <= 0xef ? 3 : first >= 0xf0 && first <= 0xf4 ? 4 : 0;
  if (length === 0 || i + length > bytes.length) return 0;
  const second = bytes[i + 1] ?? 0;
  const low = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
  const high = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
  if (second < low || second > high) return 0;
  for (let k = 2; k < length; k++) {
    const next = bytes[i + k] ?? 0;
    if (next < 0x80 || next > 0xbf) return 0;
  }
  return length;
}

function decodeLossless(bytes: Uint8Array): string {
  let text = "";
  let start = 0;
  let i = 0;
  while (i < bytes.length) {
    const length = sequenceLength(bytes, i);
    if (length > 0) {
      i += length;
      continue;
    }
    text += decoder().decode(bytes.subarray(start, i)) + String.fromCharCode(0xdc00 + (bytes[i] ?? 0));
    i += 1;
    start = i;
  }
  return text + decoder().decode(bytes.subarray(start));
}

/**
 * Make a message one line of printable text: control characters of user or image data cannot forge terminal output, and
 * neither can bytes that are not UTF-8, which some terminals take for control characters.
 */
export function oneLine(text: string): string {
  // eslint-disable-next-line no-control-regex -- control characters are the point
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\udc80-\udcff]/gu, (char) => {
    const unit = char.charCodeAt(0);
    const code = unit >= 0xdc00 ? unit - 0xdc00 : unit; // decodeBytes
    return code === 10 ? "\\n" : code === 9 ? "\\t" : `\\x${code.toString(16).padStart(2, "0")}`;
  });
}

/*
 * Numbers without bigint, Math and DataView, which are slow to begin with: on the way of a start. In the byte order of both
 * architectures, least significant first.
 */

/** The number in 8 bytes at an offset; beyond 2^53 it is the nearest that a number can be. */
export function uint64(bytes: Uint8Array, at: number): number {
  let value = 0;
  for (let i = at + 7; i >= at; i--) value = 256 * value + (bytes[i] ?? 0);
  return value;
}

/** Write a safe integer ≥ 0 as 8 bytes at an offset. */
export function setUint64(bytes: Uint8Array, at: number, value: number): void {
  for (let [i, rest] = [at, value]; i < at + 8; i++, rest = (rest - (rest % 256)) / 256) bytes[i] = rest % 256;
}

/** Write a 32-bit number as 4 bytes at an offset. */
export function setInt32(bytes: Uint8Array, at: number, value: number): void {
  for (let [i, rest] = [at, value]; i < at + 4; i++, rest >>= 8) bytes[i] = rest;
}
