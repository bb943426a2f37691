/**
 * The launcher's program, around the steps of a plan. Theory of operation:
 *
 *   launcher ──clone──▶ sandbox ──clone──▶ program        (with --no-init the sandbox goes on as the program)
 *
 * The launcher blocks all signals, does its own steps, clones the sandbox and reads one pipe (`status`). The sandbox and
 * the program hold that pipe's other end, close-on-exec. A failing step writes {record, -errno} into it; a successful
 * execve closes it. So the launcher knows the moment the program starts, and closes everything of the caller's.
 * Then it waits: signals are passed on, and its exit status is the program's (signals.ts). Where the program shares the
 * launcher's process group, a witness tells which signals it has had already (group.ts); PID 1 tells through the pipe
 * `stops` when it has stopped, and the launcher stops as well (stops.ts). Where denials are told, a teller answers the
 * calls that the filter refuses (denials.ts).
 *
 * The sandbox stays as PID 1: not dumpable, it passes signals on and reaps. Where there are several ids it keeps CAP_KILL
 * of its user namespace, for the program may have another uid than it, and no other capability.
 * When it ends, the kernel ends all of its namespace; when the launcher ends, the kernel ends it (PR_SET_PDEATHSIG, and
 * the pipe `alive` for a launcher that ended before that was set).
 *
 * On failure the launcher writes the report to `reportFd` and, when `become` says so, turns into hutch again to explain
 * it: error texts stay in TypeScript, and cost nothing as long as nothing fails.
 */

import * as c from "../libc/constants.ts";
import type { Arch } from "../libc/syscalls.ts";
import type { Plan, Step } from "../step.ts";
import { Assembler, at, content, type Label } from "./assembler.ts";
import { type Account, noteStart, openAccount, receiveNamespaces, tellNamespaces } from "./account.ts";
import {
  dropSignals,
  makeSettling,
  newWitness,
  releaseSettling,
  saySettled,
  sayThere,
  settle,
  startWitness,
  type Witness,
} from "./group.ts";
import type { Listener } from "./denials.ts";
import { cloneThroughHolder, enterIds, goHome, type Holder, holdIds, makeHolder, mapHolder } from "./hold-ids.ts";
import { adopt, cloneJoined } from "./joined.ts";
import { forget } from "./listing.ts";
import { lower } from "./lower.ts";
import type { Lowering, PseudoTerminal } from "./lowering.ts";
import { dieWithParent, end, keepOnly, makePipe, newPipe, openProcess, tellName, type Pipe } from "./processes.ts";
import { FAILURE, INITIAL_STACK, type Place, type Program } from "./program.ts";
import { become, keepWhile, type Reporting } from "./reporting.ts";
import { passSignals, reap } from "./signals.ts";
import { makeStops } from "./stops.ts";
import { makeChannel } from "./passing.ts";
import { pseudoTerminal, receiveTerminal, watchTerminal } from "./terminal.ts";

/** A program and where in it each step begins. */
export interface Assembled {
  readonly program: Program;
  /** Pairs in order: the first record of a stretch, and the index of its step or -1 for the launcher's own records. */
  readonly marks: readonly (readonly [record: number, step: number])[];
}

const EXIT_FAILURE = 125;

/** The cells and labels that the parts share. */
interface Frame {
  readonly asm: Assembler;
  readonly plan: Plan;
  readonly arch: Arch;
  readonly reporting: Reporting;
  readonly mask: Place;
  readonly status: Pipe;
  readonly alive: Pipe;
  readonly terminal: PseudoTerminal | undefined;
  readonly account: Account | undefined;
  /** There, when the program stays in the launcher's process group. */
  readonly witness: Witness | undefined;
  /** The pipe by which PID 1 tells that the program has stopped; with a terminal of its own it does so by itself. */
  readonly stops: Pipe | undefined;
  /** The pipe by which a process that has joined a sandbox tells the launcher of its child. */
  readonly joined: Pipe | undefined;
  /** There, when denials are told. */
  readonly told: Listener | undefined;
  readonly failedOutside: Label;
  readonly failedInside: Label;
  readonly orphaned: Label;
}

