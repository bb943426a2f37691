/** A terminal for tests: a shell in a detached tmux window, driven by keys and read as text. */

import {
  chmodSync,
  linkSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
} from "node:fs";
import { chownSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const PATIENCE_MS = 8_000;
const POLL_MS = 20;
const ORDINARY_ID = 65534;

/** Poll until a condition holds; its value. Fails, saying what was awaited and what was there, after some seconds. */
export async function eventually<T>(
  what: string,
  condition: () => T | undefined | false,
  seen: () => string = () => "",
) {
  const end = performance.now() + PATIENCE_MS;
  for (;;) {
    const value = condition();
    if (value !== undefined && value !== false) return value;
    if (performance.now() > end) throw new Error(`waited in vain for ${what}: ${seen()}`);
    await Bun.sleep(POLL_MS);
  }
}

/** A shell in a terminal. */
export interface Screen {
  /** Text on the screen now, without blanks at the ends of lines; long lines are joined. */
  readonly text: () => string;
  /** Send keys by tmux's names (`C-c`, `Enter`), or text as it is. */
  readonly keys: (...keys: readonly string[]) => void;
  readonly type: (text: string) => void;
  /** Type a line and press Enter. */
  readonly line: (text: string) => void;
  /** Wait until the screen shows this; the match. */
  readonly shows: (pattern: RegExp) => Promise<RegExpMatchArray>;
  /** Run a command in the shell that is in front; its exit status. */
  readonly status: (command: string) => Promise<number>;
  readonly resize: (columns: number, rows: number) => void;
  /** Pid of the shell. */
  readonly pid: number;
  readonly close: () => void;
}

/** One caller's place: a folder of its own, the binary, and terminals. */
export interface Desk {
  readonly folder: string;
  readonly hutch: string;
  readonly prefix: readonly string[];
  readonly open: (columns?: number, rows?: number) => Promise<Screen>;
  /** Close all terminals. */
  readonly clear: () => void;
  readonly close: () => void;
}

/** Names of callers, each with a uid: root (when the tests are) and an ordinary user. */
export const CALLERS: readonly (readonly [name: string, uid: number])[] =
  process.getuid?.() === 0
    ? [
        ["root", 0],
        [`uid ${ORDINARY_ID}`, ORDINARY_ID],
      ]
    : [["an ordinary user", process.getuid?.() ?? -1]];

/** Make a caller's place. */
export function openDesk(uid: number): Desk {
  for (const tool of ["tmux", "setpriv", "bash"])
    if (Bun.which(tool) === null) throw new Error(`this test needs ${tool}, which is not installed`);
  const built = resolve(import.meta.dir, "../../dist/hutch");
  if (!existsSync(built)) throw new Error(`${built} is not there: build it first (npm run build)`);
  const top = mkdtempSync(join(tmpdir(), "hutch-tty-"));
  chmodSync(top, 0o755);
  const hutch = join(top, "hutch");
  try {
    linkSync(built, hutch);
  } catch {
    copyFileSync(built, hutch); // another file system, or a policy against hard links
  }
  const folder = join(top, "work");
  mkdirSync(folder);
  const self = process.getuid?.();
  if (self !== uid) chownSync(folder, uid, uid);
  const prefix = self === uid ? [] : ["setpriv", `--reuid=${uid}`, `--regid=${uid}`, "--clear-groups"];
  const sockets: string[] = [];
  const clear = () => {
    for (const socket of sockets) if (existsSync(socket)) Bun.spawnSync(["tmux", "-S", socket, "kill-server"]);
  };
  return {
    folder,
    hutch,
    prefix,
    open: async (columns = 100, rows = 30) => {
      sockets.push(join(top, `tmux-${sockets.length}`)); // each its own server: one that ends disturbs no other
      return openScreen(sockets.at(-1) ?? "", prefix, folder, columns, rows);
    },
    clear,
    close: () => {
      clear();
      rmSync(top, { recursive: true, force: true });
    },
  };
}

async function openScreen(
  socket: string,
  prefix: readonly string[],
  folder: string,
  columns: number,
  rows: number,
): Promise<Screen> {
  const tmux = (...args: readonly string[]): string => {
    const made = Bun.spawnSync(["tmux", "-S", socket, "-f", "/dev/null", ...args]);
    if (made.exitCode !== 0) throw new Error(`tmux ${args.join(" ")}: ${made.stderr.toString()}`);
    return made.stdout.toString();
  };
  const shell = [...prefix, "env", "-i", "TERM=screen", `PATH=${process.env["PATH"]}`, "PS1=$ ", "HISTFILE=", "HOME=/"];
  const name = "test";
  const size = ["-x", String(columns), "-y", String(rows)];
  tmux("new-session", "-d", "-s", name, ...size, "-c", folder, [...shell, "bash", "--norc"].map(quote).join(" "));
  let counter = 0;
  const screen: Screen = {
    text: () => tmux("capture-pane", "-p", "-J", "-t", name).replace(/ +$/gm, "").trimEnd(),
    keys: (...keys) => void tmux("send-keys", "-t", name, ...keys),
    type: (text) => void tmux("send-keys", "-t", name, "-l", text),
    line: (text) => {
      screen.type(text);
      screen.keys("Enter");
    },
    shows: async (pattern) => {
      let text = "";
      const found = () => {
        text = screen.text();
        return text.match(pattern) ?? undefined;
      };
      return eventually(String(pattern), found, () => `\n${text}`);
    },
    status: async (command) => {
      counter += 1;
      screen.line(`${command}; echo "end-${counter} <$?>"`);
      const [, status] = await screen.shows(new RegExp(`end-${counter} <(\\d+)>`));
      return Number(status);
    },
    resize: (x, y) => void tmux("resize-window", "-t", name, "-x", String(x), "-y", String(y)),
    pid: Number(tmux("display-message", "-p", "-t", name, "#{pane_pid}")),
    close: () => void tmux("kill-session", "-t", name),
  };
  await screen.shows(/\$$/);
  return screen;
}

const quote = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`;

/** Pids of the processes whose command line or name matches, here or in sandboxes below. */
export function processes(pattern: RegExp): readonly number[] {
  return readdirSync("/proc").flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const command = readFileSync(`/proc/${name}/cmdline`, "latin1").replaceAll("\0", " ");
      const state = /^State:\s+(\S)/m.exec(readFileSync(`/proc/${name}/status`, "latin1"))?.[1];
      return pattern.test(command) && state !== "Z" ? [Number(name)] : [];
    } catch {
      return []; // ended meanwhile
    }
  });
}
