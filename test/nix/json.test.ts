import { expect, test } from "bun:test";
import fc from "fast-check";
import { formatJson, parseJson } from "../../src/nix/json.ts";

test.each([
  ["integers of 64 bits stay exact", "9223372036854775807", "9223372036854775807"],
  ["larger ones become doubles", "18446744073709551616", "1.8446744073709552e+19"],
  ["whole doubles", "[1.0,100000.0,1e3]", "[1.0,100000.0,1000.0]"],
  [
    "doubles of 15 digits and more",
    "[123456789012345.0,1234567890123456.0]",
    "[123456789012345.0,1.234567890123456e+15]",
  ],
  ["small doubles", "[0.001,0.0001,0.00001,1e-7,1.5e-10]", "[0.001,0.0001,1e-05,1e-07,1.5e-10]"],
  ["zeros", "[0,-0,0.0,-0.0]", "[0,-0.0,0.0,-0.0]"],
  ["keys sorted by bytes, the last of equals", '{"b":1,"é":2,"Z":3,"b":4}', '{"Z":3,"b":4,"é":2}'],
  ["escapes", '"\\u0041\\u001f\\n\\/\\u00e9"', '"A\\u001f\\n/é"'],
  ["spaces", ' { "a" : [ ] , "b" : { } } ', '{"a":[],"b":{}}'],
])("%s", (_, text, expected) => {
  expect(formatJson(parseJson(text))).toBe(expected);
});

test.each(["", "{", "[1,]", '{"a"}', "01", "1.", "nul", '"\n"', '"\\x"', "[1] 2", "{a:1}", "NaN"])(
  "%p is refused",
  (text) => {
    expect(() => parseJson(text)).toThrow("not JSON");
  },
);

test("very long strings and very deep nesting do not end the process", () => {
  expect(parseJson(JSON.stringify("é\\\n".repeat(1_000_000)))).toHaveLength(3_000_000);
  expect(() => parseJson("[".repeat(1_000_000))).toThrow("nested too deeply");
});

test("what JSON.stringify writes means the same afterwards", () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      expect(JSON.parse(formatJson(parseJson(JSON.stringify(value))))).toEqual(JSON.parse(JSON.stringify(value)));
    }),
  );
});
