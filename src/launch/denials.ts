/**
 * Telling denials (`--explain-denials`). Theory of operation:
 *
 *   program ──refused call──▶ kernel ──notification──▶ teller ──note──▶ memory file ──▶ hutch, at the end
 *           ◀──the errno────────────◀──answer──────────┘
 *
 * Of the program's filter each ERRNO is a USER_NOTIF (process/notify.ts), and its listener is the launcher's. The teller is
 * one more process in the launcher's memory: it takes a notification, evaluates the plain filter on it, written as records
 * (filter-records.ts), notes the call and answers with the number that the filter gives. It never lets a call continue:
 * when nobody has the listener any more the kernel refuses as well, with ENOSYS. Since that is another number, the launcher
 * holds the listener too, so that calls wait when the teller has ended, and ends the sandbox; and a teller whose launcher
 * was killed goes on until the sandbox has ended.
 *
 * A listener comes into being together with the filter, under which the program may not be able to hand it over. So that
 * does a thread of the program's (a filter is one thread's affair). It waits for the teller's word that it is there, and has
 * ended before the program is executed.
 *
 * What the program does decides nothing but numbers in a table of fixed size: the first {@link DENIALS.most} kinds of calls,
 * and a count of all others.
 */

import { call } from "../libc/call.ts";
import * as c from "../libc/constants.ts";
import { type Arch, SYSCALLS } from "../libc/syscalls.ts";
import { evaluateBpf } from "../process/bpf-evaluate.ts";
import { TOLD_ARGUMENTS } from "../process/call-text.ts";
import { notifyingFilter } from "../process/notify.ts";
import { ARCHITECTURES } from "../process/seccomp.ts";
import { ACTIONS } from "../process/seccomp-actions.ts";
import { syscallNumbers } from "../process/syscall-numbers.ts";
import type { Plan, Step } from "../step.ts";
import { type Assembler, at, content, type Content, type Label } from "./assembler.ts";
import { moveUp } from "./become.ts";
import { DENIALS } from "./denial-report.ts";
import { evaluateFilter } from "./filter-records.ts";
import { holdCapabilities } from "./lowering.ts";
import { descriptorMessage } from "./passing.ts";
import { field, keepOnly, SIGINFO } from "./processes.ts";
import type { Place } from "./program.ts";

/** The parts of a start that tells denials. Whoever starts brings them: other starts do not load what they need. */
export interface Telling {
  /** A memory file of {@link DENIALS}.bytes. */
  readonly denialsFd: number;
  /** Its listener, for a plan that tells denials. */
  readonly newListener: (asm: Assembler, plan: Plan) => Listener | undefined;
}

/** A filter's listener. Each method writes records. */
export interface Listener extends Cells {
  /** The program's part: install the filter and hand its listener over. */
  readonly install: () => void;
  /** The launcher's part, when the program is about to be executed. A start that failed has closed its end: it goes on. */
  readonly take: () => void;
  /** The launcher's part when another child than the sandbox has ended: if it was the teller, `child` is ended, too. */
  readonly endUntold: (child: Place, file: Content) => void;
}

interface Cells {
  /** The socket pair over which the listener is handed over, and a byte comes back when the teller is there. */
  readonly receive: Place;
  readonly send: Place;
  /** The listener's descriptor, in each process that has it. */
  readonly fd: Place;
  /** Pid of the teller, a child of the launcher's. */
  readonly teller: Place;
}

/** The plain filter, whose answers are given, and its flags. */
type Filter = Pick<Extract<Step, { op: "seccomp" }>, "filter" | "flags">;

/** Where the table is mapped: above all that a program has, below what a record can name. */
const TABLE = 0x40000000;

/** struct seccomp_notif {u64 id; u32 pid, flags; struct seccomp_data data}, struct seccomp_notif_resp. */
const NOTICE = { data: 16, bytes: 80 } as const;
const REPLY = { error: 16, bytes: 24 } as const;
/** In struct seccomp_data. */
const DATA = { nr: 0, arch: 4, args: 16 } as const;

const ENOENT = -2;
const ENDED = 1;
const GRACE_SECONDS = 1;

/** Where a teller notes denials. @throws SystemError */
export function denialsFile(): number {
  const fd = moveUp(call("memfd_create", "hutch-denials", 0));
  call("ftruncate", fd, DENIALS.bytes);
  return fd;
}

/** What a start needs that tells denials: a descriptor of {@link denialsFile}. */
export function newTelling(denialsFd: number): Telling {
  return {
    denialsFd,
    newListener: (asm, { steps }) => {
      const filter = steps.find((step) => step.op === "seccomp" && step.telling === true);
      if (filter?.op !== "seccomp") return undefined;
      const cells: Cells = { receive: asm.cell(), send: asm.cell(), fd: asm.cell(), teller: asm.cell() };
      return {
        ...cells,
        install: () => install(asm, cells, filter),
        take: () => take(asm, cells, filter, denialsFd),
        endUntold: (child, file) => endUntold(asm, cells, child, file),
      };
    },
  };
}