/** Assemble the whole program of a plan. */
export function assemble(plan: Plan, arch: Arch, reporting: Reporting): Assembled {
  const asm = new Assembler(arch);
  const marks: [number, number][] = [[0, -1]];
  const does = (wanted: Step["op"]) => plan.steps.some(({ op }) => op === wanted);
  const frame: Frame = {
    asm,
    plan,
    arch,
    reporting,
    mask: asm.cell(),
    status: newPipe(asm),
    alive: newPipe(asm),
    terminal: does("open-terminal") ? pseudoTerminal(asm) : undefined,
    account: reporting.account === true ? openAccount(asm) : undefined,
    witness: does("open-terminal") || does("session") ? undefined : newWitness(asm),
    stops: plan.init && !does("open-terminal") && !does("join") ? newPipe(asm) : undefined,
    joined: does("join") ? newPipe(asm) : undefined,
    told: reporting.telling?.newListener(asm, plan),
    failedOutside: asm.label(),
    failedInside: asm.label(),
    orphaned: asm.label(),
  };
  let held: { step: Parameters<Lowering["holdIds"]>[0]; holder: Holder; mapped: boolean } | undefined;
  const lowering: Lowering = {
    asm,
    arch,
    trees: new Map(),
    root: undefined,
    home: undefined,
    started: [],
    alive: frame.alive.read,
    terminal: frame.terminal,
    installTelling: () => {
      if (frame.told === undefined) throw new Error("a plan tells denials, and nobody wants to know");
      frame.told.install();
    },
    orphaned: frame.orphaned,
    holdIds: (step) => {
      if (step.through === "newuidmap") holdIds(lowering, step);
      else held = { step, holder: makeHolder(lowering), mapped: false };
    },
    mapIds: () => {
      if (held?.mapped === false) mapHolder(lowering, held.holder, held.step);
      if (held !== undefined) held.mapped = true;
    },
    enterIds: () => enterIds(lowering),
    clone: (flags) => {
      lowering.mapIds();
      cloneSandbox(frame, flags, lowering, held?.holder);
    },
  };

  prepare(frame);
  let begun = false;
  plan.steps.forEach((step, index) => {
    marks.push([asm.count, -1]);
    if (step.by === "program" && !begun) {
      begun = true;
      beginProgram(frame);
    }
    if (step.op === "pivot" && frame.account !== undefined) tellNamespaces(asm, frame.account);
    if (step.op === "exec") asm.call("rt_sigprocmask", [c.SIG_SETMASK, frame.mask, 0, 8]);
    marks.push([asm.count, index]);
    lower(lowering, step);
  });
  marks.push([asm.count, -1]);
  reportInside(frame);
  return { program: asm.finish(), marks };
}

// First of all: no signal disturbs the set-up, and dispositions are the default again: two that Bun changed, and SIGCHLD,
// whose being ignored by a caller outlives execve(2) and leaves nobody to be waited for (wait(2), NOTES).
function prepare({ asm, mask, failedOutside, orphaned, witness, reporting: { parent } }: Frame): void {
  asm.failure = failedOutside;
  if (parent !== undefined) dieWithParent(asm, parent, orphaned);
  asm.call("rt_sigprocmask", [c.SIG_SETMASK, asm.words(-1), mask, 8]);
  asm.call("prctl", [c.PR_SET_NAME, "hutch"], { onError: "ignore" });
  for (const signal of [c.SIGNALS.SIGPIPE, c.SIGNALS.SIGXFSZ, c.SIGNALS.SIGCHLD]) {
    asm.call("rt_sigaction", [signal, asm.words(0, 0, 0, 0), 0, 8]);
  }
  if (witness !== undefined) startWitness(asm, witness);
}

