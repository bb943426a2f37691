/** A terminal for a test: a tmux server of its own with one pane. */

import { until } from "./host-processes.ts";
import { needs } from "./hutch.ts";

export interface Terminal extends Disposable {
  /** Type keys by tmux's names: `Enter`, `C-c`; other words are typed as they are. */
  readonly type: (...keys: readonly string[]) => void;
  readonly screen: () => string;
  /** Wait until the screen holds a text. */
  readonly shows: (text: string | RegExp) => Promise<string>;
}

/** Open one that runs bash; the socket is below `folder`. */
export function openTerminal(folder: string): Terminal {
  const tmux = (...args: readonly string[]): string => {
    const child = Bun.spawnSync([needs("tmux"), "-f", "/dev/null", "-S", `${folder}/tmux`, ...args], {
      stdin: "ignore",
    });
    if (child.exitCode !== 0) throw new Error(`tmux ${args[0]}: ${child.stderr.toString()}`);
    return child.stdout.toString();
  };
  tmux("new-session", "-d", "-x", "200", "-y", "50", "bash --norc --noprofile");
  const screen = () => tmux("capture-pane", "-p", "-J");
  return {
    type: (...keys) => void tmux("send-keys", ...keys),
    screen,
    shows: async (text) => {
      const holds = () => {
        const now = screen();
        return (typeof text === "string" ? now.includes(text) : text.test(now)) ? now : undefined;
      };
      try {
        return await until(`${text} on the screen`, holds);
      } catch (error) {
        throw new Error(`${error instanceof Error ? error.message : String(error)}; the screen was:\n${screen()}`, {
          cause: error,
        });
      }
    },
    [Symbol.dispose]: () => void tmux("kill-server"),
  };
}
