/** Ratios of times measured in turns. */

/** The middle value, or the mean of the two in the middle. Throws when there is none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const [low, high] = [sorted[(sorted.length - 1) >> 1], sorted[sorted.length >> 1]];
  if (low === undefined || high === undefined) throw new Error("the median of nothing");
  return (low + high) / 2;
}

/** One side of a case: its median time in seconds, and ours divided by it, with the lowest and highest of all rounds. */
export interface Row {
  readonly name: string;
  readonly seconds: number;
  readonly ratio: number;
  readonly lowest: number;
  readonly highest: number;
}

/**
 * Compare the first side with each. The sides ran in turns, and a machine that is busy for a while slows one round of
 * all of them: so a ratio is taken within each round, and the median of these is the result.
 * @param rounds for each side, in the same order of rounds, the seconds of its runs
 */
export function compare(names: readonly string[], rounds: readonly (readonly (readonly number[])[])[]): readonly Row[] {
  const ours = rounds[0] ?? [];
  return names.map((name, side) => {
    const own = rounds[side] ?? [];
    const ratios = own.map((runs, round) => median(ours[round] ?? []) / median(runs));
    return {
      name,
      seconds: median(own.flat()),
      ratio: median(ratios),
      lowest: Math.min(...ratios),
      highest: Math.max(...ratios),
    };
  });
}

/** A table: `name  time  ratio (lowest to highest)`. A ratio below 1 says that ours is faster. */
export function formatRows(rows: readonly Row[]): string {
  return rows
    .map((row, index) => {
      const time = `${(row.seconds * 1000).toFixed(2)} ms`.padStart(10);
      const range = `${row.lowest.toFixed(2)} to ${row.highest.toFixed(2)}`;
      return `  ${row.name.padEnd(14)}${time}${index === 0 ? "" : `   ${row.ratio.toFixed(2)} (${range})`}`;
    })
    .join("\n");
}