/** Clone the sandbox; the launcher's records end here, what follows is the sandbox's. */
function cloneSandbox(frame: Frame, flags: number, { home, started }: Lowering, holder?: Holder): void {
  const { asm, plan, arch, status, alive, account, stops, joined, witness, told } = frame;
  const sandbox = asm.label();
  const child = asm.cell();
  makePipe(asm, status);
  makePipe(asm, alive);
  // The launcher watches a program that is PID 1 through its directory below /proc.
  const watch = plan.init || joined !== undefined ? undefined : { ...newPipe(asm), directory: asm.cell() };
  if (watch !== undefined) makePipe(asm, watch);
  if (frame.terminal !== undefined) makeChannel(asm, frame.terminal);
  if (account !== undefined) makePipe(asm, account);
  if (stops !== undefined) makeStops(asm, stops);
  if (joined !== undefined) makePipe(asm, joined);
  if (witness !== undefined) makeSettling(asm, witness);
  if (told !== undefined) makeChannel(asm, told);
  if (holder !== undefined) cloneThroughHolder(asm, holder, flags, child, sandbox);
  else asm.call("clone", [flags | c.SIGNALS.SIGCHLD, 0, 0, 0, 0], { result: child, onZero: sandbox });
  if (home !== undefined) goHome(asm, home);
  asm.call("close", [content(status.write)]);
  asm.call("close", [content(alive.read)]);
  if (watch !== undefined) {
    asm.call("close", [content(watch.write)]);
    openProcess(asm, arch, watch.read, asm.cell(16), watch.directory);
  }
  if (witness !== undefined) settle(asm, witness); // the program waits for it, and some of what follows for the program
  if (joined !== undefined) adopt(asm, joined, child);
  if (frame.terminal !== undefined) receiveTerminal(asm, frame.terminal);
  if (account !== undefined) receiveNamespaces(asm, account, child);
  told?.take();
  const others = [witness?.pid, told?.teller].filter((pid) => pid !== undefined);
  waitForStart(frame, [child, ...started, ...others]);
  if (account !== undefined) noteStart(asm, account, frame.reporting.state?.fd);
  const settings = frame.reporting.terminal;
  const terminal =
    frame.terminal === undefined || settings === undefined ? undefined : watchTerminal(asm, frame.terminal, settings);
  const held = (frame.reporting.held ?? []).map((descriptor) => {
    const cell = asm.cell();
    asm.set(cell, descriptor);
    return cell;
  });
  const kept = keepWhile(asm, frame, [
    ...(terminal?.keep ?? []),
    ...(watch === undefined ? [] : [watch.directory]),
    ...(stops === undefined ? [] : [stops.read]),
    ...(told === undefined ? [] : [told.fd]),
    ...held,
  ]);
  terminal?.start();
  passSignals(asm, {
    child,
    processDirectory: watch?.directory,
    witness,
    stops: stops?.read,
    terminal,
    account,
    onOtherChild: () => {
      if (kept.denials !== undefined) told?.endUntold(child, content(kept.denials));
    },
    finish: kept.finish,
  });

  asm.place(sandbox);
  asm.failure = frame.failedInside;
  if (home !== undefined) asm.call("close", [content(home)]);
  asm.call("close", [content(status.read)]);
  asm.call("close", [content(alive.write)]);
  if (witness !== undefined) releaseSettling(asm, witness);
  if (told !== undefined) asm.call("close", [content(told.receive)]);
  if (watch !== undefined) {
    asm.call("close", [content(watch.read)]);
    tellName(asm, watch.write);
  }
  asm.call("umask", [0], { onError: "ignore" }); // modes below are meant as they are written
}

