/** Bytes between the caller's terminal and the program's: the copiers' loop, and what was typed before them. */

import * as c from "../libc/constants.ts";
import { type Assembler, type Label, content } from "./assembler.ts";
import type { Place } from "./program.ts";

const COPY_BYTES = 16_384;
/** The longest line that a terminal takes (termios(3), "Canonical and noncanonical mode"). */
const TYPED_BYTES = 4096;
/** What ends the input when it is typed: the usual VEOF, ^D. */
const END_OF_FILE = 4;

/**
 * Pass on what has been typed while the caller's terminal was not raw yet, an end of file (^D) as such: it would be a NUL
 * afterwards. In the background nothing can be read.
 */
export function passTyped(asm: Assembler, tty: Place, outer: Place): void {
  const [buffer, count, poll, gone] = [asm.cell(TYPED_BYTES), asm.cell(), asm.cell(), asm.cell()];
  const [again, there, read, typed, end, done] = [
    ...[asm.label(), asm.label(), asm.label()],
    ...[asm.label(), asm.label(), asm.label()],
  ] as const;
  asm.place(again);
  request(asm, poll, tty, c.POLLIN);
  asm.call("ppoll", [poll, 1, asm.words(0, 0), 0, 8], { next: there, onZero: done, onError: done });
  asm.place(there);
  const over = content(asm.words((c.POLLHUP | c.POLLERR) * 2 ** 48)); // in `revents`
  asm.call("and", [content(poll), over], { result: gone, next: done, onZero: read });
  asm.place(read);
  asm.call("read", [content(tty), buffer, TYPED_BYTES], { result: count, next: typed, onZero: end, onError: done });
  asm.place(typed);
  asm.call("write", [content(outer), buffer, content(count)], { next: again, onError: done });
  asm.place(end);
  asm.call("write", [content(outer), asm.words(END_OF_FILE), 1], { next: again, onError: done });
  asm.place(done);
}

/** A struct pollfd {int fd; short events, revents} for a descriptor in a cell. */
function request(asm: Assembler, place: Place, descriptor: Place, events: number): void {
  asm.call("sub", [content(descriptor), content(asm.words(-events * 2 ** 32))], { result: place });
}

/**
 * Copy until an end or an error. Both descriptors may be non-blocking. With `ending`, reading nothing is only the end
 * when that pipe has been closed.
 */
export function copy(asm: Assembler, from: Place, to: Place, ending: Place | undefined): void {
  const [buffer, start, rest, count] = [asm.cell(COPY_BYTES), asm.cell(), asm.cell(), asm.cell()];
  const [read, write, written, empty, full, done] = Array.from({ length: 6 }, () => asm.label()) as [
    Label,
    Label,
    Label,
    Label,
    Label,
    Label,
  ];
  const EAGAIN = -11;
  const poll = [asm.cell(), asm.cell()] as const;

  asm.place(read);
  asm.call("read", [content(from), buffer, COPY_BYTES], { result: rest, onError: empty, onZero: done });
  asm.set(start, buffer);
  asm.place(write);
  asm.call("write", [content(to), content(start), content(rest)], { result: count, onError: full, next: written });
  asm.place(written);
  asm.call("sub", [content(rest), content(count)], { result: rest, onZero: read });
  asm.call("sub", [0, content(count)], { result: count });
  asm.call("sub", [content(start), content(count)], { result: start });
  asm.jump(write);

  const wait = asm.label();
  asm.place(full);
  asm.ifEqual(content(count), EAGAIN, wait);
  asm.jump(done);
  asm.place(wait);
  request(asm, poll[0], to, c.POLLOUT);
  asm.call("ppoll", [poll[0], 1, 0, 0, 8]);
  asm.jump(write);

  asm.place(empty);
  const nothing = asm.label();
  asm.ifEqual(content(rest), EAGAIN, nothing);
  asm.jump(done);
  asm.place(nothing);
  if (ending !== undefined) {
    // Asked before the last look at the terminal: what was written before the end is in it then.
    const [ended, again] = [asm.cell(), asm.label()];
    request(asm, poll[0], ending, 0);
    asm.call("ppoll", [poll[0], 1, asm.words(0, 0), 0, 8], { result: ended, onZero: again });
    asm.call("read", [content(from), buffer, COPY_BYTES], { result: rest, onError: done, onZero: done });
    asm.set(start, buffer);
    asm.jump(write);
    asm.place(again);
    request(asm, poll[1], ending, 0);
  }
  request(asm, poll[0], from, c.POLLIN);
  asm.call("ppoll", [poll[0], ending === undefined ? 1 : 2, 0, 0, 8]);
  asm.jump(read);
  asm.place(done);
}
