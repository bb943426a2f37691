/**
 * Writing Programs: records in order, labels to jump to, constant data, cells. Used by lower.ts and supervise.ts.
 */

import { cString } from "../libc/call.ts";
import type { SyscallName } from "../libc/syscalls.ts";
import {
  FIRST_FREE_CELL,
  type Operand,
  type Place,
  type Program,
  type ProgramRecord,
  type PseudoOperation,
} from "./program.ts";

/** A record's place in the order, to be jumped to before it is known where that is. */
export interface Label {
  index: number | undefined;
}

/** What a record may say about where to go on; `ignore` goes on with the next record whatever the error. */
export interface Flow {
  readonly result?: Place;
  readonly next?: Label;
  readonly onError?: Label | "ignore";
  readonly onZero?: Label;
}

/** Arguments as lower.ts writes them: strings and byte arrays are put into the constant data. */
export type Argument = Operand | string | Uint8Array | Place;

interface Draft {
  readonly operation: SyscallName | PseudoOperation;
  readonly operands: readonly Operand[];
  readonly flow: Flow;
  readonly onError: Label | "ignore" | undefined;
  /** Index into the plan's steps, for messages; -1 for the launcher's own calls. */
  readonly step: number;
}

/** Collects records in order and resolves labels. One per program; holds the only mutable state of the assembly. */
export class Assembler {
  /** Step that records written from now on belong to, and where their errors go. */
  step = -1;
  failure: Label | undefined;
  readonly #drafts: Draft[] = [];
  readonly #chunks: Uint8Array[] = [];
  readonly #pointers: { at: number; to: Place }[] = [];
  readonly #strings = new Map<string, Place>();
  readonly #constants = new Map<string, Place>();
  #dataBytes = 0;
  #cellBytes = FIRST_FREE_CELL;

  /** A zeroed buffer of `bytes` (8 by default: one cell). */
  cell(bytes = 8): Place {
    const place: Place = { space: "cells", offset: this.#cellBytes };
    this.#cellBytes += (bytes + 7) & ~7;
    return place;
  }

  /** Constant bytes, 8-aligned. */
  data(bytes: Uint8Array): Place {
    const place: Place = { space: "data", offset: this.#dataBytes };
    const padded = (bytes.length + 7) & ~7;
    this.#chunks.push(bytes);
    this.#dataBytes += padded;
    return place;
  }

  /** Constant bytes that are never written to: equal ones are shared. */
  constant(bytes: Uint8Array): Place {
    const key = bytes.join();
    const known = this.#constants.get(key);
    if (known !== undefined) return known;
    const place = this.data(bytes);
    this.#constants.set(key, place);
    return place;
  }

  /** A NUL-terminated string, shared between equal ones. @throws HutchError when it contains NUL. */
  string(text: string): Place {
    const known = this.#strings.get(text);
    if (known !== undefined) return known;
    const place = this.data(cString(text));
    this.#strings.set(text, place);
    return place;
  }

  /** A NULL-terminated array of pointers to strings (argv, envp); a place is a string made at run time. */
  strings(texts: readonly (string | Place)[]): Place {
    const places = texts.map((text) => (typeof text === "string" ? this.string(text) : text));
    const array = this.data(new Uint8Array(8 * (texts.length + 1)));
    places.forEach((to, index) => this.#pointers.push({ at: array.offset + 8 * index, to }));
    return array;
  }

  /** A structure with one pointer in it, such as struct sock_fprog. */
  pointing(bytes: Uint8Array, at: number, to: Place): Place {
    const place = this.data(bytes);
    this.#pointers.push({ at: place.offset + at, to });
    return place;
  }

  label(): Label {
    return { index: undefined };
  }

  /** Let `label` mean the record that is written next. */
  place(label: Label): void {
    label.index = this.#drafts.length;
  }

  /** Write a record. Errors go to the current `failure` label unless `flow` says otherwise. */
  call(operation: SyscallName | PseudoOperation, args: readonly Argument[], flow: Flow = {}): void {
    const operands = args.map((arg): Operand => {
      if (typeof arg === "string") return { address: this.string(arg) };
      if (arg instanceof Uint8Array) return { address: this.data(arg) };
      return typeof arg === "object" && "space" in arg ? { address: arg } : arg;
    });
    const onError = flow.onError ?? this.failure;
    this.#drafts.push({ operation, operands, flow, onError, step: this.step });
  }

  /** Go to `label`. */
  jump(label: Label): void {
    this.call("sub", [0, 0], { next: label, onZero: label });
  }

  /** Copy `value` into `cell`. */
  set(cell: Place, value: Operand): void {
    this.call("sub", [value, 0], { result: cell });
  }

  /** Go to `label` when two values are equal, else on. */
  ifEqual(a: Operand, b: Operand, label: Label): void {
    this.call("sub", [a, b], { onZero: label });
  }

  /** The finished program, and for each record the step it belongs to. */
  finish(): { program: Program; steps: readonly number[] } {
    const data = new Uint8Array(this.#dataBytes);
    let offset = 0;
    for (const chunk of this.#chunks) {
      data.set(chunk, offset);
      offset += (chunk.length + 7) & ~7;
    }
    const index = (label: Label | undefined): number | undefined => {
      if (label === undefined) return undefined;
      if (label.index === undefined) throw new Error("a label was used and never placed");
      return label.index;
    };
    const records = this.#drafts.map((draft): ProgramRecord => {
      const { operation, operands, flow } = draft;
      const onError = draft.onError === "ignore" ? undefined : index(draft.onError);
      return { operation, operands, result: flow.result, next: index(flow.next), onError, onZero: index(flow.onZero) };
    });
    const program = { records, data, pointers: this.#pointers, cellBytes: this.#cellBytes };
    return { program, steps: this.#drafts.map((draft) => draft.step) };
  }
}