/** Wait until the program has started, or report what failed, outside or inside, once the launcher's children are ended. */
function waitForStart({ asm, status, failedOutside, reporting, mask }: Frame, children: readonly Place[]): void {
  const report = asm.cell(16);
  const [started, write] = [asm.label(), asm.label()];
  asm.call("read", [content(status.read), report, 16], { onZero: started });
  asm.jump(write);
  asm.place(failedOutside);
  for (const offset of [0, 8]) asm.set(at(report, offset), content(at(FAILURE, offset)));
  asm.place(write);
  for (const child of children) end(asm, content(child));
  asm.call("pwrite64", [reporting.reportFd, report, 16, 0], { onError: "ignore" });
  if (reporting.state !== undefined) forget(asm, reporting.state.directoryFd, reporting.state);
  if (reporting.become !== undefined) {
    asm.call("rt_sigprocmask", [c.SIG_SETMASK, mask, 0, 8], { onError: "ignore" });
    become(asm, reporting.become, reporting.reportFd);
  }
  asm.call("exit_group", [EXIT_FAILURE], { onError: "ignore" });
  asm.place(started);
}

/** What follows is the program's. */
function beginProgram(frame: Frame): void {
  const { asm, plan, joined, witness } = frame;
  if (plan.init) return cloneProgram(frame);
  if (joined !== undefined) cloneJoined(asm, joined);
  if (witness === undefined) return;
  sayThere(asm, witness);
  saySettled(asm, witness);
}

/** Clone the program; this process stays as PID 1, and what follows is the program's. */
function cloneProgram({ asm, plan, account, stops, witness, reporting: { argvBytes } }: Frame): void {
  const [program, start] = [asm.cell(), asm.label()];
  asm.call("prctl", [c.PR_SET_DUMPABLE, 0, 0, 0, 0]); // until the program's execve; for PID 1, for ever
  // Before the program is there to look.
  asm.call("prctl", [c.PR_SET_NAME, "hutch-init"], { onError: "ignore" });
  hideArguments(asm, argvBytes);
  asm.call("clone", [c.SIGNALS.SIGCHLD, 0, 0, 0, 0], { result: program, onZero: start });
  // Out of the caller's process group: what is sent to the group reaches the program directly, and must not come twice.
  asm.call("setpgid", [0, 0], { onError: "ignore" }); // EPERM: it leads a session of its own already
  if (witness !== undefined) {
    dropSignals(asm);
    sayThere(asm, witness);
  }
  asm.call("prctl", [c.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0], { onError: "ignore" });
  const severalIds = plan.steps.some(({ op }) => op === "hold-ids");
  lower({ asm } as Lowering, { op: "capabilities", hold: severalIds ? ["CAP_KILL"] : [] });
  const kept = [account, stops].flatMap((pipe) => (pipe === undefined ? [] : [pipe.write]));
  if (kept.length === 0) asm.call("close_range", [0, -1, 0], { onError: "ignore" });
  else keepOnly(asm, kept);
  reap(asm, program, { account, stops: stops?.write });
  asm.place(start);
  if (witness !== undefined) saySettled(asm, witness);
}

/**
 * PID 1 still has the caller's command line in its memory, for everybody inside to read in /proc/1/cmdline: overwrite
 * it with zeros, and put the process's name in front (PR_GET_NAME writes 16 bytes).
 */
function hideArguments(asm: Assembler, argvBytes: number): void {
  const [zero, argv] = [asm.cell(), asm.cell()];
  asm.call("memfd_create", ["", c.MFD_CLOEXEC], { result: zero }); // no path inside can be trusted to be /dev/zero
  asm.call("ftruncate", [content(zero), argvBytes]);
  asm.call("load64", [content(INITIAL_STACK), 8], { result: argv });
  asm.call("read", [content(zero), content(argv), argvBytes]);
  if (argvBytes >= 16) asm.call("prctl", [c.PR_GET_NAME, content(argv)]);
}

/** Where a failing step of the sandbox or the program goes. */
function reportInside({ asm, status, failedInside, orphaned }: Frame): void {
  asm.place(failedInside);
  asm.call("write", [content(status.write), FAILURE, 16], { onError: "ignore" });
  asm.place(orphaned);
  asm.call("exit_group", [EXIT_FAILURE], { onError: "ignore" });
}
