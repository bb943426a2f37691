/** Requests to the process that works on the store with a range of ids. */

import { expect, test } from "bun:test";
import { HutchError } from "../../src/errors.ts";
import { parseRequest } from "../../src/image/ranged.ts";

const digest = `sha256:${"0".repeat(64)}`;

test.each([
  ["removal", { op: "remove", paths: ["/a"] }],
  ["reading", { op: "read", layers: ["/a"], paths: ["/etc/passwd"] }],
  ["comparing", { op: "changes", upper: "/u", layers: ["/a"] }],
  ["unpacking", { op: "unpack", root: "/s", layers: "/s/ranges/x", descriptors: [], diffIds: [digest] }],
])("a request is read as it was written: %s", (_, request) => {
  expect(parseRequest(JSON.stringify(request)) as unknown).toEqual(request);
});

test.each([
  ...[
    "",
    "{",
    "null",
    "7",
    "{}",
    '{"op":"remove"}',
    '{"op":"remove","paths":"/a"}',
    '{"op":"unpack"}',
    '{"op":"read","paths":[]}',
    '{"op":"changes","layers":[]}',
  ],
  '{"op":"unpack","descriptors":[],"diffIds":["x"]}',
])("%j is none", (text) => {
  expect(() => parseRequest(text)).toThrow(HutchError);
});