function install(asm: Assembler, { send, fd }: Cells, { filter, flags = [] }: Filter): void {
  const [handed, sign] = [asm.cell(), asm.cell()];
  const [thread, look, there, untold, done] = [asm.label(), asm.label(), asm.label(), asm.label(), asm.label()];
  const [on, again, ended] = [asm.label(), asm.label(), asm.label()];
  const notifying = notifyingFilter(filter, asm.arch);
  const header = new Uint8Array(16); // struct sock_fprog
  new DataView(header.buffer).setUint16(0, notifying.length / 8, true);
  const program = asm.pointing(header, 8, asm.data(notifying));
  const bits = flags.reduce((sum, flag) => sum | c.SECCOMP_FLAGS[flag], 0);

  asm.set(fd, -1);
  asm.set(handed, 1); // until the thread has ended
  const shared = c.CLONE_VM | c.CLONE_FS | c.CLONE_FILES | c.CLONE_SIGHAND | c.CLONE_THREAD;
  // Of the last two one is the place to clear and one is not looked at, which of them is the architecture's affair.
  asm.call("clone", [shared | c.CLONE_CHILD_CLEARTID, 0, 0, handed, handed], { next: on, onZero: thread });

  asm.place(thread);
  asm.call("sched_yield", [], { onError: "ignore" });
  asm.call("sub", [content(fd), -1], { onZero: thread, next: look });
  asm.place(look);
  asm.call("and", [content(fd), content(asm.words(-(2 ** 63)))], { result: sign, onZero: there, next: done });
  asm.place(there);
  const { header: message, descriptors } = descriptorMessage(asm, 1);
  asm.set(descriptors, content(fd));
  asm.call("sendmsg", [content(send), message, 0]);
  asm.call("read", [content(send), asm.cell(), 1], { onZero: untold, next: done });
  asm.place(untold);
  asm.call("close", [-1]); // always EBADF: the record that says that there is no teller (hints.ts)
  asm.place(done);
  asm.call("exit", [0]);

  asm.place(on);
  const how = c.SECCOMP_FILTER_FLAG_NEW_LISTENER | c.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
  asm.call("seccomp", [c.SECCOMP_SET_MODE_FILTER, bits | how, program], { result: fd });
  // Under the filter there is no call to wait by; one that it allows may let the thread come first.
  asm.place(again);
  if (allowsYield(filter, asm.arch)) asm.call("sched_yield", [], { onError: "ignore" });
  asm.call("load64", [handed, 0], { onZero: ended, next: again });
  asm.place(ended);
}

/** Whether sched_yield(2), which has no arguments, is just done. */
function allowsYield(filter: Uint8Array, arch: Arch): boolean {
  const answer = evaluateBpf(filter, { arch: ARCHITECTURES[arch].audit, nr: SYSCALLS.sched_yield[arch] });
  return answer === ACTIONS.SCMP_ACT_ALLOW;
}

function take(asm: Assembler, cells: Cells, { filter }: Filter, denialsFd: number): void {
  const { receive, send, fd } = cells;
  const none = asm.label();
  const { header, descriptors } = descriptorMessage(asm, 1);
  asm.call("close", [content(send)]);
  asm.set(descriptors, -1);
  asm.set(fd, content(receive)); // something that is open
  asm.call("recvmsg", [content(receive), header, c.MSG_CMSG_CLOEXEC], { onZero: none });
  field(asm, descriptors, 0, fd);
  asm.call("fcntl", [content(fd), c.F_GETFD]); // the kernel leaves it out where it cannot be opened here
  startTeller(asm, cells, filter, denialsFd);
  asm.call("close", [content(receive)]);
  asm.place(none);
}

