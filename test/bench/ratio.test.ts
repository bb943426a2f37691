import { expect, test } from "bun:test";
import { compare, formatRows, median } from "../../bench/ratio.ts";

test.each([
  [[1], 1],
  [[3, 1, 2], 2],
  [[4, 1, 3, 2], 2.5],
])("the median of %j is %d", (values, expected) => {
  expect(median(values)).toBe(expected);
});

test("the median of nothing is an error", () => {
  expect(() => median([])).toThrow("median of nothing");
});

test("a ratio is taken within a round, so that a busy moment of the machine cancels out", () => {
  const ours = [[1], [10], [1]];
  const theirs = [[2], [20], [4]];
  expect(compare(["ours", "theirs"], [ours, theirs])).toEqual([
    { name: "ours", seconds: 1, ratio: 1, lowest: 1, highest: 1 },
    { name: "theirs", seconds: 4, ratio: 0.5, lowest: 0.25, highest: 0.5 },
  ]);
});

test("rows line up, and ours has no ratio", () => {
  const rows = compare(["hutch", "bwrap"], [[[0.004]], [[0.008]]]);
  expect(formatRows(rows)).toBe("  hutch            4.00 ms\n  bwrap            8.00 ms   0.50 (0.50 to 0.50)");
});
