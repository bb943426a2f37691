/**
 * From steps to system call records: one short function for each kind of step. Those about mounts are in
 * lower-mounts.ts.
 */

import { encodeBytes } from "../bytes.ts";
import * as c from "../libc/constants.ts";
import { capabilityWords } from "../process/capabilities.ts";
import type { Action } from "../step.ts";
import { type Assembler, type Flow, at, content } from "./assembler.ts";
import { LOWER_MOUNTS } from "./lower-mounts.ts";
import { LOWER_SECURITY } from "./lower-security.ts";
import {
  close,
  EACCES,
  EINVAL,
  ENOENT,
  ENOTDIR,
  forEachString,
  forgive,
  formatMappings,
  holdCapabilities,
  type Lower,
  type Lowering,
  type PseudoTerminal,
  words32,
  writeFile,
} from "./lowering.ts";
import { FAILURE } from "./program.ts";
import { controlTerminal, openTerminal } from "./terminal.ts";

/** Flow that goes to the current failure label. */
function toFailure(asm: Assembler): Flow {
  return asm.failure === undefined ? {} : { next: asm.failure };
}

function terminalOf(l: Lowering): PseudoTerminal {
  if (l.terminal === undefined) throw new Error("a plan uses a terminal that it does not open");
  return l.terminal;
}

