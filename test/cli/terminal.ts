/** A terminal with an interactive shell of the caller in it, as a person has one. */

import { until } from "./host-processes.ts";
import type { Bench } from "./hutch.ts";

export interface Terminal {
  /** The shell. */
  readonly pid: number;
  readonly type: (text: string) => void;
  readonly resize: (columns: number, rows: number) => void;
  /** Wait until this appears behind what was awaited before. */
  readonly shows: (text: string | RegExp, seconds?: number) => Promise<string>;
  /** Everything shown so far. */
  readonly screen: () => string;
  /** Hang up, as a window that is closed. */
  readonly close: () => void;
  readonly ended: Promise<number>;
}

export const CONTROL = { c: "\u0003", d: "\u0004", z: "\u001a", backslash: "\u001c" } as const;

/** Start `bash -i` on a new terminal, with $HUTCH and $RUN (a sandbox with /probe and busybox) set. */
export async function openTerminal(bench: Bench, env: Readonly<Record<string, string>> = {}): Promise<Terminal> {
  let [text, read] = ["", 0];
  const decoder = new TextDecoder();
  const run = `${bench.binary} run -v ${bench.probe}:/probe:ro -v /bin/busybox:/bin/busybox:ro`;
  const child = Bun.spawn([...bench.caller.prefix, "/bin/bash", "--norc", "--noprofile", "-i"], {
    cwd: "/",
    env: { PATH: "/usr/bin:/bin", HOME: "/", TERM: "dumb", PS1: "shell> ", HUTCH: bench.binary, RUN: run, ...env },
    terminal: {
      cols: 200,
      rows: 50,
      data: (_terminal, data) => void (text += decoder.decode(data, { stream: true })),
    },
  });
  const { terminal } = child;
  if (terminal === undefined) throw new Error("Bun.spawn made no terminal");
  const shows = async (wanted: string | RegExp, seconds?: number) =>
    until(
      () => `${String(wanted)} on a terminal that shows ${JSON.stringify(text.slice(read))}`,
      () => {
        const rest = text.slice(read);
        const found = typeof wanted === "string" ? wanted : (wanted.exec(rest)?.[0] ?? wanted.source);
        const at = rest.indexOf(found);
        if (at < 0) return undefined;
        read += at + found.length;
        return found;
      },
      seconds,
    );
  await shows("shell> ");
  return {
    pid: child.pid,
    type: (keys) => void terminal.write(keys),
    resize: (columns, rows) => terminal.resize(columns, rows),
    shows,
    screen: () => text,
    close: () => terminal.close(),
    ended: child.exited,
  };
}
