/** Progress of pulls and loads on stderr: one line a layer when it is a terminal, warnings always, else nothing. */

import { encodeBytes, oneLine } from "../bytes.ts";
import type { OnEvent } from "../image/source.ts";
import { foldProgress, type LayerProgress, type Progress, progressLine } from "../image/views.ts";
import { isTerminal, writeAll } from "../libc/files.ts";

/** Redrawn ten times a second at most; more lines than this would not fit a small terminal. */
const INTERVAL_MS = 100;
const MOST_LINES = 16;

export interface ProgressShow extends Disposable {
  readonly onEvent: OnEvent;
}

const isOpen = ({ state }: LayerProgress): boolean => state !== "done" && state !== "exists";

/** Show events of a command until disposed of. `applet` stands before warnings. */
export function showProgress(applet: string): ProgressShow {
  const terminal = isTerminal(2);
  const started = new Map<string, number>();
  let progress: Progress = new Map();
  let drawn = 0;
  let last = 0;

  const write = (text: string): void => writeAll(2, encodeBytes(text));
  const rate = (digest: string, { done }: LayerProgress): number =>
    (done * 1000) / Math.max(1, performance.now() - (started.get(digest) ?? 0));

  function draw(): void {
    const all = [...progress];
    const open = all.filter(([, layer]) => isOpen(layer));
    const shown = all.length <= MOST_LINES ? all : open.slice(0, MOST_LINES);
    const lines = shown.map(([digest, layer]) => `\u001b[2K${progressLine(layer, rate(digest, layer))}\n`);
    write(`${drawn > 0 ? `\u001b[${drawn}A\u001b[J` : ""}${lines.join("")}`);
    drawn = lines.length;
    last = performance.now();
  }

  return {
    onEvent: (event) => {
      if (event.kind === "warning") {
        write(`${applet}: warning: ${oneLine(event.text)}\n`);
        drawn = 0;
      }
      if (!terminal) return;
      if (event.kind === "waiting" || event.kind === "pause") {
        write(`${oneLine(event.kind === "pause" ? event.text : `waiting for ${event.what}`)}\n`);
        drawn = 0;
      }
      if (event.kind === "layer") started.set(event.digest, performance.now());
      const before = progress;
      progress = foldProgress(progress, event);
      if (progress !== before && performance.now() - last >= INTERVAL_MS) draw();
    },
    [Symbol.dispose]: () => {
      if (terminal && progress.size > 0) draw();
    },
  };
}