const LOWER: { readonly [Op in Action["op"]]: Lower<Op> } = {
  ...LOWER_MOUNTS,
  ...LOWER_SECURITY,

  "hold-ids": (l, step) => l.holdIds(step),
  "enter-ids": (l) => l.enterIds(),
  clone: (l, step) => l.clone(step.namespaces.reduce((flags, name) => flags | c.CLONE_FLAGS[name], 0)),

  join: ({ asm }, { namespaces }) => {
    for (const { name, fd } of namespaces) asm.call("setns", [fd, c.CLONE_FLAGS[name]]);
  },

  "map-ids": (l, step) => {
    writeFile(l, c.AT_FDCWD, "/proc/self/uid_map", formatMappings(step.uidMappings));
    writeFile(l, c.AT_FDCWD, "/proc/self/setgroups", "deny");
    writeFile(l, c.AT_FDCWD, "/proc/self/gid_map", formatMappings(step.gidMappings));
  },

  "set-ids": ({ asm }, { uid, gid, groups }) => {
    if (groups !== undefined) asm.call("setgroups", [groups.length, groups.length === 0 ? 0 : words32(...groups)]);
    asm.call("setresgid", [gid, gid, gid]);
    asm.call("setresuid", [uid, uid, uid]);
  },

  "time-offsets": (l, { offsets }) => {
    l.asm.call("unshare", [c.CLONE_FLAGS.time]);
    const text = `monotonic ${offsets.monotonic} 0\nboottime ${offsets.boottime} 0\n`;
    writeFile(l, c.AT_FDCWD, "/proc/self/timens_offsets", text);
  },

  hostname: ({ asm }, { name }) => asm.call("sethostname", [name, encodeBytes(name).length]),
  domainname: ({ asm }, { name }) => asm.call("setdomainname", [name, encodeBytes(name).length]),

  loopback: (l) => {
    const socket = l.asm.cell();
    const request = new Uint8Array(40); // struct ifreq: name, then flags
    request.set(encodeBytes("lo"));
    request[16] = c.IFF_UP;
    l.asm.call("socket", [c.AF_INET, c.SOCK_DGRAM_CLOEXEC, 0], { result: socket });
    l.asm.call("ioctl", [content(socket), c.SIOCSIFFLAGS, request]);
    close(l, socket);
  },

  "death-signal": (l) => {
    const { asm } = l;
    asm.call("prctl", [c.PR_SET_PDEATHSIG, c.SIGNALS.SIGKILL]);
    // A launcher that died before this sends no signal, and getppid() is 0 here whether it lives or not: ask its pipe.
    // The cell is a struct pollfd {fd, events 0}; POLLHUP is always reported.
    const on = asm.label();
    asm.call("ppoll", [l.alive, 1, asm.words(0, 0), 0, 8], { onZero: on, next: l.orphaned });
    asm.place(on);
  },

  "open-terminal": (l, step) => openTerminal(l, step, terminalOf(l)),
  "controlling-terminal": (l) => controlTerminal(l.asm, terminalOf(l)),
  session: ({ asm }) => asm.call("setsid", []),
  "process-group": ({ asm }) => asm.call("setpgid", [0, 0]),
  umask: ({ asm }, { mask }) => asm.call("umask", [mask], { onError: "ignore" }),

  rlimit: ({ asm }, { type, soft, hard }) => {
    const word = (value: number) => (value === Number.POSITIVE_INFINITY ? -1 : value);
    asm.call("prlimit64", [0, c.RLIMITS[type] ?? -1, asm.words(word(soft), word(hard)), 0]);
  },

  "bounding-set": ({ asm }, { keep }) => {
    // For each number from 0 to 63, known to this kernel or not: drop it unless its bit is in the mask.
    const [low, high] = capabilityWords(keep);
    const [number, bit, kept] = [asm.cell(), asm.cell(), asm.cell()];
    const [again, drop, next, done] = [asm.label(), asm.label(), asm.label(), asm.label()];
    asm.set(bit, 1);
    asm.place(again);
    const mask = content(asm.words(high * 2 ** 32 + low));
    asm.call("and", [content(bit), mask], { result: kept, next, onZero: drop });
    asm.place(drop);
    const failed = asm.label();
    asm.call("prctl", [c.PR_CAPBSET_DROP, content(number)], { result: kept, onError: failed, next });
    asm.place(failed);
    forgive({ asm }, kept, [EINVAL], next); // a number that this kernel does not know
    asm.place(next);
    asm.call("sub", [0, content(bit)], { result: kept });
    asm.call("sub", [content(bit), content(kept)], { result: bit }); // twice the bit
    asm.call("sub", [content(number), -1], { result: number });
    asm.call("sub", [content(number), 64], { next: again, onZero: done });
    asm.place(done);
  },

  capabilities: ({ asm }, { hold }) => holdCapabilities(asm, hold),

  "close-descriptors": ({ asm }, { from }) => asm.call("close_range", [from, -1, c.CLOSE_RANGE_CLOEXEC]),

  exec: (l, step) => {
    const { asm } = l;
    const [argv, environment] = [asm.strings(step.args), asm.strings(step.env)];
    const [path, result] = [asm.cell(), asm.cell()];
    const denied = [asm.cell(), asm.cell()] as const;
    const last = [FAILURE, at(FAILURE, 8)] as const;
    forEachString(asm, step.candidates, path, (next) => {
      const [missed, refused] = [asm.label(), asm.label()];
      asm.call("execve", [content(path), argv, environment], { result, onError: missed });
      asm.place(missed);
      // As execvp(3): not there, try the next; not allowed, remember it and try the next; anything else is final.
      asm.ifEqual(content(result), ENOENT, next);
      asm.ifEqual(content(result), ENOTDIR, next);
      asm.call("sub", [content(result), EACCES], { onZero: refused, ...toFailure(asm) });
      asm.place(refused);
      denied.forEach((cell, index) => asm.set(cell, content(last[index as 0 | 1])));
    });
    const report = asm.label();
    asm.ifEqual(content(denied[0]), 0, report);
    denied.forEach((cell, index) => asm.set(last[index as 0 | 1], content(cell)));
    asm.place(report);
    if (asm.failure !== undefined) asm.jump(asm.failure);
  },
};

/** Write the records of one step. */
export function lower(l: Lowering, step: Action): void {
  (LOWER[step.op] as Lower<typeof step.op>)(l, step);
}
