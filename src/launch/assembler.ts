/**
 * Writing Programs: records in order, labels to jump to, constant data, cells. Records are written as the words that
 * the interpreter reads, at once: this is on the way of every start, in code that runs only once.
 */

import { encodeBytes } from "../bytes.ts";
import { HutchError } from "../errors.ts";
import { type Arch, SYSCALLS, type SyscallName } from "../libc/syscalls.ts";
import {
  CELLS_ADDRESS,
  DATA_ADDRESS,
  FIRST_FREE_CELL,
  type Place,
  type Program,
  PSEUDO,
  type PseudoOperation,
  RECORD,
  RECORD_WORDS,
  recordAddress,
  UNWANTED,
} from "./program.ts";

/** A record's place in the order, to be jumped to before it is known where that is. */
export interface Label {
  index: number | undefined;
  /** Words that wait for it. */
  readonly uses: number[];
}

/** What a record may say about where to go on; `ignore` goes on with the next record whatever the error. */
export interface Flow {
  readonly result?: Place;
  readonly next?: Label;
  readonly onError?: Label | "ignore";
  readonly onZero?: Label;
}

declare const contentOf: unique symbol;
/** The 64-bit content of a cell at the time of the call. */
export type Content = number & { readonly [contentOf]: true };

/** What a record takes: a 32-bit number, the address of a place, a cell's content, or data to be stored. */
export type Argument = number | Place | Content | string | Uint8Array;

const CONTENT = 2 ** 40; // no number that a record can hold

const NO_FLOW: Flow = {};

/** The content of a cell, as an argument. */
export function content(cell: Place): Content {
  return (CONTENT + cell) as Content;
}

/** A place some bytes behind another. */
export function at(from: Place, bytes: number): Place {
  return (from + bytes) as Place;
}

/** Collects records in order and resolves labels. One per program; holds the only mutable state of the assembly. */
export class Assembler {
  readonly arch: Arch;
  /** Where errors of the records written from now on go. */
  failure: Label | undefined;
  #words = new Int32Array(512 * RECORD_WORDS);
  #count = 0;
  #data = new Uint8Array(16384);
  #data32 = new Uint32Array(this.#data.buffer);
  #dataBytes = 0;
  #cellBytes = FIRST_FREE_CELL;
  #waiting = 0;
  readonly #known = new Map<string, Place>();

  constructor(arch: Arch) {
    this.arch = arch;
  }

  /** Number of records so far. */
  get count(): number {
    return this.#count;
  }

