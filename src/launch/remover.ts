/**
 * Whoever removes a directory on disk when hutch's own process can no longer: one more program of records, started before
 * the directory is made, which lives as long as that process does, whatever that becomes.
 *
 *   hutch ──spawn──▶ ○ ──clone──▶ remover (a session of its own, and by CLONE_PARENT hutch's child)
 *
 * Whatever hutch has become ends it, and waits for it, once nothing is left to be removed: an orphan that ends by itself
 * stays a zombie where PID 1 waits for nobody, as in many a container. It is one only when hutch's process is killed.
 *
 * It holds a descriptor of hutch's process (pidfd_open(2)), which keeps its pid when it becomes the keeper and then hutch
 * again. When that process has ended and something is left of the directories, the remover becomes hutch to remove it;
 * else it ends, which costs nothing. No signal that can be blocked ends it.
 */

import { HutchError } from "../errors.ts";
import { ARCH, call, rawCall } from "../libc/call.ts";
import * as c from "../libc/constants.ts";
import { closeDescriptor, executableMemory, writeAll } from "../libc/files.ts";
import type { Arch } from "../libc/syscalls.ts";
import { closeAllBut, HELD_MASK } from "./afterwards.ts";
import { Assembler, at } from "./assembler.ts";
import type { Self } from "./become.ts";
import { encode, type Program } from "./program.ts";

/** What the remover waits for, and becomes. Descriptors are above 2. */
export interface Removing {
  /** A descriptor of the process whose end is awaited. */
  readonly ownerFd: number;
  /** Host paths of the directories; they need not be there yet. */
  readonly paths: readonly string[];
  /** What to become when one is left: an executable, its argv and its environment. */
  readonly executableFd: number;
  readonly thenArgv: readonly string[];
  readonly thenEnv: readonly string[];
}

const EXIT_FAILURE = 125;
const NAME = "hutch-remover";
const POLLIN = 1;
const F_OK = 0;

/** The remover's program. The process that runs it writes the remover's pid (8 bytes, little-endian) on 1 and ends with 0. */
export function removerProgram({ ownerFd, paths, executableFd, thenArgv, thenEnv }: Removing, arch: Arch): Program {
  const asm = new Assembler(arch);
  const [failed, waiting, wait, remove] = [asm.label(), asm.label(), asm.label(), asm.label()];
  asm.failure = failed;
  asm.call("rt_sigprocmask", [c.SIG_SETMASK, asm.words(-1), 0, 8]);
  asm.call("setsid", []); // what is sent to the caller's group or terminal is not for us
  asm.call("chdir", ["/"]);
  asm.call("prctl", [c.PR_SET_NAME, NAME], { onError: "ignore" });
  closeAllBut(asm, [0, 1, 2, ownerFd, executableFd]); // the caller's pipes must not wait for us
  const pid = asm.cell();
  asm.call("clone", [c.CLONE_PARENT | c.SIGNALS.SIGCHLD, 0, 0, 0, 0], { result: pid, onZero: waiting });
  asm.call("write", [1, pid, 8]);
  asm.call("exit_group", [0], { onError: "ignore" });
  asm.place(failed);
  asm.call("exit_group", [EXIT_FAILURE], { onError: "ignore" });

  asm.place(waiting);
  asm.call("dup3", [0, 1, 0]); // hutch reads 1 to its end
  const poll = asm.cell(16); // struct pollfd
  asm.set(poll, ownerFd);
  asm.set(at(poll, 4), POLLIN);
  asm.place(wait);
  asm.call("ppoll", [poll, 1, 0, 0, 8], { onError: wait });
  for (const path of paths) {
    const next = asm.label();
    asm.call("faccessat2", [c.AT_FDCWD, path, F_OK, c.AT_SYMLINK_NOFOLLOW], { onError: next });
    asm.jump(remove);
    asm.place(next);
  }
  asm.call("exit_group", [0], { onError: "ignore" });
  asm.place(remove);
  asm.call("rt_sigprocmask", [c.SIG_SETMASK, asm.words(HELD_MASK), 0, 8], { onError: "ignore" });
  const become = [executableFd, "", asm.strings(thenArgv), asm.strings(thenEnv), c.AT_EMPTY_PATH];
  asm.call("execveat", become, { onError: "ignore" });
  asm.call("exit_group", [EXIT_FAILURE], { onError: "ignore" });
  return asm.finish();
}

/**
 * Start the remover of directories that this process is about to make. Returns its pid: it is a child of this process and
 * of what that becomes, for {@link endRemover}.
 * @param words hutch's own arguments that remove what is at `paths`
 * @throws HutchError when it cannot be started: then nothing may be made
 */
export function startRemover(paths: readonly string[], self: Self, words: readonly string[]): number {
  const opened: number[] = [];
  const open = (descriptor: number): number => {
    opened.push(descriptor);
    return descriptor;
  };
  try {
    const ownerFd = open(call("pidfd_open", process.pid, 0));
    const executableFd = open(call("openat", c.AT_FDCWD, self.executable, c.O_PATH | c.O_CLOEXEC));
    const removing: Removing = {
      ownerFd: 3,
      executableFd: 4,
      paths,
      thenArgv: [...self.argv, ...words],
      thenEnv: [],
    };
    const image = open(executableMemory(NAME, c.MFD_CLOEXEC));
    writeAll(image, encode(removerProgram(removing, ARCH)));
    const { exitCode, signalCode, stdout } = Bun.spawnSync([`/proc/${process.pid}/fd/${image}`], {
      argv0: NAME,
      cwd: "/",
      env: {},
      stdio: ["ignore", "pipe", "ignore", ownerFd, executableFd],
    });
    if (exitCode !== 0 || stdout.length !== 8) throw new HutchError(`it ended with ${signalCode ?? exitCode}`);
    return stdout.readUInt32LE();
  } catch (cause) {
    const { code, message } = cause as { readonly code?: unknown; readonly message: string };
    const why = typeof code === "string" && !message.includes(code) ? `${code} ${message}` : message;
    throw new HutchError(`the process that is to remove ${paths.join(" and ")} cannot be started: ${why}`, { cause });
  } finally {
    for (const descriptor of opened) closeDescriptor(descriptor);
  }
}

/** End a remover and wait for that: nothing is left of what it was to remove. One that has ended is waited for. */
export function endRemover(pid: number): void {
  // The pid of a child that has not been waited for is nobody else's.
  if (rawCall("waitid", c.P_PID, pid, null, c.WEXITED | c.WNOHANG | c.WNOWAIT, null) < 0) return;
  rawCall("kill", pid, c.SIGNALS.SIGKILL);
  rawCall("waitid", c.P_PID, pid, null, c.WEXITED, null);
}