function startTeller(asm: Assembler, { receive, fd, teller }: Cells, filter: Uint8Array, denialsFd: number): void {
  const [inside, after, gone] = [asm.label(), asm.label(), asm.label()];
  const [launcher, listener, file, watched, there] = [asm.cell(), asm.cell(), asm.cell(), asm.cell(), asm.cell()];
  const { failure } = asm;
  asm.call("getpid", [], { result: launcher });
  asm.call("pidfd_open", [content(launcher), 0], { result: launcher });
  asm.set(watched, content(launcher));
  asm.set(there, content(receive));
  asm.set(listener, content(fd)); // the launcher will give its own another number
  asm.set(file, denialsFd);
  const flags = c.CLONE_VM | c.CLONE_PARENT_SETTID | c.SIGNALS.SIGCHLD;
  asm.call("clone", [flags, 0, teller, 0, 0], { next: after, onZero: inside });
  asm.place(inside);
  asm.failure = gone;
  asm.call("prctl", [c.PR_SET_NAME, "hutch-teller"], { onError: "ignore" });
  keepOnly(asm, [listener, file, watched, there]);
  asm.call("mmap", [TABLE, DENIALS.bytes, c.PROT_READ, c.MAP_SHARED | c.MAP_FIXED_NOREPLACE, content(file), 0]);
  holdCapabilities(asm, []);
  // From Linux 6.6: whoever asks and the teller take turns on one processor, which is sooner than waking another.
  asm.call("ioctl", [content(listener), c.SECCOMP_IOCTL_NOTIF_SET_FLAGS, c.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP], {
    onError: "ignore",
  });
  asm.call("write", [content(there), asm.words(0), 1], { onError: "ignore" });
  asm.call("close", [content(there)], { onError: "ignore" });
  tell(asm, filter, { listener, file, launcher: watched, gone });
  asm.place(gone);
  asm.call("exit_group", [ENDED], { onError: "ignore" });
  asm.failure = failure;
  asm.place(after);
  asm.call("close", [content(launcher)]);
}

/** What the teller has: descriptors of the listener, the table and the launcher (pidfd_open(2)); and where it ends. */
interface Teller {
  readonly listener: Place;
  readonly file: Place;
  readonly launcher: Place;
  readonly gone: Label;
}

/** The teller's loop. */
function tell(asm: Assembler, filter: Uint8Array, teller: Teller): void {
  const { listener, file, gone } = teller;
  const [notice, reply] = [asm.cell(NOTICE.bytes + 8), asm.cell(REPLY.bytes)];
  const [result, error, denial] = [asm.cell(), asm.cell(), asm.cell(DENIALS.entry)];
  const [loop, missed, refused] = [asm.label(), asm.label(), asm.label()];
  const awaitNotice = waiting(asm, teller);
  asm.place(loop);
  awaitNotice();
  for (let offset = 0; offset < NOTICE.bytes; offset += 8) asm.set(at(notice, offset), 0); // the kernel wants it so
  asm.call("ioctl", [content(listener), c.SECCOMP_IOCTL_NOTIF_RECV, notice], { result, onError: missed });
  const errno = at(denial, DENIALS.errno);
  evaluateFilter(asm, filter, { data: at(notice, NOTICE.data), errno, refused, passed: gone });

  asm.place(missed);
  asm.ifEqual(content(result), ENOENT, loop); // it has gone meanwhile: a signal came before this did, or SIGKILL after it
  asm.jump(gone);

  asm.place(refused);
  describe(asm, at(notice, NOTICE.data), denial);
  note(asm, denial, at(notice, NOTICE.data), file);
  asm.call("load64", [notice, 0], { result: reply });
  asm.call("sub", [0, content(errno)], { result: error });
  asm.call("and", [content(error), content(asm.words(0xffffffff))], { result: at(reply, REPLY.error) }); // flags: none
  asm.call("ioctl", [content(listener), c.SECCOMP_IOCTL_NOTIF_SEND, reply], { result, onError: missed, next: loop });
}

/**
 * Prepare for waiting; what is returned waits for the next notification. When the launcher has been killed the sandbox is
 * about to be, and is answered to its end; should that not be noticed, until nothing has come for {@link GRACE_SECONDS}.
 */
function waiting(asm: Assembler, { listener, launcher, gone }: Teller): () => void {
  const [poll, count, timeout, grace, events] = [asm.cell(16), asm.cell(), asm.cell(), asm.cell(16), asm.cell()];
  // struct pollfd {int fd; short events, revents}
  const request = content(asm.words(-c.POLLIN * 2 ** 32));
  [listener, launcher].forEach((descriptor, index) =>
    asm.call("sub", [content(descriptor), request], { result: at(poll, 8 * index) }),
  );
  asm.set(count, 2);
  const said = (event: number, otherwise: Label) =>
    asm.call("and", [content(poll), content(asm.words(event * 2 ** 48))], { result: events, onZero: otherwise });
  return () => {
    const [again, noNotice, noUser, there] = [asm.label(), asm.label(), asm.label(), asm.label()];
    asm.place(again);
    asm.set(grace, GRACE_SECONDS); // the kernel writes what is left of it
    asm.set(at(grace, 8), 0);
    asm.call("ppoll", [poll, content(count), content(timeout), 0, 8], { onZero: gone });
    said(c.POLLIN, noNotice);
    asm.jump(there);
    asm.place(noNotice);
    said(c.POLLHUP, noUser);
    // Nobody has the filter any more: the launcher ends this process, or has been killed.
    asm.call("ppoll", [at(poll, 8), 1, 0, 0, 8], { next: gone });
    asm.place(noUser);
    asm.set(count, 1);
    asm.set(timeout, grace);
    asm.jump(again);
    asm.place(there);
  };
}