  /** A zeroed buffer of `bytes` (8 by default: one cell). */
  cell(bytes = 8): Place {
    const place = (CELLS_ADDRESS + this.#cellBytes) as Place;
    this.#cellBytes += (bytes + 7) & ~7;
    return place;
  }

  /** Constant bytes, 8-aligned. */
  data(bytes: Uint8Array): Place {
    const place = this.#room(bytes.length);
    this.#data.set(bytes, place - DATA_ADDRESS);
    return place;
  }

  #room(bytes: number): Place {
    const start = this.#dataBytes;
    this.#dataBytes += (bytes + 7) & ~7;
    if (this.#dataBytes > this.#data.length) {
      const larger = new Uint8Array(Math.max(this.#dataBytes, 2 * this.#data.length));
      larger.set(this.#data);
      this.#data = larger;
      this.#data32 = new Uint32Array(larger.buffer);
    }
    return (DATA_ADDRESS + start) as Place;
  }

  /** Constant 64-bit little-endian words, shared between equal ones: never to be written to. -1 is all ones. */
  words(...values: readonly number[]): Place {
    const key = `\0${String(values)}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const place = this.#room(8 * values.length);
    values.forEach((value, index) => this.#word(place + 8 * index, value));
    this.#known.set(key, place);
    return place;
  }

  #word(address: number, value: number): void {
    const index = (address - DATA_ADDRESS) / 4; // places are 8-aligned
    this.#data32[index] = value;
    this.#data32[index + 1] = Math.floor(value / 2 ** 32);
  }

  /** A NUL-terminated string, shared between equal ones. @throws HutchError when it contains NUL. */
  string(text: string): Place {
    const known = this.#known.get(text);
    if (known !== undefined) return known;
    if (text.includes("\0")) throw new HutchError(`${JSON.stringify(text)} contains a NUL byte`);
    const bytes = encodeBytes(text);
    const place = this.#room(bytes.length + 1);
    this.#data.set(bytes, place - DATA_ADDRESS);
    this.#known.set(text, place);
    return place;
  }

  /** A NULL-terminated array of pointers to strings (argv, envp); a place is a string made at run time. */
  strings(texts: readonly (string | Place)[]): Place {
    const places = texts.map((text) => (typeof text === "string" ? this.string(text) : text));
    const array = this.#room(8 * (places.length + 1));
    places.forEach((to, index) => this.#word(array + 8 * index, to));
    return array;
  }

  /** A structure with one pointer in it, such as struct sock_fprog. */
  pointing(bytes: Uint8Array, offset: number, to: Place): Place {
    const place = this.data(bytes);
    this.#word(place + offset, to);
    return place;
  }

  label(): Label {
    return { index: undefined, uses: [] };
  }

  /** Let `label` mean the record that is written next. */
  place(label: Label): void {
    label.index = this.#count;
    for (const word of label.uses) this.#words[word] = recordAddress(this.#count);
    this.#waiting -= label.uses.length;
    label.uses.length = 0;
  }

  #refer(word: number, label: Label): void {
    if (label.index === undefined) {
      label.uses.push(word);
      this.#waiting += 1;
    } else this.#words[word] = recordAddress(label.index);
  }

  /**
   * Write a record; a number is a system call that has no name here. Errors go to the current `failure` label unless
   * `flow` says otherwise.
   */
  call(operation: SyscallName | PseudoOperation | number, args: readonly Argument[], flow: Flow = NO_FLOW): void {
    const start = this.#count * RECORD_WORDS;
    if (start + RECORD_WORDS > this.#words.length) {
      const larger = new Int32Array(2 * this.#words.length);
      larger.set(this.#words);
      this.#words = larger;
    }
    const pseudo = operation === "sub" || operation === "and" || operation === "load64";
    const number =
      typeof operation === "number" ? operation : pseudo ? PSEUDO[operation] : SYSCALLS[operation][this.arch];
    let mask = 0;
    for (let i = 0; i < args.length; i++) {
      const arg = args[i] ?? 0;
      let value = typeof arg === "number" ? arg : typeof arg === "string" ? this.string(arg) : this.data(arg);
      if (value >= CONTENT) {
        mask |= 1 << i;
        value -= CONTENT;
      }
      this.#words[start + RECORD.arguments + i] = value;
    }
    this.#words[start + RECORD.operation] = number;
    this.#words[start + RECORD.mask] = mask;
    this.#words[start + RECORD.result] = flow.result ?? UNWANTED;
    const following = recordAddress(this.#count + 1);
    this.#words[start + RECORD.next] = following;
    this.#words[start + RECORD.onError] = following;
    this.#words[start + RECORD.onZero] = following;
    if (flow.next !== undefined) this.#refer(start + RECORD.next, flow.next);
    const zero = flow.onZero ?? flow.next;
    if (zero !== undefined) this.#refer(start + RECORD.onZero, zero);
    const error = flow.onError ?? this.failure;
    if (error !== undefined && error !== "ignore" && !pseudo) this.#refer(start + RECORD.onError, error);
    this.#count += 1;
  }

  /** Go to `label`. */
  jump(label: Label): void {
    this.call("sub", [0, 0], { next: label });
  }

  /** Copy `value` into `cell`. */
  set(cell: Place, value: number | Content): void {
    this.call("sub", [value, 0], { result: cell });
  }

  /** Go to `label` when two values are equal, else on. */
  ifEqual(a: number | Content, b: number | Content, label: Label): void {
    this.call("sub", [a, b], { onZero: label });
  }

  /** Go to `label` unless two values are equal. */
  ifDifferent(a: number | Content, b: number | Content, label: Label): void {
    const equal = this.label();
    this.call("sub", [a, b], { next: label, onZero: equal });
    this.place(equal);
  }

  /** The finished program. */
  finish(): Program {
    if (this.#waiting !== 0) throw new Error(`${this.#waiting} uses of labels that were never placed`);
    return {
      arch: this.arch,
      words: this.#words.subarray(0, this.#count * RECORD_WORDS),
      data: this.#data.subarray(0, this.#dataBytes),
      cellBytes: this.#cellBytes,
    };
  }
}