/** What makes a call of a kind: number and architecture, the error number, arguments that people are told, 32 bits each. */
function describe(asm: Assembler, data: Place, denial: Place): void {
  const [nr, arch, done] = [asm.cell(), asm.cell(), asm.label()];
  asm.call("load64", [data, DATA.nr], { result: at(denial, DENIALS.call) });
  for (let index = 0; index < DENIALS.told; index++) asm.set(at(denial, DENIALS.kind + 8 * index), 0);
  field(asm, data, DATA.arch, arch);
  asm.ifDifferent(content(arch), content(asm.words(ARCHITECTURES[asm.arch].audit)), done);
  field(asm, data, DATA.nr, nr);
  const numbers = syscallNumbers(asm.arch);
  const groups = new Map<string, { readonly label: Label; readonly told: readonly number[] }>();
  for (const [name, told] of Object.entries(TOLD_ARGUMENTS)) {
    const number = numbers.get(name);
    if (number === undefined) continue;
    const group = groups.get(told.join()) ?? { label: asm.label(), told };
    groups.set(told.join(), group);
    asm.ifEqual(content(nr), number, group.label);
  }
  asm.jump(done);
  for (const { label, told } of groups.values()) {
    asm.place(label);
    told.forEach((argument, index) => field(asm, data, DATA.args + 8 * argument, at(denial, DENIALS.kind + 8 * index)));
    asm.jump(done);
  }
  asm.place(done);
}

/** Count it: in the entry of its kind, in a new one, or among the others. What is written is there before it is answered. */
function note(asm: Assembler, denial: Place, data: Place, file: Place): void {
  const [entry, has, count, offset] = [asm.cell(), asm.cell(), asm.cell(), asm.cell()];
  const [next, others] = [asm.label(), asm.cell()];
  const [again, compare, fresh, full, noted] = [asm.label(), asm.label(), asm.label(), asm.label(), asm.label()];
  const increase = (cell: Place) => asm.call("sub", [content(cell), -1], { result: cell });
  const place = () => asm.call("sub", [content(entry), TABLE], { result: offset });
  asm.set(entry, TABLE + DENIALS.header);
  asm.place(again);
  asm.call("load64", [content(entry), DENIALS.count], { result: count, onZero: fresh, next: compare });
  asm.place(compare);
  for (let at32 = 0; at32 < DENIALS.count; at32 += 8) {
    asm.call("load64", [content(entry), at32], { result: has });
    asm.ifDifferent(content(has), content(at(denial, at32)), next);
  }
  increase(count);
  place();
  asm.call("sub", [content(offset), -DENIALS.count], { result: offset });
  asm.call("pwrite64", [content(file), count, 8, content(offset)], { next: noted });
  asm.place(next);
  asm.call("sub", [content(entry), -DENIALS.entry], { result: entry });
  asm.call("sub", [content(entry), TABLE + DENIALS.bytes], { onZero: full, next: again });
  asm.place(full);
  increase(others);
  asm.call("pwrite64", [content(file), others, 8, DENIALS.others], { next: noted });
  asm.place(fresh);
  asm.set(at(denial, DENIALS.count), 1);
  for (let index = 0; index < 6; index++) {
    const argument = at(denial, DENIALS.args + 8 * index);
    asm.call("load64", [data, DATA.args + 8 * index], { result: argument });
  }
  place();
  asm.call("pwrite64", [content(file), denial, DENIALS.entry, content(offset)]);
  asm.place(noted);
}

function endUntold(asm: Assembler, { teller }: Cells, child: Place, file: Content): void {
  const [info, pid] = [asm.cell(SIGINFO.size), asm.cell()];
  const [ended, lives] = [asm.label(), asm.label()];
  asm.set(at(info, SIGINFO.pid), 0);
  const look = c.WEXITED | c.WNOHANG | c.WNOWAIT;
  asm.call("waitid", [c.P_PID, content(teller), info, look, 0], { onError: ended });
  field(asm, info, SIGINFO.pid, pid);
  asm.ifEqual(content(pid), 0, lives);
  asm.place(ended);
  asm.call("pwrite64", [file, asm.words(ENDED), 8, DENIALS.lost], { onError: "ignore" });
  asm.call("kill", [content(child), c.SIGNALS.SIGKILL], { onError: "ignore" });
  asm.place(lives);
}
